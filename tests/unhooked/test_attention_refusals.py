"""What the layer refuses, in the words that a user reads: name, value, rule, way out."""

import copy
import re

import numpy as np
import pytest
import torch

from mqa_lib import MobileMQA, MobileMQABlock, MultiHeadAttention2d

CONSTRUCTIONS = [
    ({"dim": 0}, r"`dim` \(=0\) must be a whole number of at least 1"),
    ({"num_heads": 0}, r"`num_heads` \(=0\) must be .* Use 1 for a single head"),
    ({"kv_stride": 0}, r"`kv_stride` \(=0\) must be .* Use 1 for no down-sampling"),
    ({"query_strides": 0}, r"`query_strides` \(=0\) must be"),
    ({"query_strides": (1, 2, 3)}, r"`query_strides` \(=\(1, 2, 3\)\) must be one number or"),
    (
        {"num_heads": 3},
        r"`dim` \(=8\) must be divisible by `num_heads` \(=3\)\. Use 9, or state the size per head",
    ),
    ({"dw_kernel_size": 4}, r"`dw_kernel_size` \(=4\) must be odd.* Use 3 or 5"),
    ({"attn_drop": 1.0}, r"`attn_drop` \(=1.0\) must be at least 0 and below 1"),
    ({"value_dim": -1}, r"`value_dim` \(=-1\) must be"),
    ({"num_heads": 2.0}, r"`num_heads` \(=2.0\) must be a whole number"),
    ({"num_heads": True}, r"`num_heads` \(=True\) must be a whole number"),
    ({"query_strides": 2.0}, r"`query_strides` \(=2.0\) must be a whole number"),
    ({"query_strides": None}, r"`query_strides` \(=None\) must be a whole number"),
    ({"attn_drop": None}, r"`attn_drop` \(=None\) must be at least 0"),
    ({"attn_drop": np.float32(1.5)}, r"`attn_drop` \(=1.5\) must be at least 0"),
    ({"dim": 10, "num_heads": 4}, r"`dim` \(=10\) must be divisible by `num_heads` \(=4\)\. Use 8, or state"),
    ({"padding": "valid"}, r"`padding` \(='valid'\) is not a way to pad.* Use \"\" .* or \"same\""),
    ({"padding": 1}, r"`padding` \(=1\) is not a way to pad"),
]


@pytest.mark.parametrize(("argument", "message"), CONSTRUCTIONS)
def test_a_size_that_cannot_be_is_refused_when_the_layer_is_made(argument, message):
    with pytest.raises(ValueError, match=message):
        MobileMQA(**{"dim": 8, **argument})


def test_numpys_numbers_are_as_good_as_any():
    layer = MobileMQA(np.int64(8), num_heads=np.int32(2), attn_drop=np.float32(0.25))
    assert (layer.attn_drop, type(layer.attn_drop)) == (0.25, float)


MAPS = [
    (torch.zeros(2, 7, 3, 5), ValueError, r"`x` \(shape \(2, 7, 3, 5\)\) has 7 channels and must have 8"),
    (
        torch.zeros(2, 3, 5, 8),
        ValueError,
        r"Its last axis is 8: move the channels with `x.permute\(0, 3, 1, 2\)`",
    ),
    (torch.zeros(8, 3, 5), ValueError, r"must have the axes .* Add the batch axis with `x.unsqueeze\(0\)`"),
    (
        torch.zeros(2, 8, 3, 5, dtype=torch.long),
        TypeError,
        r"\(dtype torch.int64\) must hold floating.*`x.float\(\)`",
    ),
    (np.zeros((2, 8, 3, 5)), TypeError, r"`x` \(=ndarray\) must be a tensor\. Use `torch.as_tensor\(x\)`"),
    (torch.zeros(2, 8, 0, 5), ValueError, r"has no pixels"),
]


@pytest.mark.parametrize(
    "layer", [MobileMQA(8), MobileMQABlock(8), MultiHeadAttention2d(8)], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize(("x", "error", "message"), MAPS)
def test_a_map_that_does_not_fit_is_refused_with_a_way_out(layer, x, error, message):
    with pytest.raises(error, match=message):
        layer(x)


LAYERS = [MobileMQA(8, kv_stride=2), MobileMQABlock(8), MultiHeadAttention2d(8)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda m: type(m).__name__)
def test_a_map_of_another_number_format_is_refused_with_both_named(layer):
    x = torch.zeros(2, 8, 3, 5, dtype=torch.float64)
    message = (
        r"`x` \(dtype torch.float64\) must have the dtype .*, torch.float32\. Use `x.to\(torch.float32\)` or"
    )
    with pytest.raises(TypeError, match=message):
        layer(x)
    with pytest.raises(TypeError, match=r"or `layer.to\(torch.float32\)`, or run under `torch.autocast`"):
        copy.deepcopy(layer).half()(x.float())


@pytest.mark.parametrize("layer", LAYERS, ids=lambda m: type(m).__name__)
def test_under_autocast_formats_may_differ(layer):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert copy.deepcopy(layer).eval()(torch.zeros(2, 8, 3, 5, dtype=torch.bfloat16)).isfinite().all()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda m: type(m).__name__)
def test_a_map_on_another_device_is_refused_with_both_named(layer):
    message = (
        r"`x` \(on meta\) must lie on the device of .*, cpu\. Use `x.to\('cpu'\)` or `layer.to\('meta'\)`"
    )
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(2, 8, 3, 5, device="meta"))


def test_on_the_meta_device_too_another_number_format_is_refused():
    x = torch.zeros(2, 8, 3, 5, device="meta", dtype=torch.float16)
    with pytest.raises(TypeError, match=r"`x` \(dtype torch.float16\) must have the dtype"):
        MobileMQA(8).to("meta")(x)


@pytest.mark.parametrize("look", ["weights", "queries_and_keys"])
def test_looking_refuses_what_running_refuses(look):
    with pytest.raises(TypeError, match=r"`x` \(dtype torch.float64\) must have the dtype"):
        getattr(MobileMQA(8), look)(torch.zeros(2, 8, 3, 5, dtype=torch.float64))


STATES = [
    (
        {"key_dim": 5},
        [
            r"`query.proj.weight` \(shape \(10, 8, 1, 1\)\) must have the shape \(6, 8, 1, 1\)",
            r"`key.proj.weight` \(shape \(5, 8, 1, 1\)\) must have the shape \(3, 8, 1, 1\)",
            r"Build the layer with key_dim=5 \(it has key_dim=3\)",
        ],
    ),
    ({"num_heads": 4}, [r"Build the layer with num_heads=4 \(it has num_heads=2\)"]),
    ({"dim": 10, "dim_out": 8}, [r"Build the layer with dim=10 \(it has dim=8\)"]),
    (
        {"kv_stride": 1},
        [
            r"`key.down_conv.weight` is missing from it",
            r"Build the layer with kv_stride=1 \(it has kv_stride=2 or more\)",
        ],
    ),
    ({"dw_kernel_size": 5}, [r"Build the layer with dw_kernel_size=5 \(it has dw_kernel_size=3\)"]),
    (
        {"query_strides": 2},
        [r"`query.norm.running_var` has no place", r"query_strides=2 or more \(it has query_strides=1\)"],
    ),
]


@pytest.mark.parametrize(("options", "said"), STATES)
def test_a_state_dict_of_another_configuration_names_the_keys_and_the_arguments_that_would_fit(options, said):
    sizes = {"dim": 8, "num_heads": 2, "key_dim": 3, "value_dim": 7, "kv_stride": 2}
    layer = MobileMQA(**sizes)
    with pytest.raises(RuntimeError) as refused:  # as PyTorch's own
        layer.load_state_dict(MobileMQA(**{**sizes, **options}).state_dict())
    for message in said:
        assert re.search(message, str(refused.value))


def test_within_a_model_pytorch_names_the_keys_and_the_shapes_that_do_not_fit():
    model, other = (torch.nn.Sequential(MobileMQABlock(8, 2, size)) for size in (3, 5))
    with pytest.raises(RuntimeError, match=r"0.attn.key.proj.weight: .*\[5, 8, 1, 1\].*\[3, 8, 1, 1\]"):
        model.load_state_dict(other.state_dict())


def test_a_state_dict_of_something_else_is_refused_without_a_guess_at_arguments():
    with pytest.raises(RuntimeError, match=r"`weight` has no place in the layer") as refused:
        MobileMQA(8).load_state_dict(torch.nn.Linear(3, 5).state_dict())
    assert "Build the layer" not in str(refused.value)


def test_a_state_dict_may_miss_keys_if_strict_is_off():
    layer = MobileMQA(8, kv_stride=2)
    result = layer.load_state_dict(MobileMQA(8).state_dict(), strict=False)
    assert "key.down_conv.weight" in result.missing_keys


def test_a_value_dim_of_zero_is_refused_by_the_block_as_well():
    with pytest.raises(ValueError, match=r"`value_dim` \(=0\) must be"):
        MobileMQABlock(8, 2, 3, value_dim=0)


def test_whole_numbers_of_numpy_are_welcome():
    assert MobileMQA(np.int64(8), num_heads=np.int32(2)).dim == 8
