"""A closer look finds what only the whole set shows, in any of the formats, and draws it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mqa_lib import contact_sheet
from mqa_lib.__main__ import main
from mqa_lib.datasets import yolo
from mqa_lib.datasets.inspect import inspect
from tests.datasets.voc import write_voc

BUNDLED = Path(__file__).parents[2] / "data/keys_and_locks"


def test_the_bundled_set_has_nothing_wrong(tmp_path):
    report = inspect(BUNDLED, tmp_path)
    assert report.problems == report.notes == []


def test_a_picture_in_two_splits_is_named(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    for folder, suffix in (("images", "png"), ("labels", "txt")):
        shutil.copy(data / f"{folder}/train/000007.{suffix}", data / f"{folder}/val/twin.{suffix}")
    assert [problem[:56] for problem in inspect(data, tmp_path).problems] == [
        "`val`: 1 pictures are in `train` too: twin.png. What is "
    ]


def test_a_picture_of_the_training_that_is_tested_on_is_named_though_a_split_lies_between(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    for folder, suffix in (("images", "png"), ("labels", "txt")):
        (data / folder / "test").mkdir()
        shutil.copy(data / f"{folder}/train/000007.{suffix}", data / f"{folder}/test/twin.{suffix}")
    (data / "data.yaml").write_text("test: images/test\n" + (data / "data.yaml").read_text())
    (problem,) = inspect(data, tmp_path).problems
    assert problem.startswith("`test`: 1 pictures are in `train` too: twin.png.")


def test_a_class_without_an_object_is_noted_and_keeps_nobody_from_training(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    settings = (data / "data.yaml").read_text()
    (data / "data.yaml").write_text(settings + "  5: lock-pink\n")
    report = inspect(data, tmp_path)
    assert [note[:34] for note in report.notes] == [
        "`train`: no object of lock-pink. N",
        "`val`: no object of lock-pink. Not",
    ]
    assert yolo.checked(data).names[5] == "lock-pink"


def test_a_set_of_voc_is_read_and_a_box_outside_is_named(tmp_path, capsys):
    root = write_voc(tmp_path / "voc")
    file = root / "Annotations/b.xml"
    file.write_text(file.read_text().replace("<xmax>8<", "<xmax>80<"))
    assert main(["data", "check", str(root), "--sheet", str(tmp_path / "out/sheet.png")]) == 1
    said = capsys.readouterr().out
    assert "labels/val/b.txt, line 1: box" in said and "(note) c.xml, object 2: its box is empty." in said
    assert Image.open(tmp_path / "out/sheet.png").width > 500


def test_a_sheet_shows_pictures_of_every_split_with_their_boxes(tmp_path):
    report = yolo.validate(BUNDLED)
    sheets = [contact_sheet.draw(report, tmp_path / f"{count}.png", count) for count in (2, 8)]
    small, large = (np.asarray(Image.open(sheet).convert("RGB")).astype(int) for sheet in sheets)
    assert large.shape[0] > 1.5 * small.shape[0]
    with pytest.raises(ValueError, match=r"`sheet` \(=a\.jpg\) must end in \.png"):
        contact_sheet.draw(report, "a.jpg")


def test_a_picture_that_cannot_be_read_is_left_out_of_the_sheet(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    for picture in (data / "images").rglob("*.png"):
        picture.write_bytes(b"cut")
    report = inspect(data, tmp_path)
    assert sum("cannot be decoded" in problem for problem in report.problems) == sum(report.pictures.values())
    with pytest.raises(ValueError, match="has no picture that can be read"):
        contact_sheet.draw(report, tmp_path / "sheet.png")
