"""What the command `compare` hands on, and what it shows of records."""

import json
import os

import pytest

from mqa_lib.__main__ import main
from mqa_lib.experiments import command
from tests.experiments.stub import epoch, write_grid


@pytest.fixture
def handed_on(monkeypatch):
    """Return what the command hands on to the runs of a grid, which are not done."""
    given = []
    monkeypatch.setattr(command, "compare", lambda *said, **named: given.append((*said, named)))
    monkeypatch.setattr(os, "nice", lambda much: given.append(much))
    return given


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_every_option_is_handed_on_to_the_grid(tmp_path, handed_on, suffix):
    grid = write_grid(tmp_path).rename(tmp_path / f"own.{suffix}")
    places = ["--records", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    assert main(["compare", str(grid), *places]) == 0
    options = ["--slice", "7", "--together", "--ray", "local", "--only", "seed 1", "--nice"]
    assert main(["compare", str(grid), *places, *options]) == 0
    here = (grid, tmp_path / "r", tmp_path / "w")
    assert handed_on == [
        (*here, None, False, None, {"only": ""}),
        19,
        (*here, 7.0, True, "local", {"only": "seed 1"}),
    ]


def test_where_the_system_knows_no_niceness_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.delattr(os, "nice")
    assert main(["compare", str(write_grid(tmp_path)), "--nice"]) == 2
    assert "--nice" in capsys.readouterr().err


def keep(folder, name, **more):
    score = {"mAP50": 0.5, "mAP50-95": 0.25, "classes": {"cat": {"mAP50": 0.5, "mAP50-95": 0.25}}}
    said = {
        "recipe": {"model": f"rtdetr-{name}", "seed": 0},
        "epochs": [epoch(1)],
        "finished": True,
        "test": score,
    }
    folder.mkdir(exist_ok=True)
    kept = {key: value for key, value in (said | more).items() if value is not None}
    (folder / f"{name}.json").write_text(json.dumps(kept))


def test_runs_that_failed_are_in_the_medians_and_those_that_were_not_tested_are_not(tmp_path, capsys):
    folder = tmp_path / "runs.yaml"  # a folder of any name is one of records
    keep(folder, "a")
    keep(folder, "b", finished=False, failed={"reason": "nan", "last good epoch": 1}, test=None)
    keep(folder, "c", test=None)
    assert main(["compare", str(folder)]) == 0
    runs, _, medians = capsys.readouterr().out.partition("Medians over seeds")
    assert runs.count("\n| ") == 3
    assert "| a | 1 | 0.500 | 0.250 | 1 |" in medians and "| b | 0, 1 failed | — | — | — |" in medians
    assert "| c |" not in medians and "| cat | 0.500 |" in medians
