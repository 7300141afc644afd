"""The bundled detectors are those of one seed that a rule chooses, and their cards say so."""

import json

import pytest

from mqa_lib import rtdetr
from mqa_lib.experiments import BUNDLED, bundle, bundled, compare, read_grid, runner
from mqa_lib.experiments.runner import record_of
from tests.experiments.stub import coloured, training, write_grid

GRID = """
data: {path: set/data.yaml}
schedule: {epochs: 3, imgsz: 64, batch: 8}
seeds: [0, 1, 2]
arms:
  from-scratch: {variants: [rtdetr-nano-stock, rtdetr-nano-mobile-mqa, rtdetr-nano-mha]}
  stopped-early: {variants: [rtdetr-nano-stock], schedule: {epochs: 2}}
"""
# the epoch in which each seed names the colours: stock's median is seed 2, mobile-mqa's would be seed 0
THERE = {"rtdetr-nano-stock": (3, 1, 2), "rtdetr-nano-mobile-mqa": (2, 3, 1)}
DATA = {"pictures": {"train": 11, "test": 13}, "size": 64, "seed": 5}


def scored(recipe, data, folder, **options):
    record = training()(recipe, data, folder, **options)
    at = THERE[recipe["model"]][recipe["seed"]] if recipe["epochs"] == 3 else 9
    for entry in record["epochs"]:
        entry["lock colours"] = coloured(entry["epoch"] >= at)
    score = (recipe["model"] == "rtdetr-nano-stock") / 2 + recipe["epochs"] / 8
    record["test"] = {"mAP50": score, "mAP50-95": score / 2, "lock colours": coloured(True)}
    if recipe["seed"] == 2:
        rtdetr.as_checkpoint(rtdetr.load(recipe["model"]), folder / "weights/best.pt")
    return record | {"data": DATA}


@pytest.fixture
def done(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "machine_lock", lambda: tmp_path / "lock")
    grid, work, out = write_grid(tmp_path, GRID), tmp_path / "work", tmp_path / "data"
    return bundled.train_bundled(work, out, grid, scored), (out / "runs/small", work, out, grid)


def test_the_seed_with_stocks_median_is_trained_and_bundled_for_all_and_the_cards_name_the_record(done):
    written, (records, _, out, grid) = done
    assert [path.stem for path in written] == [name for *_, name in BUNDLED]
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in written]
    assert [card["model"] for card in cards] == [variant for variant, *_ in BUNDLED]
    assert [card["mAP50"] for card in cards] == [0.875, 0.375, 0.75]
    for card, (variant, arm, _) in zip(cards, BUNDLED, strict=True):
        told = json.loads((out / card["record"]).read_text())
        assert (told["recipe"]["model"], told["experiment"]["arm"], told["recipe"]["seed"]) == (
            variant,
            arm,
            2,
        )
        assert card["chosen"].startswith("seed 2 of 3: the seed with which stock needs the median")
    assert "(11 pictures of 64 px, seed 5) from scratch, 14 pictures in 2 epochs" in cards[2]["weights_are"]
    # what is not bundled is not trained for it
    assert {path.stem for path in records.glob("*.json")} == {
        run.name for run in read_grid(grid).runs if "nano-mha" not in run.name
    }


@pytest.mark.parametrize(
    ("gone", "lacking"),
    [
        ("rtdetr-nano-stock-from-scratch", "rtdetr-nano-stock with any seed"),
        ("rtdetr-nano-stock-stopped-early-seed2", "rtdetr-nano-stock, stopped-early, with seed 2"),
        ("rtdetr-nano-mobile-mqa-from-scratch-seed2", "rtdetr-nano-mobile-mqa, from-scratch, with seed 2"),
    ],
)
def test_a_run_that_is_not_finished_is_named_with_the_way_to_finish_it(done, gone, lacking):
    _, (records, *places) = done
    for file in records.glob(f"{gone}*"):
        file.unlink()
    with pytest.raises(
        ValueError, match=rf"`records` \(=.*small\) lack {lacking}\. Finish .*mqa_lib compare"
    ):
        bundle(records, *places)


def test_a_run_that_failed_is_none_of_the_seeds(done):
    _, (records, *places) = done
    (run,) = (
        one for one in read_grid(places[2]).runs if one.title == "rtdetr-nano-stock, from-scratch, seed 0"
    )
    lost = json.loads(record_of(records, run).read_text()) | {"finished": False, "failed": {}}
    record_of(records, run).write_text(json.dumps(lost))
    with pytest.raises(FileNotFoundError, match=r"rtdetr-nano-stock-from-scratch-seed1-.* does not exist"):
        bundle(records, *places)


@pytest.mark.parametrize(
    ("there", "ranked", "expected"),
    [
        ((3, 1, 2), [1, 2, 0], 2),
        ((3, 1), [1, 0], 1),  # of an even number the lower of the two in the middle
        ((2, 2, 1), [2, 0, 1], 0),
        ((2, None, 1), [2, 0, 1], 0),  # one that never gets there is last
        ((None, None, None), [0, 1, 2], 1),
        ((3,), [0], 0),
    ],
)
def test_the_seed_in_the_middle_is_told_by_the_pictures_until_the_colours(there, ranked, expected):
    records = [
        {
            "recipe": {"model": "a", "seed": seed},
            "epochs": [
                {"pictures": 7 * number, "cpu_seconds": 1.0, "mAP50-95": 0.5}
                | {"lock colours": coloured(at is not None and number >= at)}
                for number in (1, 2, 3)
            ],
        }
        for seed, at in enumerate(there)
    ]
    assert bundled.median_seed(records) == (expected, ranked)


def test_only_the_runs_that_are_meant_are_done(tmp_path):
    grid, said = write_grid(tmp_path, GRID), []
    where = (grid, tmp_path / "runs", tmp_path / "work")
    left = compare(*where, train=scored, say=said.append, together=True, only="stock, stopped-early, seed 1")
    assert left == [] and said[0] == "small: 1 runs, 0 of them done."
    names = [path.name for path in (tmp_path / "runs/small").glob("*.json")]
    assert len(names) == 1 and names[0].startswith("rtdetr-nano-stock-stopped-early-seed1-")
    with pytest.raises(ValueError, match=r"`only` \(=stok\) is in the title of no run.*nano-stock"):
        compare(*where, train=scored, only="stok")
