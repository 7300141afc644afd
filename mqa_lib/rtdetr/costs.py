"""What every variant costs beside its stock twin: parameters, GFLOPs, memory, and latency measured in turns.

`python -m mqa_lib costs` writes one record of them. Networks are measured as ultralytics predicts with them: norms
folded into convolutions, channels_last on an x86 CPU, one picture in float32.
"""

import argparse
import copy
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn.tasks import RTDETRDetectionModel

from mqa_lib import checks, timing
from mqa_lib.bench import write
from mqa_lib.blocks import MobileMQABlock
from mqa_lib.cost import in_bytes
from mqa_lib.fold import fold
from mqa_lib.rtdetr import audit, memory
from mqa_lib.rtdetr.build import MODELS, quietly, source
from mqa_lib.timing import Spread

SIZE_PX = 640
OUT = Path(__file__).parents[2] / "data" / "benchmarks" / "rtdetr.json"
MEMORY_METHOD = (
    "largest resident set of a fresh process with one thread while it predicts one picture, less what it holds just "
    "before, after a picture of 64 px has loaded the kernels; freed blocks are handed back at once"
)
_STOCK_OF_ULTRALYTICS = ("rtdetr-l", "rtdetr-x")
_SLOW = 4.0  # times the GFLOPs of stock, from which a variant is measured apart and in fewer rounds
_FEWEST = 3  # rounds
_FOLDED = ", folded"
_HEADROOM = 1.2  # a process needs more than its tensors
_PACKAGES = ("torch", "torchvision", "ultralytics", "ultralytics-thop", "mqa-lib")


@dataclass(frozen=True)
class Row:
    """The costs of one variant for one picture.

    Args:
        name: The variant.
        stock: The twin without Mobile MQA that it is compared with.
        params: Learnt numbers.
        gflops_printed: What ultralytics prints beside the parameters; None if it printed nothing.
        gflops: What PyTorch counts with every matrix product of the attention taken apart: a multiplication and an
            addition are two.
        planned_bytes: Largest sum of the tensors that are alive at a time, without the weights.
        peak_bytes: As `MEMORY_METHOD` measures it; None if it was not measured.
        memory_format: The format of the maps, row-major only where a variant stops in channels_last.
        seconds: Latency; None if it was not measured.
        ratio: Times the stock model's latency, formed round by round.
        folded: The same with `mqa_lib.fold.fold` applied, which ultralytics does not do by itself; None where there is
            no block to fold, or the variant is much slower than stock.
        rounds: Rounds of the latency.
        refused: Why nothing was run; empty if it was.
    """

    name: str
    stock: str
    params: int
    gflops_printed: float | None
    gflops: float
    planned_bytes: int
    peak_bytes: int | None = None
    memory_format: str = "channels_last"
    seconds: Spread | None = None
    ratio: Spread | None = None
    folded: Spread | None = None
    rounds: int = 0
    refused: str = ""


def variants() -> list[str]:
    """Return the names of all variants, each family after its stock model."""
    families: dict[str, list[str]] = {}
    for name in MODELS:
        families.setdefault(stock_of(name), []).append(name)
    return [name for stock, names in families.items() for name in dict.fromkeys([stock, *names])]


def stock_of(name: str) -> str:
    """Return the stock twin of a variant: ours of its size, or ultralytics' model.

    Raises:
        ValueError: The variant is not known.
    """
    if name in _STOCK_OF_ULTRALYTICS:
        return name
    checks.one_of("variant", name, [*MODELS, *_STOCK_OF_ULTRALYTICS])
    family = "-".join(name.split("-")[:2])
    return f"{family}-stock" if f"{family}-stock" in MODELS else family


def network(name: str) -> RTDETRDetectionModel:
    """Return the untrained network of a variant, in evaluation mode.

    Raises:
        ValueError: The variant is not known.
    """
    file = f"{name}.yaml" if name in _STOCK_OF_ULTRALYTICS else str(source(name))
    with quietly():
        return RTDETRDetectionModel(file, verbose=False).eval()


def as_predicted(model: nn.Module, memory_format: str | None = None) -> nn.Module:
    """Return the network as ultralytics predicts with it, changed in place.

    Args:
        model: A network of ultralytics.
        memory_format: "channels_last" or "row-major"; what ultralytics chooses on this machine if not given.
    """
    model.eval().fuse(verbose=False)  # type: ignore[operator]
    wanted = memory_format or ("channels_last" if _prefers_channels_last() else "row-major")
    layout = torch.channels_last if wanted == "channels_last" else torch.contiguous_format
    return model.requires_grad_(False).to(memory_format=layout)


@torch.no_grad()
def all_gflops(model: nn.Module, size_px: int = SIZE_PX) -> float:
    """Return the GFLOPs of convolutions and matrix products for a square picture, attention included.

    They are counted on tensors without contents, so that no score matrix is ever made, and with attention taken apart
    into its products, because PyTorch's counter has no formula for the fused kernel of a CPU.
    """
    hollow = copy.deepcopy(model).to("meta")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        hollow(torch.zeros(1, 3, size_px, size_px, device="meta"))
    return counter.get_total_flops() / 1e9


def check_memory(name: str, needed_bytes: int) -> None:
    """Accept a variant that fits into this machine's memory.

    Raises:
        ValueError: It needs more than is free.
    """
    free, needed = memory.free_bytes(), int(needed_bytes * _HEADROOM)
    if free is not None and needed > free:
        rule = f"needs about {in_bytes(needed)} for one picture, and {in_bytes(free)} are free"
        raise checks.refuse("variant", name, rule, "Leave it out, or ask for smaller pictures with `--size`.")


def fixed_costs(name: str, size_px: int = SIZE_PX) -> Row:
    """Return what can be told of a variant without running it on this machine.

    Raises:
        ValueError: The variant is not known, or `size_px` is not a multiple of 32.
    """
    checks.divides("size_px", size_px, "stride", 32)
    model = network(name)
    costs = (audit.params(model), None, all_gflops(model, size_px))
    planned = memory.planned_bytes(as_predicted(model, "row-major"), size_px)
    return Row(name, stock_of(name), *costs, planned, memory_format=_format_of(name))


def measure_memory(row: Row, size_px: int = SIZE_PX) -> Row:
    """Return the row with what a fresh process measures: peak memory, and what ultralytics prints as GFLOPs.

    ultralytics' counter runs the article's network at full size, so it is asked there too.

    Raises:
        ValueError: The machine has too little memory.
        RuntimeError: The process failed.
    """
    check_memory(row.name, row.planned_bytes)
    code = "import sys; from mqa_lib.rtdetr import costs; print(costs.measured_here(sys.argv[1], int(sys.argv[2])))"
    command = [sys.executable, "-c", code, row.name, str(size_px)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **memory.ENVIRONMENT})
    if run.returncode:
        said = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        raise RuntimeError(f"The process that measures {row.name} failed: {said}")
    found = json.loads(run.stdout.splitlines()[-1])
    return replace(row, peak_bytes=found["peak_bytes"], gflops_printed=found["gflops_printed"])


def measured_here(name: str, size_px: int) -> str:
    """Return, as JSON, this process' peak memory for one picture and the GFLOPs that ultralytics prints."""
    model = network(name)
    counted = copy.deepcopy(model)
    predicts = as_predicted(model, _format_of(name))
    with torch.inference_mode():
        predicts(torch.rand(1, 3, 64, 64))
        x = torch.rand(1, 3, size_px, size_px)
        before = memory.resident_bytes()
        memory.forget_peak()
        predicts(x)
        peak = memory.peak_bytes()
    try:
        printed: float | None = round(audit.counted_gflops(counted, size_px), 1)
    except RuntimeError:
        printed = None
    return json.dumps({"peak_bytes": None if peak is None else peak - before, "gflops_printed": printed})


def measure_latency(
    rows: Sequence[Row], rounds: int = 15, size_px: int = SIZE_PX, max_seconds: float = 120.0, seed: int = 0
) -> list[Row]:
    """Return the rows of one family with latencies, all measured in turns with their stock model.

    A variant much slower than stock is measured apart, in turns with stock, in the fewest rounds that give quartiles.

    Args:
        rows: Rows with one stock model, which is among them.
        rounds: In each, every variant runs once.
        size_px: Height and width of the picture.
        max_seconds: No further round begins after these, once there are three.
        seed: Seed of the picture.
    """
    stock = rows[0].stock
    runs = {row.name: _run(row, size_px, seed) for row in rows if not row.refused}
    if stock not in runs:
        return list(rows)
    by_name = {row.name: row for row in rows}
    slow = [name for name in runs if by_name[name].gflops > _SLOW * by_name[stock].gflops]
    quick = [name for name in runs if name not in slow]
    runs |= {name + _FOLDED: _run(by_name[name], size_px, seed, True) for name in quick if _has_blocks(name)}
    groups = [([name for name in runs if name not in slow], rounds)]
    groups += [([stock, name], _FEWEST) for name in slow]
    found, timed = dict(by_name), set[str]()
    for names, repeats in groups:
        candidates = {name: runs[name] for name in names}
        timings = timing.compare(candidates, repeats, 1, max_seconds=max_seconds, min_seconds=0.0)
        base = next(each for each in timings if each.name == stock)
        for each in timings:
            own, ratio, count = each.name.removesuffix(_FOLDED), each.ratio_to(base), len(each.seconds)
            if own != each.name:
                found[own] = replace(found[own], folded=ratio)
            elif own not in timed:  # stock runs in several groups, and its first has most rounds
                timed.add(own)
                found[own] = replace(found[own], seconds=each.spread, ratio=ratio, rounds=count)
    return list(found.values())


def table(rows: Sequence[Row]) -> str:
    """Return the costs as a Markdown table, and below it what was refused."""
    columns = (
        "variant",
        "parameters",
        "GFLOPs, printed",
        "GFLOPs, attention counted",
        "peak memory",
        "seconds",
    )
    header = " | ".join([*columns, "× stock", "× stock, folded"])
    lines = [
        (
            row.name,
            row.params,
            "—" if row.gflops_printed is None else f"{row.gflops_printed:.1f}",
            f"{row.gflops:.1f}",
            "—" if row.peak_bytes is None else in_bytes(row.peak_bytes),
            "—" if row.seconds is None else f"{row.seconds.median:.3f}",
            *map(_times, (row.ratio, row.folded)),
        )
        for row in rows
    ]
    return "\n\n".join([audit.table(header, lines), *(row.refused for row in rows if row.refused)])


def record(rows: Sequence[Row], size_px: int, command: str) -> dict[str, Any]:
    """Return the rows with everything that they depend on."""
    return {
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command,
        "commit": timing.commit(),
        "machine": timing.machine(_PACKAGES),
        "settings": {
            **{"size_px": size_px, "batch": 1, "dtype": "float32", "classes": 80, "fused": True, "seed": 0},
            **{"weights": "random", "memory": MEMORY_METHOD, "ratios": "within rounds, median and quartiles"},
        },
        "rows": [asdict(row) for row in rows],
    }


def read(path: str | Path = OUT) -> list[Row]:
    """Return the rows of a record."""
    rows: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
    for row in rows:
        row |= {key: Spread(**row[key]) for key in ("seconds", "ratio", "folded") if row[key]}
    return [Row(**row) for row in rows]


def measure(names: Sequence[str], size_px: int = SIZE_PX) -> list[Row]:
    """Return the rows of the named variants and of their stock models, all but latencies; what is too large is refused.

    Raises:
        ValueError: A variant is not known, or `size_px` is not a multiple of 32.
    """
    rows = []
    for name in dict.fromkeys(name for wanted in names for name in (stock_of(wanted), wanted)):
        row = fixed_costs(name, size_px)
        try:
            rows.append(measure_memory(row, size_px))
        except ValueError as error:
            rows.append(replace(row, refused=str(error)))
    return rows


def with_latencies(rows: Sequence[Row], rounds: int = 15, size_px: int = SIZE_PX) -> list[Row]:
    """Return the rows with latencies, family by family."""
    found: dict[str, Row] = {}
    for stock in dict.fromkeys(row.stock for row in rows):
        family = measure_latency([row for row in rows if row.stock == stock], rounds, size_px)
        found |= {row.name: row for row in family}
    return [found[row.name] for row in rows]


def run(options: argparse.Namespace) -> int:
    """Measure the variants that the command line names, print their table, write their record; return the exit code.

    The memory comes first and does not mind a busy machine; `--latency-only` takes it from the record that is there.
    """
    checks.positive("rounds", options.rounds)
    for name in options.variants or ():
        checks.one_of("variant", name, variants())
    if options.variants and options.output.exists():
        there = {row.name for row in read(options.output)}
        left_out = there - {name for each in options.variants for name in (stock_of(each), each)}
        if left_out:
            rule = f"exists, and would lose {', '.join(sorted(left_out))}"
            raise checks.refuse("output", options.output, rule, "Give another file with -o.")
    if options.latency_only and not options.output.exists():
        rule = "must exist, since its memory is kept"
        raise checks.refuse("output", options.output, rule, "Leave `--latency-only` out.")
    if options.latency_only:
        wanted = [name for each in options.variants or variants() for name in (stock_of(each), each)]
        rows = [row for row in read(options.output) if row.name in wanted]
        size_px = json.loads(options.output.read_text(encoding="utf-8"))["settings"]["size_px"]
        if size_px != options.size:
            rule = f"must be that of the record whose memory is kept (={size_px})"
            raise checks.refuse("size", options.size, rule, "Leave `--latency-only` out.")
    else:
        rows = measure(options.variants or variants(), options.size)
    rows = with_latencies(rows, options.rounds, options.size)
    print(table(rows))
    words = ["--variants", *options.variants] if options.variants else []
    command = ["python -m mqa_lib costs", *words, f"--rounds {options.rounds} --size {options.size}"]
    print(f"written: {write(record(rows, options.size, ' '.join(command)), options.output)}")
    return 0


def _run(row: Row, size_px: int, seed: int, folded: bool = False) -> Callable[[], Any]:
    model = as_predicted(network(row.name), row.memory_format)
    model = fold(model) if folded else model
    x = torch.rand(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(seed))

    def run() -> Any:
        with torch.inference_mode():
            return model(x)

    return run


def _times(ratio: Spread | None) -> str:
    return "—" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _has_blocks(name: str) -> bool:
    return any(isinstance(module, MobileMQABlock) for module in network(name).modules())


@torch.no_grad()
def _format_of(name: str) -> str:
    """Return the memory format in which ultralytics would predict, or row-major where the variant stops in it."""
    if not _prefers_channels_last():
        return "row-major"
    try:
        as_predicted(network(name), "channels_last")(torch.zeros(1, 3, 64, 64))
    except RuntimeError:
        return "row-major"
    return "channels_last"


def _prefers_channels_last() -> bool:
    x86 = platform.machine() in ("AMD64", "x86_64") and platform.system() in ("Linux", "Windows")
    return x86 and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
