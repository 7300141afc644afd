"""The layer against TensorFlow Model Garden's: its shapes, its 'same' padding, its arrays, restated in numpy."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mqa_lib import MobileMQA, functional, transfer

# batch, pixels, channels, heads, key_dim, value_dim, vertical and horizontal query stride, kv_stride
CASES = [
    (10, 32, 48, 8, 32, 16, 1, 1, 1),
    (10, 32, 48, 8, 32, 16, 1, 1, 2),
    (10, 32, 24, 8, 32, 16, 2, 1, 2),
    (10, 32, 24, 8, 32, 16, 2, 1, 1),
    (10, 32, 24, 8, 32, 16, 2, 2, 2),
]
TOLERANCE = {"rtol": 0.0, "atol": 1e-10}  # double precision
KERAS_NORM = partial(nn.BatchNorm2d, eps=transfer.EPS, momentum=0.01)


def layer_for(dim, heads, key_dim, value_dim, strides, kv_stride, kernel=3, padding="same"):
    sizes = {"num_heads": heads, "key_dim": key_dim, "value_dim": value_dim, "dw_kernel_size": kernel}
    layer = MobileMQA(
        dim, query_strides=strides, kv_stride=kv_stride, padding=padding, norm_layer=KERAS_NORM, **sizes
    )
    return layer.double().eval()


def drawn_arrays(dim, heads, key_dim, value_dim, strides, kv_stride, kernel=3, seed=0):
    """Return arrays as a Keras layer of these sizes keeps them, by their names in a checkpoint."""
    random = np.random.default_rng(seed)
    shapes = {
        "_query_proj/kernel": (1, 1, dim, heads * key_dim),
        "_key_proj/kernel": (1, 1, dim, key_dim),
        "_value_proj/kernel": (1, 1, dim, value_dim),
        "_output_proj/kernel": (1, 1, heads * value_dim, dim),
    }
    norms = ["_query_downsampling_norm"] if max(strides) > 1 else []
    if kv_stride > 1:
        norms += ["_key_dw_norm", "_value_dw_norm"]
        shapes |= {f"_{name}_dw_conv/depthwise_kernel": (kernel, kernel, dim, 1) for name in ("key", "value")}
    arrays = {name: random.standard_normal(shape) / 2 for name, shape in shapes.items()}
    for norm in norms:
        arrays |= {f"{norm}/{part}": random.standard_normal(dim) for part in ("beta", "moving_mean")}
        arrays |= {f"{norm}/{part}": random.uniform(0.5, 2, dim) for part in ("gamma", "moving_variance")}
    return arrays


def same_patches(x, kernel, strides, outside):
    """Return (batch rows columns kernel kernel channels), cut from `x` padded as TensorFlow's 'same' pads."""
    counts = [-(-extent // stride) for extent, stride in zip(x.shape[1:3], strides, strict=True)]
    pads = []
    for extent, count, size, stride in zip(x.shape[1:3], counts, kernel, strides, strict=True):
        total = max((count - 1) * stride + size - extent, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=outside)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))  # b y x d i j
    return np.moveaxis(view[:, :: strides[0], :: strides[1]][:, : counts[0], : counts[1]], 3, -1)


def keras_norm(x, arrays, name):
    gamma, beta, mean, variance = (
        arrays[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta


def half_pixel_resize(x, strides):
    """Return the map enlarged as `UpSampling2D(interpolation='bilinear')` does, one axis after the other."""
    for axis, stride in zip((1, 2), strides, strict=True):
        extent = x.shape[axis]
        at = np.clip((np.arange(extent * stride) + 0.5) / stride - 0.5, 0, extent - 1)
        rows = [
            np.interp(at, np.arange(extent), line) for line in np.moveaxis(x, axis, -1).reshape(-1, extent)
        ]
        shape = [size for place, size in enumerate(x.shape) if place != axis]
        x = np.moveaxis(np.reshape(rows, (*shape, extent * stride)), -1, axis)
    return x


def model_garden(x, arrays, heads, strides, kv_stride, kernel=3):
    """Return what the Garden's layer gives for `x` (batch height width channels)."""
    q = x
    if max(strides) > 1:
        q = np.nanmean(
            same_patches(x, strides, strides, np.nan), axis=(3, 4)
        )  # AvgPool2D leaves the padding out
        q = keras_norm(q, arrays, "_query_downsampling_norm")
    q = q @ arrays["_query_proj/kernel"][0, 0]
    rows, columns = q.shape[1:3]
    q = q.reshape(len(x), rows * columns, heads, -1)
    shared = []
    for name in ("key", "value"):
        y = x
        if kv_stride > 1:
            filters = arrays[f"_{name}_dw_conv/depthwise_kernel"][..., 0]
            patches = same_patches(x, (kernel, kernel), (kv_stride, kv_stride), 0.0)
            y = keras_norm(np.einsum("byxijd,ijd->byxd", patches, filters), arrays, f"_{name}_dw_norm")
        y = y @ arrays[f"_{name}_proj/kernel"][0, 0]
        shared.append(y.reshape(len(x), -1, y.shape[-1]))
    logits = np.einsum("blhk,bpk->blhp", q, shared[0], optimize=True) / np.sqrt(q.shape[-1])
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    read = np.einsum("blhp,bpk->blhk", scores / scores.sum(-1, keepdims=True), shared[1], optimize=True)
    read = read.reshape(len(x), rows, columns, -1)
    return (half_pixel_resize(read, strides) if max(strides) > 1 else read) @ arrays["_output_proj/kernel"][
        0, 0
    ]


def both(sizes, shape, padding, restated=None):
    """Return our layer's output with `padding` and the Garden's for the first maps, from the same arrays."""
    arrays, layer = drawn_arrays(*sizes), layer_for(*sizes, padding=padding)
    layer.load_state_dict(transfer.from_tensorflow(arrays))
    x = np.random.default_rng(1).standard_normal(shape)
    ours = layer(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    return ours, model_garden(x[:restated], arrays, sizes[1], *sizes[4:])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_five_shapes_of_the_gardens_own_test_come_back_as_they_went_in(case):
    batch, pixels, dim, heads, key_dim, value_dim, down, across, kv_stride = case
    sizes = (dim, heads, key_dim, value_dim, (down, across), kv_stride)
    ours, theirs = both(sizes, (batch, pixels, pixels, dim), "same", restated=1)
    assert ours.shape == (batch, pixels, pixels, dim)
    np.testing.assert_allclose(ours[:1], theirs, **TOLERANCE)


drawn_sizes = st.tuples(
    st.just(5),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 7),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 4),
    st.sampled_from([3, 5]),
)


@settings(max_examples=40, deadline=None)
@given(drawn_sizes, st.integers(1, 2), st.integers(1, 6), st.integers(1, 5))
def test_with_padding_same_the_output_is_the_gardens_for_any_size_its_layer_takes(
    sizes, batch, rows, columns
):
    down, across = sizes[
        4
    ]  # its reshape wants a map that the query strides divide; keys may leave a remainder
    ours, theirs = both(sizes, (batch, rows * down, columns * across, 5), "same")
    np.testing.assert_allclose(ours, theirs, **TOLERANCE)


@settings(max_examples=40, deadline=None)
@given(drawn_sizes, st.integers(1, 11), st.integers(1, 9))
def test_with_padding_same_the_specification_holds_where_the_garden_stops(sizes, height, width):
    layer = layer_for(*sizes)
    layer.load_state_dict(transfer.from_tensorflow(drawn_arrays(*sizes)))
    x = torch.randn(2, 5, height, width, dtype=torch.double)
    expected = functional.mobile_mqa(x, layer.state_dict(), sizes[1], *sizes[4:6], transfer.EPS, "same")
    torch.testing.assert_close(layer(x), expected, **TOLERANCE)


@pytest.mark.parametrize(("side", "agrees"), [(13, True), (14, False)])
def test_without_it_odd_sizes_are_sampled_alike_and_even_sizes_one_pixel_apart(side, agrees):
    ours, theirs = both((5, 2, 3, 7, (1, 1), 2), (2, side, side, 5), "")
    largest = np.abs(ours - theirs).max() / theirs.std()
    assert largest < 1e-10 if agrees else largest > 0.1  # in standard deviations of the output


@pytest.mark.parametrize(("extent", "row"), [(13, 6), (14, 7)])
def test_the_middle_key_of_an_even_map_is_centred_one_row_further_down_than_without(extent, row):
    x = torch.arange(float(extent))[None, None, :, None].expand(1, 1, extent, 3)
    middle = torch.zeros(1, 1, 3, 3)
    middle[..., 1, 1] = 1
    reduced = [functional.spatial_reduction(x, middle, 2, padding)[0, 0, 3, 1] for padding in ("", "same")]
    assert reduced == [6, row]


def test_names_of_a_whole_checkpoint_are_understood():
    arrays = drawn_arrays(5, 2, 3, 7, (2, 1), 2)
    plain = transfer.from_tensorflow(arrays)
    deep = {
        f"model/block_9/_multi_query_attention/{name}/.ATTRIBUTES/VARIABLE_VALUE": a
        for name, a in arrays.items()
    }
    for state in (
        transfer.from_tensorflow(deep),
        transfer.from_tensorflow({f"{n}:0": a for n, a in arrays.items()}),
    ):
        assert state.keys() == plain.keys() == layer_for(5, 2, 3, 7, (2, 1), 2).state_dict().keys()
        assert all(torch.equal(state[key], plain[key]) for key in plain)


def test_the_layer_without_strides_keeps_plain_arrays_and_they_are_carried_over_too():
    random, sizes = np.random.default_rng(0), {"num_heads": 2, "key_dim": 3, "value_dim": 7}
    q, k, v, out = (random.standard_normal(shape) for shape in ((2, 3, 5), (5, 3), (5, 7), (5, 2, 7)))
    layer = MobileMQA(5, padding="same", **sizes).double()
    arrays = {"_query_proj": q, "_key_proj": k, "_value_proj": v, "_output_proj": out}
    layer.load_state_dict(transfer.from_tensorflow(arrays))
    x = random.standard_normal((2, 13, 11, 5))
    logits = np.einsum("byxd,hkd,bije,ek->byxhij", x, q, x, k, optimize=True) / np.sqrt(3)
    scores = np.exp(logits)
    scores /= scores.sum((-1, -2), keepdims=True)
    expected = np.einsum("byxhij,bijd,dv,ohv->boyx", scores, x, v, out, optimize=True)
    ours = layer(torch.from_numpy(x).permute(0, 3, 1, 2))
    torch.testing.assert_close(ours, torch.from_numpy(expected), **TOLERANCE)
