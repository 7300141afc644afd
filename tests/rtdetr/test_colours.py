"""The colours of locks are counted by hand here, and alike while validating and while predicting."""

import json
from pathlib import Path

import pytest
import torch

from mqa_lib import rtdetr
from mqa_lib.datasets import keys_and_locks
from mqa_lib.rtdetr import article, evaluate, pretrain
from mqa_lib.rtdetr.colours import LockColours, count, lock_classes
from mqa_lib.rtdetr.trainer import Diverged, Paused

ROOT = Path(__file__).parents[2]
LOCKS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]])
COLOURS = torch.tensor([1.0, 2, 3])


def test_a_lock_counts_by_its_surest_box_that_overlaps_by_half():
    boxes = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 30], [50, 56, 60, 66]])
    counted = count(LOCKS, COLOURS, boxes, torch.tensor([1.0, 2, 2, 3]), torch.tensor([0.9, 0.4, 0.001, 0.9]))
    assert counted == LockColours(locks=3, found=2, right=2)
    surer = count(LOCKS, COLOURS, boxes, torch.tensor([1.0, 2, 2, 3]), torch.tensor([0.3, 0.4, 0.001, 0.9]))
    assert surer == LockColours(locks=3, found=2, right=1)


def test_nothing_found_is_no_share():
    assert count(LOCKS, COLOURS, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0)) == LockColours(3)
    assert LockColours(3).share_right != LockColours(3).share_right


def test_classes_are_locks_by_their_names():
    assert lock_classes(dict(enumerate(keys_and_locks.CLASSES))) == [1, 2, 3, 4]
    assert lock_classes({0: "RBC", 1: "padlock-blue"}) == []


def test_validating_counts_what_predicting_counts():
    data = ROOT / "data/keys_and_locks/data.yaml"
    model = rtdetr.load(ROOT / "data/weights/rtdetr-nano-stock.safetensors")
    counted = evaluate.evaluate(model, data)["lock colours"]
    assert LockColours(**counted) == evaluate.lock_colours(model, data)


@pytest.mark.parametrize(("name", "does"), [("article", False), ("article-corrected", True), ("stock", True)])
def test_only_the_articles_layer_stops_in_channels_last(name, does):
    network = rtdetr.load(f"rtdetr-nano-{name}").model.eval()
    assert article.takes_channels_last(network) is does
    network.to(memory_format=torch.channels_last)
    x = torch.zeros(1, 3, 64, 64).to(memory_format=torch.channels_last)
    if does:
        network(x)
    else:
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            network(x)


def test_a_pretraining_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    wanted = {"seed": 5, "pictures": 48, "batch_size": 16}
    whole = pretrain.pretrain("rtdetr-nano-mobile-mqa", tmp_path / "whole.pt", **wanted)
    for _ in range(2):
        with pytest.raises(Paused):
            pretrain.pretrain("rtdetr-nano-mobile-mqa", tmp_path / "parts.pt", **wanted, pause=lambda: True)
    parts = pretrain.pretrain("rtdetr-nano-mobile-mqa", tmp_path / "parts.pt", **wanted, pause=lambda: True)
    for key in ("pictures", "lock accuracy"):
        assert [said[key] for said in parts["history"]] == [said[key] for said in whole["history"]]
    assert parts["history"][0]["seconds"] < parts["history"][1]["seconds"] < parts["history"][2]["seconds"]
    assert not (tmp_path / "parts.part").exists()


def test_a_pretraining_without_a_single_step_or_with_a_loss_that_is_no_number_is_refused(
    tmp_path, monkeypatch
):
    wanted = {"model": "rtdetr-nano-stock", "path": tmp_path / "kept.pt", "batch_size": 2}
    with pytest.raises(
        ValueError, match=r"`pictures` \(=1\) must be at least one step of `batch_size` \(=2\).*Use 2"
    ):
        pretrain.pretrain(pictures=1, **wanted)
    entropy = pretrain.F.cross_entropy
    monkeypatch.setattr(
        pretrain.F, "cross_entropy", lambda *given, **how: entropy(*given, **how) * float("nan")
    )
    with pytest.raises(Diverged, match="The loss is nan in step 1 of the backbone's pretraining"):
        pretrain.pretrain(pictures=4, **wanted)
    assert not (tmp_path / "kept.pt").exists()


def test_models_with_the_same_backbone_share_its_pretraining(tmp_path, monkeypatch):
    kept, wanted = tmp_path / "backbones", {"seed": 3, "pictures": 32, "batch_size": 16}
    whole = pretrain.pretrain("rtdetr-nano-no-encoder", tmp_path / "whole.pt", **wanted)
    record = pretrain.pretrain_once("rtdetr-nano-stock", tmp_path / "a.pt", kept, **wanted)
    monkeypatch.setattr(pretrain, "pretrain", lambda *_, **__: pytest.fail("trained twice"))
    again = pretrain.pretrain_once("rtdetr-nano-no-encoder", tmp_path / "b.pt", kept, **wanted)
    assert again == json.loads(json.dumps(record)) == json.loads((tmp_path / "b.json").read_text())
    assert [*again["history"][-1]["lock accuracy"].values()] == [
        *whole["history"][-1]["lock accuracy"].values()
    ]
    there, mine = (
        torch.load(tmp_path / f"{name}.pt", weights_only=False)["model"] for name in ("whole", "b")
    )
    for (key, expected), (_, found) in zip(
        there.state_dict().items(), mine.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(found, expected, msg=key)
    with pytest.raises(pytest.fail.Exception, match="trained twice"):
        pretrain.pretrain_once("rtdetr-nano-mobile-mqa", tmp_path / "c.pt", kept, **wanted)


def test_a_new_head_keeps_the_backbone_and_draws_all_behind_it():
    model = rtdetr.load("rtdetr-nano-mobile-mqa")
    new = pretrain.with_new_head(model, "rtdetr-nano-mobile-mqa", seed=5)
    rows = len(model.model.yaml["backbone"])
    for place, (old, drawn) in enumerate(zip(model.model.model, new.model.model, strict=True)):
        pairs = list(zip(old.parameters(), drawn.parameters(), strict=True))
        same = all(torch.equal(one, other) for one, other in pairs)
        assert same or place >= rows
    assert not torch.equal(
        model.model.model[-1].dec_score_head[0].weight, new.model.model[-1].dec_score_head[0].weight
    )


def test_a_new_head_for_another_backbone_is_refused():
    with pytest.raises(ValueError, match="must have the backbone of the model"):
        pretrain.with_new_head(rtdetr.load("rtdetr-nano-stock"), "rtdetr-nano-mobile-mqa")


@pytest.mark.parametrize("name", [name for name in rtdetr.MODELS if name.startswith("rtdetr-nano")])
def test_every_nano_backbone_can_be_pretrained(name, tmp_path, monkeypatch):
    measure = pretrain.lock_accuracy
    monkeypatch.setattr(pretrain, "lock_accuracy", lambda network: measure(network, pictures=3))
    record = pretrain.pretrain(name, tmp_path / "kept.pt", pictures=4, batch_size=2)
    assert record["history"][-1]["pictures"] == 4
