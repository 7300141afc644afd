"""A set in VOC's format becomes the YOLO-format set that says the same."""

import shutil

import pytest
from PIL import Image

from mqa_lib.datasets import convert, yolo
from tests.datasets.voc import labels, write_voc


def test_pixels_that_voc_counts_from_one_to_the_last_one_inside_become_shares(tmp_path):
    converted = convert.to_yolo(write_voc(tmp_path / "voc"), tmp_path / "out")
    assert yolo.checked(converted.path).names == {0: "egg", 1: "hen"}
    assert labels(tmp_path / "out", "train", "a") == [
        "1 0.500000 0.500000 1.000000 1.000000",  # the whole picture
        "0 0.375000 0.500000 0.250000 0.500000",  # columns 10 to 20 of 40, rows 5 to 15 of 20
    ]
    assert converted.left_out == ["c.xml, object 2: its box is empty."]
    assert yolo.checked(converted.path).pictures == {"train": 1, "val": 1, "test": 1}


@pytest.mark.parametrize("symbolic", [True, False])
def test_a_disk_that_cannot_be_linked_to_is_linked_to_by_name_or_else_copied_from(
    tmp_path, monkeypatch, symbolic
):
    def refuses(*_):
        raise OSError

    monkeypatch.setattr("os.link", refuses)
    if not symbolic:
        monkeypatch.setattr("os.symlink", refuses)
    write_voc(tmp_path / "voc")
    monkeypatch.chdir(tmp_path)
    report = yolo.checked(convert.to_yolo("voc", "out").path)
    assert report.pictures == {"train": 1, "val": 1, "test": 1}
    assert (tmp_path / "out/images/train/a.jpg").is_symlink() == symbolic


def test_the_pictures_of_the_source_stay_as_they_are(tmp_path):
    root = write_voc(tmp_path / "voc")
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    convert.to_yolo(root, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


LISTS = [  # what ImageSets/Main has, and which pictures are then train, val and test
    ({"train": "a", "val": "b", "test": "c"}, ("a", "b", "c")),
    ({"trainval": "ab", "test": "c"}, ("a", "b", "c")),  # as VOC 2007 comes
    ({"trainval": "ab", "train": "a", "test": "c"}, ("a", "b", "c")),
    ({"trainval": "abc", "val": "b", "test": "c"}, ("a", "b", "c")),
    ({"trainval": "ab", "train": "a", "val": "b"}, ("a", "b", "")),
    ({"val": "b"}, ("ac", "b", "")),
    ({"test": "c"}, ("a", "b", "c")),
    ({"train": "ab", "val": "", "test": "c"}, ("a", "b", "c")),
    ({"val": "abc"}, ("ab", "c", "")),
    ({"train": "ab"}, ("a", "b", "")),  # what is in no list stays out
    ({}, ("ab", "c", "")),
]


@pytest.mark.parametrize(("lists", "parts"), LISTS)
def test_no_list_of_voc_is_dropped_and_what_none_names_is_cut_off(tmp_path, lists, parts):
    root = write_voc(tmp_path / "voc")
    shutil.rmtree(root / "ImageSets/Main")
    (root / "ImageSets/Main").mkdir()
    for name, stems in lists.items():
        (root / f"ImageSets/Main/{name}.txt").write_text("\n".join(stems))
    report = yolo.checked(convert.to_yolo(root, tmp_path / "out").path)
    there = {split: "".join(file.stem for file in files) for split, files in report.files.items()}
    assert tuple(there.get(split, "") for split in ("train", "val", "test")) == parts


def test_annotations_in_no_list_are_told(tmp_path):
    root = write_voc(tmp_path / "voc")
    (root / "ImageSets/Main/test.txt").unlink()
    left_out = convert.to_yolo(root, tmp_path / "out").left_out
    assert left_out[-1] == "1 annotations are in no list of ImageSets/Main, the first is c.xml."


def lower(root):
    (root / "Annotations").rename(root / "annotations")
    (root / "JPEGImages").rename(root / "images")


def in_one_folder(root):
    for file in (*root.glob("Annotations/*"), *root.glob("JPEGImages/*")):
        file.rename(root / file.name)
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).rmdir()


def in_folders_of_splits(root):
    in_one_folder(root)
    shutil.rmtree(root / "ImageSets")
    for stem, split in (("a", "train"), ("b", "valid"), ("c", "test")):
        (root / split).mkdir()
        for file in root.glob(f"{stem}.*"):
            file.rename(root / split / file.name)


def with_pictures_on_top(root):
    for file in root.glob("JPEGImages/*"):
        file.rename(root / file.name)


def with_a_first_line_of_xml(root):
    in_one_folder(root)
    for file in root.glob("*.xml"):
        file.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<!-- by hand -->\n{file.read_text()}')


def with_suffixes_in_capitals(root):
    for file in root.glob("JPEGImages/*"):
        file.rename(file.with_suffix(".JPG"))


def with_smaller_pictures_beside(root):
    for stem in "abc":
        Image.new("RGB", (4, 2)).save(root / f"{stem}.jpg")


def with_lists_that_begin_with_a_mark(root):
    for file in root.glob("ImageSets/Main/*.txt"):
        file.write_text(file.read_text(), encoding="utf-8-sig")


LAYOUTS = [
    lower,
    in_one_folder,
    in_folders_of_splits,
    with_pictures_on_top,
    with_a_first_line_of_xml,
    with_suffixes_in_capitals,
    with_smaller_pictures_beside,
    with_lists_that_begin_with_a_mark,
]


@pytest.mark.parametrize("change", LAYOUTS, ids=lambda change: change.__name__)
def test_voc_is_read_as_its_tools_lay_it_out(tmp_path, change):
    """LabelImg writes XML beside the pictures, Roboflow does so in a folder for each split."""
    root = write_voc(tmp_path / "voc")
    change(root)
    assert convert.found(root) == root and convert.kind_of(root) == "voc"
    report = yolo.checked(convert.to_yolo(root, tmp_path / "out").path)
    assert report.pictures == {"train": 1, "val": 1, "test": 1}
    assert labels(tmp_path / "out", "val", "b") == ["0 0.150000 0.150000 0.100000 0.100000"]


def test_a_set_of_voc_is_found_among_other_folders(tmp_path):
    root = write_voc(tmp_path / "devkit/VOC2007")
    (tmp_path / "devkit/docs").mkdir()
    (tmp_path / "devkit/readme.txt").write_text("VOC 2007")
    (root / "classes.txt").write_text("hen\negg\n")  # LabelImg leaves one there
    assert convert.found(tmp_path / "devkit") == root


def test_of_several_sets_of_voc_none_is_dropped(tmp_path):
    for split in ("train", "valid"):
        write_voc(tmp_path / "set" / split)
    with pytest.raises(
        yolo.DataError, match=r"set holds several sets of VOC \(train, valid\)\. Give the path"
    ):
        convert.found(tmp_path / "set")


def test_a_box_that_begins_outside_comes_out_as_one(tmp_path):
    root = write_voc(tmp_path / "voc")
    file = root / "Annotations/b.xml"
    file.write_text(file.read_text().replace("<xmin>5<", "<xmin>-30<"))
    problem = yolo.validate(convert.to_yolo(root, tmp_path / "out").path).problems[-1]
    assert problem.startswith("labels/val/b.txt, line 1: box") and "lies outside" in problem


def test_a_name_that_is_listed_twice_counts_once(tmp_path):
    root = write_voc(tmp_path / "voc")
    shutil.rmtree(root / "ImageSets/Main")
    (root / "ImageSets/Main").mkdir()
    (root / "ImageSets/Main/train.txt").write_text("a\nb\na\nb\n")
    converted = convert.to_yolo(root, tmp_path / "out")
    assert yolo.checked(converted.path).pictures == {"train": 1, "val": 1}
    assert any("1 of the 2 pictures of `train`" in said for said in converted.left_out)


def test_pictures_that_are_relative_links_are_written(tmp_path):
    """git-annex and DVC keep pictures elsewhere."""
    root = write_voc(tmp_path / "voc")
    (root / "store").mkdir()
    for picture in sorted((root / "JPEGImages").iterdir()):
        picture.rename(root / "store" / picture.name)
        picture.symlink_to(f"../store/{picture.name}")
    assert yolo.checked(convert.to_yolo(root, tmp_path / "out").path).pictures["train"] == 1


def test_a_set_that_was_not_written_to_its_end_has_no_settings(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("mqa_lib.datasets.written.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        convert.to_yolo(write_voc(tmp_path / "voc"), tmp_path / "out")
    assert not (tmp_path / "out/data.yaml").exists()


def test_xml_that_is_no_annotation_makes_no_set(tmp_path):
    (tmp_path / "project.xml").write_text("<project/>")
    with pytest.raises(yolo.DataError, match="is no data set"):
        convert.kind_of(tmp_path)


def damage_xml(root):
    (root / "Annotations/b.xml").write_text("<annotation><size>")


def damage_box(root):
    (root / "Annotations/b.xml").write_text((root / "Annotations/b.xml").read_text().replace("xmin", "left"))


def be_a_folder(root):
    (root / "Annotations/b.xml").unlink()
    (root / "Annotations/b.xml").mkdir()


def say_an_encoding_that_nobody_knows(root):
    (root / "Annotations/b.xml").write_text('<?xml version="1.0" encoding="klingon"?><annotation/>')


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
    (
        lose_picture,
        r"1 annotations have no picture in JPEGImages, images or beside them, the first is b\.xml",
    ),
    (list_too_many, r"val\.txt names z, which has no annotation"),
    (list_in_latin_1, r"val\.txt is not text in UTF-8 .*Save it as such"),
    (be_a_folder, r"b\.xml cannot be read as an annotation of VOC \(.*directory"),
    (say_an_encoding_that_nobody_knows, r"b\.xml cannot be read as an annotation of VOC .*encoding"),
    (say("nan"), r"b\.xml cannot be read .*its size is nanx20 pixels"),
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


@pytest.mark.parametrize(("side", "last"), [("xmax", 8), ("ymax", 4)])
def test_a_box_that_is_empty_in_one_direction_is_left_out_and_told(tmp_path, side, last):
    file = write_voc(tmp_path / "voc") / "Annotations/b.xml"
    file.write_text(file.read_text().replace(f"<{side}>{last}<", f"<{side}>2<"))
    left_out = convert.to_yolo(tmp_path / "voc", tmp_path / "out").left_out
    assert left_out[0] == "b.xml, object 1: its box is empty." and labels(tmp_path / "out", "val", "b") == []


def test_a_picture_that_cannot_be_read_is_named_with_all_others_and_not_before(tmp_path):
    root = write_voc(tmp_path / "voc")
    (root / "JPEGImages/b.jpg").write_bytes(b"cut")
    (problem,) = yolo.validate(convert.to_yolo(root, tmp_path / "out").path).problems
    assert problem.startswith("images/val/b.jpg cannot be decoded")


def test_a_class_that_is_not_in_the_list_is_named(tmp_path):
    root = write_voc(tmp_path / "voc")
    with pytest.raises(
        yolo.DataError, match=r"train: a\.jpg has objects of hen, and the classes are egg, cow"
    ):
        convert.from_voc(root, tmp_path / "out", ["egg", "cow"])
