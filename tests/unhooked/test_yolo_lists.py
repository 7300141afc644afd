"""A list of pictures is read as ultralytics reads it, and whatever could change a training is in the fingerprint."""

import shutil

import pytest
from PIL import Image

from mqa_lib.datasets import keys_and_locks, yolo


@pytest.fixture
def data(tmp_path):
    return keys_and_locks.generate(tmp_path / "set", train=4, val=2, seed=3).parent


def lists(data, lines):
    """Let train be a list, val a folder and test two lists of one picture each, the second of which is in both."""
    (data / "lists").mkdir()
    (data / "lists/train.txt").write_text(lines, encoding="utf-8-sig")
    (data / "first.txt").write_text("images/val/000000.png\n")
    (data / "second.txt").write_text("./images/val/000000.png\n./images/val/000001.png\n")
    (data / "data.yaml").write_text(
        "names: [a, b, c, d, e]\ntrain: lists/train.txt\nval: [images/val]\ntest: [first.txt, second.txt]\n"
    )


LISTED = [
    "../images/train/000000.png\n\n../images/train/000002.png\n",
    "images/train/000002.png\r\nimages/train/000000.png\r\n",
    "images\\train\\000000.png\nimages\\train\\000002.png \n",
    "{data}/images/train/000000.png\n{data}/images/train/000002.png",
]


@pytest.mark.parametrize("lines", LISTED, ids=("its folder", "the set's", "Windows", "absolute"))
def test_ultralytics_reads_the_listed_pictures_and_labels_that_were_checked(
    data, tmp_path, monkeypatch, lines
):
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    lists(data, lines.format(data=data))
    monkeypatch.chdir(tmp_path)
    report = yolo.checked(data)
    assert [file.name for file in report.files["train"]] == ["000000.png", "000002.png"]
    assert report.pictures == {"train": 2, "val": 2, "test": 2}
    settings = check_det_dataset(str(yolo.write_resolved(report, tmp_path / "data.yaml")))
    for split, files in report.files.items():
        seen = YOLODataset(img_path=settings[split], data=settings, augment=False)
        assert seen.im_files == [str(file) for file in files]
        objects = sum(count for (part, _), count in report.objects.items() if part == split)
        assert objects == sum(len(label["cls"]) for label in seen.labels) > 0


def test_a_listed_picture_that_is_not_there_is_named(data):
    lists(data, "images/train/000000.png\nimages/train/7.png\n")
    with pytest.raises(yolo.DataError, match=r"images/train/7.png does not exist, though a list"):
        yolo.checked(data)


def test_a_list_without_a_picture_is_refused(data):
    lists(data, "images/train\n")
    with pytest.raises(yolo.DataError, match=r"`train`: .*lists/train.txt holds no pictures"):
        yolo.checked(data)


def test_lines_of_a_list_that_are_no_pictures_are_noted(data):
    lists(data, "images/train/000000.png\nimages/train/000001.heic\nimages/train\n")
    assert yolo.checked(data).notes == [
        "`train`: 2 lines of train.txt name no picture of a kind that is read, the first is images/train/000001.heic."
    ]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_whatever_could_change_a_training_changes_the_fingerprint(data, split):
    if split == "test":
        for folder in ("images", "labels"):
            shutil.copytree(data / folder / "val", data / folder / "test")
        with (data / "data.yaml").open("a") as file:
            file.write("test: images/test\n")
    seen = {yolo.fingerprint(data / "data.yaml")}
    with (data / f"labels/{split}/000001.txt").open("a") as file:
        file.write("0 0.5 0.5 0.1 0.1\n")
    seen.add(yolo.fingerprint(data / "data.yaml"))
    with (data / f"images/{split}/000001.png").open("ab") as file:
        file.write(b"more")
    seen.add(yolo.fingerprint(data / "data.yaml"))
    (data / f"images/{split}/000001.png").rename(data / f"images/{split}/7.png")
    (data / f"labels/{split}/000001.txt").rename(data / f"labels/{split}/7.txt")
    seen.add(yolo.fingerprint(data / "data.yaml"))
    assert len(seen) == 4


def test_settings_and_a_digit_of_a_label_are_in_the_fingerprint(data):
    seen = {yolo.fingerprint(data)}
    label = data / "labels/train/000001.txt"
    label.write_text(label.read_text()[:-2] + ("1\n" if label.read_text()[-2] != "1" else "2\n"))
    seen.add(yolo.fingerprint(data))
    (data / "data.yaml").write_text((data / "data.yaml").read_text().replace("key", "kex", 1))
    assert len(seen | {yolo.fingerprint(data)}) == 3


def test_a_picture_that_goes_to_another_split_is_in_the_fingerprint(data):
    """The last of train becomes the first of val, so all names stay in their order."""

    def move(old, new):
        for folder, suffix in (("images", "png"), ("labels", "txt")):
            (data / f"{folder}/{old}.{suffix}").rename(data / f"{folder}/{new}.{suffix}")

    move("val/000001", "val/000005")
    move("val/000000", "val/000004")
    first = yolo.fingerprint(data)
    move("train/000003", "val/000003")
    assert yolo.fingerprint(data) != first


def test_a_jpeg_that_ultralytics_writes_anew_leaves_the_fingerprint(data):
    """A phone held upright, and bytes of its own behind the picture's end."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    picture, note = data / "images/train/000001.jpg", Image.Exif()
    note[274] = 6
    Image.open(picture.with_suffix(".png")).crop((0, 0, 128, 96)).save(picture, exif=note)
    picture.with_suffix(".png").unlink()
    picture.write_bytes(picture.read_bytes() + b"a phone's own")
    first, written = yolo.fingerprint(data), picture.read_bytes()
    settings = check_det_dataset(str(data / "data.yaml"))
    YOLODataset(img_path=settings["train"], data=settings, augment=False)
    assert picture.read_bytes() != written and yolo.fingerprint(data) == first
    Image.new("RGB", (64, 64)).save(picture)
    assert yolo.fingerprint(data) != first


def test_what_a_list_has_is_in_the_fingerprint(data):
    lists(data, "images/train/000000.png\n")
    first = yolo.fingerprint(data)
    (data / "lists/train.txt").write_text("images/train/000001.png\n")
    second = yolo.fingerprint(data)
    (data / "labels/train/000001.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert len({first, second, yolo.fingerprint(data)}) == 3
