"""The generated set as files: what is bundled, what is refused, what a stopped run leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mqa_lib.datasets import keys_and_locks, yolo

BUNDLED = Path(__file__).parents[2] / "data" / "keys_and_locks"


def test_the_bundled_set_is_whole_and_under_3_megabytes():
    report = yolo.validate(BUNDLED)
    assert report.problems == [] and report.pictures == {"train": 256, "val": 64}
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) < 3e6


def test_the_bundled_pictures_and_labels_are_those_that_its_card_names(tmp_path):
    card = json.loads((BUNDLED / "card.json").read_text())
    again = keys_and_locks.generate(tmp_path, train=5, val=3, seed=card["seed"], size=card["size"]).parent
    for file in [*again.rglob("*.png"), *again.rglob("*.txt")]:
        bundled = BUNDLED / file.relative_to(again)
        if file.suffix == ".txt":
            assert file.read_text() == bundled.read_text()
        else:
            assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(bundled)))


def test_the_card_counts_the_objects_that_the_label_files_hold():
    card = json.loads((BUNDLED / "card.json").read_text())
    report = yolo.validate(BUNDLED)
    for split, counts in card["objects"].items():
        assert counts == {name: report.objects[split, index] for index, name in report.names.items()}


def test_a_stopped_generation_goes_on_where_it_was(tmp_path):
    keys_and_locks.generate(tmp_path, train=3, val=1, seed=5)
    (tmp_path / "labels" / "train.cache").write_bytes(b"ultralytics keeps such files here")
    first = tmp_path / "images" / "train" / "000000.png"
    before = first.stat().st_mtime_ns
    keys_and_locks.generate(tmp_path, train=5, val=1, seed=5)
    assert first.stat().st_mtime_ns == before
    assert len(list((tmp_path / "images" / "train").glob("*.png"))) == 5
    assert keys_and_locks.count_objects(tmp_path).keys() == {"train", "val"}


def test_a_folder_made_with_another_seed_is_refused(tmp_path):
    keys_and_locks.generate(tmp_path, train=2, val=1, seed=5)
    with pytest.raises(ValueError, match=r"holds a set made with another seed or size.*Use an empty folder"):
        keys_and_locks.generate(tmp_path, train=2, val=1, seed=7)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match=r"needs about 0 MB and its disk has 0 MB free\. Free some room"):
        keys_and_locks.generate(tmp_path / "new", train=2, val=1)
    assert not (tmp_path / "new").exists()


REFUSED = [
    ({"size": 31}, r"`size` \(=31\) must be at least 48"),
    ({"pairs": (0, 3)}, r"`pairs` \(=\(0, 3\)\) must rise from 1"),
    ({"pairs": (2, 7)}, r"`pairs` \(=\(2, 7\)\) must rise from 1 or more to 6"),
    ({"split": "dev"}, r"`split` \(='dev'\) is not known\. Use one of: test, train, val"),
    ({"radii": (9, 5)}, r"`radii` \(=\(9, 5\)\) must rise"),
    ({"size": 48, "pairs": (6, 6), "radii": (11, 12)}, r"`pairs` \(=6\) do not fit into 48 pixels"),
]


@pytest.mark.parametrize(("argument", "message"), REFUSED)
def test_a_scene_that_cannot_be_is_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        keys_and_locks.draw_scene(0, 0, **argument)


def test_the_command_on_the_card_makes_the_set_again(tmp_path):
    from mqa_lib.__main__ import main

    keys_and_locks.generate(tmp_path / "one", train=2, val=3, seed=5, size=96, test=1)
    command = json.loads((tmp_path / "one/card.json").read_text())["made by"]
    main([word.replace("ROOT", str(tmp_path / "two")) for word in command.split()[3:]])
    one, two = (
        {str(file.relative_to(tmp_path / root)): file.read_bytes() for file in (tmp_path / root).rglob("*.*")}
        for root in ("one", "two")
    )
    assert one == two
    assert len(one) > 12
