"""The exercises and quizzes of notebook 7: what a timing, a count and a roofline can carry."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mqa_lib import cost
from mqa_lib.exercises.core import Exercise, Quiz

_RECORD = Path(__file__).parents[2] / "data/benchmarks/layer.json"
_QUARTERS = (0.25, 0.5, 0.75)


def _rounds(seed: int = 11, count: int = 23) -> dict[str, Tensor]:
    """Return seconds of two layers that took turns on a machine that was slow for a third of the rounds."""
    drawn = torch.Generator().manual_seed(seed)
    slow = 1 + 2.5 * (torch.arange(count) % 3 == 1).double()
    ours = slow * (1 + 0.1 * torch.rand(count, generator=drawn, dtype=torch.float64)) / 1000
    theirs = slow * (1.4 + 0.5 * torch.rand(count, generator=drawn, dtype=torch.float64)) / 1000
    return {"ours": ours, "theirs": theirs}


def _quartiles(values: Tensor) -> Tensor:
    return torch.quantile(values, torch.tensor(_QUARTERS, dtype=values.dtype))


def _recorded() -> float:
    """Return how many times as long multi-head attention took as Mobile MQA at stride 2 on 20 × 20 × 2048."""
    for case in json.loads(_RECORD.read_text(encoding="utf-8"))["cases"]:
        shape = case["shape"]
        if (shape["dim"], shape["height"], shape["kv_stride"], case["mode"]) == (2048, 20, 2, "inference"):
            return float(case["gains"]["multi-head / ours"]["median"])
    raise LookupError(f"There is no layer of 20 × 20 × 2048 in {_RECORD.name}; run `make bench`.")


def _products() -> float:
    whole, reduced = (cost.side_by_side(2048, 20, 20, 4, 64)[name] for name in (cost.MULTI_HEAD, cost.MOBILE))
    return (whole.score_macs + whole.value_macs) / (reduced.score_macs + reduced.value_macs)


def _crossing(dim: int = 1024, side: int = 40, bytes_per_number: int = 1) -> int:
    """Return the first ridge point at which Mobile MQA takes longer than multi-query attention by the roofline."""
    layers = cost.side_by_side(dim, side, side, 4, 64, bytes_per_number=bytes_per_number)
    shared, reduced = layers[cost.MULTI_QUERY], layers[cost.MOBILE]
    return next(
        r
        for r in range(1, 2001)
        if cost.seconds(reduced, float(r), 1.0) > cost.seconds(shared, float(r), 1.0)
    )


PAIRED = Exercise(
    task="Write `paired(ours, theirs)`: the quartiles (25 %, 50 %, 75 %) of how many times as long `theirs` takes as"
    " `ours`, formed round by round.",
    hint="divide first, theirs by ours, one ratio for each round; then ask for the three quantiles of the ratios.",
    right=lambda ours, theirs: _quartiles(theirs / ours),
    mistakes={
        "the quartiles of the times are divided. A slow period is then in one of them and not in the other; divide"
        " within each round.": lambda ours, theirs: _quartiles(theirs) / _quartiles(ours),
        "the ratio is turned over; above 1 should mean that theirs takes longer.": lambda ours, theirs: (
            _quartiles(ours / theirs)
        ),
        "every round is divided by the median of ours, so that the machine's slow rounds count as theirs.": (
            lambda ours, theirs: _quartiles(theirs / ours.median())
        ),
        "the rounds are sorted before they are divided; then they are no pairs any more.": lambda ours, theirs: (
            _quartiles(theirs.sort().values / ours.sort().values)
        ),
        "this is the median alone; without its spread nobody knows what it is worth.": lambda ours, theirs: (
            theirs / ours
        ).quantile(0.5),
        "these are mean and one deviation to both sides; a single slow round moves them.": lambda ours, theirs: (
            (theirs / ours).mean()
            + (theirs / ours).std() * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        ),
    },
    inputs=_rounds(),
    kind="implement",
    minutes=6,
    difficulty=2,
)

RIDGE = Exercise(
    task="From which ridge point on (a whole number of MACs per byte) does down-sampling hurt on RT-DETR's map of"
    " 40 × 40 × 1024, in int8: that is, Mobile MQA takes longer than multi-query attention by the roofline?",
    hint="compare `cost.seconds(layer, ridge, 1.0)` of the two layers for `ridge` 1, 2, 3, … and take the first one.",
    right=_crossing,
    mistakes={
        "this is for float32, where every number has four bytes; int8 was asked (`bytes_per_number=1`).": lambda: (
            _crossing(bytes_per_number=4)
        ),
        "this is for float16, where every number has two bytes; int8 was asked (`bytes_per_number=1`).": lambda: (
            _crossing(bytes_per_number=2)
        ),
        "this is for the map of stride 32, 20 × 20 × 2048; the one of stride 16 was asked.": lambda: (
            _crossing(2048, 20)
        ),
        "this is Mobile MQA's own MACs per byte; the layer is no single step, and its steps wait for different"
        " things.": lambda: (
            cost.side_by_side(1024, 40, 40, 4, 64, bytes_per_number=1)[cost.MOBILE].macs_per_byte
        ),
    },
    kind="investigate",
    minutes=8,
    difficulty=3,
    tolerance=0.005,
)

FASTER = Exercise(
    task="How many times as long does multi-head attention take as Mobile MQA with `kv_stride` 2 on RT-DETR's map of"
    " 20 × 20 × 2048, on the recorded machine?",
    hint="1 would be equally long. Most of the work on this map is in the projections, and Mobile MQA keeps the two"
    " largest, those of the queries and of the output.",
    right=_recorded,
    mistakes={
        "this is how many times as many products of queries, keys and values there are. On this map they are a small"
        " part of the work.": _products,
        "then nothing would be gained; keys and values for one head instead of four do save projections.": 1,
    },
    kind="predict",
    minutes=3,
    difficulty=2,
    tolerance=0.25,
)

EXERCISES: Mapping[str, Exercise] = {"07-paired": PAIRED, "07-ridge": RIDGE, "07-faster": FASTER}

_NOTHING = "Nothing yet. Measure both in turns and compare within the rounds."
FAIR = Quiz(
    question="You timed layer A before lunch, median of 100 calls, and layer B after it. B took 4 % less."
    " What follows?",
    options={
        "B is faster.": "The machine of the afternoon may be. Between the two lie another load, another clock, another"
        " temperature, and 4 % is a usual size for these.",
        "B is faster, if the 100 calls hardly scattered.": "The scatter within a morning says nothing about the"
        " difference between a morning and an afternoon.",
        _NOTHING: "Yes. What slows the machine then slows both, and their ratio stays.",
        "B is faster if it also has fewer MACs.": "Then it would be no surprise, but it would still not be measured."
        " Fewer MACs often take longer, as you will see.",
    },
    right=_NOTHING,
)

_BYTES = "Fewer bytes moved."
BOUND = Quiz(
    question="A chip has a ridge point of 400 MACs per byte; a step of your layer does 60 MACs for each byte that it"
    " moves. What makes this step faster there?",
    options={
        "Fewer MACs for the same bytes.": "The arithmetic waits already. Less of it only means that it waits longer.",
        _BYTES: "Yes. Below the ridge point the time is that of the memory traffic: smaller numbers, fewer maps read"
        " again, steps fused into one.",
        "A chip with more MACs per second and the same memory.": "Its ridge point would be higher still, and the step"
        " would take just as long.",
    },
    right=_BYTES,
)

QUIZZES: Mapping[str, Quiz] = {"07-fair": FAIR, "07-bound": BOUND}
