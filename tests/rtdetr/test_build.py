"""Model files become models, and ultralytics is left as it was."""

import re
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from ultralytics import RTDETR, YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
from ultralytics.utils import ROOT

from mqa_lib import MobileMQABlock, rtdetr
from mqa_lib.__main__ import main
from mqa_lib.rtdetr import audit, fit
from mqa_lib.rtdetr.build import content_of

NANO = "rtdetr-nano-mobile-mqa"
DATA = Path(__file__).parents[2] / "data"
PICTURE, WEIGHTS = DATA / "keys_and_locks/images/val/000000.png", DATA / f"weights/{NANO}.safetensors"


def built(name, nc=5):
    return RTDETRDetectionModel(str(rtdetr.MODELS[name]), nc=nc, verbose=False).eval()


@pytest.mark.parametrize("name", sorted(name for name in rtdetr.MODELS if name.startswith("rtdetr")))
def test_every_model_predicts_boxes_for_its_classes(name):
    width = 128 if name.endswith("article") else 96  # the article's layer takes square maps only
    predictions, _ = built(name)(torch.zeros(1, 3, 128, width))
    assert predictions.shape[0] == 1 and predictions.shape[2] == 6
    assert predictions[..., 5].max() < 5


@pytest.mark.parametrize("name", sorted(name for name in rtdetr.MODELS if name.startswith("yolo")))
def test_every_yolo_model_scores_every_cell_of_three_maps_for_its_classes(name):
    network = DetectionModel(str(rtdetr.MODELS[name]), nc=5, verbose=False).eval()
    predictions, _ = network(torch.zeros(1, 3, 128, 96))
    assert predictions.shape == (1, 4 + 5, 16 * 12 + 8 * 6 + 4 * 3)


def test_the_resnet_twin_without_attention_is_ultralytics_own():
    stock = RTDETRDetectionModel("rtdetr-resnet50.yaml", nc=1, verbose=False)
    ours = built("rtdetr-resnet50-stock", nc=1)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in stock.state_dict().items()
    ]


@pytest.mark.parametrize(("size", "strides"), [("resnet50", {16: 2, 32: 1}), ("nano", {8: 2, 16: 1})])
def test_the_blocks_stand_after_the_strides_that_the_design_names(size, strides):
    model, found = built(f"rtdetr-{size}-mobile-mqa"), {}
    for layer in model.model:
        if isinstance(layer, MobileMQABlock):
            layer.register_forward_hook(
                lambda m, x, y: found.update({128 // x[0].shape[-1]: m.attn.kv_stride})
            )
    model(torch.zeros(1, 3, 128, 128))
    assert found == strides


def test_the_twins_differ_by_the_blocks_and_nothing_else():
    with_blocks, without = built(NANO), built("rtdetr-nano-stock")
    kept = [layer for layer in with_blocks.model if not isinstance(layer, MobileMQABlock)]
    assert len(with_blocks.model) == len(kept) + 2
    shapes = [[p.shape for p in layer.parameters()] for layer in kept]
    assert shapes == [[p.shape for p in layer.parameters()] for layer in without.model]


@pytest.mark.parametrize(
    ("variant", "rows"),
    [
        ("rtdetr-nano-mha", [["MultiHeadBlock", [96, 4, 32, 1.0]], ["MultiHeadBlock", [128, 4, 32, 1.0]]]),
        (
            "rtdetr-nano-mqa",
            [["MobileMQABlock", [96, 4, 32, 1, 1.0]], ["MobileMQABlock", [128, 4, 32, 1, 1.0]]],
        ),
        ("yolo-nano-mha", [["MultiHeadBlock", [96, 4, 32, 1.0]], ["MultiHeadBlock", [128, 4, 32, 1.0]]]),
    ],
)
def test_twins_differ_in_the_two_rows_of_attention_alone_and_have_its_sizes(variant, rows):
    ours = content_of(f"{variant.split('-')[0]}-nano-mobile-mqa")
    theirs = content_of(variant)
    assert [theirs["backbone"][place][2:] for place in (5, 8)] == rows
    for place in (5, 8):
        theirs["backbone"][place] = ours["backbone"][place]
    assert (theirs["backbone"], theirs["head"], theirs["nc"]) == (ours["backbone"], ours["head"], ours["nc"])


ATTENDS = re.compile("Att|MQA|AIFI|Transformer|MultiHead|PSA")


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("yolo-nano-stock", False),
        ("yolo-nano-convolutions", False),
        ("yolo-nano-mha", True),
        ("yolo-nano-mobile-mqa", True),
        ("rtdetr-nano-no-encoder", True),  # its decoder attends
    ],
)
def test_a_yolo_without_blocks_has_no_attention_at_all(name, does):
    kinds = {type(module).__name__ for module in rtdetr.load(name).model.modules()}
    assert any(map(ATTENDS.search, kinds)) is does


@pytest.mark.parametrize(("name", "kind"), [("yolo-nano-mha", YOLO), ("rtdetr-nano-mha", RTDETR)])
def test_a_model_and_its_checkpoint_come_as_ultralytics_own_class_for_their_head(name, kind, tmp_path):
    model = rtdetr.load(name)
    again = rtdetr.load(rtdetr.as_checkpoint(model, tmp_path / "kept.pt"))
    assert type(model) is type(again) is kind
    state, kept = model.model.state_dict(), again.model.state_dict()
    assert state.keys() == kept.keys() and all(torch.equal(state[key], kept[key]) for key in state)


@pytest.mark.parametrize(
    ("kind", "task"), [(tasks.ClassificationModel, "cls"), (tasks.SegmentationModel, "seg")]
)
def test_a_checkpoint_that_is_no_detectors_is_refused(kind, task, tmp_path):
    file = tmp_path / "kept.pt"
    torch.save({"model": kind(f"yolov8n-{task}.yaml", verbose=False), "epoch": -1, "train_args": {}}, file)
    said = rf"`model` \(=.*kept\.pt\) holds a {kind.__name__} and no detector\. Use a checkpoint such as rtdetr-l"
    with pytest.raises(ValueError, match=said):
        rtdetr.load(file)


def test_a_yolo_is_not_written_as_weights_that_nothing_could_read_back(tmp_path):
    with pytest.raises(
        ValueError, match=r"`model` \(=DetectionModel\) is no RT-DETR.*Keep its checkpoint \(\.pt\)"
    ):
        rtdetr.save_weights(rtdetr.load("yolo-nano-stock"), tmp_path / "a.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_registering_twice_changes_nothing():
    before = tasks.parse_model
    rtdetr.register()
    assert tasks.parse_model is before and tasks.MobileMQABlock is MobileMQABlock


def test_a_model_file_that_mixes_kinds_of_stages_is_refused(tmp_path):
    model = yaml.safe_load(rtdetr.MODELS["rtdetr-resnet50-article"].read_text())
    model["backbone"][0][2] = "ResNetLayer"
    with pytest.raises(
        ValueError, match=r"`model file` \(=ResNetLayer, ResNetLayer_MQA\) mixes kinds.*Use one kind"
    ):
        RTDETRDetectionModel(model, verbose=False)
    assert tasks.ResNetLayer.__name__ == "ResNetLayer"


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"`model` \(='rtdetr-huge'\) is not known\. Use one of: .*nano-mobile-mqa, .*resnet50-stock",
    ):
        rtdetr.load("rtdetr-huge")


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"`model` \(=nowhere.pt\) does not exist"):
        rtdetr.load("nowhere.pt")


# The rows of the article's own file, which has one class and a scale.
ARTICLE = """
nc: 1
scales: {l: [1.00, 1.00, 1024]}
backbone:
  - [-1, 1, ResNetLayer_MQA, [3, 64, 1, True, 1]]
  - [-1, 1, ResNetLayer_MQA, [64, 64, 1, False, 3]]
  - [-1, 1, ResNetLayer_MQA, [256, 128, 2, False, 4]]
  - [-1, 1, ResNetLayer_MQA, [512, 256, 2, False, 6]]
  - [-1, 1, ResNetLayer_MQA, [1024, 512, 2, False, 3]]
head:
  - [-1, 1, Conv, [256, 1, 1, None, 1, 1, False]]
  - [-1, 1, AIFI, [1024, 8]]
  - [-1, 1, Conv, [256, 1, 1]]
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [3, 1, Conv, [256, 1, 1, None, 1, 1, False]]
  - [[-2, -1], 1, Concat, [1]]
  - [-1, 3, RepC3, [256]]
  - [-1, 1, Conv, [256, 1, 1]]
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [2, 1, Conv, [256, 1, 1, None, 1, 1, False]]
  - [[-2, -1], 1, Concat, [1]]
  - [-1, 3, RepC3, [256]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [[-1, 12], 1, Concat, [1]]
  - [-1, 3, RepC3, [256]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [[-1, 7], 1, Concat, [1]]
  - [-1, 3, RepC3, [256]]
  - [[16, 19, 22], 1, RTDETRDecoder, [nc]]
"""


def test_the_article_s_own_file_is_taken_as_it_stands(tmp_path):
    (tmp_path / "rtdetr-HGBlock_CAA.yaml").write_text(ARTICLE)
    network = rtdetr.load(tmp_path / "rtdetr-HGBlock_CAA.yaml").model
    assert sum(parameter.numel() for parameter in network.parameters()) == audit.PRINTED_PARAMS == 43_850_275


@pytest.mark.parametrize(
    ("variant", "places"),
    [
        ("rtdetr-resnet50-mqa-encoder", {"6.ma"}),
        ("rtdetr-nano-mqa-encoder", {"10.ma"}),
        ("rtdetr-nano-article", {"2.m.0.cv4", "4.m.0.cv4", "6.m.0.cv4", "8.m.0.cv4"}),
        ("rtdetr-nano-article-corrected", {"2.m.0.cv4", "4.m.0.cv4", "6.m.0.cv4", "8.m.0.cv4"}),
    ],
)
def test_a_twin_differs_from_stock_in_its_attention_and_nothing_else(variant, places):
    stock = built(f"{variant.rsplit('-', 1)[0].removesuffix('-mqa').removesuffix('-article')}-stock")
    shapes, theirs = (
        {name.removeprefix("model."): tuple(value.shape) for name, value in network.state_dict().items()}
        for network in (built(variant), stock)
    )
    for table in (shapes, theirs):
        for name in [name for name in table if any(name.startswith(f"{place}.") for place in places)]:
            del table[name]
    assert shapes == theirs and len(shapes) > 200


def test_the_control_has_convolutions_in_place_of_the_blocks_and_about_as_many_parameters():
    ours, control = built(NANO), built("rtdetr-nano-convolutions")
    other = [type(a) for a, b in zip(ours.model, control.model, strict=True) if type(a) is not type(b)]
    assert other == [MobileMQABlock, MobileMQABlock]
    shapes = [
        [
            tuple(value.shape)
            for row in model.model
            for value in row.state_dict().values()
            if row.i not in (5, 8)
        ]
        for model in (ours, control)
    ]
    assert shapes[0] == shapes[1]
    count, other_count = (sum(p.numel() for p in model.parameters()) for model in (control, ours))
    assert other_count <= count < 1.01 * other_count


@pytest.mark.parametrize("size", ["l", "x"])
def test_without_its_blocks_the_larger_model_is_ultralytics_own(size):
    theirs = RTDETRDetectionModel(f"rtdetr-{size}.yaml", nc=5, verbose=False)
    kept = [row for row in built(f"rtdetr-{size}-mobile-mqa").model if not isinstance(row, MobileMQABlock)]
    shapes = [[tuple(value.shape) for value in row.state_dict().values()] for row in kept]
    assert shapes == [[tuple(value.shape) for value in row.state_dict().values()] for row in theirs.model]


def test_the_model_without_encoder_is_stock_without_its_aifi():
    stock, without = built("rtdetr-nano-stock"), built("rtdetr-nano-no-encoder")
    kept = [row for row in stock.model if not isinstance(row, AIFI)]
    for own, theirs in zip(without.model, kept, strict=True):
        own.load_state_dict(theirs.state_dict())
    stock.model[10] = nn.Identity()
    stock.model[10].f, stock.model[10].i = -1, 10
    x = torch.rand(1, 3, 96, 128)
    torch.testing.assert_close(without(x)[0], stock(x)[0])


@pytest.mark.parametrize(
    ("part", "row", "element", "wrong", "said"),
    [
        *(
            (
                part,
                row,
                3,
                wrong,
                f"`row {row}` .* takes 512 channels, and the map from row {row - 1} has 1024",
            )
            for part, row, wrong in (
                ("backbone", 4, [512, 4, 64, 2]),
                ("backbone", 5, [512, 512, 2, False, 3]),
            )
        ),
        ("head", 4, 0, 6, r"`row 12` .*Concat.* cannot take what it is given .*256×4×4 and 256×2×2.*64 px"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_the_numbers_on_loading(
    part, row, element, wrong, said, tmp_path
):
    model = yaml.safe_load(rtdetr.MODELS["rtdetr-resnet50-mobile-mqa"].read_text())
    model[part][row][element] = wrong
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(model))
    with pytest.raises(ValueError, match=said):
        rtdetr.load(tmp_path / "mine.yaml")


def test_trying_the_rows_out_leaves_no_trace_in_the_model():
    torch.manual_seed(0)
    network = RTDETRDetectionModel(str(rtdetr.MODELS[NANO]), nc=5, verbose=False)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.training and norm.num_batches_tracked == 0 for norm in norms) and len(norms) > 40


def test_a_layer_that_is_not_known_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        rtdetr.MODELS[NANO].read_text().replace("MobileMQABlock,", "MobileMQBlock,")
    )
    with pytest.raises(ValueError, match=r"names 'MobileMQBlock', which ultralytics does not know\. Mend"):
        rtdetr.load(tmp_path / "mine.yaml")


BROKEN = {
    "": "must have the parts `backbone` and `head`. Write rows",
    "backbone: [1\n": "is not YAML (while parsing a flow sequence",
    "- 3\n": "must have the parts",
    "backbone: []\nhead: []\n": "must have the parts",
    "backbone:\n  - [-1, 1, Conv]\nhead:\n  - 3\n": "has no whole row 0 ([-1, 1, 'Conv'])",
    "backbone:\n  - [-1, 1, nn.Nothing, [3]]\nhead:\n  - 3\n": "names 'nn.Nothing', which ultralytics does not know",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_model_file_is_refused_in_the_same_words_wherever_it_is_given(text, tmp_path, capsys):
    file, out = str(tmp_path / "mine.yaml"), str(tmp_path / "out")
    Path(file).write_text(text)
    commands = (
        ["explore", file, str(PICTURE), "-o", f"{out}.html"],
        ["new-model", "--base", file, "--after", "0", "-o", f"{out}.yaml"],
        ["carry", str(WEIGHTS), "--to", file, "-o", f"{out}.pt"],
        ["yolo", "predict", f"model={file}", f"source={PICTURE}"],
    )
    for command in commands:
        assert main(command) == 2 and f"(={file}) {BROKEN[text]}" in capsys.readouterr().err
    assert [found.name for found in tmp_path.iterdir()] == ["mine.yaml"]


def test_every_model_file_of_ultralytics_is_accepted():
    files = [*ROOT.joinpath("cfg/models").rglob("*.yaml")]
    assert len(files) > 50
    for file in files:
        fit.read("model", file)


def test_a_network_of_another_variant_is_told_by_its_first_row_that_differs():
    with pytest.raises(
        ValueError,
        match=r"another variant than rtdetr-nano-stock: row 5 is .*MobileMQABlock.* there and .*Conv.* here",
    ):
        fit.check_variant(built(NANO), content_of("rtdetr-nano-stock"), "rtdetr-nano-stock")
    fit.check_variant(built(NANO, nc=3), content_of(NANO), NANO)


def test_an_ultralytics_outside_the_tested_range_is_warned_of_once(monkeypatch):
    monkeypatch.setattr(fit, "__version__", "9.9.9")
    fit.warn_if_untested.cache_clear()
    with pytest.warns(
        UserWarning, match=r"ultralytics 9\.9\.9 is outside the tested range .*mqa_lib doctor`"
    ):
        rtdetr.load(NANO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rtdetr.load(NANO)
    fit.warn_if_untested.cache_clear()
    with pytest.warns(UserWarning, match=r"ultralytics 9\.9\.9 is outside the tested range"):
        main(["yolo", "version"])
    monkeypatch.undo()
    fit.warn_if_untested.cache_clear()
    assert fit.untested() == ""  # the tests run with a version within the range
