"""A training keeps its hands off the data set it is given, and off what another one has."""

import json

import pytest

from mqa_lib.datasets import inspect, voc, yolo
from mqa_lib.rtdetr import own_set
from tests.datasets.voc import write_voc
from tests.datasets.yolo_set import write_yolo


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
    for data in (tmp_path / "set", inner / "Annotations"):
        with pytest.raises(ValueError, match="holds the data"):
            own_set.check_apart(data, inner)
    own_set.check_apart(tmp_path / "nothing", tmp_path / "run")


def test_a_linked_folder_is_the_one_it_leads_to(tmp_path):
    root = write_voc(tmp_path / "set")
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(ValueError, match="holds the data"):
        own_set.check_apart(root, tmp_path / "link")


def test_a_set_of_voc_takes_the_place_of_an_earlier_one(tmp_path):
    (tmp_path / "x").mkdir()
    run = tmp_path / "x" / ".." / "run"
    for stem, other in (("a", "d"), ("d", "a")):
        root = write_voc(tmp_path / f"without {other}")
        for file in (root / "Annotations/a.xml", root / "JPEGImages/a.jpg"):
            file.rename(file.with_stem(stem))
        (root / "ImageSets/Main/train.txt").write_text(stem)
        report = own_set.written(voc.read(root), run)
        assert report.path == tmp_path / "run/data-as-yolo/data.yaml"
        assert [file.name for file in report.files["train"]] == [f"{stem}.jpg"]
        assert yolo.checked(report.path).files == report.files


def test_a_set_in_yolo_format_is_not_touched(tmp_path):
    root = write_yolo(tmp_path / "set")
    before = everything(root)
    report = own_set.written(inspect.read(root), tmp_path / "run")
    assert report.path == root / "data.yaml" and everything(root) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"name": "Pokemon"}'])
def test_a_card_that_is_not_ours_is_not_taken_for_the_datas(tmp_path, text):
    root = write_yolo(tmp_path / "set")
    (root / "card.json").write_text(text)
    said = own_set.card(root / "data.yaml", yolo.checked(root))
    assert said["name"] == "set" and said["fingerprint"] == yolo.fingerprint(root)
    (root / "card.json").write_text(json.dumps({"name": "ours", "made by": "us"}))
    assert own_set.card(root, yolo.checked(root)) == {"name": "ours", "made by": "us"}


def test_what_was_left_out_of_a_set_of_voc_is_in_its_card(tmp_path):
    root = write_voc(tmp_path / "hens")
    said = own_set.card(root, voc.read(root))
    assert said["name"] == "hens" and said["left out"] == ["c.xml, object 2: its box is empty."]
