"""A training keeps its hands off the data set it is given, and off what another one has."""

import json
import shutil
from pathlib import Path

import pytest

from mqa_lib.datasets import yolo
from mqa_lib.rtdetr import own_set
from tests.datasets.coco import write_coco
from tests.datasets.test_convert import write_yolo
from tests.datasets.voc import write_voc


def everything(root):
    return {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize("said", ["", "data.yaml", "../{name}", "data-as-yolo", "data-as-yolo/data.yaml"])
def test_a_folder_that_holds_the_data_is_refused(tmp_path, said):
    root = write_yolo(tmp_path / "set")
    write_yolo(root / "data-as-yolo")
    with pytest.raises(ValueError, match=r"`folder` \(=.*set\) holds the data .* Train into another folder"):
        own_set.check_apart(root / said.format(name="set"), root)
    own_set.check_apart(root, root / "runs/x")
    own_set.check_apart(root, tmp_path)


def test_a_folder_further_in_that_is_read_is_refused_and_so_is_that_above_annotations(tmp_path):
    inner = write_voc(tmp_path / "set/VOC2007")
    coco = write_coco(tmp_path / "coco")
    for data, folder in ((tmp_path / "set", inner), (coco / "annotations/instances_val2017.json", coco)):
        with pytest.raises(ValueError, match="holds the data"):
            own_set.check_apart(data, folder)
    own_set.check_apart(tmp_path / "nothing", tmp_path / "run")


def test_a_linked_folder_is_the_one_it_leads_to(tmp_path):
    root = write_voc(tmp_path / "set")
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(ValueError, match="holds the data"):
        own_set.check_apart(root, tmp_path / "link")


def test_data_that_are_refused_leave_those_of_an_earlier_training(tmp_path):
    run = tmp_path / "x" / ".." / "run"
    (tmp_path / "x").mkdir()
    with own_set.in_yolo_format(write_voc(tmp_path / "a"), run) as (read, settle):
        report = settle(yolo.checked(read.path))
    assert report.names == {0: "egg", 1: "hen"} and report.path == tmp_path / "run/data-as-yolo/data.yaml"
    assert all(file.is_file() for files in report.files.values() for file in files)
    before = everything(tmp_path / "run")
    with own_set.in_yolo_format(write_coco(tmp_path / "b"), run) as (read, settle):
        assert yolo.checked(read.path).pictures == {"train": 1, "val": 1}
    assert everything(tmp_path / "run") == before
    with own_set.in_yolo_format(tmp_path / "b", run) as (read, settle):
        report = settle(yolo.checked(read.path))
    assert [file.name for file in report.files["train"]] == ["7.png"]
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["data-as-yolo"]
    assert yolo.checked(report.path).files == report.files


def test_data_that_are_refused_leave_no_folder(tmp_path):
    root = write_voc(tmp_path / "a")
    (root / "JPEGImages/b.jpg").write_bytes(b"cut")
    with pytest.raises(yolo.DataError), own_set.in_yolo_format(root, tmp_path / "run") as (read, _):
        yolo.checked(read.path)
    assert not (tmp_path / "run").exists()


def test_a_set_that_is_in_yolo_format_is_not_touched(tmp_path):
    root = write_yolo(tmp_path / "set")
    before = everything(root)
    with own_set.in_yolo_format(root, tmp_path / "run") as (read, settle):
        report = settle(yolo.checked(read.path))
    assert (
        report.path == root / "data.yaml" and everything(root) == before and not (tmp_path / "run").exists()
    )


@pytest.mark.parametrize("text", ["[]", "{", '{"name": "Pokemon"}'])
def test_a_card_that_is_not_ours_is_not_taken_for_the_datas(tmp_path, text):
    root = write_yolo(tmp_path / "set")
    (root / "card.json").write_text(text)
    said = own_set.card(root / "data.yaml", yolo.checked(root), [])
    assert said["name"] == "set" and said["fingerprint"] == yolo.fingerprint(root)
    (root / "card.json").write_text(json.dumps({"name": "ours", "made by": "us"}))
    assert own_set.card(root, yolo.checked(root), []) == {"name": "ours", "made by": "us"}


def test_a_set_that_is_missing_is_named_where_it_is_read(tmp_path):
    with own_set.in_yolo_format(Path("no.yaml"), tmp_path / "run") as (read, settle):
        report = settle(yolo.validate(read.path))
    assert "no.yaml does not exist" in report.problems[0]
    shutil.rmtree(tmp_path)
