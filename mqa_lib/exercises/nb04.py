"""The exercises and quizzes of notebook 4."""

import math

import torch
from torch import Tensor

from mqa_lib.exercises.core import Exercise, Quiz, normal


def _with_a_zero() -> Tensor:
    """Return weights (heads, queries, keys), sharp and even ones, of which some are exactly 0."""
    scores = 3 * normal(2, 5, 7)
    scores[..., 2] = -math.inf
    return scores.softmax(-1)


def _nats(weights: Tensor) -> Tensor:
    return -torch.xlogy(weights, weights)


_SHAPE = "the key of the same shape"
WHERE = Exercise(
    task="What does the best head read most at a lock?",
    hint="the colour that has to be named stands at one place only.",
    right=_SHAPE,
    mistakes={
        "the lock is a white outline; the colour that is asked does not stand there.": "the lock itself",
        "a lock's key may lie anywhere, and the nearest shape is as a rule another's.": "the nearest shape",
        "then all four colours would be mixed alike, and the answer would be a guess.": "everything alike",
    },
    kind="predict",
    minutes=1,
    difficulty=1,
    choices=("the lock itself", "the nearest shape", _SHAPE, "everything alike"),
)

ENTROPY = Exercise(
    task="Write `entropy(weights)`: for weights (heads, queries, keys) that sum to 1 over the keys, return the entropy"
    " of every query in bits, (heads, queries).",
    hint="sum -w · log2(w) over the keys; a weight of exactly 0 adds 0, though its logarithm is endless.",
    right=lambda weights: _nats(weights).sum(-1) / math.log(2),
    mistakes={
        "these are nats, made with the natural logarithm; divide by the one of 2 for bits.": lambda weights: (
            _nats(weights).sum(-1)
        ),
        "the sign is turned: the logarithm of a weight is negative, an entropy is not.": lambda weights: (
            -_nats(weights).sum(-1) / math.log(2)
        ),
        "this is the mean over the keys; the terms are added up.": lambda weights: (
            _nats(weights).mean(-1) / math.log(2)
        ),
        "the logarithms are not weighted; each counts as much as its weight.": lambda weights: (
            -weights.clamp_min(1e-12).log2().sum(-1)
        ),
        "the sum runs over the queries; a query's weights over the keys sum to 1.": lambda weights: (
            _nats(weights).sum(-2) / math.log(2)
        ),
        "this is one number for each head; every query has an entropy of its own.": lambda weights: (
            _nats(weights).sum(-1).mean(-1) / math.log(2)
        ),
    },
    inputs={"weights": _with_a_zero()},
    kind="implement",
    minutes=5,
    difficulty=2,
)

_KEY = "where its coloured key lies"
LOST = Exercise(
    task="On what does it depend whether a lock goes wrong at kv_stride 2?",
    hint="split the locks by a guess and compare the share that is right on both sides.",
    right=_KEY,
    mistakes={
        "queries are not down-sampled, so a lock may lie on any cell; split by its row and column and see.": (
            "where the lock lies"
        ),
        "attention knows no distance; split at the median distance and see.": "how far apart the two are",
    },
    kind="investigate",
    minutes=8,
    difficulty=3,
    choices=("where the lock lies", _KEY, "how far apart the two are"),
)

EXERCISES: dict[str, Exercise] = {"04-where": WHERE, "04-entropy": ENTROPY, "04-lost": LOST}

_MIXED = "Nearly all that this head mixes in at this place is that key's value."
WEIGHT = Quiz(
    question="At a lock, one head reads one key with a weight of 99 %. What do you know?",
    options={
        _MIXED: "Yes, and no more. There are other heads, the residual way around the layer, and layers behind it.",
        "The answer is 99 % certain.": "A weight is no probability of an answer. A head may read the wrong place, and"
        " be just as decided.",
        "The answer depends on that place of the picture.": "It may. The value could be ignored later, or the same"
        " could be read elsewhere. Section 6 paints the place over to find out.",
        "The network understood that lock and key belong together.": "That is a story about a number. What can be"
        " counted is how often the strongest key is the right one, as section 4 does.",
    },
    right=_MIXED,
)

_MOST = "Not as they stand: each has another most, log2 of its number of keys."
BITS = Quiz(
    question="A head has 4 bits with 256 keys, another 4 bits with 25 keys. Do they choose alike?",
    options={
        "Yes, 4 bits are 4 bits.": "Both read as if from 16 keys alike. But that is a sixteenth of the one picture and"
        " more than half of the other.",
        _MOST: "Yes. With 256 keys at most 8 bits are possible, so 4 is a choice; with 25 at most about 4.6, so 4 is"
        " close to reading everything.",
        "The one with fewer keys chooses more sharply.": "It is the other way round: it is close to the most that it"
        " can have.",
    },
    right=_MOST,
)

QUIZZES: dict[str, Quiz] = {"04-weight": WEIGHT, "04-bits": BITS}
