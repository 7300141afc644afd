"""Records are read as they were written, and tables say what is in them."""

import json

import pytest

from mqa_lib import experiments
from mqa_lib.experiments.grid import read_grid
from tests.experiments.stub import write_grid


def epoch(number, key, lock):
    classes = {
        name: {"mAP50": value, "mAP50-95": value / 2} for name, value in (("key", key), ("lock-sky", lock))
    }
    mean = (key + lock) / 2
    return {
        "epoch": number,
        "pictures": 7 * number,
        "seconds": 60.0 * number,
        "mAP50": mean,
        "mAP50-95": mean / 2,
    } | {"classes": classes}


RECORD = {
    "recipe": {"model": "a", "seed": 3},
    "epochs": [epoch(1, 0.3, 0.1), epoch(2, 0.9, 0.5), epoch(3, 0.8, 0.4)],
}


def test_the_best_epoch_is_the_one_whose_weights_are_kept():
    assert experiments.best_epoch(RECORD)["epoch"] == 2


def test_the_best_epoch_is_told_by_its_map50_95_and_not_by_its_map50():
    rated = [{"epoch": 1, "mAP50": 0.9, "mAP50-95": 0.2}, {"epoch": 2, "mAP50": 0.6, "mAP50-95": 0.5}]
    assert experiments.best_epoch({"epochs": rated})["epoch"] == 2


def test_of_epochs_that_are_equally_good_the_last_ones_weights_are_kept():
    """Ultralytics writes best.pt whenever an epoch's score is the best one, also for the second time."""
    rated = [
        {"epoch": number, "mAP50": 0.5, "mAP50-95": score}
        for number, score in enumerate((0.2, 0.4, 0.4, 0.3), 1)
    ]
    assert experiments.best_epoch({"epochs": rated})["epoch"] == 3


def test_the_share_of_right_colours_is_of_the_locks_that_were_found():
    assert experiments.right_colours({"lock colours": {"locks": 11, "found": 8, "right": 2}}) == 0.25
    nothing = experiments.right_colours({"lock colours": {"locks": 11, "found": 0, "right": 0}})
    assert nothing != nothing  # no number


def test_runs_of_two_arms_are_told_apart_and_their_scores_are_said_to_be_of_the_validation_split():
    arms = [RECORD | {"experiment": {"arm": arm}} for arm in ("long", "short")]
    head, _, *rows = experiments.table(arms).splitlines()
    assert [row.split(" | ")[0] for row in rows] == ["| a, long", "| a, short"]
    assert head.endswith("| mAP50 (val) | mAP50-95 (val) |")


def test_a_run_that_failed_is_told_in_the_table():
    lost = {"finished": False, "failed": {"reason": "nan", "last good epoch": 3}}
    rows = experiments.table([RECORD | lost, RECORD | lost | {"epochs": []}]).splitlines()[2:]
    assert rows == ["| a | 3 | 3, failed | 21 | 3 | 0.700 | 0.350 |", "| a | 3 | 0, failed | 0 | 0 | — | — |"]


def test_keys_and_locks_are_told_apart():
    best = experiments.best_epoch(RECORD)
    assert (experiments.key_map50(best), experiments.lock_map50(best)) == (0.9, 0.5)


def test_the_table_names_the_best_score_and_the_whole_training():
    assert experiments.table([RECORD]).splitlines()[-1] == "| a | 3 | 3 | 21 | 3 | 0.700 | 0.350 |"


def test_records_are_read_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(json.dumps(RECORD | {"name": name}))
    assert [record["name"] for record in experiments.read_runs(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "{}",
            r"is no record of a run: it has no `recipe` with a model and a seed. Keep other files elsewhere",
        ),
        ('{"recipe": {"model": "a", "seed": 0}}', "it has no `epochs` with their scores"),
        ('{"recipe": {"model": "a", "seed": 0}, "epochs": [{"epoch": 1}]}', "it has no `epochs` with their"),
        ("[]", r"is cut off or broken \(it holds no entries\). Remove it, and run its grid again"),
        ("", r"is cut off or broken \(Expecting value.*\). Remove it, and run its grid again"),
    ],
)
def test_a_file_that_is_no_record_is_named_as_such(tmp_path, content, message):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(
        ValueError, match=rf"`record` \(=.*card\.json\) {message}" if message[:2] == "is" else message
    ):
        experiments.read_runs(tmp_path)


def test_a_grid_counts_the_runs_that_ended_well_by_variant_and_arm(tmp_path):
    grid = write_grid(tmp_path)
    ended = [{"finished": True}, {"finished": False, "failed": {"reason": "nan"}}, {"finished": True}]
    records = [
        {"recipe": run.recipe, "epochs": [], "experiment": {"hash": run.identity}, **how}
        for run, how in zip(
            read_grid(grid).runs, ended, strict=False
        )  # stock, mobile-mqa, stock with the next seed
    ]
    another_grids = {"finished": True, "experiment": {"hash": "0" * 8}}
    counts = experiments.recorded(grid, [*records, another_grids])
    assert counts == {"nano-stock, plain": (2, 2), "nano-mobile-mqa, plain": (0, 2)}


def test_a_folder_of_experiments_names_them(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(RECORD))
    with pytest.raises(
        FileNotFoundError, match=r"holds no record \(\*\.json\). Name one .* that does: a, b\."
    ):
        experiments.read_runs(tmp_path)


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no record.*Make them with `python -m mqa_lib compare`"
    ):
        experiments.read_runs(tmp_path)
