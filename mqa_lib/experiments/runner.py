"""Doing the runs of a grid: one after the other, stopped and gone on with at any epoch, each leaving a record."""

import contextlib
import hashlib
import json
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mqa_lib import checks, locking
from mqa_lib.datasets import bccd, inspect, keys_and_locks, voc, yolo
from mqa_lib.experiments.grid import Grid, Run, read_grid
from mqa_lib.experiments.records import best_epoch, read_record, run_seconds

# Takes recipe, data and folder, then options as `mqa_lib.rtdetr.train.train` has them; returns a record.
Train = Callable[..., dict[str, Any]]
Say = Callable[[str], None]
_SHOWN = 3  # lines of an error
_SILENCE = 600  # seconds after which a run is told of that shows no progress bar


class Broken(RuntimeError):
    """Runs ended in an error. The others were done, and these remain."""


def compare(
    file: str | Path,
    records: str | Path = "data/runs",
    work: str | Path = "runs",
    minutes: float | None = None,
    together: bool = False,
    ray: str | None = None,
    train: Train | None = None,
    say: Say | None = None,
    only: str = "",
) -> list[Run]:
    """Do what a grid still lacks, and return the runs that remain.

    A run that was stopped goes on after its last whole epoch; one that has its record is not done again, whatever it
    says. A grid that was changed gives its runs other names, so that old records stay as they are.

    Args:
        file: The grid, see `mqa_lib.experiments.grid`.
        records: Folder of the records; each experiment gets a folder in it.
        work: Folder for data, and checkpoints. On a cluster all machines have to see it.
        minutes: Stop after the epoch in which this time is over.
        together: Do it even if another grid is at work on this machine.
        ray: Address of a Ray cluster to spread the runs over, or "local".
        train: What trains, instead of `mqa_lib.rtdetr.train.train`.
        say: What takes a line of progress, instead of the standard output.
        only: Do the runs alone whose title has this in it, such as "nano-stock, from-scratch, seed 0".

    Raises:
        ValueError: The grid is not one, no run of it is meant by `only`, `minutes` are given for a cluster or are less
            than 0, a folder cannot be written to, or data are not fit to be trained on; nothing has been started. Or a
            record is cut off.
        Broken: Runs ended in an error and have no record. All others that were to be done now have been begun.
        Busy: Another grid is at work on this machine.
        OSError: The disk is full. The same call goes on when there is room.
    """
    grid, say = read_grid(file), say or _print
    work, places, command = Path(work).absolute(), Path(records) / grid.name, made_by(Path(file))
    if ray is not None and minutes is not None:
        raise checks.refuse(
            "minutes", minutes, "is not known on a cluster", "Leave out one of `--slice` and `--ray`."
        )
    if minutes is not None and not minutes >= 0:  # written so that it refuses what is no number, too
        raise checks.refuse("minutes", minutes, "must be at least 0", "Use a number such as `--slice 30`.")
    meant = [run for run in grid.runs if only in run.title]
    if not meant:
        titles = "; ".join(run.title for run in grid.runs)
        raise checks.refuse("only", only, "is in the title of no run", f"The runs are: {titles}.")
    todo = [run for run in meant if not _has_record(places, run)]
    lost = _failed(places, meant)
    _say_older(grid, places, say)
    if todo:
        _check_writable("records", places)
        _check_writable("work", work)
        _check_data(todo, work)
    done = f"{len(meant) - len(todo)} of them done" + (f", of which {len(lost)} failed" if lost else "")
    say(f"{grid.name}: {len(meant)} runs, {done}.")
    with contextlib.nullcontext() if together else _alone():
        if ray is not None:
            from mqa_lib.experiments import cluster

            broken = cluster.spread(grid, todo, places, work, ray, command, train, say)
        else:
            broken = _one_by_one(grid, todo, places, work, minutes, command, train, say)
    left = [run for run in meant if not record_of(places, run).exists()]
    if left:
        say(f"{len(left)} of {len(meant)} runs remain. The same command goes on with them.")
    for run in _failed(places, meant):
        both = f"{record_of(places, run)} and {work / grid.name / run.name}"
        say(f"{run.title} failed, and is not done again by itself. To try it again, remove {both}.")
    if broken:
        said = f"{len(broken)} of {len(todo)} runs ended in an error, which is told above."
        raise Broken(f"{said} Mend its cause: the same command tries them again.") from broken[0]
    return left


def record_of(places: Path, run: Run) -> Path:
    """Return where the record of a run is kept."""
    return places / f"{run.name}.json"


def _has_record(places: Path, run: Run) -> bool:
    """Return whether a run is over, and so not to be done again.

    Raises:
        ValueError: Its record is cut off.
    """
    file = record_of(places, run)
    return file.exists() and bool(read_record(file))


def _failed(places: Path, runs: list[Run]) -> list[Run]:
    return [
        run for run in runs if _has_record(places, run) and "failed" in read_record(record_of(places, run))
    ]


def _check_writable(name: str, folder: Path) -> None:
    """Refuse a folder that cannot be written to before hours are spent on what should go there.

    Raises:
        ValueError: It cannot be made, or takes no file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        rule = f"cannot be written to ({error.strerror})"
        raise checks.refuse(name, folder, rule, f"Name another folder: `--{name} FOLDER`.") from error


def _check_data(todo: list[Run], work: Path) -> None:
    """Refuse a data set of the user's own that is not fit to be trained on now, and not when its turn comes.

    Raises:
        DataError: One is not.
    """
    seen: list[dict[str, Any]] = []
    for run in todo:
        if "path" in run.data and run.data not in seen:
            seen.append(run.data)
            yolo.checked(make_data(run.data, work))


def reason(error: BaseException) -> str:
    """Return what an error says first, in one line."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    more = " ..." if len(lines) > _SHOWN else ""
    return f"{type(error).__name__}: {' '.join(lines[:_SHOWN])}{more}"


def _one_by_one(
    grid: Grid,
    todo: list[Run],
    places: Path,
    work: Path,
    minutes: float | None,
    command: str,
    train: Train | None,
    say: Say,
) -> list[Exception]:
    """Do the runs that there is time for, and return the errors that some of them ended in."""
    broken: list[Exception] = []
    end = time.monotonic() + 60 * minutes if minutes is not None else None

    def over(_: object = None) -> bool:
        return end is not None and time.monotonic() >= end

    for run in todo:
        if over():
            break
        left = time_left(grid, places)
        place = f"{grid.runs.index(run) + 1}/{len(grid.runs)} {run.title}"
        try:
            with locking.hold(work / grid.name / f"{run.name}.lock"):
                if record_of(places, run).exists():  # another process did it meanwhile
                    continue
                shown = f"{place} (all: {left})" if left else place
                asked: Callable[[dict[str, Any]], bool] = over
                if not sys.stderr.isatty():  # no progress bar is shown there
                    say(f"{place}: begins" + (f"; {left} left for all" if left else ""))
                    asked = _telling(over, f"{place}: epoch", run.recipe["epochs"], say)
                record = perform(run, grid.name, grid.threads, work, shown, asked, train)
        except locking.Busy:
            say(f"{place}: another process is at it.")
            continue
        except OSError:  # a full disk, say, which would stop the others too
            raise
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # else its model and pictures stay in memory
            broken.append(error)
            say(f"{place}: {reason(error)}")
            continue
        if keep(record | {"made by": command}, record_of(places, run)):
            left = time_left(grid, places)
            say(f"{place}: {outcome(record)}" + (f"; {left} left for all" if left else ""))
        else:
            say(f"{place}: stopped after epoch {len(record['epochs'])} of {run.recipe['epochs']}")
    return broken


def _telling(
    over: Callable[[dict[str, Any]], bool], begins: str, epochs: int, say: Say
) -> Callable[[dict[str, Any]], bool]:
    """Return what answers as `over` does, and says now and then how many epochs are done."""
    last = time.monotonic()

    def answer(record: dict[str, Any]) -> bool:
        nonlocal last
        if record["epochs"] and time.monotonic() - last >= _SILENCE:
            last = time.monotonic()
            say(f"{begins} {len(record['epochs'])} of {epochs} is done")
        return over(record)

    return answer


def perform(
    run: Run,
    experiment: str,
    threads: int,
    work: Path,
    title: str = "",
    after_epoch: Callable[[dict[str, Any]], bool] | None = None,
    train: Train | None = None,
) -> dict[str, Any]:
    """Do one run, or go on with it, and return its record: finished, failed, or stopped on the way.

    A loss that is not finite makes the run a failed one, with what it had reached.
    """
    folder = work / experiment / run.name
    options = {"one_bar": title or run.title, "after_epoch": after_epoch, "stop_at_nan": True}
    try:
        data = make_data(run.data, work)
        record = (train or _train)(run.recipe, data, folder, threads=threads, **options)
    except FloatingPointError as error:
        there = folder / "record.json"
        record = json.loads(there.read_text()) if there.exists() else {"recipe": run.recipe, "epochs": []}
        last = record["epochs"][-1]["epoch"] if record["epochs"] else 0
        record |= {"finished": False, "failed": {"reason": str(error), "last good epoch": last}}
    record["experiment"] = {"name": experiment, "arm": run.arm, "hash": run.identity, "threads": threads}
    model = Path(run.recipe["model"])  # without a machine's path, and weights not as what begins without any
    name = model.name if model.suffix in (".pt", ".safetensors") else model.stem
    record["recipe"] = {**record["recipe"], "model": name}
    return record


def made_by(file: Path) -> str:
    """Return the command that does a grid, with its path as seen from here and with no machine's own."""
    here = Path.cwd()
    seen = file.absolute()
    said = seen.relative_to(here).as_posix() if seen.is_relative_to(here) else file.name
    return shlex.join(["python", "-m", "mqa_lib", "compare", said])


def keep(record: dict[str, Any], file: Path) -> bool:
    """Write the record of a run that is over, and return whether it is.

    Raises:
        OSError: The disk is full.
    """
    if not record.get("finished") and "failed" not in record:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.part")
    try:
        with draft.open("w", encoding="utf-8") as written:
            written.write(json.dumps(record, indent=1) + "\n")
            written.flush()
            # else a machine that loses its power may keep the name and not what is in it
            os.fsync(written.fileno())
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        way_out = "The run is over and kept: make room, and the same command writes its record"
        raise OSError(error.errno, f"{error.strerror}. {way_out}", str(file)) from error
    return True


def outcome(record: dict[str, Any]) -> str:
    """Return in a line how a run ended."""
    if "failed" in record:
        failed = record["failed"]
        return f"failed ({failed['reason']}) Its last good epoch was {failed['last good epoch']}"
    best = best_epoch(record)
    return f"mAP50 {best['mAP50']:.3f}, mAP50-95 {best['mAP50-95']:.3f} in {run_seconds(record) / 60:.1f} min"


def make_data(data: dict[str, Any], work: Path) -> Path:
    """Return the YAML file of a run's data, which are made or fetched if they are not there yet."""
    kind, settings = next(iter(data.items()))
    if kind == "path":
        return _own_data(Path(settings), work)
    said = json.dumps(settings, sort_keys=True)
    root = work / "data" / f"{kind}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
    with locking.hold(root.with_suffix(".lock"), wait=True):
        if kind == "bccd":
            return bccd.prepare(root, settings)
        return keys_and_locks.generate(root, **settings)


def _own_data(path: Path, work: Path) -> Path:
    """Return the YAML file of a set of one's own; one of VOC is written once for all runs, and anew once it changed."""
    place = inspect.found(path)
    if place.is_file():
        return place
    root = work / "data" / f"{place.stem}-{inspect.fingerprint(place)[:8]}"
    with locking.hold(root.parent / f"{root.name}.lock", wait=True):
        # it is written last
        if not (root / "data.yaml").exists():
            report = voc.write(voc.read(place).raise_if_bad(), root)
            for note in report.notes:
                print(f"{place.name}: {note}", file=sys.stderr)
    return root / "data.yaml"


def time_left(grid: Grid, places: Path) -> str:
    """Return about how long the runs without a record will take, by those that have one; nothing if none has."""
    known: dict[str, list[float]] = {}
    open_runs = []
    for run in grid.runs:
        file = record_of(places, run)
        if not file.exists():
            open_runs.append(run)
        elif (record := read_record(file)).get("finished"):
            known.setdefault(run.recipe["model"], []).append(run_seconds(record))
    if not known:
        return ""
    means = {model: sum(taken) / len(taken) for model, taken in known.items()}
    typical = sum(means.values()) / len(means)
    minutes = sum(means.get(run.recipe["model"], typical) for run in open_runs) / 60
    return f"about {minutes / 60:.1f} h" if minutes >= 90 else f"about {minutes:.0f} min"


def _train(recipe: dict[str, Any], data: Path, folder: Path, threads: int, **options: Any) -> dict[str, Any]:
    import torch

    from mqa_lib.rtdetr import evaluate, load
    from mqa_lib.rtdetr.train import Recipe, train

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        record = train(Recipe(**recipe), data, folder, **options)
        if record["finished"] and _has_test(data):
            best = load(folder / "weights" / "best.pt")
            record["test"] = evaluate.evaluate(best, data, "test", recipe["imgsz"])
    finally:
        torch.set_num_threads(before)
    return record


def _has_test(data: Path) -> bool:
    import yaml

    return bool(yaml.safe_load(data.read_text(encoding="utf-8-sig")).get("test"))


def machine_lock() -> Path:
    """Return the file that whoever is at work on a grid on this machine holds."""
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"mqa_lib-compare{user}.lock"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    holding = contextlib.ExitStack()
    try:
        holding.enter_context(locking.hold(machine_lock()))
    except locking.Busy as error:
        raise locking.Busy(
            f"A grid is at work on this machine ({error}) Two would slow each other down. "
            "Wait for it, or use `--together`."
        ) from error
    with holding:
        yield


def _say_older(grid: Grid, places: Path, say: Say) -> None:
    own = {record_of(places, run).name for run in grid.runs}
    others = [file for file in places.glob("*.json") if file.name not in own]
    if others:
        say(f"Records of another recipe in {places.name}, which stay as they are: {len(others)}.")


def _print(line: str) -> None:
    print(line, file=sys.stdout, flush=True)
