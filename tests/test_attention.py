"""The layer against three oracles: the einsum specification, timm with the same weights, and identities."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import MultiQueryAttention2d
from torch.nn.attention import SDPBackend, sdpa_kernel

from mqa_lib import MobileMQA, MultiHeadAttention2d, functional, kernels

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


@settings(max_examples=60, deadline=None)
@given(configurations, st.tuples(st.integers(1, 3), st.integers(1, 3)), maps, st.booleans())
def test_output_equals_the_einsum_specification_for_any_size_and_stride(
    sizes, query_strides, shape, training
):
    layer = drawn_layer(query_strides=query_strides, **sizes).train(training)
    x = drawn_map(shape[0] + training, *shape[1:])  # BatchNorm refuses to train on one value a channel
    expected = functional.mobile_mqa(
        x, layer.state_dict(), sizes["num_heads"], query_strides, sizes["kv_stride"], training=training
    )
    torch.testing.assert_close(layer(x), expected, **TOLERANCE)


@settings(max_examples=60, deadline=None)
@given(
    configurations,
    st.tuples(st.sampled_from([1, 1, 2, 3]), st.sampled_from([1, 1, 2, 3])),
    maps,
    st.sampled_from([None, 11]),
    st.booleans(),
)
def test_output_gradients_and_statistics_equal_timms_with_the_same_weights(
    sizes, query_strides, shape, dim_out, training
):
    sizes = {**sizes, "query_strides": query_strides, "dim_out": dim_out}
    ours, theirs = drawn_layer(**sizes), MultiQueryAttention2d(5, **sizes).double()
    theirs.load_state_dict(ours.state_dict())
    back = drawn_layer(seed=3, **sizes)
    back.load_state_dict(theirs.state_dict())
    back.train(training), theirs.train(training)
    # timm wants a map that the query strides divide
    x = drawn_map(
        shape[0] + 1, 5, *(extent * stride for extent, stride in zip(shape[2:], query_strides, strict=True))
    )
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    left, right = back(mine), theirs(other)
    torch.testing.assert_close(left, right, **TOLERANCE)
    left.square().sum().backward(), right.square().sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-8, atol=1e-8)
    for name, parameter in back.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-8, atol=1e-8)
    for name, tensor in back.state_dict().items():  # running means, variances and counts as well
        torch.testing.assert_close(tensor, theirs.state_dict()[name], **TOLERANCE)


def test_a_training_step_moves_the_statistics_of_every_norm():
    layer = drawn_layer(kv_stride=2, query_strides=2).train()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items() if "running" in name}
    layer(drawn_map(2, 5, 13, 17))
    assert len(before) == 6
    assert not any(torch.equal(layer.state_dict()[name], tensor) for name, tensor in before.items())


def test_timm_still_shrinks_a_map_that_its_query_stride_does_not_divide():
    theirs = MultiQueryAttention2d(8, query_strides=2)
    said = "timm has mended this: say so in the docstring of MobileMQA and compare with it here"
    assert theirs(torch.zeros(1, 8, 21, 21)).shape == (1, 8, 20, 20), said
    assert MobileMQA(8, query_strides=2)(torch.zeros(1, 8, 21, 21)).shape == (1, 8, 21, 21)


def test_a_map_that_the_query_stride_does_not_divide_keeps_its_size():
    layer = drawn_layer(query_strides=2, kv_stride=2, dim_out=11)
    assert layer(drawn_map(2, 5, 21, 19)).shape == (2, 11, 21, 19)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_any_memory_format_gives_the_same_output(memory_format):
    layer, x = drawn_layer(kv_stride=2), drawn_map(2, 5, 13, 17)
    torch.testing.assert_close(layer(x.contiguous(memory_format=memory_format)), layer(x), **TOLERANCE)


@pytest.mark.parametrize("side", [3, 47], ids=["small", "large"])
@pytest.mark.parametrize("training", [False, True])
def test_no_pictures_give_no_pictures(side, training):
    layer = MobileMQA(8, 11, num_heads=3, key_dim=5, value_dim=7, attn_drop=0.5).train(training)
    assert layer(torch.zeros(0, 8, side, 37)).shape == (0, 11, side, 37)


def test_a_map_that_is_not_contiguous_gives_the_same_output():
    layer, x = drawn_layer(), drawn_map(2, 5, 13, 17)
    torch.testing.assert_close(layer(x.mT.contiguous().mT), layer(x), **TOLERANCE)


LOOKED_AT = [
    {"kv_stride": 2},
    {"kv_stride": 2, "padding": "same"},
    {"kv_stride": 3, "query_strides": (2, 3)},
    {"kv_stride": 3, "query_strides": (3, 1), "padding": "same"},
]


def read_with(layer, weights, x):
    """Return the output for `x` if the values are averaged with `weights`."""
    value = layer.value(x).flatten(2).mT  # b m v
    grid = layer.query(x).shape[-2:]
    read = torch.einsum("bhnm,bmv->bhvn", weights, value).flatten(1, 2).unflatten(-1, grid)
    if max(layer.query_strides) > 1:
        read = functional.upsample_queries(read, layer.query_strides, *x.shape[-2:], layer.padding)
    return layer.output(read)


@pytest.mark.parametrize("way", ["fused", "math", "products", "convolutions"])
@pytest.mark.parametrize("options", LOOKED_AT, ids=str)
def test_weights_are_the_very_weights_that_forward_uses(options, way, monkeypatch):
    monkeypatch.setattr(kernels, "way", lambda *_: "fused" if way == "math" else way)
    layer, x = drawn_layer(**options), drawn_map(2, 5, 14, 17)
    with sdpa_kernel(SDPBackend.MATH if way == "math" else SDPBackend.FLASH_ATTENTION):
        output, weights = layer(x), layer.weights(x)
    torch.testing.assert_close(read_with(layer, weights, x), output, **TOLERANCE)


def test_weights_in_bfloat16_are_those_that_forward_uses_as_far_as_bfloat16_can_tell():
    layer, x = drawn_layer(kv_stride=2).bfloat16(), drawn_map(2, 5, 13, 17).bfloat16()
    output, weights = layer(x), layer.weights(x)
    assert weights.dtype == torch.bfloat16
    torch.testing.assert_close(weights.float().sum(-1), torch.ones(2, 2, 13 * 17), rtol=0, atol=0.01)
    expected = read_with(layer, weights, x)
    assert (output - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"kv_stride": 3}, 5 * 7),  # timm's padding at stride 3: one row more than 13 // 3
        ({"kv_stride": 3, "padding": "same"}, 5 * 6),
        ({"kv_stride": 2, "query_strides": (1, 1), "padding": "same"}, 7 * 9),
    ],
    ids=str,
)
def test_rows_of_the_weights_sum_to_one(options, keys):
    weights = drawn_layer(**options).weights(drawn_map(2, 5, 13, 17))
    assert weights.shape == (2, 2, 13 * 17, keys)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), **TOLERANCE)


@pytest.mark.parametrize(
    ("num_heads", "key_dim", "value_dim"), [(1, 3, 7), (2, 3, 7), (3, 7, 2), (5, None, None)]
)
def test_multi_head_attention_equals_the_einsum_specification_with_keys_of_each_heads_own(
    num_heads, key_dim, value_dim
):
    layer = MultiHeadAttention2d(5, num_heads, key_dim, value_dim).double()
    x = drawn_map(2, 5, 13, 17)
    q, k, v = (
        functional.project(x, layer.get_parameter(f"{name}.weight"))
        .unflatten(1, (num_heads, -1))
        .flatten(-2)
        .mT
        for name in ("query", "key", "value")
    )
    assert q.shape == k.shape == (2, num_heads, 13 * 17, key_dim or 1) and v.shape[-1] == (value_dim or 1)
    read = functional.attend(q, k, v).mT.flatten(1, 2).unflatten(-1, (13, 17))
    torch.testing.assert_close(layer(x), functional.project(read, layer.output.weight), **TOLERANCE)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(last), layer(x), **TOLERANCE)
    assert layer(last).is_contiguous(memory_format=torch.channels_last) and layer(x).is_contiguous()


def test_multi_head_attention_that_cannot_share_its_channels_evenly_is_refused():
    with pytest.raises(ValueError, match=r"`dim` \(=5\) must be divisible by `num_heads` \(=2\)\. Use"):
        MultiHeadAttention2d(5, 2)


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


@pytest.mark.parametrize("options", LOOKED_AT, ids=str)
def test_zero_queries_read_the_mean_of_the_values(options):
    layer, x = drawn_layer(**options), drawn_map(2, 5, 14, 17)
    layer.query.proj.weight.data.zero_()
    mean = layer.value(x).mean((2, 3), keepdim=True).repeat(1, 2, 14, 17)
    torch.testing.assert_close(layer(x), layer.output(mean), **TOLERANCE)


def turned(layer, turn):
    """Return a copy whose down-sampling kernels are turned as the map is."""
    other = copy.deepcopy(layer)
    for name, tensor in other.state_dict().items():
        if name.endswith("down_conv.weight"):
            tensor.copy_(turn(tensor.clone()))
    return other


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([3, 5]),
    st.integers(6, 17),
    st.sampled_from(["", "same"]),
)
def test_a_flip_commutes_where_the_windows_lie_in_the_middle_and_only_there(
    stride, pool, kernel, width, padding
):
    layer = drawn_layer(kv_stride=stride, query_strides=(1, pool), dw_kernel_size=kernel, padding=padding)
    x = drawn_map(1, 5, 7, width)
    count, before = functional.windows(width, kernel, stride, padding)
    middle = (
        stride == 1 or (count - 1) * stride + kernel - before - width == before
    )  # as much after as before
    # Windows of pooled queries begin at the border; "same" cuts the first and the last alike, if it can.
    rest = -width % pool
    middle &= rest % 2 == 0 if padding == "same" else rest == 0
    flipped = turned(layer, lambda kernel: kernel.flip(-1))(x.flip(-1)).flip(-1)
    assert torch.allclose(flipped, layer(x), rtol=0, atol=1e-10) == middle


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize(("stride", "strides"), [(1, (1, 1)), (2, (1, 1)), (3, (2, 3)), (4, (1, 2))])
def test_a_transposed_map_gives_the_transposed_output_with_transposed_kernels(stride, strides, padding):
    options = {"kv_stride": stride, "dw_kernel_size": 5, "padding": padding}
    layer, x = drawn_layer(query_strides=strides, **options), drawn_map(2, 5, 14, 17)
    across = drawn_layer(query_strides=strides[::-1], **options)
    across.load_state_dict(turned(layer, lambda kernel: kernel.mT).state_dict())
    torch.testing.assert_close(across(x.mT).mT, layer(x), **TOLERANCE)


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize(("height", "width", "kernel"), [(1, 1, 5), (2, 1, 3), (1, 2, 7)])
def test_a_map_smaller_than_the_kernel_is_padded(height, width, kernel, padding):
    layer, x = (
        drawn_layer(kv_stride=2, dw_kernel_size=kernel, padding=padding),
        drawn_map(2, 5, height, width),
    )
    expected = functional.mobile_mqa(x, layer.state_dict(), 2, (1, 1), 2, padding=padding)
    torch.testing.assert_close(layer(x), expected, **TOLERANCE)


@pytest.mark.parametrize("options", LOOKED_AT, ids=str)
@pytest.mark.parametrize(
    ("dtype", "way"),
    [*((torch.float32, way) for way in ("fused", "products", "convolutions")), (torch.bfloat16, "fused")],
)
def test_a_nan_reaches_every_pixel_of_its_own_picture_and_of_no_other(options, dtype, way, monkeypatch):
    monkeypatch.setattr(kernels, "way", lambda *_: way)
    layer, x = drawn_layer(**options).to(dtype), drawn_map(2, 5, 13, 17).to(dtype)
    x[0, 3, 11, 2] = float("nan")  # not in the first block of keys that a kernel looks at
    output = layer(x)
    assert output[0].isnan().all()
    assert output[1].isfinite().all()


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
