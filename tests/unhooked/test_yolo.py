"""A bad data set is refused before training, and every offending file is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mqa_lib.datasets import keys_and_locks, yolo


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return keys_and_locks.generate(tmp_path_factory.mktemp("good"), train=4, val=2, seed=3).parent


@pytest.fixture
def data(good, tmp_path):
    return shutil.copytree(good, tmp_path / "set")


def test_a_good_set_is_accepted_and_counted(data):
    report = yolo.checked(data / "data.yaml")
    assert report.pictures == {"train": 4, "val": 2}
    assert report.objects["train", 0] == len(
        [
            line
            for file in (data / "labels/train").glob("*.txt")
            for line in file.read_text().splitlines()
            if line[0] == "0"
        ]
    )


BAD_LABELS = [
    ("9 0.5 0.5 0.1 0.1", r"labels/train/000001.txt, line 1: class 9 is not in `names` \(0 to 4\)"),
    ("0 0.99 0.5 0.1 0.1", r"labels/train/000001.txt, line 1: box .* lies outside the picture"),
    ("0 0.01 0.5 0.1 0.1", r"lies outside the picture"),
    ("0 0.5 0.99 0.1 0.1", r"lies outside the picture"),
    ("0 0.5 0.5 0.1", r"line 1: has 4 numbers and needs 5"),
    ("0 0.5 0.5 0 0.1", r"is empty"),
    ("0 nan 0.5 0.1 0.1", r"line 1: holds a number that is not finite"),
    ("key 0.5 0.5 0.1 0.1", r"line 1: holds something that is not a number \('key'\)"),
    ("0 0,5 0,5 0,1 0,1", r"line 1: holds something that is not a number \('0,5'\)"),
    ("5 0.5 0.5 0.1 0.1", r"line 1: class 5 is not in `names` \(0 to 4\)"),
    ("-1 0.5 0.5 0.1 0.1", r"line 1: class -1 is not in `names`"),
    ("0 0.9506 0.5 0.1 0.1", r"line 1: box .* lies outside the picture or is empty\.$"),
    ("0 .1 .1 .2 .1 .3 .3 .2", r"line 1: has 8 numbers and needs 5"),
    ("0 .1 .1 .2 .1 1.3 .3", r"line 1: box 0.7 0.2 1.2 0.2 lies outside the picture"),
    (
        "0 .1 .1 .2 .1 .3 .3\n0 .5 .5 .1 .1",
        r"000001.txt holds boxes and outlines, and .* Write all as boxes",
    ),
    ("0 64 64 12 12", r"lies outside the picture .* seems to be in pixels: write shares of the picture"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LABELS)
def test_a_bad_label_line_is_named_with_its_file(data, line, message):
    (data / "labels/train/000001.txt").write_text(line + "\n")
    with pytest.raises(yolo.DataError, match=message):
        yolo.checked(data)


def test_a_picture_that_is_cut_off_is_named(data):
    picture = data / "images/val/000001.png"
    picture.write_bytes(picture.read_bytes()[:400])
    with pytest.raises(yolo.DataError, match=r"images/val/000001.png cannot be decoded"):
        yolo.checked(data)


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_a_file_that_is_no_picture_is_named_also_once_ultralytics_is_imported(data, content):
    import mqa_lib.rtdetr  # noqa: F401  (ultralytics changes how Pillow fails)

    (data / "images/val/000001.png").write_bytes(content)
    with pytest.raises(yolo.DataError, match=r"images/val/000001.png cannot be decoded"):
        yolo.checked(data)


def test_more_than_twenty_files_are_named_up_to_twenty_and_counted(data):
    for number in range(25):
        shutil.copy(data / "images/train/000000.png", data / f"images/train/1{number:05d}.png")
        (data / f"labels/train/1{number:05d}.txt").write_text(f"{number + 9} 0.5 0.5 0.1 0.1\n")
    with pytest.raises(yolo.DataError, match=r"train/100019.txt, line 1: .*\n  and 5 more$") as caught:
        yolo.checked(data)
    assert "train/100020.txt" not in str(caught.value)


def test_files_of_one_fault_are_told_once_so_that_its_cause_is_seen(data):
    for number in range(4):
        (data / f"labels/train/00000{number}.txt").write_text("9 0.5 0.5 0.1 0.1\n" * (number + 1))
    report = yolo.validate(data)
    found = [(problem.file, problem.line, problem.more) for problem in report.problems if problem.line]
    assert found == [(f"labels/train/00000{number}.txt", 1, number) for number in range(4)]
    assert str(report).count("class 9") == 1 and "And 3 more files with the same fault" in str(report)


def test_a_file_with_several_bad_lines_is_named_once(data):
    (data / "labels/train/000000.txt").write_text("\n" + "9 0.5 0.5 0.1 0.1\n" * 3)
    (problem,) = yolo.validate(data).problems
    assert (problem.file, problem.line, problem.more) == ("labels/train/000000.txt", 2, 2)
    assert str(problem).endswith("names` (0 to 4). And 2 more lines.")


def test_a_test_split_is_checked_as_well(data):
    shutil.copytree(data / "images/val", data / "images/test")
    shutil.copytree(data / "labels/val", data / "labels/test")
    (data / "labels/test/000001.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    with (data / "data.yaml").open("a") as file:
        file.write("test: images/test\n")
    assert [problem.file for problem in yolo.validate(data).problems] == ["labels/test/000001.txt"]


def test_a_picture_too_small_to_hold_anything_is_named(data):
    Image.new("RGB", (8, 12)).save(data / "images/train/000001.png")
    assert "images/train/000001.png is 8x12 pixels" in str(yolo.validate(data))


def test_a_jpeg_that_opens_and_is_cut_in_the_middle_is_named(data):
    picture = data / "images/train/1.jpg"
    Image.effect_noise((64, 64), 50).save(picture)
    picture.write_bytes(picture.read_bytes()[:1500])
    assert "images/train/1.jpg cannot be decoded" in str(yolo.validate(data))


FOLDERS = "train: images/train\nval: images/val\n"
SETTINGS = [
    (f"names: [key]\nnc: 3\n{FOLDERS}", ["`nc` is 3", "`names` has 1"]),
    (f"names: {{0: key, 2: lock}}\n{FOLDERS}", ["`names` 0 to 1", "[0, 2]"]),
    (f"names: [key, [lock]]\n{FOLDERS}", ["['lock']", "`names`", "Write a word"]),
    (f"names: [key, ~]\n{FOLDERS}", ["None", "`names`", "Write a word"]),
    (f"names: [key, 7, '7']\n{FOLDERS}", ["has 7 more than once"]),
    (f"names: [yes, no]\n{FOLDERS}", ["True", "into quotes"]),
    (f"names: 5\n{FOLDERS}", ["names no classes", "Add `names:`"]),
    (
        "names: [key]\ntrain: [images/train, 3]\nval: images/val\n",
        ["['images/train', 3]", "`train`", "a text file"],
    ),
    ("names: [key]\ntrain: []\nval: images/val\n", ["[]", "`train`", "must be a folder"]),
    ("names: [key]\npath: [a]\ntrain: images/train\n", ["['a']", "`path`", "must be a folder. Write"]),
    (
        "names: [key]\ntrain: [images/train, train.txt]\nval: images/val\n",
        ["`train`", "train.txt is no folder"],
    ),
    ("names: [key]\ntrain: 3\nval: images/val\n", ["3", "`train`", "must be a folder"]),
    ("names: [key]\nval: images/val\n", ["`train` is not in data.yaml", "Add the folder"]),
    ("names: [key]\ntrain: ''\nval: images/val\n", ["`train` is not in data.yaml", "Add the folder"]),
    (
        "names: [key]\ntrain: data.yaml\nval: images/val\n",
        ["`train`", "data.yaml is no folder", "Check `path`"],
    ),
]


@pytest.mark.parametrize(("text", "told"), SETTINGS)
def test_settings_that_cannot_be_are_named(data, text, told):
    (data / "data.yaml").write_text(text)
    said = [str(problem) for problem in yolo.validate(data).problems]
    assert any(all(word in problem for word in told) for problem in said), said


@pytest.mark.parametrize("said", ["test: ''\n", "test:\n"])
def test_an_empty_test_is_none_as_for_ultralytics(data, said):
    with (data / "data.yaml").open("a") as file:
        file.write(said)
    assert yolo.checked(data).pictures == {"train": 4, "val": 2}


def test_classes_that_are_named_by_numbers_are_words_as_any(data):
    (data / "data.yaml").write_text("names: [0, 1, 2, 3, 4]\ntrain: images/train\nval: images/val\n")
    assert yolo.checked(data).names == {number: str(number) for number in range(5)}


def test_a_line_that_is_no_good_counts_for_no_class(data):
    (data / "labels/train/000001.txt").write_text("0 0.99 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n")
    before = yolo.validate(data).objects["train", 0]
    (data / "labels/train/000001.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert yolo.validate(data).objects["train", 0] == before


def test_labels_are_those_beside_the_last_folder_of_that_name(data, tmp_path):
    """Ultralytics replaces the last one, too, and above a set anything may be called `images`."""
    inner = Path(shutil.copytree(data, tmp_path / "images/all"))
    assert yolo.checked(inner).objects == yolo.checked(data).objects


def test_settings_that_are_not_utf_8_are_named(data):
    (data / "data.yaml").write_bytes("names: [Schlüssel]\n".encode("latin-1"))
    with pytest.raises(yolo.DataError, match="is not YAML in UTF-8"):
        yolo.checked(data)


def test_label_files_without_a_single_box_are_refused(data):
    for label in (data / "labels/train").glob("*.txt"):
        label.write_text("")
    with pytest.raises(yolo.DataError, match="`train`: not one whole box"):
        yolo.checked(data)


def test_a_label_that_is_a_folder_is_named(data):
    (data / "labels/train/000001.txt").unlink()
    (data / "labels/train/000001.txt").mkdir()
    assert "labels/train/000001.txt cannot be read" in str(yolo.validate(data))


def test_folders_are_those_beside_the_yaml_wherever_one_stands(data, tmp_path, monkeypatch):
    (data / "data.yaml").write_text("path: .\n" + (data / "data.yaml").read_text())
    elsewhere = keys_and_locks.generate(tmp_path / "other", train=2, val=1, seed=4).parent
    monkeypatch.chdir(elsewhere)
    report = yolo.checked(data)
    again = yolo.validate(yolo.write_resolved(report, tmp_path / "resolved.yaml"))
    assert again.files == report.files
    assert {split: {file.parent for file in files} for split, files in report.files.items()} == {
        split: {data / "images" / split} for split in ("train", "val")
    }
    assert again.names == report.names and again.pictures == {"train": 4, "val": 2}


def test_outlines_and_a_byte_order_mark_are_read(data):
    """By hand: x from 0.1 to 0.5, y from 0.2 to 0.8."""
    file = data / "labels/train/000001.txt"
    file.write_text("2 0.1 0.5 0.3 0.2 0.5 0.8\n", encoding="utf-8-sig")
    assert yolo.checked(data).pictures["train"] == 4
    (line,) = yolo.validate(data).lines_of(data / "images/train/000001.png")[1]
    assert (line.label, line.fault) == (2, "") and line.box == pytest.approx((0.3, 0.5, 0.4, 0.6))


PLACES = [
    "train: ../images/train\nval: ../images/val\n",  # Roboflow
    "path: my set\ntrain: images/train\nval: images/val\n",  # ultralytics' own name a folder beside
    "path: /content/set\ntrain: images/train\nval: images/val\n",
]


@pytest.mark.parametrize("said", PLACES)
def test_folders_that_ultralytics_finds_in_the_set_are_found(data, said):
    names = "names: [a, b, c, d, e]\n"
    (data / "data.yaml").write_text(names + said)
    assert {file.parent for file in yolo.checked(data).files["val"]} == {data / "images/val"}
    first = yolo.fingerprint(data)
    (data / "labels/val/000001.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert yolo.fingerprint(data / "data.yaml") != first


def test_names_of_classes_and_lists_beside_the_labels_are_no_labels_without_pictures(data):
    for name in ("classes", "train", "val", "test"):
        (data / f"labels/train/{name}.txt").write_text("key\n")
    assert yolo.checked(data).notes == []


def test_what_is_not_counted_is_noted(data):
    for number, suffix in enumerate((".HEIC", ".gif")):
        picture = data / f"images/train/00000{number}.png"
        picture.rename(picture.with_suffix(suffix))
    report = yolo.checked(data)
    assert report.pictures["train"] == 2 and report.notes == [
        "`train`: 2 pictures are of a kind that is not read (.gif, .heic), the first is images/train/000000.HEIC. "
        "Save them as JPEG.",
        "`train`: 2 label files have no picture, the first is labels/train/000000.txt.",
    ]


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(yolo.DataError, match=r"data.yaml does not exist"):
        yolo.checked(tmp_path)


def test_a_yaml_that_cannot_be_read_is_named(data):
    (data / "data.yaml").write_text("names: [key\n")
    with pytest.raises(yolo.DataError, match="is not YAML"):
        yolo.checked(data)


def test_an_empty_split_is_refused(data):
    shutil.rmtree(data / "images/train")
    (data / "images/train").mkdir()
    with pytest.raises(yolo.DataError, match="holds no pictures"):
        yolo.checked(data)


def test_a_set_without_any_label_is_refused(data):
    shutil.rmtree(data / "labels")
    with pytest.raises(yolo.DataError, match="no picture has a label file"):
        yolo.checked(data)


def test_pictures_without_a_label_file_are_counted(data):
    for number in (0, 2, 3):
        (data / f"labels/train/00000{number}.txt").unlink()
    (data / "labels/train/000001.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    report = yolo.checked(data)
    assert report.notes == ["`train`: 3 of 4 pictures have no label file and count as background."]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_picture_that_ultralytics_cannot_open_is_named(data, kind):
    """The oracle is ultralytics' own reader."""
    from ultralytics.utils.patches import imread

    (data / "images/train/000001.png").unlink()
    picture = data / "images/train/000001.tif"
    Image.fromarray(np.full((20, 20), 99, dtype=np.uint8)).save(picture)
    assert imread(picture) is not None and yolo.validate(data).problems == []
    Image.fromarray(np.full((20, 20), 99, dtype=kind)).save(picture)
    assert imread(picture) is None
    (problem,) = yolo.validate(data).problems
    assert problem.file == "images/train/000001.tif" and "32 bits a value" in problem.fault


@pytest.mark.parametrize(("shape", "suffix"), [((20, 20), "png"), ((20, 20), "tif"), ((20, 20, 3), "png")])
@pytest.mark.parametrize(("top", "brightest"), [(4095, 15), (65535, 255)])
def test_data_of_12_bits_in_16_are_said_to_be_dark(data, shape, suffix, top, brightest):
    """The oracle is ultralytics' own reader."""
    import cv2
    from ultralytics.utils.patches import imread

    shades = np.linspace(0, top, 400 * (3 if shape[2:] else 1)).reshape(shape).astype(np.uint16)
    (data / "images/train/000001.png").unlink()
    picture = data / f"images/train/000001.{suffix}"
    cv2.imwrite(str(picture), shades)
    assert imread(picture).max() == brightest
    said = [
        note for note in yolo.checked(data).notes if f"1 pictures with 16 bits is {brightest} of 255" in note
    ]
    assert len(said) == (brightest < 64)
