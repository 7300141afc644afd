"""Runs as records: what was recorded of each, read and put into tables."""

import json
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from mqa_lib import checks
from mqa_lib.experiments.grid import read_grid


def read_runs(
    folder: str | Path, grid: str | Path | None = None, missing_ok: bool = False
) -> list[dict[str, Any]]:
    """Return the records of a folder such as `data/runs/detectors`, ordered by file name.

    Args:
        folder: Where they are.
        grid: The file of a grid, to have the records of its runs alone: after a change of the grid a folder holds
            those of the older one, too.
        missing_ok: Return nothing where there is no record, instead of raising.

    Raises:
        FileNotFoundError: The folder does not exist or holds no record.
        ValueError: A record is cut off or broken.
    """
    files = sorted(Path(folder).glob("*.json"))
    if grid is not None:
        names = {run.name for run in read_grid(grid).runs}
        files = [file for file in files if file.stem in names]
    if not files and missing_ok:
        return []
    if not files:
        of = "" if grid is None else f" of {Path(grid).name}"
        inside = sorted({file.parent.name for file in Path(folder).glob("*/*.json")})
        way_out = "Make them with `python -m mqa_lib compare`."
        if inside and grid is None:
            way_out = f"Name one of its folders that does: {', '.join(inside)}."
        raise FileNotFoundError(f"`folder` (={folder}) holds no record{of} (*.json). {way_out}")
    return [read_record(file) for file in files]


def recorded(grid: str | Path, records: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return for each variant and arm of a grid how many of its runs have a finished record, and how many there are.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no grid.
    """
    done = {record["experiment"]["hash"] for record in records if record.get("finished")}
    counts: dict[str, tuple[int, int]] = {}
    for run in read_grid(grid).runs:
        name = run.title.removeprefix("rtdetr-").rpartition(", seed")[0]
        there, of = counts.get(name, (0, 0))
        counts[name] = there + (run.identity in done), of + 1
    return counts


def read_record(file: Path) -> dict[str, Any]:
    """Return the record in a file.

    Raises:
        ValueError: The file is cut off or broken, as a machine that lost its power may leave it, or is no run's record.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it holds no entries")
    except ValueError as error:
        way_out = "Remove it, and run its grid again: what was trained is kept."
        raise checks.refuse("record", file, f"is cut off or broken ({error})", way_out) from error
    if lacking := _lacks(record):
        way_out = "Keep other files elsewhere, or name a folder of records, such as data/runs/detectors."
        raise checks.refuse("record", file, f"is no record of a run: it has no {lacking}", way_out)
    return record


def _lacks(record: dict[str, Any]) -> str:
    """Return what a file lacks that every run's record has; nothing if it has all of it."""
    recipe, epochs = record.get("recipe"), record.get("epochs")
    if not isinstance(recipe, dict) or not recipe.keys() >= {"model", "seed"}:
        return "`recipe` with a model and a seed"
    scored = {"epoch", "pictures", "seconds", "mAP50", "mAP50-95"}
    if not isinstance(epochs, list) or not all(
        isinstance(one, dict) and one.keys() >= scored for one in epochs
    ):
        return "`epochs` with their scores"
    return ""


def label(record: dict[str, Any]) -> str:
    """Return the name that a record goes by in a comparison: its variant, and its arm if the record names one."""
    model = record["recipe"]["model"].removeprefix("rtdetr-")
    arm = record.get("experiment", {}).get("arm", "")
    return f"{model}, {arm}" if arm else model


def best_epoch(record: dict[str, Any]) -> dict[str, Any]:
    """Return the epoch with the highest mAP50-95, whose weights ultralytics keeps as its best: of equals the last."""
    return max(reversed(record["epochs"]), key=lambda epoch: epoch["mAP50-95"])


def lock_map50(epoch: dict[str, Any]) -> float:
    """Return the mean mAP50 of the lock classes, from a score or an epoch of a record: what needs attention."""
    locks = [value["mAP50"] for name, value in epoch["classes"].items() if name.startswith("lock-")]
    return sum(locks) / len(locks)


def key_map50(epoch: dict[str, Any]) -> float:
    """Return the mAP50 of the class `key`, from a score or an epoch of a record: what needs no attention."""
    return epoch["classes"]["key"]["mAP50"]


def right_colours(epoch: dict[str, Any]) -> float:
    """Return the share of found locks with the right colour, from a score or an epoch of a record; chance is 0.25."""
    counted = epoch["lock colours"]
    return counted["right"] / counted["found"] if counted["found"] else float("nan")


def run_seconds(record: dict[str, Any]) -> float:
    """Return the seconds of a run's epochs."""
    return record["epochs"][-1]["seconds"] if record["epochs"] else 0.0


def cpu_seconds(record: dict[str, Any]) -> list[float]:
    """Return the seconds of computing up to the end of each epoch, of one thread.

    Unlike seconds on the clock they stay the same when others use the machine, too. The first epoch, in which some
    records count the preparation, is taken to need what the median of the others does.
    """
    done = [epoch["cpu_seconds"] for epoch in record["epochs"]]
    steps = [after - before for before, after in pairwise(done)]
    first = min(done[0], median(steps)) if steps else sum(done[:1])
    return list(accumulate(steps, initial=first)) if done else []


def score_table(scores: dict[str, dict[str, Any]]) -> str:
    """Return scores of `mqa_lib.rtdetr.evaluate` by name as a table in Markdown, keys and locks apart."""
    lines = ["| | mAP50 | mAP50-95 | key, mAP50 | locks, mAP50 |", "|---|---|---|---|---|"]
    for name, score in scores.items():
        numbers = (score["mAP50"], score["mAP50-95"], key_map50(score), lock_map50(score))
        lines.append(f"| {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    return "\n".join(lines)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a table in Markdown, with the scores of each run's best epoch on the validation split.

    A run that failed is told by its epochs.
    """
    checks.positive("records", len(records), "Read at least one with `read_runs`.")
    lines = [
        "| run | seed | epochs | pictures | minutes | mAP50 (val) | mAP50-95 (val) |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        recipe, lost = record["recipe"], ", failed" if "failed" in record else ""
        if not record["epochs"]:
            lines.append(f"| {label(record)} | {recipe['seed']} | 0{lost} | 0 | 0 | — | — |")
            continue
        last, best = record["epochs"][-1], best_epoch(record)
        lines.append(
            f"| {label(record)} | {recipe['seed']} | {last['epoch']}{lost} | {last['pictures']:,} "
            f"| {run_seconds(record) / 60:.0f} | {best['mAP50']:.3f} | {best['mAP50-95']:.3f} |"
        )
    return "\n".join(lines)
