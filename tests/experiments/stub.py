"""Grids and a training that takes no time, for tests of what goes on around a training."""

import json
import os
import signal
import time
from pathlib import Path

from PIL import Image

GRID = """
data: {path: set/data.yaml}
schedule: {epochs: 3, imgsz: 64, batch: 8}
seeds: [0, 1]
arms:
  plain: {variants: [rtdetr-nano-stock, rtdetr-nano-mobile-mqa]}
"""


def write_grid(folder: Path, text: str = GRID) -> Path:
    for number, split in enumerate("ab"):
        (folder / "set" / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (11, 13), (number, 0, 0)).save(folder / "set" / split / "1.png")
        (folder / "set" / split / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "set/data.yaml").write_text("train: a\nval: b\nnames: [x]\n")
    file = folder / "small.yaml"
    file.write_text(text)
    return file


def epoch(number: int, score: float = 0.5) -> dict:
    numbers = {
        "epoch": number,
        "pictures": 7 * number,
        "seconds": 60.0 * number,
        "cpu_seconds": 50.0 * number,
    }
    return numbers | {"mAP50": score, "mAP50-95": score / 2}


def coloured(named: bool | float) -> dict:
    """Return the counts of locks of which all, none or a share have the right colour."""
    return {"locks": 50, "found": 40, "right": round(40 * named)}


def training(die_at=None, nan_at=None, victim="rtdetr-nano-stock", seed=0, meet=None):
    """Return a training that writes its epochs as ours does; one run of it dies once, or meets a NaN.

    With a folder to `meet` in, the runs of the first two processes wait until both have begun.
    """

    def train(recipe, data, folder, after_epoch=None, **_):
        file = folder / "record.json"
        folder.mkdir(parents=True, exist_ok=True)
        record = {"recipe": recipe, "epochs": [], "finished": False, "processes": []}
        if file.exists():
            record = json.loads(file.read_text())
        record["processes"].append(os.getpid())
        deadline = time.monotonic() + 60
        while meet is not None and len(list(meet.glob("*"))) < 2 and time.monotonic() < deadline:
            meet.mkdir(exist_ok=True)
            (meet / str(os.getpid())).touch()
            time.sleep(0.01)
        chosen = recipe["model"] == victim and recipe["seed"] == seed
        for number in range(len(record["epochs"]) + 1, recipe["epochs"] + 1):
            if chosen and number == nan_at:
                raise FloatingPointError(f"The loss is nan in epoch {number}.")
            if chosen and number == die_at and not (folder / "died").exists():
                (folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            record["epochs"].append(epoch(number))
            file.write_text(json.dumps(record))
            if after_epoch is not None and after_epoch(record) and number < recipe["epochs"]:
                return record
        record["finished"] = True
        file.write_text(json.dumps(record))
        return record

    return train
