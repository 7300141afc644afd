"""A closer look finds what only the whole set shows, in both formats, and draws it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mqa_lib import contact_sheet, plots
from mqa_lib.__main__ import main
from mqa_lib.datasets import yolo
from mqa_lib.datasets.inspect import inspect
from tests.datasets.voc import write_voc

BUNDLED = Path(__file__).parents[2] / "data/keys_and_locks"


def test_the_bundled_set_has_nothing_wrong():
    report = inspect(BUNDLED)
    assert report.problems == report.notes == []


def test_a_picture_in_two_splits_is_named(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    for folder, suffix in (("images", "png"), ("labels", "txt")):
        shutil.copy(data / f"{folder}/train/000007.{suffix}", data / f"{folder}/val/twin.{suffix}")
    (problem,) = inspect(data).problems
    assert str(problem).startswith("`val`: 1 pictures are in `train` too: twin.png.")


def test_a_picture_of_the_training_that_is_tested_on_is_named_though_a_split_lies_between(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    for folder, suffix in (("images", "png"), ("labels", "txt")):
        (data / folder / "test").mkdir()
        shutil.copy(data / f"{folder}/train/000007.{suffix}", data / f"{folder}/test/twin.{suffix}")
    (data / "data.yaml").write_text("test: images/test\n" + (data / "data.yaml").read_text())
    (problem,) = inspect(data).problems
    assert str(problem).startswith("`test`: 1 pictures are in `train` too: twin.png.")


def test_a_class_without_an_object_is_noted_and_keeps_nobody_from_training(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    settings = (data / "data.yaml").read_text()
    (data / "data.yaml").write_text(settings + "  5: lock-pink\n")
    report = inspect(data)
    assert [note[:34] for note in report.notes] == [
        "`train`: no object of lock-pink. N",
        "`val`: no object of lock-pink. Not",
    ]
    assert yolo.checked(data).names[5] == "lock-pink"
    assert main(["data", "check", str(data)]) == 0


def test_of_a_split_without_any_object_one_sentence_is_enough(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    for label in (data / "labels/val").iterdir():
        label.write_text("")
    report = inspect(data)
    (problem,) = report.problems
    assert report.notes == [] and str(problem).startswith("`val`: not one whole box")


def test_what_was_read_is_told_and_what_is_not_there_is_a_problem(tmp_path):
    assert inspect(BUNDLED).path == BUNDLED / "data.yaml"
    (problem,) = inspect(tmp_path / "no.yaml").problems
    assert str(problem).startswith(f"{tmp_path / 'no.yaml'} does not exist. Give the path")


def test_a_set_of_voc_is_read_and_a_box_outside_is_named(tmp_path, capsys):
    root = write_voc(tmp_path / "voc")
    before = set(root.rglob("*"))
    file = root / "Annotations/b.xml"
    file.write_text(file.read_text().replace("<xmax>8<", "<xmax>80<"))
    assert main(["data", "check", str(root), "--sheet", str(tmp_path / "out/sheet.png")]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"{root}: 2 classes\n")
    assert (
        "Annotations/b.xml, object 1: its box" in said and "(note) c.xml, object 2: its box is empty." in said
    )
    assert Image.open(tmp_path / "out/sheet.png").width > 500 and set(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("make", "said"),
    [(Path.mkdir, "cannot be decoded"), (lambda path: path.symlink_to("nowhere.png"), "does not exist")],
    ids=("folder", "link"),
)
def test_what_is_no_file_is_named_like_any_picture_that_cannot_be_read(tmp_path, make, said):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    make(data / "images/val/odd.png")
    (problem,) = inspect(data).problems
    assert str(problem).startswith(f"images/val/odd.png {said}")


@pytest.fixture
def drawn(monkeypatch):
    """Return a list of what is handed over to be drawn."""
    given = []
    monkeypatch.setattr(contact_sheet.plots, "scenes", lambda *said: given.append(said) or plots.Figure())
    return given


def test_boxes_lie_in_the_sheet_where_the_labels_say_and_bad_ones_are_told_apart(tmp_path, drawn):
    """A picture wider than high and larger than it is shown; by hand: centre 0.25, 0.5, size 0.1, 0.5 of 480 x 240."""
    for folder in ("images", "labels"):
        (tmp_path / folder / "train").mkdir(parents=True)
    Image.new("RGB", (960, 480)).save(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train/a.txt").write_text("1 0.25 0.5 0.1 0.5\n0 0.95 0.5 0.2 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [hen, egg]\n")
    contact_sheet.sheet(yolo.validate(tmp_path))
    ((shown, boxes, titles),) = drawn
    assert shown[0].shape == (240, 480, 3) and titles == ["train: a.png", "val: a.png"]
    assert [box[4:] for box in boxes[0]] == [("egg", True), ("hen", False)]
    assert boxes[0][0][:4] == pytest.approx((96, 60, 144, 180))


def test_a_picture_is_shown_turned_as_its_camera_notes(tmp_path, drawn):
    for folder in ("images", "labels"):
        (tmp_path / folder / "train").mkdir(parents=True)
    note = Image.Exif()
    note[274] = 6
    Image.new("RGB", (60, 20)).save(tmp_path / "images/train/a.jpg", exif=note)
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [hen]\n")
    contact_sheet.sheet(yolo.validate(tmp_path))
    ((shown, boxes, _),) = drawn
    assert shown[0].shape == (60, 20, 3) and boxes[0][0][:4] == pytest.approx((5, 22.5, 15, 37.5))


def test_a_picture_of_16_bits_is_shown_with_its_shades(tmp_path, drawn):
    for folder in ("images", "labels"):
        (tmp_path / folder / "train").mkdir(parents=True)
    shades = np.repeat(np.array([[257, 50 * 257, 200 * 257]], dtype=np.uint16), 20, axis=0)
    Image.fromarray(shades).resize((60, 20), Image.Resampling.NEAREST).save(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [hen]\n")
    contact_sheet.sheet(yolo.validate(tmp_path))
    assert drawn[0][0][0][10, [10, 30, 50], 0].tolist() == [1, 50, 200]


def test_a_box_in_pixels_far_outside_is_still_marked_in_its_picture(tmp_path):
    data = Path(shutil.copytree(BUNDLED, tmp_path / "set"))
    (data / "labels/train/000000.txt").write_text("0 64 64 12 12\n")
    first = contact_sheet.sheet(yolo.validate(data), 2).axes[0]
    assert [text.get_text() for text in first.texts] == ["\u2717 key"]
    assert all(0 <= place <= 128 for place in first.texts[0].get_position())


def test_a_sheet_takes_its_pictures_from_all_of_a_split_and_its_sentence_counts_all(drawn):
    report = yolo.validate(BUNDLED)
    contact_sheet.sheet(report, 3)  # of two splits alike: two of each
    last = {split: files[-1].name for split, files in report.files.items()}
    titles = drawn[0][2]
    assert len(titles) == 4
    assert [titles[1], titles[3]] == [f"{split}: {name}" for split, name in last.items()]
    keys = sum(count for (_, index), count in report.objects.items() if index == 0)
    assert f"Objects: key {keys:,}, " in contact_sheet.alt(report)


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
    report = inspect(data)
    assert sum("cannot be decoded" in problem.fault for problem in report.problems) == sum(
        report.pictures.values()
    )
    with pytest.raises(ValueError, match="has no picture that can be read"):
        contact_sheet.draw(report, tmp_path / "sheet.png")
