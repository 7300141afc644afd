"""A folded block travels like the one that it was folded from."""

import copy

import torch

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


def test_a_folded_block_can_be_exported_with_free_sides():
    block, folded = folded_block()
    sides = {2: torch.export.Dim("height", min=3, max=64), 3: torch.export.Dim("width", min=3, max=64)}
    program = torch.export.export(folded, (torch.randn(1, 5, 8, 12),), dynamic_shapes={"x": sides})
    x = torch.randn(1, 5, 13, 7)
    torch.testing.assert_close(program.module()(x), block(x), rtol=0, atol=1e-5)
