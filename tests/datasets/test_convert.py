"""Sets in VOC's and COCO's format become the YOLO-format set that says the same."""

import json
import shutil

import pytest
from PIL import Image

from mqa_lib.datasets import convert, yolo
from mqa_lib.datasets.inspect import inspect
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


def list_in_latin_1(root):
    (root / "ImageSets/Main/val.txt").write_bytes("Bärin\n".encode("latin-1"))


def say(width):
    def damage(root):
        file = root / "Annotations/b.xml"
        file.write_text(file.read_text().replace("<width>40<", f"<width>{width}<"))

    return damage


DAMAGE = [
    (damage_xml, r"b\.xml cannot be read as an annotation of VOC"),
    (damage_box, r"b\.xml cannot be read .*it has no bndbox/xmin"),
    (lose_picture, r"1 annotations have no picture in JPEGImages, the first is b\.xml"),
    (list_too_many, r"val\.txt names z, which has no annotation"),
    (list_in_latin_1, r"val\.txt is not text in UTF-8 .*Save it as such"),
    (say(0), r"b\.xml cannot be read .*its size is 0x20 pixels\). Mend or remove it"),
    (say(80), r"b\.xml says that b\.jpg is 80x20 pixels, and it is 40x20, so all its boxes .*Mend the size"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_what_cannot_be_read_of_voc_is_named(tmp_path, damage, message):
    damage(write_voc(tmp_path / "voc"))
    with pytest.raises(yolo.DataError, match=message):
        convert.to_yolo(tmp_path / "voc", tmp_path / "out")


def test_pictures_of_voc_may_have_spaces_in_their_names_and_sizes_a_point(tmp_path):
    root = write_voc(tmp_path / "voc")
    say("40.0")(root)
    for file in (root / "Annotations/b.xml", root / "JPEGImages/b.jpg"):
        file.rename(file.with_stem("große Henne 7"))
    (root / "ImageSets/Main/val.txt").write_text("große Henne 7\n\n", encoding="utf-8")
    assert yolo.checked(convert.to_yolo(root, tmp_path / "out").path).pictures["val"] == 1
    assert labels(tmp_path / "out", "val", "große Henne 7") == ["0 0.150000 0.150000 0.100000 0.100000"]


def test_a_box_of_voc_that_is_counted_from_zero_stays_inside(tmp_path):
    root = write_voc(tmp_path / "voc")
    file = root / "Annotations/b.xml"
    file.write_text(file.read_text().replace("<xmin>5<", "<xmin>0<").replace("<ymin>3<", "<ymin>0<"))
    yolo.checked(convert.to_yolo(root, tmp_path / "out").path)
    assert labels(tmp_path / "out", "val", "b") == ["0 0.100000 0.100000 0.200000 0.200000"]


def write_coco(root):
    for split, number in (("train", 7), ("val", 3)):
        (root / f"{split}2017").mkdir(parents=True)
        Image.new("RGB", (40, 20), (number, 0, 0)).save(root / f"{split}2017/{number}.png")
        said = {
            "images": [{"id": number, "file_name": f"{number}.png", "width": 40, "height": 20}],
            "annotations": [
                {"image_id": number, "category_id": 90, "bbox": [10, 5, 10, 5]},
                {"image_id": number, "category_id": 2, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            ],
            "categories": [{"id": 90, "name": "hen"}, {"id": 2, "name": "egg"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(said))
    return root


def mend(file, change):
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))


def test_a_coco_set_keeps_its_splits_and_says_what_it_leaves_out(tmp_path):
    root = write_coco(tmp_path / "coco")
    stray = {"image_id": 11, "category_id": 2, "bbox": [1, 1, 2, 2]}
    mend(root / "annotations/instances_val2017.json", lambda said: said["annotations"].append(stray))
    converted = convert.to_yolo(root, tmp_path / "out")
    report = yolo.checked(converted.path)
    assert report.names == {0: "egg", 1: "hen"} and report.pictures == {"train": 1, "val": 1}
    assert labels(tmp_path / "out", "train", "7") == ["1 0.375000 0.375000 0.250000 0.250000"]
    assert converted.left_out == [
        "train: 1 annotations are of crowds, for which YOLO's format has no word.",
        "val: 1 annotations are of pictures that are not listed, the first of image_id 11.",
        "val: 1 annotations are of crowds, for which YOLO's format has no word.",
    ]


def test_a_single_file_of_coco_is_train_and_val_and_each_of_its_pictures_has_its_own_boxes(tmp_path):
    root = write_coco(tmp_path / "coco")
    file = root / "annotations/instances_train2017.json"
    Image.new("RGB", (20, 40)).save(root / "train2017/8.png")

    def one_more(said):
        said["images"].append({"id": 8, "file_name": "8.png", "width": 20, "height": 40})
        said["annotations"].append({"image_id": 8, "category_id": 2, "bbox": [5, 10, 10, 20]})

    mend(file, one_more)
    shutil.copy(file, root / "all.json")
    report = yolo.checked(convert.to_yolo(root / "all.json", tmp_path / "out").path)
    assert report.pictures == {"train": 2, "val": 2}
    for split in ("train", "val"):
        assert labels(tmp_path / "out", split, "7") == ["1 0.375000 0.375000 0.250000 0.250000"]
        assert labels(tmp_path / "out", split, "8") == ["0 0.500000 0.500000 0.500000 0.500000"]


@pytest.mark.parametrize("says_folder", [False, True])
def test_pictures_of_one_name_are_those_of_their_split_wherever_the_set_lies(tmp_path, says_folder):
    root = write_coco(tmp_path / "train and val" / "coco")  # that the whole path names a split tells nothing
    for split, number in (("train", 7), ("val", 3)):
        (root / f"{split}2017/{number}.png").rename(root / f"{split}2017/same.png")
        name = f"{split}2017/same.png" if says_folder else "same.png"
        mend(
            root / f"annotations/instances_{split}2017.json",
            lambda said, name=name: said["images"][0].update(file_name=name),
        )
    convert.to_yolo(root, tmp_path / "out")
    for split, number in (("train", 7), ("val", 3)):
        assert Image.open(tmp_path / f"out/images/{split}/same.png").getpixel((0, 0)) == (number, 0, 0)


def test_pictures_of_two_folders_that_would_take_one_name_are_named(tmp_path):
    root = write_coco(tmp_path / "coco")
    Image.new("RGB", (40, 20)).save(root / "val2017/7.png")
    entry = {"id": 8, "file_name": "val2017/7.png", "width": 40, "height": 20}

    def two(said):
        said["images"][0].update(file_name="train2017/7.png")
        said["images"].append(entry)

    mend(root / "annotations/instances_train2017.json", two)
    with pytest.raises(yolo.DataError, match=r"train2017/7\.png and .*val2017/7\.png would share the label"):
        convert.to_yolo(root, tmp_path / "out")


def test_a_category_that_files_name_differently_is_named(tmp_path):
    root = write_coco(tmp_path / "coco")
    mend(
        root / "annotations/instances_val2017.json", lambda said: said["categories"][0].update(name="rooster")
    )
    with pytest.raises(yolo.DataError, match="val: category 90 is rooster, and hen in another file"):
        convert.to_yolo(root, tmp_path / "out")


def test_a_picture_of_coco_that_is_of_another_size_is_named(tmp_path):
    root = write_coco(tmp_path / "coco")
    Image.new("RGB", (80, 40)).save(root / "train2017/7.png")
    with pytest.raises(yolo.DataError, match=r"train says that 7\.png is 40x20 pixels, and it is 80x40"):
        convert.to_yolo(root, tmp_path / "out")


@pytest.mark.parametrize(("stored", "good"), [((20, 40), True), ((40, 20), False)])
def test_of_a_camera_that_was_held_upright_the_size_of_the_turned_picture_counts(tmp_path, stored, good):
    """It is the turned one that is trained on, so boxes of the other would lie elsewhere."""
    root, note = write_coco(tmp_path / "coco"), Image.Exif()
    note[274] = 6
    Image.new("RGB", stored).save(root / "train2017/7.png", exif=note)
    if good:
        assert convert.to_yolo(root, tmp_path / "out").path.exists()
    else:
        with pytest.raises(
            yolo.DataError, match=r"is 40x20 pixels, and it is 20x40, turned as its camera notes"
        ):
            convert.to_yolo(root, tmp_path / "out")


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
        r"entry 2 of its annotations has the bbox \[1, 2, 3\], which is not four numbers",
    ),
    (
        lambda said: said["annotations"][0].update(bbox=["1", 2, 3, 4]),
        r"entry 1 of its annotations has the bbox \['1', 2, 3, 4\], which is not four",
    ),
    (
        lambda said: said["annotations"][0].update(image_id=[7]),
        r"entry 1 of its annotations has the image_id \[7\], which is no number",
    ),
    (lambda said: said["images"][0].update(width="40"), "entry 1 of its images is '40'x20 pixels"),
    (
        lambda said: said["images"][0].update(file_name=7),
        "entry 1 of its images has the file_name 7, which is no text",
    ),
    (
        lambda said: said["images"].append({**said["images"][0], "id": 8}),
        r"two of its images have the file_name 7\.png",
    ),
    (lambda said: said["images"].append({**said["images"][0], "file_name": "8.png"}), "two of its .* id 7"),
    (lambda said: said["images"][0].update(width=0), "entry 1 of its images is 0x20 pixels"),
    (lambda said: said["images"][0].pop("file_name"), "entry 1 of its images has no file_name"),
    (lambda said: said.update(images=["a"]), "entry 1 of its images has no id"),
]


@pytest.mark.parametrize(("damage", "message"), COCO)
def test_an_entry_of_coco_that_cannot_be_is_named(tmp_path, damage, message):
    file = write_coco(tmp_path / "coco") / "annotations/instances_train2017.json"
    mend(file, damage)
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
    ids=lambda said: str(said),
)
def test_folders_on_top_are_gone_through(tmp_path, make, read):
    """Whoever packs a folder gets one on top; a Mac adds `__MACOSX`."""
    root = make(tmp_path / "zip/unpacked/set")
    (tmp_path / "zip/__MACOSX").mkdir()
    (tmp_path / "zip/.cache").mkdir()
    assert convert.found(tmp_path / "zip") == root / read
    assert convert.kind_of(tmp_path / "zip") == convert.kind_of(root)
    counts = inspect(tmp_path / "zip", tmp_path / "out").pictures
    assert counts["train"] == counts["val"] == 1


def test_the_only_yaml_of_a_folder_may_have_any_name_if_it_names_classes(tmp_path):
    root = write_yolo(tmp_path / "set", "hens.yml")
    assert convert.found(root) == root / "hens.yml" and yolo.checked(root).pictures["val"] == 1
    (root / "hens.yml").rename(root / "other.yaml").write_text("names_of_hens: 3\n")
    with pytest.raises(yolo.DataError, match="is no data set"):
        convert.found(root)


def test_formats_are_told_by_their_files(tmp_path):
    assert convert.kind_of(write_voc(tmp_path / "a")) == "voc"
    assert convert.kind_of(write_coco(tmp_path / "b")) == "coco"
    with pytest.raises(yolo.DataError, match="is no data set in YOLO format"):
        convert.kind_of(tmp_path / "a/JPEGImages")
