"""The detectors that come with the course, made again."""

import json
from pathlib import Path

from mqa_lib.datasets import keys_and_locks
from mqa_lib.experiments.records import best_epoch

BUNDLED = ("rtdetr-nano-stock", "rtdetr-nano-mobile-mqa")
BUNDLED_SET = {"train": 4800, "val": 480, "seed": 1, "size": 128}
BUNDLED_EPOCHS = 12
PRETRAIN_PICTURES = 80_000


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
