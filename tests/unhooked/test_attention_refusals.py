"""What the layer refuses, in the words that a user reads: name, value, rule, way out."""

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
]


@pytest.mark.parametrize(("argument", "message"), CONSTRUCTIONS)
def test_a_size_that_cannot_be_is_refused_when_the_layer_is_made(argument, message):
    with pytest.raises(ValueError, match=message):
        MobileMQA(**{"dim": 8, **argument})


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


def test_a_value_dim_of_zero_is_refused_by_the_block_as_well():
    with pytest.raises(ValueError, match=r"`value_dim` \(=0\) must be"):
        MobileMQABlock(8, 2, 3, value_dim=0)


def test_whole_numbers_of_numpy_are_welcome():
    assert MobileMQA(np.int64(8), num_heads=np.int32(2)).dim == 8
