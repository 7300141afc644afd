"""Exercises and quizzes of notebook 6: what a comparison of detectors can carry."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from mqa_lib.exercises.core import Exercise, Quiz

_ABLATION = Path(__file__).parents[2] / "data/probe/ablation.json"


def _sooner(arm: str = "Mobile MQA, kv_stride 2", level: float = 0.9, of_a_step: int = 64) -> float:
    """Return the median over seeds of the pictures shown when the probe's accuracy is first at least `level`."""
    curves = [row["curve"] for row in json.loads(_ABLATION.read_text())["rows"] if row["arm"] == arm]
    first = [next((step for step, share in curve if share >= level), math.inf) for curve in curves]
    return float(of_a_step * median(first))


def _locks(seed: int = 7, count: int = 97) -> dict[str, Tensor]:
    """Return true classes, named classes (three in five right) and whether each lock was found (two in three)."""
    drawn = torch.Generator().manual_seed(seed)
    truth = torch.randint(1, 5, (count,), generator=drawn)
    other = torch.randint(1, 5, (count,), generator=drawn)
    named = torch.where(torch.rand(count, generator=drawn) < 0.5, truth, other)
    return {"truth": truth, "named": named, "found": torch.rand(count, generator=drawn) < 0.66}


CHANCE = Exercise(
    task="Which share of the locks gets the correct colour if a detector cannot see the keys?",
    hint="there are four lock classes, equally frequent; without the key one can only guess.",
    right=0.25,
    mistakes={
        "this is a share of five classes; a key is never mistaken for a lock here, so guess among four.": 0.2,
        "guessing is not always wrong: one of the four guesses hits.": 0.0,
        "this would be a guess between two colours; there are four.": 0.5,
    },
    kind="predict",
    minutes=1,
    difficulty=1,
    tolerance=0.04,
)

COLOURS = Exercise(
    task="Write `colour_accuracy(truth, named, found)`: the share of the found locks whose named class is the true"
    " one.",
    hint="leave out what was not found, in the numerator and in the denominator.",
    right=lambda truth, named, found: ((truth == named) & found).sum() / found.sum(),
    mistakes={
        "this is the share of all locks; only the found ones count, below the line too.": lambda truth, named, found: (
            ((truth == named) & found).sum() / len(truth)
        ),
        "this counts what was named at locks that were not found.": lambda truth, named, found: (
            (truth == named).double().mean()
        ),
        "the locks that were not found are counted above the line, though not below.": lambda truth, named, found: (
            (truth == named).sum() / found.sum()
        ),
        "this is the number of correct colours; divide it by the number of found locks.": lambda truth, named, found: (
            ((truth == named) & found).sum()
        ),
        "this is the share of incorrect colours.": lambda truth, named, found: (
            ((truth != named) & found).sum() / found.sum()
        ),
    },
    inputs=_locks(),
    minutes=6,
    difficulty=2,
)

SOONER = Exercise(
    task="After how many training pictures is the accuracy of Mobile MQA, kv_stride 2, at least 0.9 for the first"
    " time, in"
    " the median over its seeds?",
    hint="for each seed's line take the first point with at least 0.9, then the median of the steps, times 64"
    " pictures.",
    right=_sooner,
    mistakes={
        "these are steps; a step has 64 pictures.": lambda: _sooner(of_a_step=1),
        "this is where half of the locks are correct; 90 % was asked.": lambda: _sooner(level=0.5),
        "this is an accuracy; the number of pictures was asked.": 0.9,
    },
    kind="investigate",
    minutes=6,
    difficulty=2,
)

EXERCISES: Mapping[str, Exercise] = {"06-chance": CHANCE, "06-colours": COLOURS, "06-sooner": SOONER}

_LATE = (
    "Neither: both may still be waiting at chance. The study has to go on until the curves have risen and are"
)
" flat again."
_TRY = (
    "Train with it, without it, and with convolutions in its place, until the curves have risen and are flat, with"
    " several"
    " seeds."
)

SUPPORT = Quiz(
    question="A study trains stock RT-DETR and a variant for 28,800 pictures of Keys & Locks. Stock has a colour"
    " accuracy of"
    " 25 %, the variant 38 %. What may be concluded: that stock cannot learn the task, or that the variant is better?",
    options={
        "Stock RT-DETR cannot learn this task.": "The study cannot know: it ended while the curve was flat at"
        " chance, where"
        " every curve begins.",
        "The variant is better.": "It left chance earlier, with this seed. Which model needs fewer pictures until 90"
        " %, and"
        " with how many seeds, the study does not say.",
        _LATE: "Yes. Until then one compares when the models begin to learn, not how well they learn.",
        "Both.": "Neither follows: with a longer training the order may change, or both may solve the task.",
    },
    right=_LATE,
)

PHOTOGRAPHS = Quiz(
    question="You have photographs of parts on a belt, and the class of each part can be read from the part alone."
    " You want"
    " to know whether Mobile MQA helps. What do you do?",
    options={
        "Add it, because attention sees the whole picture.": "That is a guess at the cause. RT-DETR's decoder"
        " already has"
        " a way to read far away.",
        _TRY: "Yes. If more parameters are the cause, the control does equally well; and a curve that is flat again"
        " shows that you did not compare"
        " waiting times.",
        "Leave it out, because no class needs long-range context.": "A block brings more than its attention:"
        " parameters,"
        " depth, a norm. Whether that helps on your pictures, only a training with its control tells.",
    },
    right=_TRY,
)

QUIZZES: Mapping[str, Quiz] = {"06-support": SUPPORT, "06-photographs": PHOTOGRAPHS}
