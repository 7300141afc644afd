"""The detectors that come with the course: of the grid's pretrained runs one seed for all, Mobile MQA's middle one."""

from pathlib import Path
from typing import Any

from mqa_lib import checks
from mqa_lib.experiments.grid import read_grid
from mqa_lib.experiments.records import best_epoch, read_runs
from mqa_lib.experiments.runner import Train, compare

BUNDLED = ("rtdetr-nano-stock", "rtdetr-nano-mobile-mqa")
ARM = "pretrained"
_GRID = "data/experiments/keys-and-locks.yaml"
_JUDGE = "rtdetr-nano-mobile-mqa"  # whose median decides, for both, so that the twins share seed and pictures


def train_bundled(
    work: str | Path = "runs",
    out: str | Path = "data",
    grid: str | Path = _GRID,
    train: Train | None = None,
) -> list[Path]:
    """Do what the grid still lacks of the bundled detectors, bundle them, and return the weights' paths.

    Args:
        work: Folder for the generated set and the runs.
        out: Folder of the bundled data.
        grid: The grid that they are runs of.
        train: As `compare` takes it.
    """
    for name in BUNDLED:
        compare(grid, Path(out) / "runs", work, train=train, only=f"{name}, {ARM}, ")
    return bundle(Path(out) / "runs" / Path(grid).stem, work, out, grid)


def bundle(
    records: str | Path, work: str | Path = "runs", out: str | Path = "data", grid: str | Path = _GRID
) -> list[Path]:
    """Write the weights of the median seed with their cards to `out`/weights, and return their paths.

    Args:
        records: Folder of the grid's records.
        work: Folder of the runs, whose best weights are taken.
        out: Folder of the bundled data.
        grid: The grid that they are runs of.

    Raises:
        FileNotFoundError: There are no records, or the weights of the run are not in `work` any more.
        ValueError: A run of the seed in the middle is not finished.
    """
    from mqa_lib.rtdetr import load, save_weights

    written, way_out = [], f"Finish it with `python -m mqa_lib compare {grid}`."
    runs = {
        (record["recipe"]["model"], record["recipe"]["seed"]): record
        for record in read_runs(records, grid)
        if record.get("finished") and record["experiment"]["arm"] == ARM
    }
    named = {run.identity: run.name for run in read_grid(grid).runs}
    judged = [run for (model, _), run in runs.items() if model == _JUDGE]
    if not judged:
        raise checks.refuse("records", records, f"lack {_JUDGE} with any seed", way_out)
    seed, seeds = median_seed(judged)
    for name in BUNDLED:
        if (name, seed) not in runs:
            raise checks.refuse("records", records, f"lack {name} with seed {seed}", way_out)
        record = runs[name, seed]
        run = named[record["experiment"]["hash"]]
        weights = Path(work) / Path(grid).stem / run / "weights" / "best.pt"
        card = _card(record, seeds) | {"record": f"runs/{Path(grid).stem}/{run}.json"}
        written.append(save_weights(load(weights), Path(out) / "weights" / f"{name}.safetensors", card))
    return written


def median_seed(records: list[dict[str, Any]]) -> tuple[int, list[int]]:
    """Return the seed whose mAP50-95 on the test split is in the middle, and all seeds from the lowest to the highest.

    Of an even number the lower one of the two in the middle is taken.
    """
    ranked = sorted(records, key=lambda record: record["test"]["mAP50-95"])
    seeds = [record["recipe"]["seed"] for record in ranked]
    return seeds[(len(seeds) - 1) // 2], seeds


def _card(record: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    recipe, data, best = record["recipe"], record["data"], best_epoch(record)
    kept = {key: record["test"][key] for key in ("mAP50", "mAP50-95")}
    return {
        "model": recipe["model"],
        "weights_are": (
            f"trained on Keys & Locks ({data['pictures']['train']} pictures of {data['size']} px, seed {data['seed']}):"
            f" backbone {recipe['pretrain_pictures']} pictures densely, then {best['epoch']} of {recipe['epochs']}"
            f" epochs, seed {recipe['seed']}"
        ),
        "imgsz": recipe["imgsz"],
        **kept,
        "measured on": f"{data['pictures']['test']} test pictures of the same set",
        "chosen": f"seed {recipe['seed']}: {_JUDGE}'s median of {len(seeds)} seeds by mAP50-95 on the test split",
        "licence": "AGPL-3.0-only",
        "made by": "make train-bundled",
    }
