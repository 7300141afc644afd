"""A grid can be stopped anywhere and gone on with, on one machine or on many; every run leaves one record."""

import errno
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mqa_lib import locking
from mqa_lib.__main__ import main
from mqa_lib.experiments import Broken, cluster, compare, read_grid, read_runs, runner
from tests.experiments.stub import GRID, training, write_grid

REAL = """
data: {keys_and_locks: {train: 16, val: 4, test: 4, seed: 3, size: 64}}
schedule: {epochs: 3, imgsz: 64, batch: 8}
seeds: [0]
arms:
  plain: {variants: [rtdetr-nano-stock]}
  first: {variants: [rtdetr-nano-mobile-mqa], schedule: {epochs: 1}}
"""


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    """Let these tests not wait for a grid that is at work on this machine, nor the other way round."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(runner, "machine_lock", lambda: tmp_path / "tmp/lock")


def run(file, said=None, **options):
    said = [] if said is None else said
    home = file.parent
    options = {"train": training(), "say": said.append} | options
    return compare(file, home / "records", home / "work", **options)


def kept(file):
    return {
        path.stem: json.loads(path.read_text())
        for path in (file.parent / f"records/{file.stem}").glob("*.json")
    }


def epochs(record):
    return [entry["epoch"] for entry in record["epochs"]]


def test_a_killed_grid_goes_on_and_every_epoch_is_there_once(tmp_path, monkeypatch):
    """The real training in a process of its own, killed in its first run, then started again with the same command."""
    file = write_grid(tmp_path, REAL)
    places = ["--records", str(tmp_path / "records"), "--work", str(tmp_path / "work")]
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    command = [sys.executable, "-m", "mqa_lib", "compare", str(file), *places]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (begun := list(tmp_path.glob("work/small/*/weights/last.pt"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = json.loads((begun[0].parents[1] / "record.json").read_text())
    assert 1 <= len(before["epochs"]) <= 3 and not kept(file)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    records = kept(file)
    assert sorted(map(epochs, records.values())) == [[1], [1, 2, 3]]
    plain = next(record for name, record in records.items() if "plain" in name)
    first = next(record for name, record in records.items() if "first" in name)
    assert plain["epochs"][: len(before["epochs"])] == before["epochs"]
    assert plain["test"].keys() == first["test"].keys() >= {"mAP50", "classes", "lock colours"}
    assert first["epochs"][0]["cpu_seconds"] > 0
    assert str(tmp_path) not in json.dumps(records)
    assert "2 runs, 0 of them done" in again.stdout and "| nano-stock, plain | 0 | 3 | 48 |" in again.stdout


def test_a_slice_ends_after_an_epoch_and_the_next_ones_finish(tmp_path):
    file = write_grid(tmp_path)
    left = [len(run(file, minutes=0)) for _ in range(2)]
    assert left == [4, 4]  # no time at all: nothing begins
    said = []

    def slow(*given, after_epoch, **options):  # the slice is over when its first epoch is
        return training()(*given, after_epoch=lambda _: True, **options)

    assert len(run(file, said, train=slow)) == 4 and "stopped after epoch 1 of 3" in said[2]
    assert run(file) == []
    assert [epochs(record) for record in kept(file).values()] == [[1, 2, 3]] * 4


def test_what_is_done_is_not_done_again(tmp_path):
    file = write_grid(tmp_path)
    run(file)
    assert run(file, train=lambda *_, **__: pytest.fail("trained again")) == []


def test_a_loss_that_is_no_number_fails_its_run_alone(tmp_path):
    file, said = write_grid(tmp_path), []
    assert run(file, said, train=training(nan_at=3)) == []
    failed = [record for record in kept(file).values() if "failed" in record]
    assert [record["failed"]["last good epoch"] for record in failed] == [2] and epochs(failed[0]) == [1, 2]
    assert sum(record["finished"] for record in kept(file).values()) == 3
    assert any("failed (The loss is nan in epoch 3.) Its last good epoch was 2" in line for line in said)


def test_a_changed_grid_leaves_the_old_records_as_they_are(tmp_path):
    file, said = write_grid(tmp_path), []
    run(file)
    before = kept(file)
    run(write_grid(tmp_path, GRID.replace("epochs: 3", "epochs: 2")), said)
    after = kept(file)
    assert len(after) == 8 and before.items() <= after.items()
    assert said[0] == "Records of another recipe in small, which stay as they are: 4."
    assert {record["recipe"]["epochs"] for record in read_runs(tmp_path / "records/small", file)} == {2}


def test_runs_that_were_not_selected_are_not_taken_for_another_recipe(tmp_path):
    file, said = write_grid(tmp_path), []
    run(file)
    run(file, said, only=read_grid(file).runs[0].title)
    assert said == ["small: 1 runs, 1 of them done."]


def test_an_unknown_variant_is_listed_and_nothing_is_made(tmp_path, capsys):
    file = write_grid(tmp_path, GRID.replace("nano-stock", "nano-stick"))
    assert main(["compare", str(file), "--records", str(tmp_path / "r"), "--work", str(tmp_path / "w")]) == 2
    assert "`variants` (=rtdetr-nano-stick) is not known. Use some of: rtdetr-" in capsys.readouterr().err
    assert not (tmp_path / "r").exists() and not (tmp_path / "w").exists()


def test_two_grids_on_one_machine_are_refused_unless_told(tmp_path):
    file = write_grid(tmp_path)
    seen = []

    def meanwhile(*given, **options):
        if not seen:
            seen.append(1)
            with pytest.raises(locking.Busy, match=r"held by process \d+.*--together"):
                run(file)
            seen.append(run(file, together=True))  # it does the other runs, and leaves this one alone
        return training()(*given, **options)

    assert run(file, train=meanwhile) == []
    assert [len(left) for left in seen[1:]] == [1]
    assert {len(record["processes"]) for record in kept(file).values()} == {1}


def test_a_lock_outlives_no_process(tmp_path):
    code = f"from mqa_lib import locking\nwith locking.hold({str(tmp_path / 'a')!r}):\n print(1, flush=True)\n input()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    with pytest.raises(locking.Busy, match=f"process {holder.pid}"), locking.hold(tmp_path / "a"):
        pass
    holder.kill()
    holder.wait()
    with locking.hold(tmp_path / "a"):
        pass
    holder.stdin.close()
    holder.stdout.close()


def test_a_cluster_loses_nothing_when_a_worker_is_killed(tmp_path):
    """Two workers of a Ray on this machine, both at work when one of them is killed in the second epoch of its run."""
    import ray

    file, said = write_grid(tmp_path), []
    cores = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    for tries_left in (2, 1, 0):
        try:
            ray.init(**cores)
            break
        except Exception:  # it gives itself thirty seconds to begin, too few where many others compute
            ray.shutdown()
            if not tries_left:
                raise
    try:
        assert run(file, said, ray="local", train=training(die_at=2, meet=tmp_path / "meet")) == []
    finally:
        ray.shutdown()
    assert len(list((tmp_path / "meet").iterdir())) == 2  # none died alone
    records = kept(file)
    assert [epochs(record) for record in records.values()] == [[1, 2, 3]] * 4
    (died,) = (record for record in records.values() if len(record["processes"]) > 1)
    assert died["recipe"]["model"] == "rtdetr-nano-stock" and len(set(died["processes"])) == 2
    assert sum(": mAP50 0.500" in line for line in said) == 4
    assert said[-1].startswith("4/4 ")


class StandIn:
    """What `cluster` uses of Ray: an error of a task comes wrapped in one of Ray's own, with lines of Ray's own."""

    class RayError(Exception):
        pass

    exceptions = SimpleNamespace(RayError=RayError)

    @staticmethod
    def is_initialized():
        return True

    @staticmethod
    def remote(**_):
        return lambda do: SimpleNamespace(remote=lambda *given: functools.partial(do, *given))

    @staticmethod
    def wait(waiting):
        return waiting[:1], waiting[1:]

    @staticmethod
    def get(task):
        try:
            return task()
        except Exception as error:
            wrapped = StandIn.RayError(f"ray::_perform_alone()\n  File x.py\n{error}")
            wrapped.cause = error
            raise wrapped from error


def test_a_cluster_tells_the_cause_of_an_error_and_the_time_left_and_does_the_other_runs(
    tmp_path, monkeypatch
):
    def torn(recipe, *given, **options):
        if (recipe["model"], recipe["seed"]) == ("rtdetr-nano-stock", 0):
            raise ValueError("The data are not fit.\n a.txt, line 1\n and 5 more")
        return training()(recipe, *given, **options)

    file, said = write_grid(tmp_path), []
    monkeypatch.setitem(sys.modules, "ray", StandIn)
    with pytest.raises(Broken, match="1 of 4 runs ended in an error"):
        run(file, said, ray="auto", train=torn)
    title = "rtdetr-nano-stock, plain, seed 0"
    assert said[1] == f"{title}: ValueError: The data are not fit. a.txt, line 1 and 5 more"
    assert said[2].endswith("in 3.0 min; about 9 min of computing left for all") and len(kept(file)) == 3


def test_an_address_where_no_cluster_answers_is_refused_in_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"127.0.0.1:{server.getsockname()[1]}"
    begun = time.monotonic()
    with pytest.raises(
        ConnectionError, match=rf"`ray` \(={dead}\) is no cluster that answers .*`ray start --head`"
    ):
        run(write_grid(tmp_path), ray=dead, train=lambda *_, **__: pytest.fail("trained"))
    assert time.monotonic() - begun < 30


def test_an_address_for_rays_client_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        ValueError, match=r"`ray` \(=ray://head:10001\) needs Ray's client.*pip install 'ray\[client\]'"
    ):
        cluster._check_answers("ray://head:10001")


def test_a_cluster_leaves_a_run_alone_that_another_process_is_at(tmp_path):
    (first, *_) = read_grid(write_grid(tmp_path)).runs
    with (
        locking.hold(tmp_path / "work/small" / f"{first.name}.lock"),
        pytest.raises(locking.Busy, match="is held by"),
    ):
        cluster._perform_alone(first, "small", 1, tmp_path / "work", "", training())
    assert cluster._perform_alone(first, "small", 1, tmp_path / "work", "", training())["finished"]


def test_a_slice_of_a_cluster_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"`minutes` \(=3\) is not known on a cluster. Leave out one of `--slice`"
    ):
        run(write_grid(tmp_path), ray="local", minutes=3)


def test_a_record_that_a_dying_machine_cut_off_is_named_and_not_taken_for_a_run(tmp_path):
    file = write_grid(tmp_path)
    run(file)
    victim = next((tmp_path / "records/small").glob("*.json"))
    victim.write_text(victim.read_text()[:100])
    for read in (lambda: read_runs(tmp_path / "records/small"), lambda: run(file)):
        with pytest.raises(
            ValueError, match=rf"`record` .*{victim.name}\) is cut off or broken .*Remove it, and run"
        ):
            read()
    victim.unlink()
    assert run(file, train=training()) == [] and len(kept(file)) == 4


def test_a_cluster_trains_for_real(tmp_path):
    file = write_grid(tmp_path, REAL.split("  first")[0].replace("epochs: 3", "epochs: 1"))
    assert run(file, ray="local", train=None) == []
    (record,) = read_runs(tmp_path / "records/small")
    assert epochs(record) == [1] and record["test"]["mAP50"] >= 0


def test_the_runs_of_a_grid_are_those_of_its_records(tmp_path):
    file = write_grid(tmp_path)
    run(file)
    assert sorted(kept(file)) == sorted(one.name for one in read_grid(file).runs)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)), NotImplementedError("flock")]
)
def test_a_disk_without_locks_is_not_taken_for_somebody_at_work(tmp_path, monkeypatch, error):
    def refuses(*_, **__):
        raise error

    monkeypatch.setattr(locking.filelock.FileLock, "acquire", refuses)
    with pytest.raises(OSError, match=r"cannot be locked .*Use a folder on another disk") as caught:
        locking.hold(tmp_path / "x").__enter__()
    assert not isinstance(caught.value, locking.Busy)
