"""What a run is given, how long the rest will take, and what is refused before the first one begins."""

import errno
import json
import os
import shutil
import weakref
from types import SimpleNamespace

import pytest
import torch
import yaml

from mqa_lib import rtdetr
from mqa_lib.__main__ import main
from mqa_lib.datasets import yolo
from mqa_lib.experiments import compare, label, read_grid, runner
from mqa_lib.rtdetr import evaluate
from mqa_lib.rtdetr import train as trains
from tests.experiments.stub import GRID, epoch, training, write_grid


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "machine_lock", lambda: tmp_path / "lock")


def run(file, said=None, **options):
    said = [] if said is None else said
    home = file.parent
    return compare(
        file, home / "records", home / "work", **{"train": training(), "say": said.append, **options}
    )


def kept(file):
    return [json.loads(path.read_text()) for path in sorted((file.parent / "records/small").glob("*.json"))]


def test_a_run_gets_what_the_grid_says_and_its_record_names_no_folder_of_this_machine(tmp_path):
    own = "rtdetr-nano-mobile-mqa.yaml"
    (tmp_path / own).write_bytes(rtdetr.MODELS["rtdetr-nano-mobile-mqa"].read_bytes())
    file, given = write_grid(tmp_path, "threads: 3\n" + GRID.replace("rtdetr-nano-mobile-mqa", own)), []

    def noted(recipe, data, folder, **options):
        given.append((data, {key: options[key] for key in ("threads", "stop_at_nan")}))
        return training()(recipe, data, folder, **options)

    run(file, train=noted)
    wanted = {"threads": 3, "stop_at_nan": True}
    assert given == [(tmp_path / "set/data.yaml", wanted)] * 4
    records = kept(file)
    assert {record["recipe"]["model"] for record in records} == {
        "rtdetr-nano-stock",
        "rtdetr-nano-mobile-mqa",
    }
    assert {record["experiment"]["arm"] for record in records} == {"plain"}
    assert str(tmp_path) not in json.dumps(records)


def test_every_set_that_is_generated_has_a_folder_of_its_own_however_its_numbers_are_ordered(tmp_path):
    sets = ({"train": 2, "val": 1, "size": 48}, {"size": 48, "val": 1, "train": 2}, {"train": 1, "val": 1})
    first, again, other = (runner.make_data({"keys_and_locks": one}, tmp_path) for one in sets)
    assert first == again != other
    assert [len(list((path.parent / "images/train").iterdir())) for path in (first, other)] == [2, 1]


def test_the_time_left_is_that_of_the_same_model_without_runs_that_failed(tmp_path):
    grid = read_grid(write_grid(tmp_path, GRID.replace("[0, 1]", "[0, 1, 2]")))
    hour, two = ({"finished": True, "epochs": [epoch(30), epoch(60 * hours)]} for hours in (1, 2))
    lost = {"finished": False, "failed": {}, "epochs": [epoch(1)]}
    done = {("stock", 0): hour, ("mobile-mqa", 0): two, ("mobile-mqa", 1): lost}
    assert runner.time_left(grid, tmp_path) == ""
    for one in grid.runs:
        if record := done.get((one.recipe["model"][12:], one.recipe["seed"])):
            said = {"recipe": {"model": one.recipe["model"], "seed": one.recipe["seed"]}, **record}
            runner.record_of(tmp_path, one).write_text(json.dumps(said))
    assert runner.time_left(grid, tmp_path) == "about 4.0 h"  # stock twice an hour, mobile-mqa once two


def test_a_slice_ends_with_the_epoch_in_which_its_time_is_over(tmp_path, monkeypatch):
    file, said, clock = write_grid(tmp_path), [], [1000.0]
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def a_minute_an_epoch(*given, after_epoch, **options):
        def passed(record):
            clock[0] += 60
            return after_epoch(record)

        return training()(*given, after_epoch=passed, **options)

    assert len(run(file, said, train=a_minute_an_epoch, minutes=4.5)) == 3
    assert said[4].endswith("rtdetr-nano-mobile-mqa, plain, seed 0: stopped after epoch 2 of 3")
    assert clock[0] == 1000 + 5 * 60


def test_a_grid_that_is_done_says_so_and_nothing_else(tmp_path):
    file, said = write_grid(tmp_path), []
    run(file)
    assert run(file, said) == [] and said == ["small: 4 runs, 4 of them done."]


def test_the_table_at_the_end_has_no_runs_of_an_older_grid(tmp_path, monkeypatch, capsys):
    file = write_grid(tmp_path)
    command = ["compare", str(file), "--records", str(tmp_path / "records"), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(runner, "_train", training())
    assert main([*command, "--slice", "0"]) == 0 and "|" not in capsys.readouterr().out
    assert main(command) == 0 and capsys.readouterr().out.count(" | 3 | 21 | ") == 4
    write_grid(tmp_path, GRID.replace("epochs: 3", "epochs: 2"))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.count(" | 2 | 14 | ") == 4 and " | 3 | 21 | " not in said


def test_a_run_says_its_best_epoch(tmp_path):
    file, said = write_grid(tmp_path), []

    def falling(recipe, data, folder, **_):
        return {"recipe": recipe, "epochs": [epoch(1, 0.75), epoch(2, 0.25)], "finished": True}

    run(file, said, train=falling)
    assert "seed 0: mAP50 0.750, mAP50-95 0.375 in 2.0 min; about 6 min left for all" in said[2]


def test_without_a_terminal_a_run_says_that_it_begins_and_every_ten_minutes_how_far_it_is(
    tmp_path, monkeypatch
):
    file, said, clock = write_grid(tmp_path, GRID.replace("epochs: 3", "epochs: 5")), [], [1000.0]
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def five_minutes_an_epoch(*given, after_epoch, **options):
        def passed(record):
            clock[0] += 300
            return after_epoch(record)

        return training()(*given, after_epoch=passed, **options)

    run(file, said, train=five_minutes_an_epoch, only="nano-stock")
    place = "1/4 rtdetr-nano-stock, plain, seed 0: "
    assert said[1:4] == [
        f"{place}{what}" for what in ("begins", "epoch 2 of 5 is done", "epoch 4 of 5 is done")
    ]
    assert said[5] == "3/4 rtdetr-nano-stock, plain, seed 1: begins; about 15 min left for all"
    said.clear()
    monkeypatch.setattr(runner, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))
    run(file, said, train=five_minutes_an_epoch)
    assert not any("begins" in line or "is done" in line for line in said)


def test_a_loss_that_is_no_number_before_the_first_epoch_fails_the_run_too(tmp_path):
    def diverged(*_, **__):
        raise FloatingPointError("The loss is nan in step 5.")

    file = write_grid(tmp_path)
    assert run(file, train=diverged) == []
    assert [record["failed"]["last good epoch"] for record in kept(file)] == [0] * 4


def test_a_run_that_ends_in_an_error_leaves_no_record_and_keeps_no_other_from_being_done(
    tmp_path, monkeypatch, capsys
):
    def torn(recipe, *given, **options):
        if (recipe["model"], recipe["seed"]) == ("rtdetr-nano-stock", 0):
            raise RuntimeError("The layers do not fit:\n row 3\n row 4\n row 5")
        return training()(recipe, *given, **options)

    file = write_grid(tmp_path)
    command = ["compare", str(file), "--records", str(tmp_path / "records"), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(runner, "_train", torn)
    assert main(command) == 1 and len(kept(file)) == 3
    said = capsys.readouterr()
    assert "seed 0: RuntimeError: The layers do not fit: row 3 row 4 ...\n" in said.out
    assert "1 of 4 runs remain." in said.out and said.out.count(" | 3 | 21 | ") == 3
    assert (
        said.err
        == "1 of 4 runs ended in an error, which is told above. Mend its cause: the same command tries "
        + ("them again.\n")
    )
    monkeypatch.setattr(runner, "_train", training())
    assert main(command) == 0 and len(kept(file)) == 4


def test_what_a_broken_run_had_in_memory_is_let_go(tmp_path):
    alive, counts = [], []

    class Large:
        pass

    def torn(*_, **__):
        counts.append(sum(one() is not None for one in alive))
        large = Large()
        alive.append(weakref.ref(large))
        raise RuntimeError("out of memory")

    with pytest.raises(runner.Broken):
        run(write_grid(tmp_path), train=torn)
    assert counts == [0] * 4


def test_data_that_are_not_fit_are_refused_before_the_first_run_of_any_arm(tmp_path):
    more = "  late: {variants: [rtdetr-nano-stock], data: {path: bad}}\n"
    file = write_grid(tmp_path, GRID + more)
    shutil.copytree(tmp_path / "set", tmp_path / "bad")
    (tmp_path / "bad/a/1.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    with pytest.raises(yolo.DataError, match=r"a/1\.txt, line 1: class 7"):
        run(file, train=lambda *_, **__: pytest.fail("trained"))
    assert len(run(file, only="plain")) == 0  # data that are not asked for are not in the way


def test_data_of_several_runs_are_looked_through_once(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(runner.yolo, "checked", looked.append)
    run(write_grid(tmp_path))
    assert looked == [tmp_path / "set/data.yaml"]


def test_a_full_disk_ends_a_grid_at_once_for_it_would_stop_the_other_runs_too(tmp_path):
    begun = []

    def fill(recipe, *_, **__):
        begun.append(recipe)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        run(write_grid(tmp_path), train=fill)
    assert len(begun) == 1


def test_a_run_that_failed_is_told_by_every_call_with_the_way_to_try_it_again(tmp_path):
    file, said = write_grid(tmp_path), []
    run(file, train=training(nan_at=2))
    assert run(file, said) == []
    lost = next(one for one in read_grid(file).runs if one.title == "rtdetr-nano-stock, plain, seed 0")
    places = tmp_path / f"records/small/{lost.name}.json", tmp_path / f"work/small/{lost.name}"
    assert said == [
        "small: 4 runs, 4 of them done, of which 1 failed.",
        f"{lost.title} failed, and is not done again by itself. "
        f"To try it again, remove {places[0]} and {places[1]}.",
    ]
    places[0].unlink()
    shutil.rmtree(places[1])
    assert run(file) == [] and all(record["finished"] for record in kept(file))


def test_a_disk_that_fills_up_leaves_no_half_record(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = write_grid(tmp_path)
    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match=r"No space left.*The run is over and kept: make room"),
    ):
        patch.setattr(runner.os, "fsync", full)
        run(file)
    assert list((tmp_path / "records/small").iterdir()) == []
    assert run(file) == [] and len(kept(file)) == 4


def test_a_record_names_its_grid_as_seen_from_here_and_weights_by_their_whole_name(tmp_path, monkeypatch):
    (tmp_path / "rtdetr-nano-stock.safetensors").write_bytes(b"weights")
    more = "  tuned: {variants: [rtdetr-nano-stock.safetensors]}\n"
    (tmp_path / "my grids").mkdir()
    file = write_grid(tmp_path, GRID + more)
    for here, said in (
        (tmp_path.parent, f"{tmp_path.name}/small.yaml"),
        (tmp_path / "my grids", "small.yaml"),
    ):
        monkeypatch.chdir(here)
        shutil.rmtree(tmp_path / "records", ignore_errors=True)
        run(file)
        assert {record["made by"] for record in kept(file)} == {f"python -m mqa_lib compare {said}"}
    monkeypatch.chdir(tmp_path)
    assert runner.made_by(tmp_path / "my grids/a.yaml") == "python -m mqa_lib compare 'my grids/a.yaml'"
    assert {label(record) for record in kept(file)} == {
        "nano-stock, plain",
        "nano-mobile-mqa, plain",
        "nano-stock.safetensors, tuned",
    }


@pytest.mark.parametrize("minutes", [-3.0, float("nan")])
def test_a_time_that_cannot_be_is_refused(tmp_path, minutes):
    with pytest.raises(ValueError, match=rf"`minutes` \(={minutes}\) must be at least 0. Use .*--slice 30"):
        run(write_grid(tmp_path), minutes=minutes)


@pytest.mark.parametrize("name", ["records", "work"])
def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_trained(tmp_path, name):
    (tmp_path / name).write_text("a file where a folder should be")
    with pytest.raises(
        ValueError, match=rf"`{name}` \(=.*\) cannot be written to \(.*\). Name another.*--{name}"
    ):
        run(write_grid(tmp_path), train=lambda *_, **__: pytest.fail("trained"))


def test_the_best_weights_are_measured_on_the_test_split_and_threads_are_put_back(tmp_path, monkeypatch):
    seen, recipe = [], {"model": "rtdetr-nano-stock", "imgsz": 64}
    data = tmp_path / "data.yaml"
    before = torch.get_num_threads()

    def trained(*_, **__):
        seen.append(torch.get_num_threads())
        return {"finished": True}

    monkeypatch.setattr(trains, "train", trained)
    monkeypatch.setattr(rtdetr, "load", lambda path: path)
    monkeypatch.setattr(evaluate, "evaluate", lambda *given: given)
    data.write_text(yaml.safe_dump({"train": "a", "val": "b", "test": "c"}))
    record = runner._train(recipe, data, tmp_path, threads=before + 1)
    assert record["test"] == (tmp_path / "weights/best.pt", data, "test", 64)
    assert seen == [before + 1] and torch.get_num_threads() == before
    data.write_text(yaml.safe_dump({"train": "a", "val": "b"}))
    assert "test" not in runner._train(recipe, data, tmp_path, threads=before)
