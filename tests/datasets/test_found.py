"""A set is known by its files wherever it lies; what is in another format is told how to become one."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from mqa_lib.datasets import yolo
from mqa_lib.datasets.inspect import found, inspect
from tests.datasets.voc import write_voc
from tests.datasets.yolo_set import write_yolo


@pytest.mark.parametrize(("make", "read"), [(write_yolo, "data.yaml"), (write_voc, "")])
def test_folders_on_top_are_gone_through(tmp_path, make, read):
    """Whoever packs a folder gets one on top; a Mac adds `__MACOSX`."""
    root = make(tmp_path / "zip/unpacked/set")
    (tmp_path / "zip/__MACOSX").mkdir()
    (tmp_path / "zip/.cache").mkdir()
    (tmp_path / "zip/notes.json").write_text("{}")
    assert found(tmp_path / "zip") == root / read
    counts = inspect(tmp_path / "zip").pictures
    assert counts["train"] == counts["val"] == 1


def test_data_yaml_goes_before_other_files_and_the_only_one_of_a_folder_may_have_any_name(tmp_path):
    root = write_yolo(tmp_path / "set")
    (root / "a.yaml").write_text("names: [cow]\n")
    assert found(root) == root / "data.yaml"
    (root / "data.yaml").rename(root / "z.yml")
    (root / "a.yaml").unlink()
    assert found(root) == root / "z.yml" and yolo.checked(root).pictures["val"] == 1


def two_sets(root):
    write_yolo(root / "a")
    write_yolo(root / "b")


def two_settings(root):
    (write_yolo(root) / "data.yaml").rename(root / "z.yaml")
    (root / "a.yaml").write_text("names: [cow]\n")


def settings_without_classes(root):
    (write_yolo(root) / "data.yaml").write_text("names_of_hens: 3\n")
    (root / "data.yaml").rename(root / "a.yaml")


def other_xml(root):
    (root / "project.xml").write_text("<project/>")


def only_pictures_of_voc(root):
    shutil.rmtree(write_voc(root) / "Annotations")


@pytest.mark.parametrize(
    "make", [two_sets, two_settings, settings_without_classes, other_xml, only_pictures_of_voc]
)
def test_what_is_no_set_or_two_is_named(tmp_path, make):
    (tmp_path / "odd").mkdir()
    make(tmp_path / "odd")
    with pytest.raises(yolo.DataError, match=r"odd is no data set.*Check the path"):
        found(tmp_path / "odd")


def test_yolo_labels_without_a_yaml_are_told_what_it_takes(tmp_path):
    """Label Studio's export, which has a notes.json as well."""
    root = write_yolo(tmp_path / "set")
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("hen\nold egg\n", encoding="utf-8-sig")
    (root / "notes.json").write_text("{}")
    with pytest.raises(yolo.DataError, match=r"no data\.yaml, as Label Studio .* `names: \[hen, old egg\]`"):
        found(tmp_path)


def write_coco(root, file):
    """Write what COCO's makers and Roboflow alike have: a file of each split, and pictures."""
    (root / file).parent.mkdir(parents=True)
    (root / "train").mkdir(exist_ok=True)
    Image.new("RGB", (40, 20)).save(root / "train/7.png")
    said = {
        "images": [{"id": 1, "file_name": "7.png", "width": 40, "height": 20}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 5, 10, 10]}],
        "categories": [{"id": 1, "name": "hen"}, {"id": 2, "name": "egg"}],
    }
    (root / file).write_text(json.dumps(said))


@pytest.mark.parametrize("file", ["annotations/instances_train.json", "train/_annotations.coco.json"])
def test_coco_is_refused_with_a_command_that_converts_it(tmp_path, file):
    """The command is run; by hand: class 2 is 1, its box in the middle of the first half."""
    write_coco(tmp_path / "my set", file)
    for given in (tmp_path / "my set", tmp_path / "my set" / file):
        with pytest.raises(yolo.DataError, match=f"{re.escape(file)} seems to be a file of COCO") as caught:
            found(given)
    command = shlex.split(re.search("`(python -c .*?)`", str(caught.value))[1])
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True, cwd=tmp_path)
    (label,) = (tmp_path / "as-yolo/labels").rglob("*.txt")
    assert label.name == "7.txt" and label.read_text().split() == ["1", "0.375", "0.5", "0.25", "0.5"]
    images = tmp_path / "as-yolo/images" / label.parent.name
    shutil.copytree(tmp_path / "my set/train", images)
    text = f"train: images/{images.name}\nval: images/{images.name}\nnames: [hen, egg]\n"
    (tmp_path / "as-yolo/data.yaml").write_text(text)
    assert yolo.checked(tmp_path / "as-yolo").objects == {("train", 1): 1, ("val", 1): 1}
