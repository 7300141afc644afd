"""A grid takes the user's own data in any format that is read."""

import pytest
import yaml

from mqa_lib.datasets.inspect import fingerprint
from mqa_lib.datasets.yolo import DataError
from mqa_lib.experiments import compare, read_grid
from tests.datasets.voc import write_voc
from tests.datasets.yolo_set import write_yolo
from tests.experiments.stub import GRID, epoch, training, write_grid


def of(path):
    return GRID.replace("set/data.yaml", str(path))


def test_a_set_of_voc_is_written_once_for_all_runs(tmp_path):
    own = write_voc(tmp_path / "my birds")
    given = []

    def train(recipe, data, folder, **options):
        given.append((data, data.stat().st_mtime_ns))
        return {"recipe": recipe, "finished": True, "epochs": [epoch(1)]}

    grid = write_grid(tmp_path, of("my birds"))
    left = compare(
        grid, tmp_path / "records", tmp_path / "work", together=True, train=train, say=lambda _: None
    )
    assert left == [] and len(given) == 4 and len(set(given)) == 1
    file = given[0][0]
    assert list(yaml.safe_load(file.read_text())["names"].values()) == ["egg", "hen"]
    assert (file.parent / "images/train/a.jpg").exists() and own not in file.parents


@pytest.mark.parametrize(
    ("write", "file", "old", "new"),
    [
        (write_voc, "Annotations/a.xml", "<xmax>40<", "<xmax>39<"),
        (write_voc, "ImageSets/Main/val.txt", "b", "c"),
        (write_yolo, "data.yaml", "hen", "cow"),
        (write_yolo, "labels/val/3.txt", "0.5 0.5 0.5 0.5", "0.5 0.5 0.4 0.5"),
    ],
)
def test_a_set_that_was_changed_gives_its_runs_other_names(tmp_path, write, file, old, new):
    own = write(tmp_path / "birds")
    grid = write_grid(tmp_path, of(own))
    before = [run.name for run in read_grid(grid).runs]
    assert before == [run.name for run in read_grid(grid).runs]
    changed = own / file
    changed.write_text(changed.read_text().replace(old, new, 1))
    assert not set(before) & {run.name for run in read_grid(grid).runs}


def test_what_is_no_part_of_a_set_gives_its_runs_no_other_names(tmp_path):
    """A grid that lies in the set writes its own records and data there."""
    own = write_voc(tmp_path / "birds")
    first = fingerprint(own)
    (own / "notes.txt").write_text("nice")
    compare(
        write_grid(own, of(".")),
        own / "records",
        own / "work",
        together=True,
        train=training(),
        say=lambda _: None,
    )
    assert fingerprint(own) == first


def test_linked_annotations_count(tmp_path):
    own = write_voc(tmp_path / "birds")
    (own / "Annotations").rename(tmp_path / "store")
    (own / "Annotations").symlink_to(tmp_path / "store")
    first = fingerprint(own)
    file = tmp_path / "store/a.xml"
    file.write_text(file.read_text().replace("<xmax>40<", "<xmax>39<"))
    assert fingerprint(own) != first


def test_a_picture_of_other_content_gives_other_names_and_the_set_is_written_anew(tmp_path, capsys):
    own, given = write_voc(tmp_path / "birds"), []

    def train(recipe, data, folder, **options):
        given.append(data)
        return {"recipe": recipe, "finished": True, "epochs": [epoch(1)]}

    grid = write_grid(tmp_path, of(own))
    for _ in range(2):
        compare(grid, tmp_path / "records", tmp_path / "work", together=True, train=train, say=lambda _: None)
        with (own / "JPEGImages/a.jpg").open("ab") as picture:
            picture.write(b"more")
    assert len(given) == 8 and len(set(given)) == 2
    assert capsys.readouterr().err.count("birds: c.xml, object 2: its box is empty.") == 2


def test_a_folder_that_holds_no_set_is_named_before_anything_starts(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty is no data set.* Check the path"):
        read_grid(write_grid(tmp_path, of("empty")))
