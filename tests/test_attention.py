"""The layer against three oracles: the einsum specification, timm with the same weights, and identities."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import MultiQueryAttention2d

from mqa_lib import MobileMQA, MultiHeadAttention2d, functional

TOLERANCE = {"rtol": 0.0, "atol": 1e-10}  # double precision, sums of some hundred products


def drawn_layer(seed=0, **sizes):
    """A layer in double precision whose BatchNorms have statistics and weights worth the name."""
    torch.manual_seed(seed)
    layer = MobileMQA(**{"dim": 5, "num_heads": 2, "key_dim": 3, "value_dim": 7, **sizes}).double()
    for module in layer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_()
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 2.0)
    return layer.eval()


def drawn_map(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


configurations = st.fixed_dictionaries(
    {
        "num_heads": st.integers(1, 3),
        "key_dim": st.integers(1, 5),
        "value_dim": st.integers(1, 7),
        "kv_stride": st.integers(1, 4),
        "dw_kernel_size": st.sampled_from([3, 5]),
    }
)
maps = st.tuples(st.integers(1, 3), st.just(5), st.integers(1, 13), st.integers(1, 11))


@settings(max_examples=40, deadline=None)
@given(configurations, st.tuples(st.integers(1, 3), st.integers(1, 3)), maps)
def test_output_equals_the_einsum_specification_for_any_size_and_stride(sizes, query_strides, shape):
    layer, x = drawn_layer(query_strides=query_strides, **sizes), drawn_map(*shape)
    expected = functional.mobile_mqa(
        x, layer.state_dict(), sizes["num_heads"], query_strides, sizes["kv_stride"]
    )
    torch.testing.assert_close(layer(x), expected, **TOLERANCE)


@settings(max_examples=30, deadline=None)
@given(configurations, maps, st.booleans())
def test_output_and_gradients_equal_timms_with_the_same_weights(sizes, shape, training):
    ours, theirs = drawn_layer(**sizes), MultiQueryAttention2d(5, **sizes).double()
    theirs.load_state_dict(ours.state_dict())
    if shape[2] * shape[3] == 1:  # BatchNorm refuses to train on one value a channel
        training = False
    ours.train(training), theirs.train(training)
    x = drawn_map(max(shape[0], 2), *shape[1:])
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    left, right = ours(mine), theirs(other)
    torch.testing.assert_close(left, right, **TOLERANCE)
    left.square().sum().backward(), right.square().sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-8, atol=1e-8)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("query_strides", [2, (2, 1), (1, 2), (3, 2)])
def test_strided_queries_equal_timms_where_the_stride_divides_the_map(query_strides):
    ours = drawn_layer(query_strides=query_strides, kv_stride=2)
    strides = (query_strides,) * 2 if isinstance(query_strides, int) else query_strides
    theirs = MultiQueryAttention2d(5, num_heads=2, key_dim=3, value_dim=7, query_strides=strides, kv_stride=2)
    theirs.double().eval().load_state_dict(ours.state_dict())
    x = drawn_map(2, 5, 12, 18)
    torch.testing.assert_close(ours(x), theirs(x), **TOLERANCE)


def test_a_map_that_the_query_stride_does_not_divide_keeps_its_size():
    layer = drawn_layer(query_strides=2, kv_stride=2, dim_out=11)
    assert layer(drawn_map(2, 5, 21, 19)).shape == (2, 11, 21, 19)


def test_weights_loaded_from_ours_into_timm_and_back_are_unchanged():
    ours, theirs = (
        drawn_layer(kv_stride=2),
        MultiQueryAttention2d(5, num_heads=2, key_dim=3, value_dim=7, kv_stride=2),
    )
    theirs.double().load_state_dict(ours.state_dict())
    back = drawn_layer(seed=3, kv_stride=2)
    back.load_state_dict(theirs.state_dict())
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_any_memory_format_gives_the_same_output(memory_format):
    layer, x = drawn_layer(kv_stride=2), drawn_map(2, 5, 13, 17)
    torch.testing.assert_close(layer(x.contiguous(memory_format=memory_format)), layer(x), **TOLERANCE)


def test_a_map_that_is_not_contiguous_gives_the_same_output():
    layer, x = drawn_layer(), drawn_map(2, 5, 13, 17)
    torch.testing.assert_close(layer(x.mT.contiguous().mT), layer(x), **TOLERANCE)


def test_weights_are_the_very_weights_that_forward_uses():
    layer, x = drawn_layer(kv_stride=2), drawn_map(2, 5, 13, 17)
    value = layer.value(x).flatten(2).mT  # b m v
    read = torch.einsum("bhnm,bmv->bhvn", layer.weights(x), value).flatten(1, 2).unflatten(-1, (13, 17))
    torch.testing.assert_close(layer.output(read), layer(x), **TOLERANCE)


def test_rows_of_the_weights_sum_to_one():
    weights = drawn_layer(kv_stride=3).weights(drawn_map(2, 5, 13, 17))
    assert weights.shape == (2, 2, 13 * 17, 5 * 7)  # timm's padding at stride 3: one row more than 13 // 3
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), **TOLERANCE)


def test_multi_query_equals_multi_head_attention_with_tied_keys_and_values():
    shared = drawn_layer()
    heads = MultiHeadAttention2d(5, num_heads=2, key_dim=3, value_dim=7).double()
    heads.query.weight.data, heads.output.weight.data = (
        shared.query.proj.weight.data,
        shared.output.proj.weight.data,
    )
    heads.key.weight.data = shared.key.proj.weight.data.repeat(2, 1, 1, 1)
    heads.value.weight.data = shared.value.proj.weight.data.repeat(2, 1, 1, 1)
    x = drawn_map(2, 5, 13, 17)
    torch.testing.assert_close(shared(x), heads(x), **TOLERANCE)


def test_shuffling_the_pixels_shuffles_the_output_at_stride_1():
    layer, x = drawn_layer(), drawn_map(2, 5, 13, 17)
    order = torch.randperm(13 * 17)
    shuffled = x.flatten(2)[..., order].view_as(x)
    torch.testing.assert_close(
        layer(shuffled), layer(x).flatten(2)[..., order].view_as(layer(x)), **TOLERANCE
    )


def test_zero_queries_read_the_mean_of_the_values():
    layer, x = drawn_layer(), drawn_map(2, 5, 13, 17)
    layer.query.proj.weight.data.zero_()
    mean = layer.value(x).mean((2, 3), keepdim=True).repeat(1, 2, 13, 17)
    torch.testing.assert_close(layer(x), layer.output(mean), **TOLERANCE)


def test_dropout_on_the_weights_acts_only_in_training():
    layer, x = drawn_layer(attn_drop=0.5), drawn_map(2, 5, 13, 17)
    still = drawn_layer()
    torch.testing.assert_close(layer(x), still(x), **TOLERANCE)
    assert not torch.allclose(layer.train()(x), still(x))


def test_dropout_on_the_output_and_the_norm_that_was_asked_for_are_used():
    layer = MobileMQA(
        4, num_heads=2, kv_stride=2, query_strides=2, proj_drop=0.3, norm_layer=torch.nn.InstanceNorm2d
    )
    norms = [layer.query.norm, layer.key.norm, layer.value.norm]
    assert all(type(norm) is torch.nn.InstanceNorm2d for norm in norms)
    layer.train()
    assert (layer.output(torch.ones(50, 4, 7, 7)) == 0).double().mean() == pytest.approx(0.3, abs=0.05)
