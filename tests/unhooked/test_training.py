"""Training refuses bad data first, survives a kill and a full disk, and writes down what it did."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint

from mqa_lib import rtdetr
from mqa_lib.datasets import keys_and_locks
from mqa_lib.datasets.yolo import DataError
from mqa_lib.locking import Busy
from mqa_lib.rtdetr import train as trains
from mqa_lib.rtdetr.train import Diverged, Recipe, arguments, is_solved, train
from mqa_lib.rtdetr.trainer import SafeRTDETRTrainer, SafeYOLOTrainer
from tests.datasets.voc import write_voc

ROOT = Path(__file__).parents[2]

RECIPE = Recipe("rtdetr-nano-mobile-mqa", epochs=3, imgsz=64, batch=8)
ONE_EPOCH = replace(RECIPE, epochs=1)


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
    while not (folder / "weights/last.pt").exists() and time.monotonic() < deadline:
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


class Killed(BaseException):
    """Ends a training where the power might have gone."""


def numbers(record):
    return [epoch["epoch"] for epoch in record["epochs"]]


@pytest.mark.parametrize("epoch", [1, RECIPE.epochs - 1])
def test_a_kill_between_record_and_checkpoint_loses_no_entry(data, tmp_path, monkeypatch, epoch):
    save = RTDETRTrainer.save_model

    def killed(trainer):
        if trainer.epoch == epoch:
            raise Killed
        return save(trainer)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RTDETRTrainer, "save_model", killed)
        train(RECIPE, data, tmp_path / "run")
    assert numbers(train(RECIPE, data, tmp_path / "run")) == [1, 2, 3]


def test_a_kill_in_the_last_evaluation_leaves_a_whole_finished_run(data, tmp_path, monkeypatch):
    def killed(trainer):
        trainer.best.write_bytes(b"cut")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RTDETRTrainer, "final_eval", killed)
        train(RECIPE, data, tmp_path / "run")
    record = train(RECIPE, data, tmp_path / "run")
    assert numbers(record) == [1, 2, 3] and record["finished"]
    assert load_checkpoint(tmp_path / "run/weights/best.pt")[0] is not None


def test_a_full_disk_in_the_last_step_keeps_the_trained_weights(data, tmp_path, monkeypatch):
    def full(trainer):
        trainer.best.write_bytes(b"cut")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the trained weights are kept"):
        patch.setattr(RTDETRTrainer, "final_eval", full)
        train(RECIPE, data, folder)
    assert sorted(file.name for file in (folder / "weights").iterdir()) == ["best.pt", "last.pt"]
    assert load_checkpoint(folder / "weights/best.pt")[0] is not None
    assert train(RECIPE, data, folder)["finished"]


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
        "`val`" in refused.stderr
        and ": class 1 is not in" in refused.stderr
        and "Traceback" not in refused.stderr
    )


def test_a_set_of_voc_is_trained_on_as_it_is_now_and_what_was_left_out_is_recorded(tmp_path):
    root, folder = write_voc(tmp_path / "hens"), tmp_path / "run"
    broken = root / "JPEGImages/a.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"JPEGImages/a\.jpg cannot be decoded"):
        train(ONE_EPOCH, root, folder)
    assert not folder.exists()
    for file in (broken, root / "Annotations/a.xml"):  # the user takes the broken one out, and another in
        file.rename(file.with_stem("d"))
    (root / "JPEGImages/d.jpg").write_bytes(whole)
    (root / "ImageSets/Main/train.txt").write_text("d\n")
    record = train(ONE_EPOCH, root, folder)
    assert len(record["data"].pop("fingerprint")) == 64
    assert record["finished"] and record["data"] == {
        "name": "hens",
        "pictures": {"train": 1, "val": 1, "test": 1},
        "classes": ["egg", "hen"],
        "left out": ["c.xml, object 2: its box is empty."],
    }
    assert load_checkpoint(folder / "weights/last.pt")[0].names == {0: "egg", 1: "hen"}
    assert sorted(file.name for file in root.rglob("*.jpg")) == ["b.jpg", "c.jpg", "d.jpg"]


@pytest.mark.parametrize(("imgsz", "said"), [(100, "must be a multiple of 32. Use 128"), (0, "at least 1")])
def test_a_size_that_would_be_rounded_is_refused_before_the_data_are_looked_at(tmp_path, imgsz, said):
    with pytest.raises(ValueError, match=rf"`imgsz` \(={imgsz}\) .*{said}"):
        train(replace(RECIPE, imgsz=imgsz), tmp_path / "none.yaml", tmp_path / "run")


def test_a_folder_with_a_run_of_another_recipe_is_refused(data, tmp_path):
    train(Recipe(RECIPE.model, epochs=1, imgsz=64, batch=8), data, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"`folder` \(=run\) holds a run with recipe `batch` = 8, and 4 was asked for"
    ):
        train(Recipe(RECIPE.model, epochs=1, imgsz=64, batch=4), data, tmp_path / "run")


def test_a_folder_with_a_run_of_other_data_is_refused_though_all_counts_are_the_same(data, tmp_path):
    for own in ("hens", "ducks"):
        shutil.copytree(data.parent, tmp_path / own)
        (tmp_path / own / "card.json").unlink()
    train(ONE_EPOCH, tmp_path / "hens/data.yaml", tmp_path / "run")
    rule = r"`folder` \(=run\) holds a run with data `{}` = .*Use another folder or the same settings"
    with pytest.raises(ValueError, match=rule.format("name")):
        train(ONE_EPOCH, tmp_path / "ducks/data.yaml", tmp_path / "run")
    label = next((tmp_path / "hens/labels/train").glob("*.txt"))
    label.write_text(label.read_text().splitlines()[0])
    with pytest.raises(ValueError, match=rule.format("fingerprint")):
        train(ONE_EPOCH, tmp_path / "hens/data.yaml", tmp_path / "run")


def test_a_folder_that_another_process_trains_in_is_refused(data, tmp_path):
    folder = tmp_path / "run"
    running = subprocess.Popen(command(data, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (folder / "record.json").exists() and running.poll() is None:
            time.sleep(0.05)
        with pytest.raises(Busy, match=rf"`folder` \(=run\): .* process {running.pid}\. Wait for it, or use"):
            train(RECIPE, data, folder)
    finally:
        running.kill()
        running.wait()


def test_a_picture_in_two_splits_is_told_and_keeps_nobody_from_training(data, tmp_path, capsys):
    shutil.copytree(data.parent, tmp_path / "hens")
    shutil.copy(next((tmp_path / "hens/images/train").glob("*.png")), tmp_path / "hens/images/val/again.png")
    assert train(ONE_EPOCH, tmp_path / "hens/data.yaml", tmp_path / "run")["finished"]
    said = capsys.readouterr().err
    assert "data.yaml: `val`: 1 pictures are in `train` too: again.png" in said
    assert "data.yaml: `val`: 1 of 9 pictures have no label file and count as background" in said


def test_a_record_that_is_cut_off_is_named(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/record.json").write_text('{"epochs": [')
    with pytest.raises(ValueError, match=r"record\.json` is not a run's record.*Remove the folder"):
        train(RECIPE, data, tmp_path / "run")


def test_a_recipe_that_keeps_pairs_never_mixes_pictures_or_shifts_colours(data, tmp_path):
    wanted = arguments(Recipe("a", seed=5, batch=7, lr0=0.1), data, tmp_path)
    assert all(wanted[name] == 0 for name in ("mosaic", "hsv_h", "hsv_s", "hsv_v", "translate", "scale"))
    assert (wanted["seed"], wanted["batch"], wanted["nbs"], wanted["lr0"]) == (5, 7, 7, 0.1)
    assert "mosaic" not in arguments(Recipe("a", keeps_pairs=False), data, tmp_path)


def coloured(right, found=40):
    return {"lock colours": {"locks": 50, "found": found, "right": right}}


@pytest.mark.parametrize(
    ("epochs", "solved"),
    [
        ([coloured(36), coloured(36)], True),
        ([coloured(10), coloured(36), coloured(40)], True),
        ([coloured(40), coloured(36), coloured(35)], False),
        ([coloured(40), coloured(10), coloured(40)], False),
        ([coloured(40)], False),
        ([coloured(0, found=0), coloured(0, found=0)], False),
        ([{"mAP50": 0.9}, {"mAP50": 0.9}], False),  # photographs have no locks
        ([], False),
    ],
)
def test_a_training_is_solved_once_two_epochs_in_a_row_name_the_share_of_the_colours(epochs, solved):
    assert is_solved(epochs, 0.9) is solved


TINY = Recipe("rtdetr-nano-stock", epochs=4, imgsz=64, batch=8, lrf=0.25, stop_at=0.9)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A set of 16 pictures, on which a training is said to be solved after two epochs."""
    asked = []

    def solved(epochs, share):
        asked.append((len(epochs), share))
        return len(epochs) >= 2

    monkeypatch.setattr(trains, "is_solved", solved)
    return keys_and_locks.generate(tmp_path / "set", train=16, val=4, seed=3, size=64), asked


def test_a_training_that_is_solved_ends_there_also_where_its_time_is_over_and_is_not_gone_on_with(
    tiny, tmp_path, monkeypatch
):
    data, asked = tiny
    record = train(TINY, data, tmp_path / "run", after_epoch=lambda record: numbers(record) == [1, 2])
    assert asked == [(1, 0.9), (2, 0.9)] and numbers(record) == [1, 2]
    assert record["finished"] and record["recipe"]["stop_at"] == 0.9
    # its optimiser has been taken out
    assert load_checkpoint(tmp_path / "run/weights/last.pt")[1]["epoch"] == -1
    monkeypatch.setattr(trains, "_run", lambda *_, **__: pytest.fail("trained again"))
    assert train(TINY, data, tmp_path / "run") == record


def test_a_kill_after_the_epoch_that_solved_it_costs_no_further_epoch(tiny, tmp_path, monkeypatch):
    def killed(_):
        raise Killed

    data, _ = tiny
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RTDETRTrainer, "final_eval", killed)
        train(TINY, data, tmp_path / "run")
    again = train(TINY, data, tmp_path / "run")
    assert numbers(again) == [1, 2] and again["finished"]


@pytest.mark.parametrize("lrf", [0.25, 1.0])
def test_the_learning_rate_falls_along_a_cosine_to_its_share_and_a_share_of_one_keeps_it(
    tiny, tmp_path, monkeypatch, lrf
):
    rates, set_up = [], SafeRTDETRTrainer._setup_scheduler

    def noted(trainer):
        set_up(trainer)
        rates.extend(trainer.lf(epoch) for epoch in range(trainer.epochs + 1))
        raise Killed

    monkeypatch.setattr(SafeRTDETRTrainer, "_setup_scheduler", noted)
    with pytest.raises(Killed):
        train(replace(TINY, lrf=lrf), tiny[0], tmp_path / "run")
    assert rates == pytest.approx([lrf + (1 - lrf) * (1 + math.cos(math.pi * n / 4)) / 2 for n in range(5)])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_training_from_trained_weights_starts_where_they_were(tmp_path, suffix):
    weights = ROOT / "data/weights/rtdetr-nano-mobile-mqa.safetensors"
    if suffix == ".pt":
        weights = rtdetr.as_checkpoint(rtdetr.load(weights), tmp_path / "trained.pt")
    data = ROOT / "data/keys_and_locks/data.yaml"
    record = train(Recipe(str(weights), epochs=1, lr0=1e-9, batch=64), data, tmp_path / "run")
    assert record["epochs"][0]["mAP50"] > 0.9


def test_the_folders_that_were_checked_are_those_trained_on_wherever_one_stands(data, tmp_path, monkeypatch):
    mine = shutil.copytree(data.parent, tmp_path / "mine")
    (mine / "data.yaml").write_text("path: .\n" + data.read_text())
    elsewhere = keys_and_locks.generate(tmp_path / "other", train=16, val=4, seed=4).parent
    monkeypatch.chdir(elsewhere)
    record = train(Recipe(RECIPE.model, epochs=1, imgsz=64, batch=8), mine / "data.yaml", tmp_path / "run")
    assert record["epochs"][0]["pictures"] == 32


@pytest.mark.parametrize("trainer", [SafeRTDETRTrainer, SafeYOLOTrainer])
def test_a_trainer_can_be_imported_by_a_process_that_knows_nothing_else(trainer):
    code = f"from {trainer.__module__} import {trainer.__name__}; from ultralytics.nn import tasks; "
    code += "print(tasks.MobileMQABlock)"
    assert (
        "MobileMQABlock"
        in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    )


def test_a_training_stops_after_an_epoch_where_it_is_told_and_goes_on_wherever_it_was_moved(data, tmp_path):
    asked = []

    def enough(record):
        asked.append(numbers(record))
        return True

    record = train(RECIPE, data, tmp_path / "run", after_epoch=enough)
    assert asked == [[1]] and not record["finished"]
    moved = Path(shutil.move(tmp_path / "run", tmp_path / "elsewhere"))
    again = train(RECIPE, data, moved, after_epoch=lambda record: False)
    assert numbers(again) == [1, 2, 3] and again["finished"] and again["epochs"][0] == record["epochs"][0]
    assert not (tmp_path / "run").exists()


def test_variants_see_the_same_pictures_in_one_order_and_a_resumed_run_goes_through_them_anew(
    data, tmp_path, monkeypatch
):
    """The pictures as the network gets them, turned over or not: alike for a seed, another order for another one."""
    seen = []
    prepare = SafeRTDETRTrainer.preprocess_batch

    def noted(trainer, batch):
        if trainer.model.training:
            seen.append([round(float(picture.float().std()), 3) for picture in batch["img"]])
            seen[-1] += [picture.float()[:, :, :32].mean().item() for picture in batch["img"]]
        return prepare(trainer, batch)

    def shown(model, seed=0, stop=False):
        seen.clear()
        recipe = Recipe(model, seed, epochs=2, imgsz=64, batch=8)
        folder = tmp_path / f"{model}{seed}"
        record = train(recipe, data, folder, after_epoch=lambda _: stop)
        return list(seen), record

    monkeypatch.setattr(SafeRTDETRTrainer, "preprocess_batch", noted)
    theirs, whole = shown("rtdetr-nano-mobile-mqa")
    ours, _ = shown("rtdetr-nano-stock", stop=True)
    again, record = shown("rtdetr-nano-stock")
    assert len(theirs) == 8 and len(ours) == len(again) == 4
    assert ours == theirs[:4] != theirs[4:]
    assert again not in (theirs[:4], shown("rtdetr-nano-stock", seed=1, stop=True)[0])
    assert shown("rtdetr-nano-stock", seed=2, stop=True)[0] != ours
    assert record["resumed after"] == [1] and "resumed after" not in whole


def test_a_kill_between_the_checkpoints_never_leaves_a_best_one_that_the_record_does_not_know(
    data, tmp_path, monkeypatch
):
    """The last one's place is taken last: until then the epoch is not done, and is done anew."""
    replace, folder = Path.replace, tmp_path / "run"

    def killed(self, target):
        if Path(target).name == "last.pt" and (folder / "weights/last.pt").exists():
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", killed)
        train(RECIPE, data, folder)
    assert load_checkpoint(folder / "weights/last.pt")[1]["epoch"] == 0
    best = load_checkpoint(folder / "weights/best.pt")[1]
    rated = {epoch["epoch"] - 1: epoch["mAP50-95"] for epoch in epochs(folder)}
    assert best["epoch"] == max(rated, key=rated.get)
    assert train(RECIPE, data, folder)["finished"]


def test_a_loss_that_is_no_number_stops_a_training_that_is_told_so(data, tmp_path, monkeypatch):
    loss = RTDETRDetectionModel.loss

    def broken(network, batch, preds=None):
        total, items = loss(network, batch, preds)
        done = (tmp_path / "run/weights/last.pt").exists()
        return (total * float("nan") if done and network.training else total), items

    monkeypatch.setattr(RTDETRDetectionModel, "loss", broken)
    with pytest.raises(Diverged, match="The loss is nan in epoch 2"):
        train(RECIPE, data, tmp_path / "run", stop_at_nan=True)
    assert epochs(tmp_path / "run")[-1]["epoch"] == 1


def test_the_articles_model_trains_and_is_measured_though_it_cannot_take_channels_last(data, tmp_path):
    record = train(Recipe("rtdetr-nano-article", epochs=1, imgsz=64, batch=16), data, tmp_path / "run")
    assert record["finished"] and record["epochs"][0]["lock colours"]["locks"] > 0


def test_a_start_without_an_epoch_leaves_the_folder_free_for_other_settings(data, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="lr0=5"):
        train(replace(ONE_EPOCH, lr0=5.0), data, folder)
    assert json.loads((folder / "record.json").read_text())["epochs"] == []
    record = train(replace(ONE_EPOCH, seed=5), data, folder)
    assert record["finished"] and record["recipe"]["seed"] == 5


def test_weights_that_are_no_numbers_end_in_one_sentence_and_a_record_that_is_json(data, tmp_path):
    model = rtdetr.load(RECIPE.model)
    for parameter in model.model.parameters():
        parameter.data.fill_(float("nan"))
    broken = rtdetr.as_checkpoint(model, tmp_path / "nan.pt")
    ran = subprocess.run(
        [*command(data, tmp_path / "run")[:4], str(broken), *command(data, tmp_path / "run")[5:]],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2 and "Diverged" in ran.stderr and "Traceback" not in ran.stderr
    json.loads((tmp_path / "run/record.json").read_text(), parse_constant=pytest.fail)
