"""Sets in VOC's and COCO's format become the YOLO-format set that says the same."""

import json
import shutil

import pytest
from PIL import Image

from mqa_lib.datasets import convert, yolo
from tests.datasets.voc import write_voc


def labels(out, split, stem):
    return (out / f"labels/{split}/{stem}.txt").read_text().splitlines()


def test_pixels_that_voc_counts_from_one_to_the_last_one_inside_become_shares(tmp_path):
    converted = convert.to_yolo(write_voc(tmp_path / "voc"), tmp_path / "out")
    assert yolo.checked(converted.path).names == {0: "egg", 1: "hen"}
    assert labels(tmp_path / "out", "train", "a") == [
        "1 0.500000 0.500000 1.000000 1.000000",  # the whole picture
        "0 0.375000 0.500000 0.250000 0.500000",  # columns 10 to 20 of 40, rows 5 to 15 of 20
    ]
    assert converted.left_out == ["c.xml, object 2: its box is empty."]
    assert yolo.checked(converted.path).pictures == {"train": 1, "val": 1, "test": 1}


def test_the_pictures_of_the_source_stay_as_they_are(tmp_path):
    root = write_voc(tmp_path / "voc")
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    convert.to_yolo(root, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


def test_a_set_without_lists_is_train_and_val_alike(tmp_path):
    root = write_voc(tmp_path / "voc")
    shutil.rmtree(root / "ImageSets")
    assert yolo.checked(convert.to_yolo(tmp_path, tmp_path / "out").path).pictures == {"train": 3, "val": 3}


def damage_xml(root):
    (root / "Annotations/b.xml").write_text("<annotation><size>")


def damage_box(root):
    (root / "Annotations/b.xml").write_text((root / "Annotations/b.xml").read_text().replace("xmin", "left"))


def lose_picture(root):
    (root / "JPEGImages/b.jpg").unlink()


def list_too_many(root):
    (root / "ImageSets/Main/val.txt").write_text("b\nz\n")


DAMAGE = [
    (damage_xml, r"b\.xml cannot be read as an annotation of VOC"),
    (damage_box, r"b\.xml cannot be read .*it has no bndbox/xmin"),
    (lose_picture, r"1 annotations have no picture in JPEGImages, the first is b\.xml"),
    (list_too_many, r"val\.txt names z, which has no annotation"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_what_cannot_be_read_of_voc_is_named(tmp_path, damage, message):
    damage(write_voc(tmp_path / "voc"))
    with pytest.raises(yolo.DataError, match=message):
        convert.to_yolo(tmp_path / "voc", tmp_path / "out")


def write_coco(root):
    for split, number in (("train", 7), ("val", 3)):
        (root / f"{split}2017").mkdir(parents=True)
        Image.new("RGB", (40, 20), (number, 0, 0)).save(root / f"{split}2017/{number}.png")
        said = {
            "images": [{"id": number, "file_name": f"{number}.png", "width": 40, "height": 20}],
            "annotations": [
                {"image_id": number, "category_id": 90, "bbox": [10, 5, 10, 10]},
                {"image_id": number, "category_id": 2, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            ],
            "categories": [{"id": 90, "name": "hen"}, {"id": 2, "name": "egg"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(said))
    return root


def test_a_coco_set_keeps_its_splits_and_leaves_crowds_out(tmp_path):
    report = yolo.checked(convert.to_yolo(write_coco(tmp_path / "coco"), tmp_path / "out").path)
    assert report.names == {0: "egg", 1: "hen"} and report.pictures == {"train": 1, "val": 1}
    assert labels(tmp_path / "out", "train", "7") == ["1 0.375000 0.500000 0.250000 0.500000"]


def test_what_cannot_be_read_of_coco_is_named(tmp_path):
    root = write_coco(tmp_path / "coco")
    (root / "val2017/3.png").unlink()
    with pytest.raises(yolo.DataError, match=r"val: the picture 3\.png is not there"):
        convert.to_yolo(root, tmp_path / "out")
    (root / "annotations/instances_val2017.json").write_text("{}")
    with pytest.raises(
        yolo.DataError, match=r"instances_val2017\.json cannot be read .*no images, annotations"
    ):
        convert.to_yolo(root, tmp_path / "out")


def roboflow(root):
    """Return a set whose three COCO files have one name, each in the folder of its split."""
    for split, shade in (("train", 7), ("valid", 3), ("test", 5)):
        (root / split).mkdir(parents=True)
        Image.new("RGB", (40, 20), (shade, 0, 0)).save(root / split / f"{shade}.png")
        said = {
            "images": [{"id": 1, "file_name": f"{shade}.png", "width": 40, "height": 20}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 5, 10, 10]}],
            "categories": [{"id": 1, "name": "hen"}],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(said))
    return root


def test_coco_files_of_one_name_are_of_the_splits_of_their_folders(tmp_path):
    report = yolo.checked(convert.to_yolo(roboflow(tmp_path / "set"), tmp_path / "out").path)
    assert report.pictures == {"train": 1, "val": 1, "test": 1}
    assert [file.name for file in sorted((tmp_path / "out/images").rglob("*.png"))] == [
        "5.png",
        "7.png",
        "3.png",
    ]


def test_two_coco_files_of_one_split_are_named_and_none_is_dropped(tmp_path):
    root = write_coco(tmp_path / "coco")
    shutil.copy(root / "annotations/instances_train2017.json", root / "annotations/person_train2017.json")
    with pytest.raises(
        yolo.DataError, match=r"instances_train2017\.json and .*person_train2017\.json would both be"
    ):
        convert.to_yolo(root, tmp_path / "out")


COCO = [
    (lambda said: said["annotations"][0].pop("bbox"), "entry 1 of its annotations has no bbox"),
    (
        lambda said: said["annotations"][0].update(category_id=5),
        "entry 1 of its annotations is of category 5, not",
    ),
    (
        lambda said: said["annotations"][1].update(bbox=[1, 2, 3]),
        "entry 2 of its annotations has a bbox of 3 numbers",
    ),
    (lambda said: said["images"][0].update(width=0), "entry 1 of its images is 0x20 pixels"),
    (lambda said: said["images"][0].pop("file_name"), "entry 1 of its images has no file_name"),
    (lambda said: said.update(images=["a"]), "entry 1 of its images has no id"),
]


@pytest.mark.parametrize(("damage", "message"), COCO)
def test_an_entry_of_coco_that_cannot_be_is_named(tmp_path, damage, message):
    file = write_coco(tmp_path / "coco") / "annotations/instances_train2017.json"
    said = json.loads(file.read_text())
    damage(said)
    file.write_text(json.dumps(said))
    with pytest.raises(
        yolo.DataError, match=rf"instances_train2017\.json cannot be read .*\({message}.*Mend or remove"
    ):
        convert.to_yolo(tmp_path / "coco", tmp_path / "out")


def test_a_class_that_is_not_in_the_list_is_named(tmp_path):
    root = write_voc(tmp_path / "voc")
    with pytest.raises(
        yolo.DataError, match=r"train: a\.jpg has objects of hen, and the classes are egg, cow"
    ):
        convert.from_voc(root, tmp_path / "out", ["egg", "cow"])


def test_pictures_that_would_share_a_label_file_are_named(tmp_path):
    root = write_coco(tmp_path / "coco")
    file = root / "annotations/instances_train2017.json"
    said = json.loads(file.read_text())
    Image.new("RGB", (40, 20)).save(root / "train2017/7.jpg")
    said["images"].append({"id": 8, "file_name": "7.jpg", "width": 40, "height": 20})
    file.write_text(json.dumps(said))
    with pytest.raises(yolo.DataError, match=r"7\.png and .*7\.jpg would share the label file 7\.txt"):
        convert.to_yolo(root, tmp_path / "out")


def test_formats_are_told_by_their_files(tmp_path):
    assert convert.kind_of(write_voc(tmp_path / "a")) == "voc"
    assert convert.kind_of(write_coco(tmp_path / "b")) == "coco"
    with pytest.raises(yolo.DataError, match="is no data set in YOLO format"):
        convert.kind_of(tmp_path / "a/JPEGImages")
