"""The bundled detectors are those of the seed in the middle, and their cards say so."""

import json

import pytest

from mqa_lib import rtdetr
from mqa_lib.experiments import BUNDLED, bundle, bundled, compare, read_grid
from mqa_lib.experiments.runner import record_of
from tests.experiments.stub import training, write_grid

GRID = """
data: {path: set/data.yaml}
schedule: {epochs: 3, imgsz: 64, batch: 8}
seeds: [0, 1, 2]
arms:
  pretrained: {variants: [rtdetr-nano-stock, rtdetr-nano-mobile-mqa], schedule: {pretrain_pictures: 64}}
  from-scratch: {variants: [rtdetr-nano-mobile-mqa]}
"""
SCORES = {"rtdetr-nano-stock": (0.5, 0.1, 0.3), "rtdetr-nano-mobile-mqa": (0.7, 0.9, 0.8)}
DATA = {"pictures": {"train": 11, "test": 13}, "size": 64, "seed": 5}


def scored(recipe, data, folder, **options):
    record = training()(recipe, data, folder, **options)
    score = SCORES[recipe["model"]][recipe["seed"]] + (0 if recipe["pretrain_pictures"] else 1)
    record["test"] = {"mAP50": score, "mAP50-95": score / 2}
    return record | {"data": DATA}


@pytest.fixture
def done(tmp_path):
    grid = write_grid(tmp_path, GRID)
    compare(grid, tmp_path / "data/runs", tmp_path / "work", train=scored, say=lambda _: None, together=True)
    return grid, tmp_path / "data/runs/small", tmp_path / "work", tmp_path / "data"


def test_the_seed_in_the_middle_is_bundled_for_both_and_the_cards_name_the_record(done):
    grid, records, work, out = done
    for run in read_grid(grid).runs:
        if run.arm == "pretrained" and run.recipe["seed"] == 2:
            place = work / "small" / run.name / "weights/best.pt"
            rtdetr.as_checkpoint(rtdetr.load(run.recipe["model"]), place)
    written = bundle(records, work, out, grid)
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in written]
    assert [card["model"] for card in cards] == list(BUNDLED)
    assert [card["mAP50"] for card in cards] == [0.3, 0.8]  # seed 2: the median of mobile-mqa, and its twin
    assert all("seed 2" in card["chosen"] for card in cards)
    assert [json.loads((out / card["record"]).read_text())["test"]["mAP50"] for card in cards] == [0.3, 0.8]


def test_a_twin_that_is_not_finished_is_named(done):
    grid, records, work, out = done
    for run in read_grid(grid).runs:
        if run.recipe["model"] == "rtdetr-nano-stock" and run.recipe["seed"] == 2:
            record_of(records, run).unlink()
        if (
            run.recipe["model"] == "rtdetr-nano-mobile-mqa" and run.recipe["seed"] == 0
        ):  # failed: none of the seeds
            lost = json.loads(record_of(records, run).read_text()) | {"finished": False, "failed": {}}
            record_of(records, run).write_text(json.dumps({**lost, "test": {"mAP50-95": 0.44}}))
    with pytest.raises(ValueError, match=r"lack rtdetr-nano-stock with seed 2.*mqa_lib compare"):
        bundle(records, work, out, grid)


def test_without_a_run_that_decides_nothing_is_bundled(done):
    grid, records, work, out = done
    for file in records.glob("rtdetr-nano-mobile-mqa-pretrained-*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"lack rtdetr-nano-mobile-mqa with any seed.*mqa_lib compare"):
        bundle(records, work, out, grid)


@pytest.mark.parametrize(("scores", "expected"), [((0.2, 0.9, 0.4), 2), ((0.2, 0.9), 0), ((0.3,), 0)])
def test_of_an_even_number_the_lower_of_the_two_in_the_middle_is_taken(scores, expected):
    records = [{"recipe": {"seed": seed}, "test": {"mAP50-95": score}} for seed, score in enumerate(scores)]
    assert bundled.median_seed(records)[0] == expected


def test_only_the_runs_that_are_meant_are_done(tmp_path):
    grid, said = write_grid(tmp_path, GRID), []
    where = (grid, tmp_path / "runs", tmp_path / "work")
    left = compare(*where, train=scored, say=said.append, together=True, only="stock, pretrained, seed 1")
    assert left == [] and said[0] == "small: 1 runs, 0 of them done."
    names = [path.name for path in (tmp_path / "runs/small").glob("*.json")]
    assert len(names) == 1 and names[0].startswith("rtdetr-nano-stock-pretrained-seed1-")
    with pytest.raises(ValueError, match=r"`only` \(=stok\) is in the title of no run.*nano-stock"):
        compare(*where, train=scored, only="stok")
