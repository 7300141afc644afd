"""Sets are known by their files wherever they lie, and what has no val gets one."""

import pytest
from PIL import Image

from mqa_lib.datasets import convert, yolo
from mqa_lib.datasets.inspect import inspect
from mqa_lib.datasets.written import split_named, with_val
from tests.datasets.coco import write_coco
from tests.datasets.voc import write_voc


@pytest.mark.parametrize(("count", "val"), [(2, 1), (9, 1), (10, 2), (23, 4)])
def test_a_val_that_is_cut_off_is_a_fifth_told_and_the_same_wherever_the_pictures_stand(count, val):
    names, told = [f"{number}.png" for number in range(count)], []
    parts = with_val({"train": names, "test": ["t"]}, str, told)
    again = with_val({"train": names[::-1], "test": ["t"]}, str, [])
    assert {split: set(part) for split, part in parts.items()} == {
        split: set(part) for split, part in again.items()
    }
    assert len(parts["val"]) == val and sorted(parts["train"] + parts["val"]) == sorted(names)
    assert parts["test"] == ["t"]
    assert told == [
        f"The set names no `val`: {val} of the {count} pictures of `train`, chosen by their names, are `val`, "
        f"and the other {count - val} `train`."
    ]


def test_one_picture_is_both_and_that_is_told():
    told = []
    assert with_val({"test": ["a"]}, str, told)["val"] == ["a"]
    assert told == ["The set names no `train` and no `val`, and its one picture is `train` and `val`."]
    assert with_val({"train": ["a"], "test": ["t"]}, str, []) == {"train": ["a"], "val": ["a"], "test": ["t"]}


def test_what_is_cut_is_not_tested_on_and_nothing_is_cut_of_nothing():
    parts = with_val({"test": ["a", "b"]}, str, [])
    assert parts.keys() == {"train", "val"} and sorted(parts["train"] + parts["val"]) == ["a", "b"]
    assert with_val({}, str, []) == {"train": [], "val": []}


SPLITS = {"train2017": "train", "instances_val2017": "val", "Valid": "val", "my-test": "test", "eval": "val"}


@pytest.mark.parametrize("name", [*SPLITS, "latest", "interval", "contest", "all"])
def test_a_split_is_what_a_word_of_the_name_says(name):
    assert split_named(name) == SPLITS.get(name, "")


def write_yolo(root, name="data.yaml"):
    for folder in ("images/train", "images/val", "labels/train", "labels/val"):
        (root / folder).mkdir(parents=True)
    for split, shade in (("train", 7), ("val", 3)):
        Image.new("RGB", (40, 20), (shade, 0, 0)).save(root / f"images/{split}/{shade}.png")
        (root / f"labels/{split}/{shade}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / name).write_text("train: images/train\nval: images/val\nnames: [hen]\n")
    return root


@pytest.mark.parametrize(
    ("make", "read"),
    [(write_yolo, "data.yaml"), (write_voc, ""), (write_coco, "")],
    ids=("yolo", "voc", "coco"),
)
def test_folders_on_top_are_gone_through(tmp_path, make, read):
    """Whoever packs a folder gets one on top; a Mac adds `__MACOSX`."""
    root = make(tmp_path / "zip/unpacked/set")
    (tmp_path / "zip/__MACOSX").mkdir()
    (tmp_path / "zip/.cache").mkdir()
    (tmp_path / "zip/README.txt").write_text("from somewhere")
    assert convert.found(tmp_path / "zip") == root / read
    assert convert.kind_of(tmp_path / "zip") == convert.kind_of(root)
    counts = inspect(tmp_path / "zip", tmp_path / "out").pictures
    assert counts["train"] == counts["val"] == 1


def test_of_two_sets_none_is_chosen(tmp_path):
    write_yolo(tmp_path / "both/a")
    write_yolo(tmp_path / "both/b")
    with pytest.raises(yolo.DataError, match="both is no data set in YOLO format"):
        convert.found(tmp_path / "both")


def test_data_yaml_goes_before_other_files_and_of_others_none_is_chosen(tmp_path):
    root = write_yolo(tmp_path / "set")
    (root / "a.yaml").write_text("names: [cow]\n")
    assert convert.found(root) == root / "data.yaml"
    (root / "data.yaml").rename(root / "z.yaml")
    with pytest.raises(yolo.DataError, match="set is no data set in YOLO format"):
        convert.found(root)


def test_the_only_yaml_of_a_folder_may_have_any_name_if_it_names_classes(tmp_path):
    root = write_yolo(tmp_path / "set", "hens.yml")
    assert convert.found(root) == root / "hens.yml" and yolo.checked(root).pictures["val"] == 1
    (root / "hens.yml").rename(root / "other.yaml").write_text("names_of_hens: 3\n")
    with pytest.raises(yolo.DataError, match="is no data set"):
        convert.found(root)


def test_yolo_labels_without_a_yaml_are_told_what_it_takes(tmp_path):
    """Label Studio's export, whose notes.json was taken for a file of COCO."""
    root = write_yolo(tmp_path / "set")
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("hen\negg\n", encoding="utf-8-sig")
    (root / "notes.json").write_text("{}")
    with pytest.raises(yolo.DataError, match=r"no data\.yaml, as Label Studio .* `names: \[hen, egg\]`"):
        convert.kind_of(tmp_path)


def test_formats_are_told_by_their_files(tmp_path):
    assert convert.kind_of(write_voc(tmp_path / "a")) == "voc"
    assert convert.kind_of(write_coco(tmp_path / "b")) == "coco"
    with pytest.raises(yolo.DataError, match="is no data set in YOLO format"):
        convert.kind_of(tmp_path / "a/JPEGImages")
