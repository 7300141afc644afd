"""Model files become models, and ultralytics is left as it was."""

import hashlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.nn import tasks
from ultralytics.nn.tasks import RTDETRDetectionModel

from mqa_lib import MobileMQABlock, rtdetr

NANO = "rtdetr-nano-mobile-mqa"


def built(name, nc=5):
    return RTDETRDetectionModel(str(rtdetr.MODELS[name]), nc=nc, verbose=False).eval()


@pytest.mark.parametrize("name", sorted(rtdetr.MODELS))
def test_every_model_predicts_boxes_for_its_classes(name):
    width = 128 if name.endswith("article") else 96  # the article's layer takes square maps only
    predictions, _ = built(name)(torch.zeros(1, 3, 128, width))
    assert predictions.shape[0] == 1 and predictions.shape[2] == 6
    assert predictions[..., 5].max() < 5


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
        match=r"`model` \(='rtdetr-huge'\) is not known\. Use one of: .*rtdetr-nano-mobile-mqa, .*rtdetr-resnet50-stock",
    ):
        rtdetr.load("rtdetr-huge")


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"`model` \(=nowhere.pt\) does not exist"):
        rtdetr.load("nowhere.pt")


_OTHERS = """
import hashlib, torch
if {ours}: import mqa_lib.rtdetr
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
for kind, name in ((RTDETRDetectionModel, "rtdetr-resnet50.yaml"), (DetectionModel, "yolo11n.yaml")):
    torch.manual_seed(0)
    model = kind(name, nc=3, verbose=False).eval()
    with torch.no_grad():
        out = model(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))[0]
    tensors = [out, *(p.detach() for p in model.parameters())]
    print("HASH", hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest())
"""


def test_other_models_are_the_same_to_the_bit_with_and_without_our_import():
    with_ours, without = (
        subprocess.run(
            [sys.executable, "-c", _OTHERS.format(ours=ours)], capture_output=True, text=True, check=True
        ).stdout.split("HASH ")[1:]
        for ours in (True, False)
    )
    assert [text[:64] for text in with_ours] == [text[:64] for text in without] and len(without) == 2


def test_no_file_of_ultralytics_is_edited_by_importing_and_building():
    files = sorted(Path(inspect.getfile(tasks)).parents[1].rglob("*.py"))
    assert len(files) > 100
    before = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    code = "from mqa_lib import rtdetr; rtdetr.load('rtdetr-resnet50-article')"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == before
