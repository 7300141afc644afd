"""A set in VOC's format becomes the YOLO-format set that says the same, or is named by its own files."""

import shutil

import pytest
from PIL import Image

from mqa_lib.datasets import voc, yolo
from mqa_lib.datasets.inspect import found
from tests.datasets.voc import labels, write_voc


def written(root, out):
    """Return what was read of a set and what a reader of YOLO's format finds in what was written of it."""
    report = voc.read(root).raise_if_bad()
    again = yolo.checked(voc.write(report, out).path)
    assert (again.pictures, again.objects, again.names) == (report.pictures, report.objects, report.names)
    return report, again


def change(file, *pairs):
    text = file.read_text()
    for old, new in pairs:
        text = text.replace(old, new)
    file.write_text(text)


def test_pixels_that_voc_counts_from_one_to_the_last_one_inside_become_shares(tmp_path):
    report, _ = written(write_voc(tmp_path / "voc"), tmp_path / "out")
    assert report.names == {0: "egg", 1: "hen"} and report.pictures == {"train": 1, "val": 1, "test": 1}
    assert labels(tmp_path / "out", "train", "a") == [
        # the whole picture; then columns 10 to 20 of 40, rows 5 to 15 of 20
        "1 0.500000 0.500000 1.000000 1.000000",
        "0 0.375000 0.500000 0.250000 0.500000",
    ]
    assert report.notes == ["c.xml, object 2: its box is empty."]


def test_a_disk_that_cannot_be_linked_to_is_copied_from_and_half_a_copy_is_made_anew(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError

    monkeypatch.setattr("os.link", refuses)
    (tmp_path / "out/images/train").mkdir(parents=True)
    (tmp_path / "out/images/train/a.jpg").write_bytes(b"half")
    write_voc(tmp_path / "voc")
    monkeypatch.chdir(tmp_path)
    written(yolo.Path("voc"), yolo.Path("out"))


def test_the_pictures_of_the_source_stay_as_they_are(tmp_path):
    root = write_voc(tmp_path / "voc")
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    written(root, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


LISTS = [  # what ImageSets/Main has, and which pictures are then train, val and test
    ({"train": "a", "val": "b", "test": "c"}, ("a", "b", "c")),
    ({"trainval": "ab", "test": "c"}, ("a", "b", "c")),  # as VOC 2007 comes
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
def test_no_list_of_voc_is_dropped_and_what_none_names_is_train(tmp_path, lists, parts):
    root = write_voc(tmp_path / "voc")
    shutil.rmtree(root / "ImageSets/Main")
    (root / "ImageSets/Main").mkdir()
    for name, stems in lists.items():
        (root / f"ImageSets/Main/{name}.txt").write_text("\n".join(stems))
    report, again = written(root, tmp_path / "out")
    there = {split: "".join(file.stem for file in files) for split, files in again.files.items()}
    assert tuple(there.get(split, "") for split in ("train", "val", "test")) == parts
    told = " ".join(report.notes)
    assert ("in no list of ImageSets/Main, the first is c.xml" in told) == ("c" not in "".join(parts))
    assert ("names no `val`" in told or "names no `train`" in told) == (
        "val" not in lists or parts[1] != lists["val"]
    )


@pytest.mark.parametrize(("count", "val"), [(1, 1), (2, 1), (9, 1), (10, 2), (23, 4)])
def test_a_val_that_is_cut_off_is_a_fifth_told_and_the_same_wherever_the_set_lies(tmp_path, count, val):
    parts = []
    for place in ("here", "there/train and val"):
        root = write_voc(tmp_path / place)
        shutil.rmtree(root / "ImageSets")
        for number in range(count):
            for file in (root / "Annotations/a.xml", root / "JPEGImages/a.jpg"):
                shutil.copy(file, file.with_stem(f"{place[0]}{number}"[1:]))
        for file in (*root.glob("*/[abc].xml"), *root.glob("*/[abc].jpg")):
            file.unlink()
        report = voc.read(root).raise_if_bad()
        parts.append({split: {file.name for file in files} for split, files in report.files.items()})
        assert f"names no `val`: {val} of the {count} pictures of `train`" in report.notes[-1]
    first, second = parts
    assert first == second and len(first["val"]) == val and len(first["train"] | first["val"]) == count
    assert not first["train"] & first["val"] or count == 1


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train2017", "train"),
        ("Valid", "val"),
        ("my-test", "test"),
        ("eval", "val"),
        ("latest", ""),
        ("interval", ""),
    ],
)
def test_a_split_is_what_a_word_of_a_folder_s_name_says(tmp_path, folder, split):
    root = write_voc(tmp_path / "voc")
    in_folders_of_splits(root)
    (root / "test").rename(root / folder)
    there = {part for part, files in voc.read(root).files.items() if root / folder / "c.jpg" in files}
    assert there == ({split} if split else set())


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


@pytest.mark.parametrize("lay_out", LAYOUTS, ids=lambda change: change.__name__)
def test_voc_is_read_as_its_tools_lay_it_out(tmp_path, lay_out):
    """LabelImg writes XML beside the pictures, Roboflow does so in a folder for each split."""
    root = write_voc(tmp_path / "voc")
    lay_out(root)
    assert found(root) == root
    report, _ = written(root, tmp_path / "out")
    assert report.pictures == {"train": 1, "val": 1, "test": 1}
    assert labels(tmp_path / "out", "val", "b") == ["0 0.150000 0.150000 0.100000 0.100000"]


def test_a_set_of_voc_is_found_among_other_folders_and_from_its_annotations(tmp_path):
    root = write_voc(tmp_path / "devkit/VOC2007")
    (tmp_path / "devkit/docs").mkdir()
    (tmp_path / "devkit/readme.txt").write_text("VOC 2007")
    # LabelImg leaves one there
    (root / "classes.txt").write_text("hen\negg\n")
    assert found(tmp_path / "devkit") == found(root / "Annotations") == root


def test_of_several_sets_of_voc_none_is_dropped(tmp_path):
    for split in ("train", "valid"):
        write_voc(tmp_path / "set" / split)
    with pytest.raises(yolo.DataError, match=r"set holds several .*\(train, valid\).*Give the path of one"):
        found(tmp_path / "set")


def test_a_name_that_is_listed_twice_counts_once(tmp_path):
    root = write_voc(tmp_path / "voc")
    (root / "ImageSets/Main/train.txt").write_text("a\na\n")
    assert voc.read(root).pictures == {"train": 1, "val": 1, "test": 1}


def test_pictures_that_are_relative_links_are_written(tmp_path):
    """git-annex and DVC keep pictures elsewhere."""
    root = write_voc(tmp_path / "voc")
    (root / "store").mkdir()
    for picture in sorted((root / "JPEGImages").iterdir()):
        picture.rename(root / "store" / picture.name)
        picture.symlink_to(f"../store/{picture.name}")
    assert written(root, tmp_path / "out")[1].pictures["train"] == 1


def test_a_set_that_was_not_written_to_its_end_has_no_settings(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("mqa_lib.datasets.voc.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        voc.write(voc.read(write_voc(tmp_path / "voc")), tmp_path / "out")
    assert not (tmp_path / "out/data.yaml").exists()


def held(orientation, sides):
    def damage(root):
        note = Image.Exif()
        note[274] = orientation
        Image.new("RGB", sides).save(root / "JPEGImages/b.jpg", exif=note)

    return damage


@pytest.mark.parametrize("orientation", [3, 5, 6, 7, 8])
def test_of_a_camera_that_was_held_upright_the_size_of_the_turned_picture_counts(tmp_path, orientation):
    """It is the turned one that is trained on, so boxes of the other would lie elsewhere; 3 is upside down."""
    root = write_voc(tmp_path / "voc")
    lying, upright = ((40, 20), (20, 40)) if orientation == 3 else ((20, 40), (40, 20))
    held(orientation, lying)(root)
    assert voc.read(root).problems == []
    held(orientation, upright)(root)
    assert "it says 40x20 pixels, and b.jpg is 20x40" in str(voc.read(root).problems[0])


def write(content):
    return lambda root: (root / "Annotations/b.xml").write_text(content)


def replace(old, new):
    return lambda root: change(root / "Annotations/b.xml", (old, new))


def listed(content):
    return lambda root: (root / "ImageSets/Main/val.txt").write_bytes(content)


def be_a_folder(root):
    (root / "Annotations/b.xml").unlink()
    (root / "Annotations/b.xml").mkdir()


def cut_picture(root):
    (root / "JPEGImages/b.jpg").write_bytes(b"cut")


def lie_in_two_folders(root):
    in_folders_of_splits(root)
    shutil.copytree(root / "valid", root / "my val")


DAMAGE = [
    (write("<annotation><size>"), ["b.xml", "no element found"]),
    (write('<?xml version="1.0" encoding="klingon"?><annotation/>'), ["b.xml", "encoding"]),
    (be_a_folder, ["b.xml", "directory"]),
    (replace("xmin", "left"), ["b.xml", "it has no bndbox/xmin"]),
    (replace("<name>egg", "<name>"), ["b.xml", "it has no name"]),
    (replace("<xmax>8<", "<xmax>eight<"), ["b.xml", "eight"]),
    (replace("<width>40<", "<width>nan<"), ["b.xml", "it says nanx20 pixels"]),
    (replace("<width>40<", "<width>0<"), ["b.xml", "it says 0x20 pixels"]),
    (replace("<width>40<", "<width>80<"), ["b.xml", "80x20 pixels", "b.jpg is 40x20", "Mend"]),
    (replace("<xmin>5<", "<xmin>-30<"), ["b.xml, object 1", "box -30 3 8 4 lies outside"]),
    (replace("<xmax>8<", "<xmax>80<"), ["b.xml, object 1", "box 5 3 80 4 lies outside"]),
    (replace("<xmax>8<", "<xmax>nan<"), ["b.xml, object 1", "box 5 3 nan 4 lies outside"]),
    (lambda root: (root / "JPEGImages/b.jpg").unlink(), ["b.xml", "no picture in JPEGImages"]),
    (cut_picture, ["JPEGImages/b.jpg", "cannot be decoded"]),
    (listed(b"b\nz\n"), ["val.txt", "names z", "Mend the list"]),
    (listed("Bärin\n".encode("latin-1")), ["val.txt", "UTF-8"]),
    (lie_in_two_folders, ["`val`", "b.xml lies in two folders", "Rename one"]),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGE, ids=[" ".join(told[:2]) for _, told in DAMAGE])
def test_what_is_wrong_with_a_set_of_voc_is_named_by_the_users_own_file(tmp_path, damage, told):
    damage(write_voc(tmp_path / "voc"))
    report = voc.read(tmp_path / "voc")
    assert any(all(word in str(problem) for word in told) for problem in report.problems)
    with pytest.raises(yolo.DataError, match="Mend or remove"):
        report.raise_if_bad()


def test_all_files_at_fault_are_named_at_once(tmp_path):
    root = write_voc(tmp_path / "voc")
    (root / "Annotations/a.xml").write_text("<annotation><size>")
    replace("<xmax>8<", "<xmax>80<")(root)
    change(root / "Annotations/c.xml", ("<width>40<", "<width>41<"))
    told = {problem.file for problem in voc.read(root).problems}
    assert {f"Annotations/{stem}.xml" for stem in "abc"} <= told


def test_a_class_that_is_not_in_the_list_is_named(tmp_path):
    first, *_ = voc.read(write_voc(tmp_path / "voc"), ["egg", "cow"]).problems
    assert (
        str(first) == "Annotations/a.xml, object 1: is of class hen, and the classes are egg, cow. Mend it."
    )


def test_pictures_of_voc_may_have_spaces_in_their_names_and_sizes_a_point(tmp_path):
    root = write_voc(tmp_path / "voc")
    replace("<width>40<", "<width>40.0<")(root)
    for file in (root / "Annotations/b.xml", root / "JPEGImages/b.jpg"):
        file.rename(file.with_stem("große Henne 7"))
    (root / "ImageSets/Main/val.txt").write_text("große Henne 7\n\n", encoding="utf-8")
    assert written(root, tmp_path / "out")[1].pictures["val"] == 1
    assert labels(tmp_path / "out", "val", "große Henne 7") == ["0 0.150000 0.150000 0.100000 0.100000"]


def test_a_box_of_voc_that_is_counted_from_zero_stays_inside(tmp_path):
    root = write_voc(tmp_path / "voc")
    change(root / "Annotations/b.xml", ("<xmin>5<", "<xmin>0<"), ("<ymin>3<", "<ymin>0<"))
    written(root, tmp_path / "out")
    assert labels(tmp_path / "out", "val", "b") == ["0 0.100000 0.100000 0.200000 0.200000"]


@pytest.mark.parametrize(("side", "last"), [("xmax", 8), ("ymax", 4)])
def test_a_box_that_is_empty_in_one_direction_is_left_out_and_told(tmp_path, side, last):
    root = write_voc(tmp_path / "voc")
    replace(f"<{side}>{last}<", f"<{side}>2<")(root)
    report = voc.read(root)
    assert report.notes[0] == "b.xml, object 1: its box is empty."
    assert report.lines[root / "JPEGImages/b.jpg"][1] == []
