"""A set in COCO's format becomes the YOLO-format set that says the same."""

import json
import shutil

import pytest
from PIL import Image

from mqa_lib.datasets import convert, yolo
from tests.datasets.coco import mend, roboflow, write_coco
from tests.datasets.voc import labels


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


def test_a_single_file_of_coco_is_cut_and_each_of_its_pictures_has_its_own_boxes(tmp_path):
    root = write_coco(tmp_path / "coco")
    file = root / "annotations/instances_train2017.json"
    Image.new("RGB", (20, 40)).save(root / "train2017/8.png")

    def one_more(said):
        said["images"].append({"id": 8, "file_name": "8.png", "width": 20, "height": 40})
        said["annotations"].append({"image_id": 8, "category_id": 2, "bbox": [5, 10, 10, 20]})

    mend(file, one_more)
    shutil.copy(file, root / "all.json")
    report = yolo.checked(convert.to_yolo(root / "all.json", tmp_path / "out").path)
    assert report.pictures == {"train": 1, "val": 1}
    assert labels(tmp_path / "out", "train", "7") == ["1 0.375000 0.375000 0.250000 0.250000"]
    assert labels(tmp_path / "out", "val", "8") == ["0 0.500000 0.500000 0.500000 0.500000"]


def test_a_coco_set_of_train_and_test_gets_a_val_of_its_train(tmp_path):
    root = roboflow(tmp_path / "set")
    Image.new("RGB", (40, 20), (11, 0, 0)).save(root / "train/11.png")
    entry = {"id": 2, "file_name": "11.png", "width": 40, "height": 20}
    mend(root / "train/_annotations.coco.json", lambda said: said["images"].append(entry))
    shutil.rmtree(root / "valid")
    report = yolo.validate(convert.to_yolo(root, tmp_path / "out").path)
    assert report.pictures == {"train": 1, "val": 1, "test": 1}
    assert {file.stem for split in ("train", "val") for file in report.files[split]} == {
        "7",
        "11",
    }


def test_coco_is_read_as_it_is_distributed_and_as_windows_writes_it(tmp_path):
    """Beside the boxes lie captions and keypoints of the same pictures; a byte order mark and backslashes are read."""
    root = write_coco(tmp_path / "coco")
    for split in ("train2017", "val2017"):
        file = root / f"annotations/instances_{split}.json"
        shutil.copy(file, file.with_name(f"person_keypoints_{split}.json"))
        for task in ("captions", "image_info", "panoptic", "stuff"):
            file.with_name(f"{task}_{split}.json").write_text('{"images": [], "annotations": []}')
        mend(
            file,
            lambda said, split=split: said["images"][0].update(
                file_name=f"{split}\\{said['images'][0]['id']}.png"
            ),
        )
        file.write_text(file.read_text(), encoding="utf-8-sig")
    report = yolo.checked(convert.to_yolo(root, tmp_path / "out").path)
    assert report.names == {0: "egg", 1: "hen"} and report.pictures == {"train": 1, "val": 1}


def test_pictures_are_beside_the_folder_of_a_coco_file_that_is_given(tmp_path):
    root = write_coco(tmp_path / "coco")
    converted = convert.to_yolo(root / "annotations/instances_train2017.json", tmp_path / "out")
    assert labels(tmp_path / "out", "train", "7") == ["1 0.375000 0.375000 0.250000 0.250000"]
    assert "its one picture is `train` and `val`" in converted.left_out[-1]


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


TURNED = [(held, stored, stored == (20, 40)) for held in (5, 6, 7, 8) for stored in ((20, 40), (40, 20))]


@pytest.mark.parametrize(("held", "stored", "good"), [*TURNED, (3, (40, 20), True)])
def test_of_a_camera_that_was_held_upright_the_size_of_the_turned_picture_counts(
    tmp_path, held, stored, good
):
    """It is the turned one that is trained on, so boxes of the other would lie elsewhere; 3 is upside down."""
    root, note = write_coco(tmp_path / "coco"), Image.Exif()
    note[274] = held
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


def test_coco_files_of_one_name_are_of_the_splits_of_their_folders(tmp_path):
    report = yolo.checked(convert.to_yolo(roboflow(tmp_path / "set"), tmp_path / "out").path)
    assert report.pictures == {"train": 1, "val": 1, "test": 1}
    assert [file.name for file in sorted((tmp_path / "out/images").rglob("*.png"))] == [
        "5.png",
        "7.png",
        "3.png",
    ]


def on_top_of(folder):
    """Return a change that lays the files and pictures of a set into one folder of that name."""

    def change(root):
        own = root.parent / folder
        own.mkdir()
        for split in ("train", "val"):
            (root / f"annotations/instances_{split}2017.json").rename(own / f"{split}.json")
            (root / f"{split}2017").rename(own / split)
        return own

    return change


def renamed(old, new):
    def change(root):
        for file in sorted(root.rglob(old)):
            file.rename(file.with_name(new(file)))
        return root

    return change


LAYOUTS = {
    "a folder that is called training": on_top_of("training"),
    "a file that names no split": renamed("*val2017.json", lambda _: "held out.json"),
    "names in capitals": renamed("*2017*", lambda file: file.name.replace("instances_", "").upper()),
    "suffixes in capitals": renamed("*.png", lambda file: f"{file.stem}.PNG"),
}


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=list(LAYOUTS))
def test_coco_is_read_however_its_files_are_called(tmp_path, change):
    root = change(write_coco(tmp_path / "coco"))
    for file in root.rglob("*.JSON"):  # on Windows names of files have no case
        file.rename(file.with_suffix(".json"))
    for file in root.rglob("*.json"):
        number = json.loads(file.read_text())["images"][0]["id"]
        if picture := [*root.rglob(f"{number}.PNG")]:
            mend(file, lambda said, name=picture[0].name: said["images"][0].update(file_name=name))
    report = yolo.checked(convert.to_yolo(root, tmp_path / "out").path)
    assert {split: [file.stem for file in files] for split, files in report.files.items()} == {
        "train": ["7"],
        "val": ["3"],
    }


def test_pictures_of_one_name_are_told_apart_by_folders_in_capitals(tmp_path):
    root = write_coco(tmp_path / "coco")
    for split, number in (("train", 7), ("val", 3)):
        (root / f"{split}2017/{number}.png").rename(root / f"{split}2017/same.png")
        (root / f"{split}2017").rename(root / f"{split.upper()}2017")
        mend(
            root / f"annotations/instances_{split}2017.json",
            lambda said: said["images"][0].update(file_name="same.png"),
        )
    convert.to_yolo(root, tmp_path / "out")
    assert Image.open(tmp_path / "out/images/val/same.png").getpixel((0, 0)) == (3, 0, 0)


def test_a_file_in_a_folder_annotations_has_its_pictures_beside_that_however_it_is_written(tmp_path):
    root = write_coco(tmp_path / "coco")
    (root / "annotations").rename(root / "Annotations")
    convert.to_yolo(root / "Annotations/instances_train2017.json", tmp_path / "out")
    assert labels(tmp_path / "out", "train", "7") == ["1 0.375000 0.375000 0.250000 0.250000"]


def test_linked_pictures_are_found_and_those_that_a_training_wrote_are_not(tmp_path):
    root = write_coco(tmp_path / "coco")
    (root / "train2017").rename(tmp_path / "elsewhere")
    (root / "train2017").symlink_to(tmp_path / "elsewhere")
    (root / "val2017/again").symlink_to(root)  # goes round in a circle
    first = yolo.checked(convert.to_yolo(root, root / "runs/x/data-as-yolo").path)
    stale = root / "runs/x/data-as-yolo/images/train/7.png"
    stale.unlink()  # else the picture that it is linked to would change
    Image.new("RGB", (40, 20), (200, 0, 0)).save(stale)
    again = yolo.checked(convert.to_yolo(root, tmp_path / "out").path)
    assert first.pictures == again.pictures == {"train": 1, "val": 1}
    assert Image.open(tmp_path / "out/images/train/7.png").getpixel((0, 0)) == (7, 0, 0)


def test_a_picture_that_may_be_two_is_named_and_one_of_the_very_name_is_taken(tmp_path):
    root = write_coco(tmp_path / "coco")
    for folder in ("a", "b"):
        (root / folder).mkdir()
        shutil.copy(root / "train2017/7.png", root / folder / "7.png")
    (root / "train2017/7.png").unlink()
    with pytest.raises(
        yolo.DataError, match=r"train: the picture 7\.png may be a/7\.png or b/7\.png\. Name its"
    ):
        convert.to_yolo(root, tmp_path / "out")
    Image.new("RGB", (40, 20), (99, 0, 0)).save(root / "7.png")
    convert.to_yolo(root, tmp_path / "out")
    assert Image.open(tmp_path / "out/images/train/7.png").getpixel((0, 0)) == (99, 0, 0)


def test_classes_of_coco_are_in_the_order_of_their_numbers(tmp_path):
    """As text 10 would come before 9."""
    root = write_coco(tmp_path / "coco")

    def number(said):
        for entry, new in zip(said["categories"], (9, 10), strict=True):
            entry["id"] = new
        for entry in said["annotations"]:
            entry["category_id"] = 9

    for split in ("train", "val"):
        mend(root / f"annotations/instances_{split}2017.json", number)
    assert yolo.checked(convert.to_yolo(root, tmp_path / "out").path).names == {0: "hen", 1: "egg"}


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
        lambda said: said["annotations"][0].update(bbox=[1, 2, 3, 10**400]),
        r"entry 1 of its annotations has the bbox \[1, 2, 3, 10+\], which is not four numbers",
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


def test_pictures_that_would_share_a_label_file_are_named(tmp_path):
    root = write_coco(tmp_path / "coco")
    file = root / "annotations/instances_train2017.json"
    said = json.loads(file.read_text())
    Image.new("RGB", (40, 20)).save(root / "train2017/7.jpg")
    said["images"].append({"id": 8, "file_name": "7.jpg", "width": 40, "height": 20})
    file.write_text(json.dumps(said))
    with pytest.raises(yolo.DataError, match=r"7\.png and .*7\.jpg would share the label file 7\.txt"):
        convert.to_yolo(root, tmp_path / "out")
