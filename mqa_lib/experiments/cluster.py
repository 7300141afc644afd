"""The runs of a grid spread over a Ray cluster: a run whose machine or process dies goes on elsewhere."""

import importlib.util
import socket
from pathlib import Path
from typing import Any

from mqa_lib import checks, locking
from mqa_lib.experiments.grid import Grid, Run
from mqa_lib.experiments.runner import Say, Train, keep, outcome, perform, reason, record_of, time_left

LOCAL = "local"
_LIVES = 5  # how often a run may lose its process
_CLIENT = "ray://"
_PATIENCE = 5.0  # seconds for a port to answer; Ray itself would go on trying for minutes


def spread(
    grid: Grid,
    todo: list[Run],
    places: Path,
    work: Path,
    address: str,
    command: str,
    train: Train | None,
    say: Say,
) -> list[Exception]:
    """Do the runs on a cluster, each on as many cores as it has threads, write their records here, return the errors.

    Every machine needs this library, and has to see the folder `work` under the same path: that is where a run that
    lost its process finds its last whole epoch. Without that it begins anew.

    Args:
        grid: The grid.
        todo: Those of its runs that are wanted.
        places: Folder of the records.
        work: Folder for data, and checkpoints.
        address: The cluster's address, "auto", or "local" to start one on this machine.
        command: What the records say that they are made by.
        train: What trains, instead of `mqa_lib.rtdetr.train.train`.
        say: What takes a line of progress.

    Raises:
        ValueError: Ray is not installed, or not the part of it that the address needs.
        ConnectionError: No cluster answers at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("`--ray` needs Ray. Install it with `pip install 'mqa-lib[cluster]'`.") from error
    _check_answers(address)
    broken: list[Exception] = []
    own = not ray.is_initialized()
    try:
        if own:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
            ray.init(**quiet, include_dashboard=False) if address == LOCAL else ray.init(address, **quiet)
        # `max_retries` is for processes that die. An error of the training itself would only come again.
        do = ray.remote(num_cpus=grid.threads, max_retries=_LIVES)(_perform_alone)
        waiting = {do.remote(run, grid.name, grid.threads, work, run.title, train): run for run in todo}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            run = waiting.pop(done)
            try:
                record = ray.get(done)
            except ray.exceptions.RayError as error:  # the others go on, and this one remains
                cause = getattr(error, "cause", None) or error  # without the lines of Ray's own
                if isinstance(cause, locking.Busy):
                    say(f"{run.title}: another process is at it.")
                    continue
                broken.append(cause)
                say(f"{run.title}: {reason(cause)}")
                continue
            keep(record | {"made by": command}, record_of(places, run))
            over = len(todo) - len(waiting)
            left = time_left(grid, places)
            more = f"; {left} of computing left for all" if left else ""
            say(f"{over}/{len(todo)} {run.title}: {outcome(record)}{more}")
    finally:
        if own:
            ray.shutdown()
    return broken


def _check_answers(address: str) -> None:
    """Refuse an address that no cluster can be reached at, in seconds.

    Raises:
        ValueError: It needs a part of Ray that is not installed.
        ConnectionError: Nothing answers at its port.
    """
    if address.startswith(_CLIENT) and importlib.util.find_spec("grpc") is None:
        way_out = (
            "Install it with `pip install 'ray[client]'`, or use `--ray auto` on a machine of the cluster."
        )
        raise checks.refuse("ray", address, "needs Ray's client, which is not installed", way_out)
    host, _, port = address.removeprefix(_CLIENT).partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return  # a word such as auto, which Ray looks up at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        way_out = "Start one there with `ray start --head`, check the address, or use `--ray local`."
        raise ConnectionError(
            f"`ray` (={address}) is no cluster that answers ({error}). {way_out}"
        ) from error


def _perform_alone(
    run: Run, experiment: str, threads: int, work: Path, title: str, train: Train | None
) -> dict[str, Any]:
    """Do what `perform` does, unless another process is at the same run: somebody may have started the grid twice."""
    with locking.hold(work / experiment / f"{run.name}.lock"):
        return perform(run, experiment, threads, work, title, None, train)
