"""Training refuses bad data first, survives a kill and a full disk, and writes down what it did."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ultralytics.nn.tasks import load_checkpoint

from mqa_lib.datasets import keys_and_locks
from mqa_lib.rtdetr.train import Recipe, Trainer, train

RECIPE = Recipe("rtdetr-nano-mobile-mqa", epochs=3, imgsz=64, batch=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return keys_and_locks.generate(tmp_path_factory.mktemp("set"), train=32, val=8, seed=3)


def command(data, folder):
    return [
        *(
            sys.executable,
            "-m",
            "mqa_lib",
            "train",
            RECIPE.model,
            "--data",
            str(data),
            "--folder",
            str(folder),
        ),
        *("--epochs", str(RECIPE.epochs), "--imgsz", str(RECIPE.imgsz), "--batch", str(RECIPE.batch)),
    ]


def epochs(folder):
    record = folder / "record.json"
    return json.loads(record.read_text())["epochs"] if record.exists() else []


def test_a_killed_run_goes_on_after_its_last_whole_epoch(data, tmp_path):
    folder = tmp_path / "run"
    running = subprocess.Popen(command(data, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not epochs(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = epochs(folder)
    assert 1 <= len(before) < RECIPE.epochs
    again = subprocess.run(command(data, folder), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    after = epochs(folder)
    assert [epoch["epoch"] for epoch in after] == [1, 2, 3]
    assert after[: len(before)] == before  # what was done is not done again
    assert {"commit", "machine", "recipe", "data"} <= json.loads((folder / "record.json").read_text()).keys()


def test_a_finished_run_is_not_run_again(data, tmp_path, monkeypatch):
    recipe = Recipe(RECIPE.model, epochs=1, imgsz=64, batch=8)
    first = train(recipe, data, tmp_path / "run")
    monkeypatch.setattr("mqa_lib.rtdetr.train._run", lambda *_, **__: pytest.fail("trained again"))
    assert train(recipe, data, tmp_path / "run") == first


def test_a_full_disk_keeps_the_checkpoint_of_the_epoch_before(data, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full_at_the_second_epoch(self, content):
        if self.name == "last.part" and (self.parent / "last.pt").exists():
            write(self, content[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full_at_the_second_epoch)
    folder = tmp_path / "run"
    with pytest.raises(OSError, match=r"epoch 2 could not be written \(No space left.*goes on after epoch 1"):
        train(RECIPE, data, folder)
    assert load_checkpoint(folder / "weights" / "last.pt")[1]["epoch"] == 0
    assert not list(folder.rglob("*.part"))


def test_bad_data_is_refused_before_anything_is_made(data, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "data.yaml").write_text(f"train: {data.parent}/images/train\nval: nowhere\nnames: [key]\n")
    refused = subprocess.run(command(tmp_path / "data.yaml", folder), capture_output=True, text=True)
    assert refused.returncode == 2 and not folder.exists()
    assert (
        "`val`" in refused.stderr and ": class 1 is not in" in refused.stderr and "Traceback" not in refused.stderr
    )


def test_a_folder_with_a_run_of_another_recipe_is_refused(data, tmp_path):
    train(Recipe(RECIPE.model, epochs=1, imgsz=64, batch=8), data, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"`folder` \(=run\) holds a run with recipe `batch` = 8, and 4 was asked for"
    ):
        train(Recipe(RECIPE.model, epochs=1, imgsz=64, batch=4), data, tmp_path / "run")


def test_the_trainer_can_be_imported_by_a_process_that_knows_nothing_else():
    code = f"from {Trainer.__module__} import Trainer; from ultralytics.nn import tasks; print(tasks.MobileMQABlock)"
    assert (
        "MobileMQABlock"
        in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    )
