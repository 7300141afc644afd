"""A folded block travels like the one that it was folded from."""

import copy

import pytest
import torch
from torch.func import vmap

from mqa_lib import MobileMQABlock, fold


def folded_block():
    torch.manual_seed(5)
    block = MobileMQABlock(5, 2, 3, 2, 0.7)
    for tensor in (block.norm.running_mean, block.norm.bias.data):
        tensor.normal_()
    return block.eval(), fold.fold(block)


def test_a_folded_block_takes_maps_of_changing_size_and_can_be_compiled_and_copied():
    block, folded = folded_block()
    compiled = torch.compile(folded, fullgraph=True, backend="aot_eager")
    for size in ((13, 7), (8, 12), (13, 7)):
        x = torch.randn(1, 5, *size)
        for run in (folded, compiled, copy.deepcopy(folded)):
            torch.testing.assert_close(run(x), block(x), rtol=0, atol=1e-5)


def autocast(folded, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        folded(x)


def mapped(folded, x):
    vmap(lambda each: folded(each[None])[0])(x)


def loaded(folded, x):
    other = copy.deepcopy(folded)
    for parameter in folded.parameters():
        parameter.data.zero_()
    folded(x)
    folded.load_state_dict(other.state_dict())


def trained(folded, x):
    folded.requires_grad_(True)
    for _ in range(2):
        folded(x).sum().backward()


def traced(folded, x):
    folded(x)
    program = torch.jit.trace(folded, x, check_trace=False)
    larger = torch.randn(2, 5, 9, 14)
    torch.testing.assert_close(program(larger), folded(larger))


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.trace", "ignore::torch.jit.TracerWarning", "ignore:There is a perf"
)
@pytest.mark.parametrize("use", [autocast, mapped, loaded, trained, traced], ids=lambda use: use.__name__)
def test_no_use_leaves_a_folded_block_with_anything_that_the_next_one_would_suffer_from(use):
    block, folded = folded_block()
    x = torch.randn(1, 5, 13, 7)
    use(folded, x)
    torch.testing.assert_close(folded(x), block(x), rtol=0, atol=1e-5)


def test_a_folded_block_can_be_exported_with_free_sides():
    block, folded = folded_block()
    sides = {2: torch.export.Dim("height", min=3, max=64), 3: torch.export.Dim("width", min=3, max=64)}
    program = torch.export.export(folded, (torch.randn(1, 5, 8, 12),), dynamic_shapes={"x": sides})
    x = torch.randn(1, 5, 13, 7)
    torch.testing.assert_close(program.module()(x), block(x), rtol=0, atol=1e-5)
