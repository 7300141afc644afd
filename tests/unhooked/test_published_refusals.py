"""What the article's layer breaks on, in PyTorch's words, and what we refuse in ours."""

import pickle

import pytest
import torch

from mqa_lib import MobileMQA, published
from mqa_lib.published import ALL, NONE, Defect, PublishedMQA

SQUARE, WIDE = (2, 5, 7, 7), (2, 5, 7, 11)


def test_the_article_s_layer_breaks_on_a_map_that_is_not_square():
    with pytest.raises(RuntimeError, match=r"shape '\[2, 6, 7, 7\]' is invalid"):
        PublishedMQA(5, 2, 3)(torch.randn(WIDE))
    assert PublishedMQA(5, 2, 3, defects=ALL & ~Defect.SQUARE_ONLY)(torch.randn(WIDE)).shape == WIDE


def test_the_article_s_layer_breaks_on_channels_last():
    x = torch.randn(SQUARE).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        PublishedMQA(5, 2, 3)(x)
    assert PublishedMQA(5, 2, 3, defects=ALL & ~Defect.ROW_MAJOR_ONLY)(x).shape == SQUARE


def test_the_article_s_layer_cannot_stride_its_queries():
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        PublishedMQA(5, 2, 3, query_strides=2)(torch.randn(SQUARE))


def test_a_layer_that_does_not_run_is_measured_by_what_pytorch_said():
    right = MobileMQA(5, num_heads=2, key_dim=3, value_dim=3)
    found = published.deviation(right, torch.randn(WIDE), Defect.SQUARE_ONLY)
    assert found.error.startswith("RuntimeError: shape '[2, 6, 7, 7]' is invalid")
    assert found.correlation != found.correlation


def test_a_smaller_output_is_measured_by_its_shape():
    right = MobileMQA(5, num_heads=2, key_dim=3, value_dim=3, query_strides=(1, 2))
    found = published.deviation(right, torch.randn(WIDE), Defect.NO_UPSAMPLING)
    assert found.error == "2 × 5 × 7 × 6 instead of 2 × 5 × 7 × 11"


@pytest.mark.parametrize(
    ("options", "defects", "message"),
    [
        ({"value_dim": 7}, ALL, r"`value_dim` \(=7\) must be `key_dim` \(=3\).*Use `value_dim=3`"),
        ({"value_dim": 3, "dim_out": 11}, NONE, r"`dim_out` \(=11\) must be `dim` \(=5\).*Use `dim_out=5`"),
    ],
)
def test_a_layer_that_the_article_s_cannot_be_is_refused(options, defects, message):
    right = MobileMQA(5, num_heads=2, key_dim=3, **options)
    with pytest.raises(ValueError, match=message):
        published.deviation(right, torch.randn(SQUARE), defects)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((5, 0, 3), r"`num_heads` \(=0\)"),
        ((0, 2, 3), r"`dim` \(=0\)"),
        ((5, 2, 0), r"`key_dim` \(=0\)"),
        ((5, 2, 3, None, 1, 0), r"`kv_stride` \(=0\)"),
    ],
)
def test_impossible_sizes_are_refused_as_by_mobile_mqa(sizes, message):
    with pytest.raises(ValueError, match=message):
        PublishedMQA(*sizes)


@pytest.mark.parametrize("x", [torch.randn(5, 7, 7), torch.randn(2, 3, 7, 7), torch.ones(SQUARE).long()])
def test_a_map_of_another_kind_is_refused(x):
    with pytest.raises((TypeError, ValueError), match="`x`"):
        PublishedMQA(5, 2, 3)(x)


def test_a_layer_survives_pickling_with_its_defects():
    layer = PublishedMQA(5, 2, 3, defects=Defect.SCALE | Defect.VALUE_LAYOUT)
    again, x = pickle.loads(pickle.dumps(layer)), torch.randn(SQUARE)
    assert again.defects == layer.defects
    torch.testing.assert_close(again(x), layer(x))
