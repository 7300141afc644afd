"""The article's printed numbers are reproduced, and what its attention costs is counted twice."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mqa_lib.rtdetr import audit
from mqa_lib.rtdetr.article import ResNetLayer_MQA


def test_the_article_s_model_has_the_parameters_of_its_log_row_by_row():
    network = audit.one_class("rtdetr-resnet50-article")
    assert tuple(audit.row_params(network)) == audit.PRINTED_ROWS
    assert audit.params(network) == sum(audit.PRINTED_ROWS) == audit.PRINTED_PARAMS


def test_a_network_for_one_class_answers_for_one_class():
    network = audit.one_class("rtdetr-nano-stock")
    assert (network.yaml["nc"], network.model[-1].nc) == (1, 1)


@pytest.mark.parametrize("stage", audit.STAGES, ids=lambda stage: f"stride {stage.stride}")
def test_a_stage_s_attention_costs_what_torch_counts(stage):
    layer = ResNetLayer_MQA(stage.dim, stage.dim, n=stage.blocks).eval()
    side = 96 // stage.stride

    def counted():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(torch.zeros(1, stage.dim, side, side))
        return counter.get_total_flops()

    everything = counted()
    for block in layer.layer:
        block.cv4 = torch.nn.Identity()
    assert everything - counted() == pytest.approx(stage.gflops(96) * 1e9)


def test_the_kinds_of_step_add_up():
    stage = audit.STAGES[2]
    parts = [stage.gflops(640, *kinds) for kinds in (audit.PROJECTIONS, audit.MATRIX_PRODUCTS)]
    assert sum(parts) == pytest.approx(stage.gflops(640))


def test_at_640_px_the_attention_costs_six_times_what_the_article_prints_for_the_model():
    products = audit.article_gflops(640, *audit.MATRIX_PRODUCTS)
    projections = audit.article_gflops(640, *audit.PROJECTIONS)
    assert products == pytest.approx(823.97, abs=0.01)
    assert projections == pytest.approx(6.49, abs=0.01)
    assert audit.STAGES[0].block_cost(640).score_bytes / 2**30 == pytest.approx(4.88, abs=0.01)


@pytest.mark.parametrize(
    ("name", "expected"), [("rtdetr-resnet50-stock", 132.37), ("rtdetr-resnet50-mobile-mqa", 136.06)]
)
def test_ultralytics_counts_the_stock_and_the_recommended_model(name, expected):
    network = audit.one_class(name)
    assert audit.counted_gflops(network) == pytest.approx(expected, abs=0.3)  # counters differ by version


def test_a_size_that_the_strides_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"`size_px` \(=650\) must be divisible by `stride` \(=32\)"):
        audit.STAGES[0].block_cost(650)


def test_an_unknown_model_is_refused():
    with pytest.raises(
        ValueError, match=r"`name` \(='rtdetr-tiny'\) is not known\. Use one of: .*rtdetr-nano"
    ):
        audit.one_class("rtdetr-tiny")


def test_the_article_s_network_costs_what_the_formula_says_more_than_the_stock_one():
    article, stock = (audit.one_class(f"rtdetr-resnet50-{name}").eval() for name in ("article", "stock"))
    more = audit.torch_gflops(article, 96) - audit.torch_gflops(stock, 96)
    assert more == pytest.approx(audit.article_gflops(96))


def test_the_places_of_attention_are_found_by_stride_and_in_the_encoder():
    assert audit.places(audit.one_class("rtdetr-nano-mobile-mqa"), 128) == {
        8: "1 × MobileMQA, keys halved",
        16: "1 × MobileMQA",
        "encoder": "1 × AIFI",
    }


def test_a_network_starts_as_the_stock_one_when_its_weights_are_carried_over():
    stock, mobile = (audit.one_class(f"rtdetr-nano-{name}").eval() for name in ("stock", "mobile-mqa"))
    for row in mobile.model:
        if hasattr(row, "layer_scale"):
            row.layer_scale.gamma.data.zero_()
    audit.carry_over(stock, mobile)
    x = torch.rand(1, 3, 96, 128)
    for theirs, own in zip(audit.decoder_maps(stock, x), audit.decoder_maps(mobile, x), strict=True):
        torch.testing.assert_close(own, theirs)


def test_the_article_s_stages_get_the_stock_weights_around_their_attention():
    stock, article = (audit.one_class(f"rtdetr-resnet50-{name}") for name in ("stock", "article"))
    untouched = article.model[1].layer[0].cv4.query.proj.weight.clone()
    audit.carry_over(stock, article)
    carried = article.state_dict()
    assert all(torch.equal(carried[name], weight) for name, weight in stock.state_dict().items())
    assert torch.equal(article.model[1].layer[0].cv4.query.proj.weight, untouched)


def test_a_counter_of_modules_sees_convolutions_and_linear_layers_and_no_products():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = torch.nn.Conv2d(3, 5, 1), torch.nn.Linear(7, 11)

        def forward(self, x):
            y = self.conv(x)
            return self.linear(y @ y)

    assert audit.module_gflops(Net(), 7) * 1e9 == pytest.approx(2 * (3 * 5 * 49 + 5 * 7 * 7 * 11))


def test_backbone_rows_know_their_text_class_stride_and_whether_they_are_read():
    network = audit.one_class("rtdetr-resnet50-mobile-mqa")
    rows = audit.backbone_rows(network)
    assert [row.stride for row in rows] == [4, 4, 8, 16, 16, 32, 32]
    assert [index for index, row in enumerate(rows) if row.read] == [2, 4, 6]
    assert rows[4].text == "[-1, 1, MobileMQABlock, [1024, 4, 64, 2]]"
    assert {row.home for row in rows if row.kind == "MobileMQABlock"} == {"mqa_lib.blocks"}
    assert network.training


def test_weights_of_a_network_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"`source` \(=.* rows\) must have as many rows"):
        audit.carry_over(audit.one_class("rtdetr-nano-mobile-mqa"), audit.one_class("rtdetr-nano-stock"))


def test_an_answer_is_told_by_its_shape_or_by_what_stopped_it():
    assert audit.answer(audit.one_class("rtdetr-nano-stock").eval(), torch.rand(1, 3, 96, 96)) == "1 × 30 × 6"
    stopped = audit.answer(torch.nn.Conv2d(3, 5, 7), torch.rand(1, 3, 2, 2))
    assert stopped.startswith("stops: Calculated padded input size")


def test_a_table_is_markdown_with_parted_thousands():
    assert audit.table("name | count", [("a", 1234)]) == "| name | count |\n| --- | --- |\n| a | 1,234 |"
