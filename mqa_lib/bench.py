"""The layer's benchmark: ours, timm's with the same weights and multi-head attention, in both memory formats.

`python -m mqa_lib bench` runs it over the shapes of MobileNetV4 and of RT-DETR and writes one record.
"""

import argparse
import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mqa_lib import checks, timing
from mqa_lib.attention import MobileMQA, MultiHeadAttention2d
from mqa_lib.timing import Spread, Timing

MODES = ("inference", "training")
OUT = Path(__file__).parents[1] / "data" / "benchmarks" / "layer.json"
CLOSE = 1e-3  # float32 sums of some thousand terms in another order; a wrong layer is off by far more


@dataclass(frozen=True)
class Shape:
    """A layer and the map that it reads.

    Args:
        name: Where it stands.
        dim: Channels of the map.
        height: Rows of the map.
        width: Columns of the map.
        num_heads: Query heads.
        key_dim: Channels of each head, of queries, keys and values.
        kv_stride: Down-sampling of keys and values.
        batch: Pictures at a time.
    """

    name: str
    dim: int
    height: int
    width: int
    num_heads: int = 4
    key_dim: int = 64
    kv_stride: int = 1
    batch: int = 1


SHAPES = (
    Shape("MobileNetV4-hybrid-medium, 256 px, stride 16", 160, 16, 16, kv_stride=2),
    Shape("MobileNetV4-hybrid-medium, 256 px, stride 32", 256, 8, 8),
    Shape("RT-DETR-R50, 640 px, stride 16", 1024, 40, 40),
    Shape("RT-DETR-R50, 640 px, stride 16", 1024, 40, 40, kv_stride=2),
    Shape("RT-DETR-R50, 640 px, stride 32", 2048, 20, 20),
    Shape("RT-DETR-R50, 640 px, stride 32", 2048, 20, 20, kv_stride=2),
)


def layers(shape: Shape, seed: int = 0) -> dict[str, nn.Module]:
    """Return our layer, timm's with the same weights, and multi-head attention of the same sizes."""
    from timm.layers import MultiQueryAttention2d  # in the extra "lab"; the layers themselves need torch only

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "num_heads": shape.num_heads,
        "key_dim": shape.key_dim,
        "value_dim": shape.key_dim,
    }
    ours = MobileMQA(shape.dim, kv_stride=shape.kv_stride, **sizes)
    theirs = MultiQueryAttention2d(shape.dim, kv_stride=shape.kv_stride, **sizes)
    theirs.load_state_dict(ours.state_dict())
    return {"ours": ours, "timm": theirs, "multi-head": MultiHeadAttention2d(shape.dim, **sizes)}


def candidates(shape: Shape, mode: str = "inference", seed: int = 0) -> dict[str, Callable[[], Tensor]]:
    """Return what `timing.compare` takes: all of `layers` in both memory formats, same weights and input.

    Raises:
        ValueError: `mode` is not one of `MODES`, or our layer and timm's do not agree on the input.
    """
    runs = _in_both_formats(lambda: layers(shape, seed), shape, mode, seed)
    difference = (runs["ours, NCHW"]() - runs["timm, NCHW"]()).abs().max().item()
    if not difference <= CLOSE:
        rule = f"must be at most {CLOSE}: our layer and timm's differ on {shape.name}"
        raise checks.refuse("difference", difference, rule, "Compare their versions before their speed.")
    return runs


def stride_candidates(
    shape: Shape, kv_strides: Sequence[int] = (1, 2, 4), mode: str = "inference", seed: int = 0
) -> dict[str, Callable[[], Tensor]]:
    """Return multi-head attention and Mobile MQA at several strides, in both memory formats, for one map.

    Raises:
        ValueError: `mode` is not one of `MODES`.
    """

    def build() -> dict[str, nn.Module]:
        built = {"multi-head": layers(shape, seed)["multi-head"]}
        for stride in kv_strides:
            built[f"kv_stride {stride}"] = layers(replace(shape, kv_stride=stride), seed)["ours"]
        return built

    return _in_both_formats(build, shape, mode, seed)


def faster_formats(timings: Sequence[Timing]) -> dict[str, Timing]:
    """Return, for each layer, its timing in the memory format in which it was faster."""
    names = dict.fromkeys(each.name.split(",")[0] for each in timings)
    return {name: timing.fastest([t for t in timings if t.name.split(",")[0] == name]) for name in names}


def rates(repeats: int = 15) -> tuple[float, float]:
    """Return what this machine reached just now: MACs per second (a matrix product), bytes per second (a copy).

    Both are lower bounds of what it can do, in float32 and with torch's present number of threads.
    """
    side, numbers = 1024, 2**24
    a, b = torch.randn(2, side, side)
    source, target = torch.ones(numbers), torch.empty(numbers)
    runs = {"product": lambda: torch.mm(a, b), "copy": lambda: target.copy_(source)}
    product, copied = timing.compare(runs, repeats=repeats)
    return side**3 / min(product.seconds), 2 * 4 * numbers / min(copied.seconds)


def speedup(timings: Sequence[Timing], ours: str = "ours", theirs: str = "timm") -> Spread:
    """Return how many times as long the second layer takes as the first, each in its faster memory format."""
    best = faster_formats(timings)
    return best[theirs].ratio_to(best[ours])


def run(
    shapes: Sequence[Shape] = SHAPES,
    modes: Sequence[str] = MODES,
    repeats: int = 30,
    progress: Callable[[str, int], timing.Progress] | None = None,
) -> dict[str, Any]:
    """Return the record of a benchmark: settings, machine, commit, all seconds and their summary.

    Args:
        shapes: What to measure.
        modes: "inference" (no gradients) or "training" (forward and backward).
        repeats: Rounds for each shape and mode.
        progress: Makes a wrapper for the rounds from the case's name and their number.
    """
    cases = []
    for mode in modes:
        for shape in shapes:
            wrap = (
                progress(f"{shape.name}, kv_stride {shape.kv_stride}, {mode}", repeats) if progress else iter
            )
            timings = timing.compare(candidates(shape, mode), repeats=repeats, progress=wrap)
            cases.append(
                {
                    "shape": asdict(shape),
                    "mode": mode,
                    "timings": [asdict(t) for t in timings],
                    "times_as_long_as_ours": {
                        name: asdict(speedup(timings, theirs=name)) for name in ("timm", "multi-head")
                    },
                }
            )
    return {
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "python -m mqa_lib bench",
        "commit": timing.commit(),
        "machine": timing.machine(),
        "settings": {"repeats": repeats, "dtype": "float32", "seed": 0},
        "cases": cases,
        "geometric_mean_timm": {mode: _mean_over_timm(cases, mode) for mode in modes},
    }


def summary(record: dict[str, Any]) -> list[str]:
    """Return a record as lines to print: the machine, a line for every case, the geometric means."""
    machine = record["machine"]
    lines = [f"{record['made']}, {machine['cpu']}, {machine['threads']} threads; times as long as ours:"]
    for case in record["cases"]:
        shape = case["shape"]
        over = ", ".join(f"{name} {s['median']:.2f}" for name, s in case["times_as_long_as_ours"].items())
        lines.append(f"{case['mode']:9s} {shape['name']}, kv_stride {shape['kv_stride']}: {over}")
    means = record["geometric_mean_timm"].items()
    return lines + [f"{mode:9s} timm, geometric mean: {mean:.2f}" for mode, mean in means]


def write(record: dict[str, Any], path: Path) -> Path:
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
    parser.add_argument("--threads", type=int, help="threads for torch (default: torch's choice)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument(
        "--out", type=Path, default=OUT, help="where the record goes (default: data/benchmarks)"
    )
    chosen = parser.parse_args(argv)
    if chosen.threads is not None:
        torch.set_num_threads(checks.positive("threads", chosen.threads))
    record = run(modes=chosen.modes, repeats=chosen.repeats, progress=_bar)
    print(*summary(record), sep="\n")
    print(f"written: {write(record, chosen.out)}")
    return 0


def _in_both_formats(
    build: Callable[[], dict[str, nn.Module]], shape: Shape, mode: str, seed: int
) -> dict[str, Callable[[], Tensor]]:
    checks.one_of("mode", mode, MODES)
    size = (shape.batch, shape.dim, shape.height, shape.width)
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    runs = {}
    for label, memory_format in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
        for name, layer in build().items():
            moved = layer.to(memory_format=memory_format).train(mode == "training")
            runs[f"{name}, {label}"] = _run(moved, x.contiguous(memory_format=memory_format), mode)
    return runs


def _run(layer: nn.Module, x: Tensor, mode: str) -> Callable[[], Tensor]:
    def infer() -> Tensor:
        with torch.inference_mode():
            return layer(x)

    def train() -> Tensor:
        layer.zero_grad()
        source.grad = None
        out = layer(source)
        out.square().mean().backward()
        return out.detach()

    # A layer inside a network also hands a gradient to what comes before it.
    source = x.detach().requires_grad_(mode == "training")
    return train if mode == "training" else infer


def _mean_over_timm(cases: Sequence[dict[str, Any]], mode: str) -> float:
    ratios = [case["times_as_long_as_ours"]["timm"]["median"] for case in cases if case["mode"] == mode]
    return timing.geometric_mean(ratios)


def _bar(name: str, rounds: int) -> timing.Progress:
    from tqdm.auto import tqdm  # in the extra "lab"

    return lambda values: tqdm(values, desc=name, total=rounds, leave=False)
