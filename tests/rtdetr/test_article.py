"""The article's backbone has its parameters, and its corrected twin starts from the stock network."""

import pytest
import torch
from ultralytics.nn.modules import Conv
from ultralytics.nn.modules.block import C3, ResNetLayer

from mqa_lib import rtdetr
from mqa_lib.rtdetr import article
from mqa_lib.rtdetr.article import (
    C3_MQA,
    ArticleBottleneck,
    C3_MQA_Corrected,
    ResNetLayer_MQA,
    ResNetLayer_MQA_Corrected,
)

ROWS = [
    ((3, 64, 1, True, 1), 9_536),
    ((64, 64, 1, False, 3), 271_104),
    ((256, 128, 2, False, 4), 1_367_040),
    ((512, 256, 2, False, 6), 7_540_736),
    ((1024, 512, 2, False, 3), 15_407_104),
]


def owned(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("row", "printed"), ROWS)
def test_a_row_owns_the_parameters_that_the_article_prints(row, printed):
    assert owned(ResNetLayer_MQA(*row)) == printed


@pytest.mark.parametrize(("row", "printed"), ROWS[1:])
def test_the_attention_adds_288_parameters_a_channel_and_block(row, printed):
    assert printed - owned(ResNetLayer(*row)) == 288 * row[1] * row[4]


@torch.no_grad()
def test_a_corrected_stage_whose_layer_scale_is_zero_is_the_stock_stage():
    stock, twin = ResNetLayer(5, 7, 2, n=3).eval(), ResNetLayer_MQA_Corrected(5, 7, 2, n=3, layer_scale=0.0)
    missing, unexpected = twin.load_state_dict(stock.state_dict(), strict=False)
    x = torch.randn(2, 5, 13, 17)
    torch.testing.assert_close(twin.eval()(x), stock(x))
    assert not unexpected
    assert all(".cv4." in key for key in missing)


@torch.no_grad()
def test_an_article_bottleneck_passes_its_whole_signal_through_the_attention():
    block, x = ArticleBottleneck(5, 7).eval(), torch.randn(2, 5, 11, 11)
    block.cv4.output.proj.weight.zero_()
    silent = block.cv3(torch.zeros(2, 7, 11, 11)) + block.shortcut(x)
    torch.testing.assert_close(block(x), silent.relu())


@torch.no_grad()
@pytest.mark.parametrize("stage", [ResNetLayer_MQA, ResNetLayer_MQA_Corrected])
def test_a_stage_halves_the_map_with_its_stride(stage):
    assert stage(5, 7, 2, n=2)(torch.randn(2, 5, 26, 26)).shape == (2, 28, 13, 13)


def test_every_convolution_with_a_norm_is_one_that_ultralytics_can_fuse():
    stage = ResNetLayer_MQA(5, 7, 2, n=2)
    fusable = [module.bn for module in stage.modules() if isinstance(module, Conv)]
    assert set(fusable) == {m for m in stage.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert len(fusable) == 7


def test_the_corrected_twin_takes_a_stride_of_keys():
    attention = ResNetLayer_MQA_Corrected(5, 7, n=1, kv_stride=2).layer[0].cv4.attn
    assert (attention.num_heads, attention.key_dim, attention.kv_stride) == (2, 48, 2)


@torch.no_grad()
def test_a_small_stage_passes_what_its_3x3_convolution_made_through_the_attention():
    block, x = C3_MQA(10, 14).eval().m[0], torch.randn(2, 7, 11, 11)
    block.cv2.bn.bias.fill_(1.0)  # what comes after the attention, and not before, would be heard
    block.cv4.output.proj.weight.zero_()
    torch.testing.assert_close(block(x), x)


@torch.no_grad()
def test_a_small_corrected_stage_starts_near_the_stock_stage_and_is_it_without_its_scale():
    stock, twin, x = C3(10, 14, n=2).eval(), C3_MQA_Corrected(10, 14, n=2).eval(), torch.randn(2, 10, 7, 13)
    twin.load_state_dict(stock.state_dict(), strict=False)
    scales = [block.cv4.layer_scale.gamma for block in twin.m]
    assert [scale.unique().item() for scale in scales] == pytest.approx([0.1, 0.1])
    assert not torch.equal(twin(x), stock(x))
    for scale in scales:
        scale.zero_()
    torch.testing.assert_close(twin(x), stock(x))


@pytest.mark.parametrize(
    ("name", "size", "refused"),
    [
        ("rtdetr-nano-article", (96, 160), True),
        ("rtdetr-nano-article", (96, 96), False),
        ("rtdetr-nano-article", None, False),
        ("rtdetr-nano-article-corrected", (96, 160), False),
        ("rtdetr-nano-stock", (96, 160), False),
    ],
)
def test_only_the_articles_layer_is_refused_a_picture_that_is_not_square(name, size, refused):
    network = rtdetr.load(name).model
    if refused:
        with pytest.raises(ValueError, match=r"`imgsz` \(=96,160\) must be square.*-corrected"):
            article.check_square(network, size)
    else:
        article.check_square(network, size)
