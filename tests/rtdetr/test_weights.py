"""Weights go out as safetensors with a card and come back as they were."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from ultralytics import RTDETR
from ultralytics.models.rtdetr.train import RTDETRTrainer

from mqa_lib import rtdetr
from mqa_lib.rtdetr import evaluate

DATA = Path(__file__).parents[2] / "data"
NANO = "rtdetr-nano-mobile-mqa"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = rtdetr.load(NANO)
    card = {"model": NANO, "weights_are": "random"}
    return rtdetr.save_weights(model, tmp_path_factory.mktemp("weights") / "w.safetensors", card), model


def test_weights_come_back_within_half_precision(saved):
    path, model = saved
    again = rtdetr.load(path).model.state_dict()
    for name, value in model.model.state_dict().items():
        torch.testing.assert_close(again[name].float(), value.float(), rtol=1e-3, atol=1e-4)


def test_the_names_of_the_classes_come_back(tmp_path):
    model = rtdetr.load(NANO)
    model.model.names = {index: f"thing {index}" for index in range(80)}
    again = rtdetr.load(rtdetr.save_weights(model, tmp_path / "w.safetensors", {"weights_are": "random"}))
    assert again.names == model.model.names


def test_weights_are_kept_in_half_precision_and_counts_as_they_are(saved):
    kept = load_file(saved[0])
    counts = {key for key in kept if key.endswith("num_batches_tracked")}
    assert counts and {kept[key].dtype for key in kept.keys() - counts} == {torch.float16}
    assert {kept[key].dtype for key in counts} == {torch.int64}


def test_a_number_that_half_precision_cannot_hold_comes_back(tmp_path):
    model = rtdetr.load(NANO)
    model.model.model[0].bn.running_var.fill_(70_001.0)
    again = rtdetr.load(rtdetr.save_weights(model, tmp_path / "w.safetensors", {"weights_are": "random"}))
    assert (again.model.model[0].bn.running_var == 70_001.0).all() and again.card["model"] == NANO


def test_the_size_that_a_model_was_trained_at_stays_with_its_weights(tmp_path):
    file = tmp_path / "trained.pt"
    network = rtdetr.load(NANO).model
    torch.save({"model": network, "epoch": -1, "train_args": {"imgsz": 96, "task": "detect"}}, file)
    for number in range(2):  # from the checkpoint, then from what was written
        file = rtdetr.save_weights(
            rtdetr.load(file), tmp_path / f"{number}.safetensors", {"weights_are": "random"}
        )
        assert rtdetr.load(file).card["imgsz"] == 96


@pytest.fixture
def own_file(tmp_path):
    rows = yaml.safe_load(rtdetr.MODELS[NANO].read_text())
    rows["backbone"][0][3] = [23, 3, 2]  # a model that only its file describes
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(rows | {"nc": 7}))
    return file


def test_a_model_from_the_user_s_own_file_comes_back_without_that_file(own_file, tmp_path):
    model = RTDETR(str(own_file))
    path = rtdetr.save_weights(model, tmp_path / "w.safetensors", {"weights_are": "random"})
    own_file.unlink()
    again, x = rtdetr.load(path), torch.rand(1, 3, 96, 64)
    assert again.card["model"] == "mine" and len(again.names) == 7
    expected = model.model.half().float().eval()(x)[0]
    torch.testing.assert_close(again.model(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_training_starts_from_the_weights_that_were_loaded(saved, tmp_path):
    class Started(Exception):
        pass

    class Stops(RTDETRTrainer):
        def train(self):
            raise Started(self.model.model[0].conv.weight)

    model, data = rtdetr.load(saved[0]), DATA / "keys_and_locks" / "data.yaml"
    with pytest.raises(Started) as caught:
        model.train(trainer=Stops, data=str(data), project=str(tmp_path), device="cpu")
    assert torch.equal(caught.value.args[0], rtdetr.load(saved[0]).model.model[0].conv.weight)


def test_a_model_is_not_written_under_another_variant_s_name(saved, tmp_path):
    card = {"model": "rtdetr-nano-stock", "weights_are": "random"}
    with pytest.raises(
        ValueError, match=r"another variant than rtdetr-nano-stock: row 5 is .*MobileMQABlock"
    ):
        rtdetr.save_weights(saved[1], tmp_path / "w.safetensors", card)
    assert not list(tmp_path.iterdir())


def test_a_fused_model_is_not_written(tmp_path):
    model = rtdetr.load(NANO)
    model.model.eval().fuse(verbose=False)
    with pytest.raises(ValueError, match=r"has its norms folded.*Load it anew"):
        rtdetr.save_weights(model, tmp_path / "w.safetensors", {"weights_are": "random"})


def test_a_missing_card_is_named(saved, tmp_path):
    alone = tmp_path / "w.safetensors"
    alone.write_bytes(saved[0].read_bytes())
    with pytest.raises(FileNotFoundError, match=r"has no card\. Put w\.json beside it"):
        rtdetr.load(alone)


def test_a_file_that_is_cut_off_is_refused(saved, tmp_path):
    cut = tmp_path / "w.safetensors"
    cut.write_bytes(saved[0].read_bytes()[:5000])
    cut.with_suffix(".json").write_text(saved[0].with_suffix(".json").read_text())
    with pytest.raises(ValueError, match=r"must be a whole safetensors file.*Fetch it again"):
        rtdetr.load(cut)


def with_card(saved, folder, change):
    """Return a copy of the saved weights whose card is changed, or is the text that is given."""
    copy = folder / "w.safetensors"
    copy.write_bytes(saved[0].read_bytes())
    card = saved[0].with_suffix(".json").read_text()
    text = change if isinstance(change, str) else json.dumps(json.loads(card) | change)
    copy.with_suffix(".json").write_text(text)
    return copy


def test_weights_of_another_model_are_refused_with_their_keys_and_shapes(saved, tmp_path):
    other = with_card(saved, tmp_path, {"model": "rtdetr-nano-stock"})
    message = r"must fit rtdetr-nano-stock.*`model\.9\.bn\.bias` is 160 and must be 64; .*; and \d+ more\. Put the card"
    with pytest.raises(ValueError, match=message):
        rtdetr.load(other)


ROW = [-1, 1, "Conv", [5, 3, 2]]
WITHIN = {"nc": 1, "activation": "[print('run'), nn.ReLU()][1]", "backbone": [ROW], "head": [ROW]}
BROKEN = {
    "is no JSON": ("{", "has a broken card"),
    "is a list": ("[]", "has a broken card"),
    "lacks the classes": ('{"model": "rtdetr-nano-stock"}', "has a broken card"),
    "names no model of ours": ({"model": "rtdetr-huge"}, r"`model` \(='rtdetr-huge'\) is not known"),
    "has rows that are none": ({"yaml": {"backbone": [ROW], "head": 3}}, "is no model file"),
    "calls a function": (
        {"yaml": {"backbone": [ROW], "head": [[-1, 1, "torch_safe_load", ["evil.pt"]]]}},
        r"`yaml` \(=torch_safe_load\) must name layers",
    ),
    "builds a whole model whose activation runs code": (
        {"yaml": {"backbone": [[-1, 1, "DetectionModel", [WITHIN]]], "head": [ROW]}},
        r"`yaml` \(=DetectionModel\) must name layers",
    ),
    "runs code as its activation": (
        {"yaml": {"backbone": [ROW], "head": [ROW], "activation": "nn.ReLU(print('run'))"}},
        r"`activation` \(=nn.ReLU\(print.* must be a layer of torch.nn",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_card_is_refused_that(case, saved, tmp_path, capsys):
    change, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        rtdetr.load(with_card(saved, tmp_path, change))
    assert "run" not in capsys.readouterr().out


BUNDLED = sorted((DATA / "weights").glob("*.safetensors"))


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_weights_are_small_and_their_card_names_its_record_or_says_that_it_is_withdrawn(path):
    card = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size <= 4e6 and card["weights_are"]
    if "record" in card:
        record = json.loads((DATA / card["record"]).read_text())
        assert (card["mAP50"], card["mAP50-95"]) == (record["test"]["mAP50"], record["test"]["mAP50-95"])
        assert record["commit"] and record["machine"]["versions"]["torch"]
    else:
        assert "withdrawn" in card["chosen"] and "dense supervision" in card["weights_are"]


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_the_bundled_weights_score_on_unseen_pictures_what_their_card_promises(path):
    model = rtdetr.load(path)
    score = evaluate.evaluate(model, DATA / "keys_and_locks" / "data.yaml")
    assert score["mAP50"] == pytest.approx(model.card["mAP50"], abs=0.1)  # 64 pictures here, 480 there


def test_the_bundled_twin_with_mobile_mqa_names_the_colours_of_locks():
    model = rtdetr.load(DATA / "weights" / f"{NANO}.safetensors")
    colours = evaluate.lock_colours(model, DATA / "keys_and_locks" / "data.yaml")
    assert colours.found > 0.95 * colours.locks and colours.share_right > 0.9


def test_loaded_weights_are_measured_and_handed_on_at_the_size_they_were_trained_at(tmp_path):
    model = rtdetr.load(DATA / f"weights/{NANO}.safetensors")
    size = model.card["imgsz"]
    found = model.val(
        data=str(DATA / "keys_and_locks/data.yaml"), plots=False, verbose=False, project=str(tmp_path)
    )
    # 0.055 at ultralytics' own 640 pixels
    assert found.box.map > 0.9 and found.box.map50 > 0.95
    again = rtdetr.load(rtdetr.as_checkpoint(model, tmp_path / "start.pt"))
    assert model.overrides["imgsz"] == again.overrides["imgsz"] == size
    assert evaluate.size_of(again) == size and evaluate.size_of(rtdetr.load(NANO)) == 128
