"""Folding changes no output, leaves the model alone, and takes the norms out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mqa_lib import MobileMQA, MobileMQABlock, fold

CLOSE = {"rtol": 0.0, "atol": 1e-10}  # double precision, the same sums in another order


def trained(module, seed=0):
    """The module with norms and layer scales that did learn something."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.bias.data):
                tensor.normal_(generator=generator)
            for tensor in (part.running_var, part.weight.data):
                tensor.uniform_(0.5, 2.0, generator=generator)
    return module.double()


def test_the_projections_of_one_map_are_one_convolution_and_those_of_two_maps_are_not():
    folded = fold.fold(trained(MobileMQABlock(5, 2, 3, value_dim=7, layer_scale=0.7)))
    x = torch.randn(2, 5, 13, 7, dtype=torch.double)
    folded.attn.merged.weight.zero_(), folded.attn.merged.bias.zero_()
    assert torch.equal(folded(x), x)  # nothing reads by another way
    for options in ({"kv_stride": 2}, {"query_strides": (1, 2)}):
        assert fold.fold(MobileMQABlock(5, 2, 3, **options)).attn.merged is None


def test_folding_again_changes_nothing():
    folded = fold.fold(trained(MobileMQABlock(5, 2, 3, 2, 0.7)))
    x = torch.randn(2, 5, 13, 7, dtype=torch.double)
    assert torch.equal(fold.fold(folded)(x), folded(x))


@pytest.mark.parametrize(
    "tie",
    [
        lambda a, b: setattr(b, "attn", a.attn),
        lambda a, b: setattr(b.attn, "key", a.attn.key),
        lambda a, b: setattr(b.attn.output.proj, "weight", a.attn.output.proj.weight),
        lambda a, b: setattr(b.attn, "value", b.attn.key),
        lambda a, b: setattr(b, "norm", a.norm),
    ],
    ids=["layers", "branches", "a weight", "keys and values", "norms"],
)
@pytest.mark.parametrize("kv_stride", [1, 2])
def test_what_two_blocks_share_is_folded_once_for_each(tie, kv_stride):
    blocks = [MobileMQABlock(5, 2, 3, kv_stride, 0.7) for _ in range(2)]
    tie(*blocks)
    model, x = trained(nn.Sequential(*blocks)).eval(), torch.randn(2, 5, 13, 7, dtype=torch.double)
    before = model(x)
    torch.testing.assert_close(fold.fold(model)(x), before, **CLOSE)
    assert torch.equal(model(x), before)


def norms(module):
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([3, 5]),
    st.sampled_from(["", "same"]),
    st.tuples(st.integers(1, 13), st.integers(1, 11)),
)
def test_a_folded_layer_gives_the_same_output(kv_stride, query_strides, kernel, padding, size):
    layer = trained(
        MobileMQA(5, 7, 2, 3, 11, query_strides, kv_stride, kernel, attn_drop=0.3, padding=padding)
    )
    x = torch.randn(2, 5, *size, dtype=torch.double)
    folded = fold.fold(layer)
    assert norms(folded) == []
    torch.testing.assert_close(folded(x), layer.eval()(x), **CLOSE)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([3, 5]),
    st.tuples(st.integers(1, 13), st.integers(1, 11)),
)
def test_a_folded_block_gives_the_same_output_up_to_the_border(kv_stride, query_strides, kernel, size):
    block = trained(MobileMQABlock(5, 2, 3, kv_stride, 0.7, 0.5, 11, query_strides, kernel))
    x = torch.randn(2, 5, *size, dtype=torch.double)
    folded = fold.fold(block)
    assert norms(folded) == []
    torch.testing.assert_close(folded(x), block.eval()(x), **CLOSE)


def test_a_norm_folded_without_its_border_would_be_noticed():
    block = trained(MobileMQABlock(5, 2, 3, 2, 0.7))
    folded, x = fold.fold(block), torch.randn(2, 5, 13, 7, dtype=torch.double)
    folded.attn.key.shift.zero_()
    assert (folded(x) - block.eval()(x)).abs().max() > 1e-3


def test_every_layer_of_a_network_is_folded_and_the_network_stays_as_it_was():
    network = nn.Sequential(
        nn.Conv2d(3, 5, 1),
        MobileMQABlock(5, 2, 3, 2, 0.7),
        MobileMQA(5, num_heads=2, key_dim=3, value_dim=3, kv_stride=2),
    )
    trained(network).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = torch.randn(2, 3, 13, 7, dtype=torch.double)
    folded = fold.fold(network)
    assert norms(folded) == [] and not folded.training and network.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    torch.testing.assert_close(folded(x), network.eval()(x), **CLOSE)


def test_in_single_precision_the_output_stays_within_a_hundred_thousandth():
    torch.manual_seed(1)
    block = trained(MobileMQABlock(61, 4, 17, 2, 1.0)).float().to(memory_format=torch.channels_last)
    x = torch.randn(2, 61, 23, 19).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fold.fold(block)(x), block.eval()(x), rtol=1e-5, atol=1e-5)


class NormAndReLU(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


UNFOLDABLE = [
    nn.InstanceNorm2d,
    lambda dim: nn.GroupNorm(1, dim),
    lambda dim: nn.BatchNorm2d(dim, track_running_stats=False),
    NormAndReLU,
]


@pytest.mark.parametrize("norm_layer", UNFOLDABLE)
def test_a_norm_that_cannot_be_folded_stays_and_the_output_too(norm_layer):
    block = trained(MobileMQABlock(5, 2, 3))
    block.attn = MobileMQA(
        5, num_heads=2, key_dim=3, value_dim=7, query_strides=2, kv_stride=2, norm_layer=norm_layer
    ).double()
    x = torch.randn(2, 5, 13, 7, dtype=torch.double)
    torch.testing.assert_close(fold.fold(block)(x), block.eval()(x), **CLOSE)


def test_the_weights_of_a_folded_layer_are_those_that_its_forward_uses():
    layer = fold.fold(trained(MobileMQA(5, num_heads=2, key_dim=3, value_dim=7, kv_stride=2)))
    x = torch.randn(2, 5, 13, 7, dtype=torch.double)
    read = torch.einsum("bhnm,bvm->bhvn", layer.weights(x), layer.value(x).flatten(2))
    expected = layer.output(read.flatten(1, 2).unflatten(-1, (13, 7)))
    torch.testing.assert_close(layer(x), expected, **CLOSE)
