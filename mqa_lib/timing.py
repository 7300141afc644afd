"""Seconds, measured so that layers can be compared: warmed up, taking turns, as medians with their spread.

A machine's speed drifts while one measures. So the candidates take turns, in an order that is turned round
after every round, and a ratio is formed within a round, where both met the same machine. Nothing here prints.
"""

import contextlib
import ctypes
import gc
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from mqa_lib import checks

Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it.

    Args:
        median: The middle value.
        low: A quarter of the values lie below.
        high: A quarter of the values lie above.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of one or more values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class Timing:
    """What one candidate took, round by round.

    Args:
        name: The candidate.
        seconds: Time of one call, averaged over the `calls` of a round; one value for each round.
        calls: Calls in a round, so many that the clock's step does not matter.
    """

    name: str
    seconds: tuple[float, ...]
    calls: int

    @property
    def spread(self) -> Spread:
        """Median and quartiles of the seconds."""
        return Spread.of(self.seconds)

    def ratio_to(self, other: "Timing") -> Spread:
        """Return how many times as long as `other` this took, formed round by round.

        Raises:
            ValueError: The two were not measured in the same rounds.
        """
        rounds = len(self.seconds)
        if rounds != len(other.seconds):
            rule = f"must be equal to that of the other timing (={len(other.seconds)})"
            raise checks.refuse("rounds", rounds, rule, "Measure both in one call of `compare`.")
        return Spread.of([mine / its for mine, its in zip(self.seconds, other.seconds, strict=True)])


def compare(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int = 20,
    warmup: int = 3,
    min_seconds: float = 0.002,
    max_seconds: float = math.inf,
    progress: Progress = iter,
) -> list[Timing]:
    """Return the timings of the candidates in the order given, measured in turns.

    Args:
        candidates: Functions without arguments, by name. What they return is thrown away.
        repeats: Rounds. In each, every candidate is measured once.
        warmup: Calls of each candidate before the first round.
        min_seconds: A candidate is called so often in a round that the round takes it at least this long.
        max_seconds: No further round begins when this has passed, warm-up included, once there are three: a busy
            machine costs rounds, not patience. The timings say how many there were.
        progress: Wraps the rounds, such as `tqdm`.

    Raises:
        ValueError: There is no candidate, or `repeats` or `warmup` is smaller than 1.
    """
    if not candidates:
        raise checks.refuse(
            "candidates", dict(candidates), "must not be empty", "Give at least one function."
        )
    checks.positive("repeats", repeats)
    checks.positive("warmup", warmup, "Use 1 or more: the first call also allocates and compiles.")
    begun = time.perf_counter()
    calls = {
        name: _calls_for(min_seconds, min(_seconds(run, 1) for _ in range(warmup)))
        for name, run in candidates.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for done in progress(range(repeats)):
        if done >= 3 and time.perf_counter() - begun > max_seconds:
            break
        for name in order:
            taken[name].append(_seconds(candidates[name], calls[name]))
        order.reverse()
    return [Timing(name, tuple(taken[name]), calls[name]) for name in candidates]


def fastest(timings: Iterable[Timing]) -> Timing:
    """Return the timing with the smallest median."""
    return min(timings, key=lambda timing: timing.spread.median)


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the mean that suits ratios: twice as fast and half as fast average to 1."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def verdict(ratio: Spread) -> str:
    """Return what a ratio of times says: "yes" (less time) or "no" only if the quartiles agree on it."""
    if ratio.high < 1:
        return f"yes, {1 - ratio.median:.0%} less time"
    return f"no, {ratio.median - 1:.0%} more time" if ratio.low > 1 else "undecided"


def verdict_table(ratios: Mapping[str, Mapping[str, Spread]], corner: str) -> str:
    """Return a Markdown table of verdicts.

    Args:
        ratios: Rows by name, in each the ratios by column.
        corner: What the names of the rows are.
    """
    columns = list(next(iter(ratios.values())))
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(verdict(row[column]) for column in columns)] for name, row in ratios.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(packages: Sequence[str] = ("torch", "timm", "numpy")) -> dict[str, Any]:
    """Return what a timing depends on: processor, threads, load, GPU, versions. No name of host or user."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_1min": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def commit() -> str | None:
    """Return the library's git commit, with "+changes" if files differ from it; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + "+changes" if _git(folder, "status", "--porcelain", "--", ".") else head
    except (OSError, subprocess.CalledProcessError):
        return None


def keep_heap() -> bool:
    """Ask the C library to keep freed memory for the next call, and return whether it could be asked (glibc).

    Otherwise what a large array costs depends on whether its pages were handed back to the system just before, which
    on a virtual machine can take longer than to compute it, and changes from round to round.
    """
    try:
        library = ctypes.CDLL(None)
        return all(library.mallopt(option, 2**25 if option == -3 else 2**31 - 1) for option in (-3, -1))
    except (OSError, AttributeError, TypeError):  # another C library
        return False


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes that tensors made by one call took at the same time, beyond what was there before.

    What the libraries below PyTorch allocate for themselves is not seen.
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        run()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    run()
    with _without_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    held = most = 0
    for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Throw away what is written to file 2 meanwhile: PyTorch's profiler reports its start and end there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _git(folder: Path, *arguments: str) -> str:
    asked = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def _seconds(run: Callable[[], object], calls: int) -> float:
    collecting = gc.isenabled()
    gc.disable()
    try:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            return _gpu_seconds(run, calls)
        _synchronise()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        _synchronise()
        return (time.perf_counter() - start) / calls
    finally:
        if collecting:
            gc.enable()


def _gpu_seconds(run: Callable[[], object], calls: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / calls  # the event counts milliseconds


def _synchronise() -> None:
    # A GPU takes orders and answers later: without waiting one would time the ordering.
    if torch.backends.mps.is_available():
        torch.mps.synchronize()


def _calls_for(min_seconds: float, one_call: float) -> int:
    return max(1, min(1000, math.ceil(min_seconds / max(one_call, 1e-9))))


def _cpu_model() -> str:
    known = Path("/proc/cpuinfo")
    if known.exists():
        for line in known.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
