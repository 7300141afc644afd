"""A grid is read whole: every run of it, or a sentence that says what is wrong."""

import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from mqa_lib.experiments import read_grid
from mqa_lib.rtdetr import MODELS
from mqa_lib.rtdetr.recipe import Recipe
from tests.experiments.stub import GRID, write_grid


def test_a_grid_is_every_variant_with_every_seed_arm_by_arm_and_seed_by_seed(tmp_path):
    text = GRID + "  late: {as: long, variants: [rtdetr-nano-stock], schedule: {epochs: 11}, seeds: [1]}\n"
    runs = read_grid(write_grid(tmp_path, text)).runs
    assert [
        (run.recipe["seed"], run.arm, run.recipe["model"][12:], run.recipe["epochs"]) for run in runs
    ] == [
        (0, "plain", "stock", 3),
        (0, "plain", "mobile-mqa", 3),
        (1, "plain", "stock", 3),
        (1, "plain", "mobile-mqa", 3),
        (1, "long", "stock", 11),
    ]
    assert runs[0].recipe == asdict(Recipe("rtdetr-nano-stock", 0, epochs=3, imgsz=64, batch=8))


def names(tmp_path, text=GRID):
    return [run.name for run in read_grid(write_grid(tmp_path, text)).runs]


@pytest.mark.parametrize(
    ("entry", "default", "other"),
    [
        ("lr0", "0.0005", "0.1"),
        ("lrf", "0.05", "1.0"),
        ("stop_at", "0.0", "0.98"),
        ("keeps_pairs", "true", "false"),
        ("epochs", "8", "5"),
    ],
)
def test_another_schedule_gives_every_run_another_name_and_an_entry_at_its_default_the_same(
    tmp_path, entry, default, other
):
    """So a recipe can get an entry, and the runs that were recorded before keep their names."""
    bare = GRID.replace("epochs: 3, ", "")
    at_default, at_another = (
        names(tmp_path, bare.replace("batch: 8", f"batch: 8, {entry}: {value}")) for value in (default, other)
    )
    assert at_default == names(tmp_path, bare) and not set(at_default) & set(at_another)


def test_a_run_has_the_same_name_wherever_the_library_lies(tmp_path, monkeypatch):
    before = names(tmp_path)
    for name, file in MODELS.items():
        monkeypatch.setitem(MODELS, name, Path(shutil.copy(file, tmp_path)))
    assert names(tmp_path) == before


def test_a_model_file_is_found_beside_the_grid_and_known_by_what_is_in_it(tmp_path, monkeypatch):
    text = GRID.replace("rtdetr-nano-stock", "mine.yaml")
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        shutil.copy(MODELS["rtdetr-nano-stock"], folder / "mine.yaml")
    monkeypatch.chdir(there)
    first = read_grid(write_grid(here, text)).runs[0]
    assert (first.recipe["model"], first.title) == (str(here / "mine.yaml"), "mine, plain, seed 0")
    before = names(here, text)
    assert names(there, text) == before
    with (here / "mine.yaml").open("a") as file:
        file.write("# a word\n")
    assert [one == other for one, other in zip(names(here, text), before, strict=True)] == [False, True] * 2


@pytest.mark.parametrize("name", ["detectors", "bccd"])
def test_every_record_of_this_project_is_known_to_its_grid(name, monkeypatch, tmp_path):
    monkeypatch.setenv("MQA_BCCD", str(tmp_path))
    home = Path(__file__).parents[2] / "data"
    named = {run.name for run in read_grid(home / f"experiments/{name}.yaml").runs}
    assert {file.stem for file in (home / "runs" / name).glob("*.json")} <= named


def test_what_does_not_decide_a_result_changes_no_name(tmp_path):
    before = names(tmp_path)
    assert names(tmp_path, "# said anew\nthreads: 2\n" + GRID) == before
    assert names(tmp_path, GRID.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))[:4] == before


def test_other_data_under_the_same_path_give_other_names(tmp_path):
    before = names(tmp_path)
    (tmp_path / "set/a/2.png").write_bytes(b"picture")
    assert not set(before) & set(names(tmp_path))


def test_data_may_be_named_by_their_folder(tmp_path):
    by_file, by_folder = (
        read_grid(write_grid(tmp_path, GRID.replace("set/data.yaml", path)))
        for path in ("set/data.yaml", "set")
    )
    assert by_folder == by_file


def test_bccd_is_the_same_data_wherever_it_lies(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    there, elsewhere = (GRID.replace("path: set/data.yaml", f"bccd: {place}") for place in ("a", "b"))
    assert names(tmp_path, there) == names(tmp_path, elsewhere)


WRONG = [
    (
        "rtdetr-nano-stock",
        "rtdetr-nano-sock",
        r"`variants` \(=rtdetr-nano-sock\) is not known. Use some of: .*rtdetr-nano-mobile-mqa",
    ),
    (
        "[rtdetr-nano-stock,",
        "[rtdetr-nano-sock, nano-foo, rtdetr-nano-stock,",
        r"`variants` \(=rtdetr-nano-sock, nano-foo\) are not known.*or the path of a model file",
    ),
    ("epochs: 3", "epoch: 3", r"`schedule` \(=epoch\) is not known there. Use one of: epochs,"),
    ("epochs: 3", "seed: 3", r"`schedule` \(=seed\) is not known there"),
    ("epochs: 3", "epochs: 0", r"`epochs` \(=0\) must be a whole number"),
    ("seeds: [0, 1]", "seeds: 3", r"`seeds` \(=3\) must be a list"),
    ("seeds: [0, 1]", "seeds: [a]", r"`seeds` \(=a\) must be whole numbers"),
    ("path: set/data.yaml", "path: x, bccd: y", r"`data` .*must be one of several"),
    ("path: set/data.yaml", "coco: x", r"`data` \(=coco\) is not known there"),
    ("arms:", "legs:", r"`file` \(=legs\) is not known there. Use one of: data, schedule, seeds"),
    ("variants: [", "variants: [rtdetr-nano-stock, ", r"holds a run twice: rtdetr-nano-stock-plain-seed0"),
    ("data:", "data: [", r"is not YAML in UTF-8"),
    (
        "batch: 8",
        "batch: 8, lr0: 5e-4",
        r"`lr0` \(=5e-4\) must be a number above 0 .*YAML takes 5e-4 for a word",
    ),
    ("batch: 8", "batch: 8, lr0: 0", r"`lr0` \(=0\) must be a number above 0"),
    ("batch: 8", "batch: 8, lr0: 2.0", r"`lr0` \(=2.0\) must be a number above 0 and at most 1"),
    ("batch: 8", "batch: 8, keeps_pairs: 'no'", r"`keeps_pairs` \(=no\) must be true or false"),
    ("batch: 8", "batch: 8.5", r"`batch` \(=8.5\) must be a whole number"),
    ("batch: 8", "batch: many", r"`batch` \(=many\) must be a whole number"),
    ("batch: 8", "batch: 8, lrf: 0", r"`lrf` \(=0\) must be a number above 0 and at most 1"),
    ("batch: 8", "batch: 8, stop_at: 1.5", r"`stop_at` \(=1.5\) must be a number above 0 and at most 1"),
    ("batch: 8", "batch: 8, stop_at: false", r"`stop_at` \(=False\) must be a number"),
    (
        "imgsz: 64",
        "imgsz: 65",
        r"`imgsz` \(=65\) must be a multiple of 32. Use 96, which it would be rounded",
    ),
    (
        "{epochs: 3, imgsz: 64, batch: 8}",
        "long",
        r"`schedule` \(=long\) must be entries .* some of: epochs, ",
    ),
    ("variants: [rtdetr-nano-stock,", "schedule: [7], variants: [", r"`schedule` \(=\[7\]\) must be entries"),
    (
        "[rtdetr-nano-stock, ",
        "[7, ",
        r"`variants` \(=7\) must be names, in arm plain. Use one such as rtdetr-",
    ),
    ("seeds: [0, 1]", "seeds: [0, 0]", r"holds a run twice: rtdetr-nano-mobile-mqa-plain-seed0"),
    ("seeds: [0, 1]", "seeds: [-1]", r"`seeds` \(=-1\) must be whole numbers from 0"),
    ("seeds: [0, 1]", "seeds: [true]", r"`seeds` \(=True\) must be whole numbers from 0"),
    (
        "seeds: [0, 1]",
        "seeds: [4294967296]",
        r"`seeds` \(=4294967296\) must be whole numbers from 0 to 2147483647",
    ),
    ("path: set/data.yaml", "path: [set]", r"`data: path` \(=\['set'\]\) must be a path"),
    ("path: set/data.yaml", "bccd: 7", r"`data: bccd` \(=7\) must be a path"),
    (
        "path: set/data.yaml",
        "keys_and_locks: {train: many}",
        r"`keys_and_locks: train` \(=many\) must be a whole number of at least 1",
    ),
    ("path: set/data.yaml", "keys_and_locks: {size: 47}", r"`keys_and_locks: size` \(=47\) .* at least 48"),
    (
        "plain:",
        "a/b:",
        r"`arms` \(=a/b\) must be a name in letters, without any of .*Records are named after it",
    ),
    ("variants: [", "as: , variants: [", r"`as` \(=None\) must be a name in letters"),
    (
        "arms:",
        "arms:\n  plain: {variants: [rtdetr-nano-stock]}",
        r"`file` \(=small\.yaml\) has two entries plain",
    ),
    (
        GRID,
        "",
        r"`file` \(=small\.yaml\) must hold entries with a name, and holds nothing. Use some of: data",
    ),
    (GRID, "- data", r"`file` \(=small\.yaml\) must hold entries .*\['data'\]"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_what_is_wrong_is_said_before_anything_starts(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_grid(write_grid(tmp_path, GRID.replace(old, new)))


ARMS = [
    (
        "schedule: {epochs: 2}, seeds: [0]",
        r"holds a run twice: .*Leave one of them out, or name its arm anew",
    ),
    ("schedule: {epochs: 2}, seeds: [7]", r"`as` \(=plain\) names arms that differ in schedule or data"),
    ("data: {keys_and_locks: {}}, seeds: [7]", r"`as` \(=plain\) names arms that differ in schedule or data"),
]


@pytest.mark.parametrize(("more", "message"), ARMS)
def test_arms_that_share_a_name_and_are_not_alike_are_refused(tmp_path, more, message):
    """Their records would be taken for seeds of one variant, or for rivals under one schedule."""
    text = GRID + f"  late: {{as: plain, variants: [rtdetr-nano-stock], {more}}}\n"
    with pytest.raises(ValueError, match=message):
        read_grid(write_grid(tmp_path, text))
    alike = GRID + "  late: {as: plain, variants: [rtdetr-nano-stock], seeds: [7]}\n"
    assert [run.arm for run in read_grid(write_grid(tmp_path, alike)).runs] == ["plain"] * 5


def test_a_grid_or_data_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.yaml\) does not exist"):
        read_grid(tmp_path / "none.yaml")
    with pytest.raises(FileNotFoundError, match=r"`data` \(=else\.yaml\) does not exist"):
        read_grid(write_grid(tmp_path, GRID.replace("set/data.yaml", "else.yaml")))


def test_the_grid_of_the_course_has_every_nano_model_with_at_least_three_seeds():
    grid = read_grid(Path(__file__).parents[2] / "data/experiments/detectors.yaml")
    counts = Counter(run.recipe["model"] for run in grid.runs if run.arm == "from-scratch")
    assert counts.keys() == {name for name in MODELS if "-nano-" in name}
    assert min(counts.values()) == 3 and counts["rtdetr-nano-mobile-mqa"] == 5
