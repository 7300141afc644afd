"""Runs as records: make the bundled detectors, read what was recorded."""

import json
from pathlib import Path
from typing import Any

from mqa_lib import checks
from mqa_lib.datasets import keys_and_locks

BUNDLED = ("rtdetr-nano-stock", "rtdetr-nano-mobile-mqa")
BUNDLED_SET = {"train": 4800, "val": 480, "seed": 1, "size": 128}
BUNDLED_EPOCHS = 12
PRETRAIN_PICTURES = 80_000


def read_runs(folder: str | Path) -> list[dict[str, Any]]:
    """Return the records of a folder such as `data/runs`, ordered by file name.

    Raises:
        FileNotFoundError: The folder does not exist or holds no record.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise FileNotFoundError(
            f"`folder` (={folder}) holds no record (*.json). Make them with `make train-bundled`."
        )
    return [json.loads(file.read_text()) for file in files]


def best_epoch(record: dict[str, Any]) -> dict[str, Any]:
    """Return the epoch with the highest mAP50-95, whose weights ultralytics keeps as its best."""
    return max(record["epochs"], key=lambda epoch: epoch["mAP50-95"])


def lock_map50(epoch: dict[str, Any]) -> float:
    """Return the mean mAP50 of the lock classes, from a score or an epoch of a record: what needs attention."""
    locks = [value["mAP50"] for name, value in epoch["classes"].items() if name.startswith("lock-")]
    return sum(locks) / len(locks)


def key_map50(epoch: dict[str, Any]) -> float:
    """Return the mAP50 of the class `key`, from a score or an epoch of a record: what needs no attention."""
    return epoch["classes"]["key"]["mAP50"]


def train_bundled(work: str | Path = "runs/bundled", out: str | Path = "data", seed: int = 0) -> list[Path]:
    """Train the bundled detectors, each with the same pictures, seed and schedule; return the weights' paths.

    A run that was stopped goes on after its last whole epoch. Records go to `out`/runs, weights to `out`/weights.

    Args:
        work: Folder for the generated set and the runs.
        out: Folder of the bundled data.
        seed: Seed of weights and of the order of pictures.
    """
    from mqa_lib.rtdetr import load, save_weights
    from mqa_lib.rtdetr.train import Recipe, train

    work, out = Path(work), Path(out)
    size = BUNDLED_SET["size"]
    data = keys_and_locks.generate(work / "set", **BUNDLED_SET)
    written = []
    for name in BUNDLED:
        recipe = Recipe(name, seed, BUNDLED_EPOCHS, size, pretrain_pictures=PRETRAIN_PICTURES)
        record = train(recipe, data, work / name)
        best = best_epoch(record)
        record["made by"] = "make train-bundled"
        (out / "runs").mkdir(parents=True, exist_ok=True)
        (out / "runs" / f"{name}-seed{seed}.json").write_text(json.dumps(record, indent=1) + "\n")
        card = {
            "model": name,
            "weights_are": (
                f"trained on Keys & Locks ({BUNDLED_SET['train']} pictures of {size} px, seed {BUNDLED_SET['seed']}): "
                f"backbone {PRETRAIN_PICTURES} pictures densely, then {best['epoch']} of {recipe.epochs} epochs"
            ),
            "imgsz": size,
            "mAP50": best["mAP50"],
            "mAP50-95": best["mAP50-95"],
            "measured on": f"{BUNDLED_SET['val']} validation pictures of the same set",
            "record": f"runs/{name}-seed{seed}.json",
            "licence": "AGPL-3.0-only",
            "made by": "make train-bundled",
        }
        written.append(
            save_weights(
                load(work / name / "weights" / "best.pt"), out / "weights" / f"{name}.safetensors", card
            )
        )
    return written


def score_table(scores: dict[str, dict[str, Any]]) -> str:
    """Return scores of `mqa_lib.rtdetr.evaluate` by name as a table in Markdown, keys and locks apart."""
    lines = ["| | mAP50 | mAP50-95 | key, mAP50 | locks, mAP50 |", "|---|---|---|---|---|"]
    for name, score in scores.items():
        numbers = (score["mAP50"], score["mAP50-95"], key_map50(score), lock_map50(score))
        lines.append(f"| {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    return "\n".join(lines)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a table in Markdown; the minutes hold the pretraining of the backbone, too."""
    checks.positive("records", len(records), "Read at least one with `read_runs`.")
    lines = [
        "| model | seed | epochs | pictures | minutes | mAP50 | mAP50-95 |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        last, best = record["epochs"][-1], best_epoch(record)
        lines.append(
            f"| {record['recipe']['model']} | {record['recipe']['seed']} | {last['epoch']} | {last['pictures']:,} "
            f"| {_minutes(record):.0f} | {best['mAP50']:.3f} | {best['mAP50-95']:.3f} |"
        )
    return "\n".join(lines)


def _minutes(record: dict[str, Any]) -> float:
    before = record.get("pretraining", {}).get("history", [])
    return (record["epochs"][-1]["seconds"] + (before[-1]["seconds"] if before else 0.0)) / 60
