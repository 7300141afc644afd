"""Exercises and quizzes of notebook 6: what a comparison of detectors can carry."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from mqa_lib.exercises.core import Exercise, Quiz

_RUNS = Path(__file__).parents[2] / "data/runs/keys-and-locks"
_OURS = "nano-mobile-mqa, pretrained"


def _sooner(
    pretraining: bool = True, variant: str = _OURS, level: float = 0.9, first_seed: bool = False
) -> float:
    """Return the median over seeds of the pictures seen when `level` of the colours are right for the first time."""
    from mqa_lib import experiments  # heavier than the other exercises need

    lines = experiments.curves(experiments.read_runs(_RUNS), "right colours", "pictures")[variant]
    before = 0 if pretraining else 80_000
    found = [next(pictures for pictures, share in line if share >= level) - before for line in lines]
    return found[0] if first_seed else median(found)


def _locks(seed: int = 7, count: int = 97) -> dict[str, Tensor]:
    """Return true classes, named classes (three in five right) and whether each lock was found (two in three)."""
    drawn = torch.Generator().manual_seed(seed)
    truth = torch.randint(1, 5, (count,), generator=drawn)
    other = torch.randint(1, 5, (count,), generator=drawn)
    named = torch.where(torch.rand(count, generator=drawn) < 0.5, truth, other)
    return {"truth": truth, "named": named, "found": torch.rand(count, generator=drawn) < 0.66}


CHANCE = Exercise(
    task="What share of the found locks gets the right colour if a detector cannot see from a lock to its key?",
    hint="there are four lock classes, equally frequent; whoever cannot see the key has to guess.",
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
    task="Write `right_colours(truth, named, found)`: the share of the found locks whose named class is the true one.",
    hint="leave out what was not found, both above and below the line.",
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
        "this is the number of right colours; divide it by the number of found locks.": lambda truth, named, found: (
            ((truth == named) & found).sum()
        ),
        "this is the share of wrong colours.": lambda truth, named, found: (
            ((truth != named) & found).sum() / found.sum()
        ),
    },
    inputs=_locks(),
    minutes=6,
    difficulty=2,
)

SOONER = Exercise(
    task="After how many pictures, pretraining included, does the pretrained detector with Mobile MQA first name 90 %"
    " of the found locks rightly, in the median over its seeds?",
    hint="for each seed's line take the first point whose share is at least 0.9, then the median of their pictures.",
    right=_sooner,
    mistakes={
        "the pictures of the backbone's pretraining are missing; the axis `pictures` counts them.": lambda: (
            _sooner(pretraining=False)
        ),
        "this is where half of the colours are right; 90 % was asked.": lambda: _sooner(level=0.5),
    },
    kind="investigate",
    minutes=8,
    difficulty=2,
)

EXERCISES: Mapping[str, Exercise] = {"06-chance": CHANCE, "06-colours": COLOURS, "06-sooner": SOONER}

_SUPPORTED = (
    "On Keys & Locks, with backbones pretrained alike, the small detector with Mobile MQA names more colours than its"
    " stock twin, with every seed that was run."
)
_TRY = "Try plain convolutions of the same size as well, with several seeds, before you pay for attention."

SUPPORT = Quiz(
    question="Which sentence do these tables support?",
    options={
        "Mobile MQA makes RT-DETR better.": "Too wide. They hold for one small detector, one schedule and pictures made"
        " to need a look across; nothing here is about RT-DETR at large.",
        _SUPPORTED: "Yes. It names data, start, model and what was compared, and it says what the seeds say and no"
        " more.",
        "Any attention in the backbone would have done it.": "The article's layer is attention too, in more places of"
        " the backbone and pretrained alike, and it stays far behind. So not any attention does.",
        "Because its interval does not contain 0, a difference is significant at 5 %.": "The reason does not hold: a"
        " bootstrap over three values is far too narrow. It leaves out 0 for no-encoder, whose seeds do not even agree,"
        " and three seeds that do would agree by chance in a quarter of such comparisons.",
    },
    right=_SUPPORTED,
)

PHOTOGRAPHS = Quiz(
    question="Your own set has photographs of parts on a belt, and each part's class can be read from the part alone."
    " What do the two data sets of this notebook suggest?",
    options={
        "Mobile MQA will help, because attention sees the whole picture.": "That is a guess at the cause. On Keys &"
        " Locks the class cannot be read from the object; on the blood cells it can, and there convolutions in its"
        " place, which see less, did better.",
        _TRY: "Yes. On the blood cells the block without attention scores more than the one with it, with most seeds"
        " and for less computing. Two sets are few, so try.",
        "Mobile MQA cannot help, because nothing asks for a look across.": "On the blood cells nothing asks for it"
        " either, and there the seeds do not agree whether it helps: a block brings more than its attention. 'Cannot'"
        " says too much.",
    },
    right=_TRY,
)

QUIZZES: Mapping[str, Quiz] = {"06-support": SUPPORT, "06-photographs": PHOTOGRAPHS}
