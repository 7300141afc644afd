"""A trace lists what ran: its sums are those of formulas that run nothing, its rows those of other counters."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mqa_lib import MobileMQA, cost, trace

LAYERS = [
    {"num_heads": 3, "key_dim": 7},
    {"num_heads": 3, "key_dim": 7, "kv_stride": 2},
    {"num_heads": 2, "key_dim": 5, "kv_stride": 3, "query_strides": 2},
    {"num_heads": 1, "key_dim": 11, "query_strides": 3},
]
FORMATS = [torch.contiguous_format, torch.channels_last]


def run(sizes: dict[str, int], memory_format: torch.memory_format = torch.contiguous_format) -> tuple:
    layer = MobileMQA(13, value_dim=sizes["key_dim"], **sizes).eval()
    x = torch.randn(1, 13, 11, 17).contiguous(memory_format=memory_format)
    return layer, x, trace.operations(layer, x)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("sizes", LAYERS)
def test_the_sums_are_those_of_the_closed_form(sizes: dict, memory_format: torch.memory_format) -> None:
    _, _, done = run(sizes, memory_format)
    priced = cost.mobile_mqa(13, 11, 17, value_dim=sizes["key_dim"], **sizes)
    assert sum(each.macs for each in done) == priced.macs
    assert sum(each.params for each in done) == priced.params


@pytest.mark.parametrize("sizes", LAYERS)
def test_every_parameter_and_every_convolution_stands_where_the_layer_has_it(sizes: dict) -> None:
    layer, _, done = run(sizes)
    for name, module in layer.named_modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        rows = [each for each in done if each.module == name and name]
        assert sum(each.params for each in rows) == (own if name else 0), name
        if isinstance(module, nn.Conv2d):
            assert [each.name for each in rows] == ["conv2d"]


def test_convolutions_cost_what_torchs_own_counter_says() -> None:
    layer, x, done = run(LAYERS[1])
    with FlopCounterMode(display=False) as counter:
        layer(x)
    flops = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert 2 * sum(each.macs for each in done if each.name == "conv2d") == flops


def test_shapes_chain_from_the_map_to_the_output_and_the_watched_layer_gives_the_same() -> None:
    layer, x, done = run(LAYERS[2])
    assert done[0].inputs == ((1, 13, 11, 17),)
    known = {tuple(x.shape)}
    for each in done:
        assert set(each.inputs) <= known, each
        known.add(each.output)
    assert done[-1].output == tuple(layer(x).shape)
    assert "scaled_dot_product_attention" in [each.name for each in done]


def test_row_major_maps_are_copied_into_tokens_and_channels_last_ones_are_not() -> None:
    copies = {
        memory_format: [each.name for each in run(LAYERS[0], memory_format)[2] if each.effect == trace.COPY]
        for memory_format in FORMATS
    }
    assert copies[torch.contiguous_format].count("contiguous") == 4  # q, k, v, and the way back
    assert copies[torch.channels_last] == []


@pytest.mark.parametrize(
    ("call", "effect"),
    [
        (lambda x: x.permute(0, 2, 3, 1), trace.VIEW),
        (lambda x: x.permute(0, 2, 3, 1).contiguous(), trace.COPY),
        (lambda x: x.contiguous(), trace.SAME),
        (lambda x: x[..., 1:], trace.VIEW),
        (lambda x: x.permute(0, 2, 3, 1).flatten(), trace.COPY),
        (lambda x: x * 2, trace.NEW),
    ],
)
def test_a_view_a_copy_and_new_numbers_are_told_apart(call, effect: str) -> None:
    class Layer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return call(x)

    done = trace.operations(Layer(), torch.randn(2, 3, 5, 7))
    assert done[-1].effect == effect
    assert (done[-1].moved == 0) == (effect in (trace.VIEW, trace.SAME))


def test_the_layer_is_left_without_hooks_even_if_it_fails() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(3, 5, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).view(2, 2)

    layer = Layer()
    with pytest.raises(RuntimeError, match="invalid for input"):
        trace.operations(layer, torch.randn(1, 3, 7, 7))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())
