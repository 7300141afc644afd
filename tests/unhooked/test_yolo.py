"""A bad data set is refused before training, and every offending file is named."""

import shutil

import pytest

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
    ("0 0.5 0.5 0.1", r"line 1: has 4 numbers and needs 5"),
    ("0 0.5 0.5 0 0.1", r"is empty"),
    ("0 nan 0.5 0.1 0.1", r"line 1: holds a number that is not finite"),
    ("key 0.5 0.5 0.1 0.1", r"line 1: holds something that is not a number"),
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
        (data / f"labels/train/1{number:05d}.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(yolo.DataError, match=r"train/100019.txt, line 1: .*\n  and 5 more$") as caught:
        yolo.checked(data)
    assert "train/100020.txt" not in str(caught.value)


def test_a_file_with_several_bad_lines_is_named_once(data):
    (data / "labels/train/000000.txt").write_text("9 0.5 0.5 0.1 0.1\n" * 3)
    assert [problem for problem in yolo.validate(data).problems if "000000.txt" in problem] == [
        "labels/train/000000.txt, line 1: class 9 is not in `names` (0 to 4). And 2 more lines."
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
