"""Run the benchmark, sum it up, write its record."""

import argparse
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from mqa_lib import checks, timing
from mqa_lib.bench import cases, floor
from mqa_lib.bench.cases import MODES, SHAPES, Shape
from mqa_lib.timing import Spread, Timing

OUT = Path(__file__).parents[2] / "data" / "benchmarks" / "layer.json"
WARM_UP = 2
# What is divided by what, each layer in its faster memory format; timm's also with or without its fused kernel.
GAINS: dict[str, tuple[tuple[str, ...], str]] = {
    "timm / ours": (("timm", "timm unfused"), "ours"),
    "timm / ours folded": (("timm", "timm unfused"), "ours folded"),
    "timm's block / our block": (("timm's block",), "our block"),
    "timm's block / our block folded": (("timm's block",), "our block folded"),
    "multi-head / ours": (("multi-head",), "ours"),
    "nn.MultiheadAttention / ours": (("nn.MultiheadAttention",), "ours"),
    "article / ours": (("article",), "ours"),
    "ours / floor": (("ours",), "floor"),
    "timm / floor": (("timm", "timm unfused"), "floor"),
}


def faster_formats(timings: Sequence[Timing]) -> dict[str, Timing]:
    """Return, for each layer, its timing in the memory format in which it was faster."""
    names = dict.fromkeys(each.name.split(",")[0] for each in timings)
    return {name: timing.fastest([t for t in timings if t.name.split(",")[0] == name]) for name in names}


def gain(timings: Sequence[Timing], name: str) -> Spread | None:
    """Return one of `GAINS`, or None where a layer of it was not measured.

    Raises:
        ValueError: `name` is not one of `GAINS`.
    """
    over, under = GAINS[checks.one_of("name", name, GAINS)]
    best = faster_formats(timings)
    measured = [best[each] for each in over if each in best]
    return timing.fastest(measured).ratio_to(best[under]) if measured and under in best else None


def run(
    shapes: Sequence[Shape] = SHAPES,
    modes: Sequence[str] = MODES,
    repeats: int = 30,
    max_seconds: float = 12.0,
    progress: Callable[[str, int], timing.Progress] | None = None,
    **where: Any,
) -> dict[str, Any]:
    """Return the record of a benchmark: settings, machine, commit, all seconds, peak memory, and their summary.

    Args:
        shapes: What to measure.
        modes: "inference" (no gradients) or "training" (forward and backward).
        repeats: Rounds for each shape and mode.
        max_seconds: No further round begins after this, warm-up included, once there are three.
        progress: Makes a wrapper for the rounds from the case's name and their number.
        **where: `device` and `dtype` of layers and maps.
    """
    kept = timing.keep_heap()
    found = []
    for mode in modes:
        for shape in shapes:
            wrap = progress(f"{shape.label}, {mode}", repeats) if progress else iter
            found.append(_case(shape, mode, repeats, max_seconds, wrap, **where))
    settings: dict[str, Any] = {"repeats": repeats, "max_seconds": max_seconds, "warm_up": WARM_UP, "seed": 0}
    settings |= {key: str(value) for key, value in where.items()} or {
        "dtype": "torch.float32",
        "device": "cpu",
    }
    return {
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "python -m mqa_lib bench",
        "commit": timing.commit(),
        "machine": timing.machine(),
        "settings": settings | {"heap is kept": kept, "shapes": len(shapes)},
        "cases": found,
        "geometric_means": {mode: _means(found, mode) for mode in modes},
    }


def _case(
    shape: Shape, mode: str, repeats: int, max_seconds: float, wrap: timing.Progress, **where: Any
) -> dict[str, Any]:
    runs: dict[str, Callable[[], object]] = dict(cases.everything(shape, mode, **where))
    on_cpu = torch.device(where.get("device", "cpu")).type == "cpu"
    layers = list(runs)
    if mode == "inference" and on_cpu:
        runs |= floor.bare_products(shape)
        runs |= {f"parts {name}": part for name, part in floor.merging(shape).items()}
    measured = timing.compare(runs, repeats, WARM_UP, max_seconds=max_seconds, progress=wrap)
    # Rounded before anything is made from them, so that the record's own seconds give its gains again.
    timings = [replace(t, seconds=tuple(float(f"{s:.4g}") for s in t.seconds)) for t in measured]
    gains = {name: gain(timings, name) for name in GAINS}
    return {
        "shape": asdict(shape),
        "mode": mode,
        "timings": [asdict(t) for t in timings],
        "peak_bytes": {name: timing.peak_bytes(runs[name]) for name in layers},
        "gains": {name: asdict(spread) for name, spread in gains.items() if spread},
    }


def summary(record: Mapping[str, Any]) -> list[str]:
    """Return a record as lines to print: the machine, a line for every case, the geometric means."""
    machine = record["machine"]
    lines = [
        f"{record['made']}, {machine['cpu']}, {machine['threads']} threads; medians of ratios of seconds:"
    ]
    for case in record["cases"]:
        told = ", ".join(f"{name} {spread['median']:.2f}" for name, spread in case["gains"].items())
        lines.append(f"{case['mode']:9s} {Shape(**case['shape']).label}: {told}")
    for mode, means in record["geometric_means"].items():
        lines.append(
            f"{mode:9s} geometric mean (lowest): "
            + ", ".join(_told(name, mean) for name, mean in means.items())
        )
    return lines


def write(record: Mapping[str, Any], path: Path) -> Path:
    """Write the record as JSON, whole or not at all, and return where it lies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line, print a table, write the record; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mqa_lib bench", description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=30, help="rounds for each shape and mode (default: 30)"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=12.0, help="for each shape and mode (default: 12)"
    )
    parser.add_argument("--threads", type=int, help="threads for torch (default: torch's choice)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument(
        "--device", default="cpu", help="cpu (default) or cuda, which adds bfloat16 to float32"
    )
    parser.add_argument("--out", type=Path, help="where the record goes (default: data/benchmarks)")
    chosen = parser.parse_args(argv)
    if chosen.threads is not None:
        torch.set_num_threads(checks.positive("threads", chosen.threads))
    options = {
        "modes": chosen.modes,
        "repeats": chosen.repeats,
        "max_seconds": chosen.max_seconds,
        "progress": _bar,
    }
    settings: list[tuple[str, dict[str, Any]]] = [("", {})]
    if chosen.device != "cpu":
        kinds = (torch.float32, torch.bfloat16)
        settings = [
            (f"-{chosen.device}-{str(kind)[6:]}", {"device": chosen.device, "dtype": kind}) for kind in kinds
        ]
    for suffix, where in settings:
        record = run(**options, **where)
        path = chosen.out or OUT
        print(*summary(record), sep="\n")
        print(f"written: {write(record, path.with_stem(path.stem + suffix))}")
    return 0


def _means(found: Sequence[Mapping[str, Any]], mode: str) -> dict[str, dict[str, float]]:
    means = {}
    for name in GAINS:
        medians = [
            case["gains"][name]["median"] for case in found if case["mode"] == mode and name in case["gains"]
        ]
        if medians:
            means[name] = {
                "mean": timing.geometric_mean(medians),
                "lowest": min(medians),
                "highest": max(medians),
            }
    return means


def _told(name: str, mean: Mapping[str, float]) -> str:
    return f"{name} {mean['mean']:.2f} ({mean['lowest']:.2f})"


def _bar(name: str, rounds: int) -> timing.Progress:
    from tqdm.auto import tqdm  # in the extra "lab"

    return lambda values: tqdm(values, desc=name, total=rounds, leave=False, disable=None)
