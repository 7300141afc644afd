"""The command line does what its help says; what a user did wrong is one sentence."""

import io
import itertools
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mqa_lib import doctor, rtdetr
from mqa_lib.__main__ import main
from tests.experiments.stub import epoch

DATA = Path(__file__).parents[2] / "data"


def test_generating_and_checking_a_set(tmp_path, capsys):
    assert main(["data", "generate", str(tmp_path), "--train", "3", "--val", "2", "--seed", "5"]) == 0
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "train: 3 pictures" in capsys.readouterr().out


def test_a_bad_set_is_told_by_the_exit_code(tmp_path, capsys):
    shutil.copytree(DATA / "keys_and_locks", tmp_path / "set")
    (tmp_path / "set/labels/val/000003.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    assert main(["data", "check", str(tmp_path / "set")]) == 1
    assert "labels/val/000003.txt, line 1: class 7" in capsys.readouterr().out


def small_set(folder, name="key"):
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / split / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        Image.new("RGB", (32, 32), (len(split), 0, 0)).save(folder / split / "1.png")
    (folder / "data.yaml").write_text(f"train: train\nval: val\nnames: [{name}]\n", encoding="utf-8")
    return folder


def test_a_sheet_of_another_kind_is_refused_before_the_check(tmp_path, capsys):
    assert main(["data", "check", str(small_set(tmp_path / "set")), "--sheet", "s.jpg"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "`sheet` (=s.jpg) must end in .png. Use s.png." in said.err


def test_a_set_without_a_picture_that_can_be_read_has_no_sheet_and_one_report(tmp_path, capsys):
    folder = small_set(tmp_path / "set")
    for picture in folder.rglob("*.png"):
        picture.write_bytes(b"none")
    assert main(["data", "check", str(folder), "--sheet", str(tmp_path / "s.png")]) == 1
    said = capsys.readouterr()
    assert "train/1.png" in said.out and said.err == "" and not (tmp_path / "s.png").exists()


def test_a_class_that_the_terminal_cannot_write_ends_no_check(tmp_path, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["data", "check", str(small_set(tmp_path / "set", "śruba"))]) == 0
    terminal.flush()
    assert b"?ruba 1" in terminal.buffer.getvalue()


def test_stopping_a_command_is_one_sentence_and_the_shells_own_exit_code(monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "main", stopped)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "Stopped. The same command goes on with a training or a grid.\n"


def test_a_grid_that_holds_itself_is_one_sentence(tmp_path, capsys):
    (tmp_path / "grid.yaml").write_text("data: &a {path: *a}\nschedule: {}\nseeds: [0]\narms: {}\n")
    assert main(["compare", str(tmp_path / "grid.yaml")]) == 2
    assert "a part of it holds itself" in capsys.readouterr().err


def write_runs(folder, variants, data=("hens",)):
    """Write a record of a run, with a test split, for each variant, seed and data set."""
    classes = {"hen": {"mAP50": 0.5, "mAP50-95": 0.25}, "egg": {"mAP50": 0.75, "mAP50-95": 0.5}}
    for variant, seed, name in itertools.product(variants, range(3), data):
        score = epoch(2) | {"classes": classes, "mAP50": 0.5 + seed / 8}
        record = {"recipe": {"model": variant, "seed": seed}, "epochs": [epoch(1), score], "test": score}
        record |= {"finished": True, "experiment": {"arm": "plain"}, "data": {"name": name}}
        (folder / f"{variant}-{seed}-{name}.json").write_text(json.dumps(record))


def test_comparing_prints_the_runs_of_a_folder_their_medians_and_their_classes(tmp_path, capsys):
    write_runs(tmp_path, ("rtdetr-nano-stock", "rtdetr-nano-mha"))
    assert main(["compare", str(tmp_path)]) == 0
    runs, medians = capsys.readouterr().out.split(
        "\nMedians over seeds and their range, on the test split:\n\n"
    )
    assert runs.count("\n| nano-") == 6
    assert medians.startswith("| variant | seeds | mAP50 | mAP50-95 |")
    medians, classes = medians.split("\nBy class:\n\n")
    assert "\n| nano-stock, plain | 3 | 0.625 (0.500 to 0.750) |" in medians
    assert classes.startswith("| mAP50 | nano-") and classes.count("\n| ") == 2


def test_comparing_runs_of_several_data_sets_prints_the_runs_alone(tmp_path, capsys):
    write_runs(tmp_path, ("rtdetr-nano-stock",), ("cells", "hens"))
    assert main(["compare", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n| nano-") == 6 and "Medians" not in said.out
    assert "No medians over seeds: `records`" in said.err


def test_a_mistake_is_one_sentence_and_no_traceback(capsys):
    assert (
        main(
            ["train", "rtdetr-huge", "--data", str(DATA / "keys_and_locks/data.yaml"), "--folder", "nowhere"]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert "`model` (='rtdetr-huge') is not known" in said and "Traceback" not in said
    assert not Path("nowhere").exists()


def test_exporting_writes_weights_that_load(tmp_path):
    checkpoint = rtdetr.as_checkpoint(rtdetr.load("rtdetr-nano-stock"), tmp_path / "a.pt")
    target = tmp_path / "out" / "a.safetensors"
    arguments = ["export", str(checkpoint), "--model", "rtdetr-nano-stock", "--weights-are", "random"]
    assert main([*arguments, "-o", str(target)]) == 0
    assert json.loads(target.with_suffix(".json").read_text())["weights_are"] == "random"
    assert rtdetr.load(target).card["model"] == "rtdetr-nano-stock"


def test_exporting_asks_the_checkpoint_for_its_model_also_for_a_user_s_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new-model", "--base", "rtdetr-nano-stock", "--after", "4", "-o", "mine.yaml"]) == 0
    for model, name in (("mine.yaml", "mine"), ("rtdetr-nano-stock", "rtdetr-nano-stock")):
        checkpoint = rtdetr.as_checkpoint(rtdetr.load(model), f"{name}.pt")
        words = ["export", str(checkpoint), "--weights-are", "random", "-o", f"{name}.safetensors"]
        assert main(words) == 0
        again = rtdetr.load(f"{name}.safetensors")
        assert again.card["model"] == name and ("yaml" in again.card) is (name == "mine")
        assert len(again.model.model) == len(rtdetr.load(model).model.model)


def test_without_a_command_the_help_is_shown(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "doctor" in capsys.readouterr().err
