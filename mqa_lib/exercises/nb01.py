"""The exercises and quizzes of notebook 1."""

import torch

from mqa_lib import probe
from mqa_lib.exercises.core import Exercise, Quiz, normal

CUT_PICTURES = 64


def _right_of_bundled(cut: bool) -> float:
    network = probe.load()
    if cut:
        network.attn = None
    return network.accuracy(probe.draw(CUT_PICTURES, seed=10_000, split="val"))


CHANCE = Exercise(
    task="Set `prediction` to the share of locks that a guesser names right who sees only the lock, as a number from"
    " 0 to 1.",
    hint="all locks look alike, and there are as many classes as key colours.",
    right=probe.CHANCE,
    mistakes={
        "a guesser is right now and then, without knowing why.": 0.0,
        "right or wrong are two outcomes, but they are not equally likely: there are more than two colours.": 0.5,
        "this is the number of colours; the share is 1 over it.": round(1 / probe.CHANCE),
        "this is the percentage; write it as a share from 0 to 1.": round(100 * probe.CHANCE),
    },
    kind="predict",
    minutes=1,
    difficulty=1,
)

_COLOURS = normal(17, 3).abs()
READ = Exercise(
    task="Write `read(weights, colours)`: for weights (heads, places) whose rows add up to 1, and colours (places, 3),"
    " return what each head reads, of shape (heads, 3): the sum over all places of weight times colour.",
    hint="a sum over places of products is a matrix product; `@` is Python's sign for it.",
    right=lambda weights, colours: torch.stack([(row[:, None] * colours).sum(0) for row in weights]),
    mistakes={
        "this is the plain mean of all colours; the weights are not used.": lambda weights, colours: (
            colours.mean(0).expand(len(weights), -1)
        ),
        "this is the colour of the strongest place; the weaker count too, by their weight.": lambda weights, colours: (
            colours[weights.argmax(-1)]
        ),
        "this is divided by the number of places; the weights add up to 1 already.": lambda weights, colours: (
            weights @ colours / len(colours)
        ),
        "the colours are the wrong way round, (3, heads); each head is a row.": lambda weights, colours: (
            (weights @ colours).T
        ),
        "the products are there, but they are not added up over the places.": lambda weights, colours: (
            weights[:, :, None] * colours
        ),
    },
    inputs={"weights": (3 * normal(5, 17)).softmax(-1), "colours": _COLOURS},
    kind="implement",
    minutes=3,
    difficulty=1,
)


def _cut() -> float:
    return _right_of_bundled(cut=True)


def _whole() -> float:
    return _right_of_bundled(cut=False)


CUT = Exercise(
    task="Set `answer` to the share of locks that `bundled` names right once its attention is taken out, measured on"
    " `few`.",
    hint="`bundled.attn = None` takes the layer out, and `bundled.accuracy(few)` counts.",
    right=_cut,
    mistakes={
        "this is the network with its attention still in; set `bundled.attn = None` first.": _whole,
        "this is the percentage; hand in the share as it is.": lambda: 100 * _cut(),
    },
    kind="investigate",
    minutes=3,
    difficulty=2,
    tolerance=0.01,
)

EXERCISES: dict[str, Exercise] = {"01-chance": CHANCE, "01-read": READ, "01-cut": CUT}

_OUTSIDE = "What it would have to see lies outside the window of each of its cells."
WINDOW = Quiz(
    question="Why would ten times the training not help the network without attention?",
    options={
        "Its learning rate is too small.": "A larger one would move the weights faster, and the cell at the lock would"
        " still see nothing but the lock.",
        "It has fewer parameters than the other.": "Parameters let it compute more from what it sees. The colour of a"
        " key that it does not see cannot be computed.",
        _OUTSIDE: "Yes. Each cell decides from 19 pixels, and nearly all locks have no part of their key in there. More"
        " convolutions would widen the window; attention does it in one step.",
        "The pictures have too few colours.": "With more colours chance would be lower still. The colour stands in the"
        " picture, only too far away.",
    },
    right=_OUTSIDE,
)

_READS = "At this lock the layer reads much from the place of the right key, and no more than that."
PROOF = Quiz(
    question="A head is bright on the right key. What does this one map show?",
    options={
        "The network answers right because of this head.": "A map cannot tell. To know, one has to change"
        " something and see whether the answer changes, as you do in exercise 01-cut and again in notebook 4.",
        _READS: "Yes. It is one lock in one picture. The count over many pictures says how often, and only an"
        " experiment says whether it matters.",
        "The network has understood what keys and locks are.": "It was told colours and has found a way to be right on"
        " pictures like these. What it does on others nobody has looked at yet.",
    },
    right=_READS,
)

_FITS = "That the parts fit together. Whether it computes what it should has to be tested by itself."
FITS = Quiz(
    question="A layer runs without an error, the shapes are right and the network learns. What do you know?",
    options={
        "That the layer is right.": "The article's layer did all of this, and stays far behind. Wrong layers"
        " train, too, because the layers around them adapt.",
        _FITS: "Yes. Notebook 3 compares the layer with three independent ways to compute the same thing.",
        "That the learning rate is right.": "It is small enough that something is learnt, no more. It says nothing"
        " about the layer.",
    },
    right=_FITS,
)

QUIZZES: dict[str, Quiz] = {"01-window": WINDOW, "01-proof": PROOF, "01-fits": FITS}
