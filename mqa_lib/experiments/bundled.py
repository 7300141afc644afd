"""The detectors that come with the course: of the grid's runs one seed for all, chosen by a rule that stood before."""

from pathlib import Path
from typing import Any

from mqa_lib import checks
from mqa_lib.experiments.grid import read_grid
from mqa_lib.experiments.records import read_runs
from mqa_lib.experiments.runner import Train, compare
from mqa_lib.experiments.until import until

# The last one is the first one, stopped as early as a hasty comparison would.
BUNDLED = (
    ("rtdetr-nano-stock", "from-scratch", "rtdetr-nano-stock"),
    ("rtdetr-nano-mobile-mqa", "from-scratch", "rtdetr-nano-mobile-mqa"),
    ("rtdetr-nano-stock", "stopped-early", "rtdetr-nano-stock-stopped-early"),
)
GRID = "data/experiments/detectors.yaml"
# whose median decides, for all, so that the twins share seed and pictures
_JUDGE = "rtdetr-nano-stock"
_RULE = "the seed with which stock needs the median number of pictures to name 90 % of the colours"


def train_bundled(
    work: str | Path = "runs",
    out: str | Path = "data",
    grid: str | Path = GRID,
    train: Train | None = None,
) -> list[Path]:
    """Do what the grid still lacks of the bundled detectors, bundle them, and return the weights' paths.

    Args:
        work: Folder for the generated set and the runs.
        out: Folder of the bundled data.
        grid: The grid that they are runs of.
        train: As `compare` takes it.
    """
    for variant, arm, _ in BUNDLED:
        compare(grid, Path(out) / "runs", work, train=train, only=f"{variant}, {arm}, ")
    return bundle(Path(out) / "runs" / Path(grid).stem, work, out, grid)


def bundle(
    records: str | Path, work: str | Path = "runs", out: str | Path = "data", grid: str | Path = GRID
) -> list[Path]:
    """Write the weights of the chosen seed with their cards to `out`/weights, and return their paths.

    Args:
        records: Folder of the grid's records.
        work: Folder of the runs, whose best weights are taken.
        out: Folder of the bundled data.
        grid: The grid that they are runs of.

    Raises:
        FileNotFoundError: There are no records, or the weights of the run are not in `work` any more.
        ValueError: A run of the chosen seed is not finished.
    """
    from mqa_lib.rtdetr import load, save_weights

    way_out = f"Finish it with `python -m mqa_lib compare {grid}`."
    runs = {
        (record["recipe"]["model"], record["experiment"]["arm"], record["recipe"]["seed"]): record
        for record in read_runs(records, grid)
        if record.get("finished")
    }
    named = {run.identity: run.name for run in read_grid(grid).runs}
    judged = [run for (model, arm, _), run in runs.items() if (model, arm) == BUNDLED[0][:2]]
    if not judged:
        raise checks.refuse("records", records, f"lack {_JUDGE} with any seed", way_out)
    seed, seeds = median_seed(judged)
    written = []
    for variant, arm, name in BUNDLED:
        if (variant, arm, seed) not in runs:
            raise checks.refuse("records", records, f"lack {variant}, {arm}, with seed {seed}", way_out)
        record = runs[variant, arm, seed]
        run = named[record["experiment"]["hash"]]
        weights = Path(work) / Path(grid).stem / run / "weights" / "best.pt"
        card = _card(record, seeds) | {"record": f"runs/{Path(grid).stem}/{run}.json"}
        written.append(save_weights(load(weights), Path(out) / "weights" / f"{name}.safetensors", card))
    return written


def median_seed(records: list[dict[str, Any]]) -> tuple[int, list[int]]:
    """Return the seed that needs the median number of pictures until 90 % of the colours, and all seeds in that order.

    A seed that never gets there is last; of an even number the lower one of the two in the middle is taken.
    """
    (runs,) = until(records).values()
    ranked = sorted(runs, key=lambda run: (run.pictures or float("inf"), run.seed))
    seeds = [run.seed for run in ranked]
    return seeds[(len(seeds) - 1) // 2], seeds


def _card(record: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    recipe, data, last = record["recipe"], record["data"], record["epochs"][-1]
    kept = {key: record["test"][key] for key in ("mAP50", "mAP50-95")}
    return {
        "model": recipe["model"],
        "weights_are": (
            f"trained on Keys & Locks ({data['pictures']['train']} pictures of {data['size']} px, seed {data['seed']})"
            f" from scratch, {last['pictures']:,} pictures in {last['epoch']} epochs, seed {recipe['seed']}"
        ),
        "imgsz": recipe["imgsz"],
        **kept,
        "measured on": f"{data['pictures']['test']} test pictures of the same set",
        "chosen": f"seed {recipe['seed']} of {len(seeds)}: {_RULE}",
        "licence": "AGPL-3.0-only",
        "made by": "make train-bundled",
    }
