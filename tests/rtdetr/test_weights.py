"""Weights go out as safetensors with a card and come back as they were."""

import json
from pathlib import Path

import pytest
import torch

from mqa_lib import experiments, rtdetr
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


def test_weights_of_another_model_are_refused(saved, tmp_path):
    other = tmp_path / "w.safetensors"
    other.write_bytes(saved[0].read_bytes())
    card = json.loads(saved[0].with_suffix(".json").read_text()) | {"model": "rtdetr-nano-stock"}
    other.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="must fit rtdetr-nano-stock"):
        rtdetr.load(other)


@pytest.mark.parametrize("name", experiments.BUNDLED)
def test_the_bundled_weights_are_small_and_their_card_says_what_the_record_says(name):
    path = DATA / "weights" / f"{name}.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    record = json.loads((DATA / card["record"]).read_text())
    best = experiments.best_epoch(record)
    assert path.stat().st_size <= 4e6
    assert (card["mAP50"], card["mAP50-95"]) == (best["mAP50"], best["mAP50-95"])
    assert record["commit"] and record["machine"]["versions"]["torch"]


def test_the_bundled_twins_were_trained_alike():
    recipes = [json.loads((DATA / "runs" / f"{name}-seed0.json").read_text()) for name in experiments.BUNDLED]
    for record in recipes:
        record["recipe"].pop("model")
    assert recipes[0]["recipe"] == recipes[1]["recipe"] and recipes[0]["data"] == recipes[1]["data"]


@pytest.mark.parametrize("name", experiments.BUNDLED)
def test_the_bundled_weights_score_on_unseen_pictures_what_their_card_promises(name):
    model = rtdetr.load(DATA / "weights" / f"{name}.safetensors")
    score = evaluate.evaluate(model, DATA / "keys_and_locks" / "data.yaml")
    assert score["mAP50"] == pytest.approx(model.card["mAP50"], abs=0.1)  # 64 pictures here, 480 there


def test_the_bundled_twin_with_mobile_mqa_names_the_colours_of_locks():
    model = rtdetr.load(DATA / "weights" / f"{NANO}.safetensors")
    colours = evaluate.lock_colours(model, DATA / "keys_and_locks" / "data.yaml")
    assert colours.found > 0.95 * colours.locks and colours.share_right > 0.9
