"""The colours of locks are counted by hand here, and alike while validating and while predicting."""

from pathlib import Path

import pytest
import torch

from mqa_lib import rtdetr
from mqa_lib.datasets import keys_and_locks
from mqa_lib.rtdetr import article, evaluate
from mqa_lib.rtdetr.colours import LockColours, count, lock_classes

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
