"""Checks a reader's answer against the right result and names the mistake: `check("03-scale", answer)`.

An exercise knows the right result and the results of the mistakes that people make. An answer that equals one of
those is told which mistake it is; any other is told how far off it is, where, and what to look at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mqa_lib import checks, functional
from mqa_lib.published import ALL, Defect, PublishedMQA

Answer = Callable[..., Tensor]
TOLERANCE = 1e-5  # of the largest right number: float32 passes, every listed mistake is far beyond


@dataclass(frozen=True)
class Exercise:
    """What is asked, what is right, and what people do instead.

    Args:
        task: What the answer must be, in a sentence.
        hint: Where to look when the mistake is not a known one.
        right: The right function, or the right number.
        mistakes: The mistake in a sentence, and the function or number that makes it.
        inputs: What a function is called with, by argument name.
    """

    task: str
    hint: str
    right: Answer | int
    mistakes: Mapping[str, Answer | int]
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What `check` found; shown as its message.

    Args:
        right: Whether the answer is right.
        message: What to tell the reader.
        largest_error: Largest difference from the right result, NaN if there was nothing to compare.
    """

    right: bool
    message: str
    largest_error: float = float("nan")

    def __repr__(self) -> str:
        """Return the message, so that a prompt that ends with `check(...)` shows it."""
        return self.message

    def _repr_markdown_(self) -> str:
        return self.message  # in a notebook long lines break, and code is set as code


def check(name: str, answer: object) -> Verdict:
    """Return whether `answer` solves the exercise, with the largest error and, if it can be told, the mistake.

    A function is called with the exercise's inputs; a tensor is taken for its result on `inputs(name)`.

    Raises:
        ValueError: There is no exercise of that name.
    """
    exercise = EXERCISES[checks.one_of("name", name, EXERCISES)]
    if not callable(exercise.right):
        return _check_number(exercise, answer)
    if callable(answer):
        try:
            answer = answer(**exercise.inputs)
        except NotImplementedError:
            return Verdict(False, f"Nothing to check yet. {exercise.task} Hint: {exercise.hint}")
        except Exception as error:  # whatever the reader's code raises is the reader's to see
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            return Verdict(False, f"Your function stopped with {said}. It was called with {_told(exercise)}.")
    if not isinstance(answer, Tensor):
        ending = " Does it end with `return`?" if answer is None else ""
        return Verdict(
            False, f"A tensor is needed and this is {type(answer).__name__}.{ending} {exercise.task}"
        )
    return _check_tensor(exercise, answer.detach())


def inputs(name: str) -> dict[str, Any]:
    """Return what the exercise's function is called with, to try things on.

    Raises:
        ValueError: There is no exercise of that name.
    """
    return dict(EXERCISES[checks.one_of("name", name, EXERCISES)].inputs)


def _check_number(exercise: Exercise, answer: object) -> Verdict:
    right = exercise.right
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if answer is None or answer is ... or callable(answer):
        return Verdict(False, f"Nothing to check yet. {exercise.task} Hint: {exercise.hint}")
    if isinstance(answer, bool) or not isinstance(answer, int | float) or callable(right):
        return Verdict(False, f"A number is needed and this is {type(answer).__name__}. {exercise.task}")
    error = float(abs(answer - right))
    if error == 0:
        return Verdict(True, f"Right: {right}.", 0.0)
    for mistake, value in exercise.mistakes.items():
        if answer == value:
            return Verdict(False, f"Not yet: {mistake} The answer is off by {error:g}.", error)
    side = "too large" if answer > right else "too small"
    return Verdict(False, f"Not yet: {answer:g} is {side} by {error:g}. Hint: {exercise.hint}", error)


def _check_tensor(exercise: Exercise, answer: Tensor) -> Verdict:
    expected = _result(exercise, exercise.right)
    error = _largest_error(answer, expected)
    if _same(answer, expected):
        return Verdict(
            True, f"Right: the largest error of {expected.numel():,} numbers is {error:.1e}.", error
        )
    off = f" The largest error is {error:.2g}." if answer.shape == expected.shape else ""
    for mistake, wrong in exercise.mistakes.items():
        if _same(answer, _result(exercise, wrong)):
            return Verdict(False, f"Not yet: {mistake}{off}", error)
    if answer.shape != expected.shape:
        shapes = f"the shape is {tuple(answer.shape)} and must be {tuple(expected.shape)}"
        return Verdict(False, f"Not yet: {shapes}. Hint: {exercise.hint}")
    return Verdict(False, f"Not yet: {_symptom(answer.double(), expected)}{off} Hint: {exercise.hint}", error)


def _symptom(answer: Tensor, expected: Tensor) -> str:
    if not answer.isfinite().all():
        share = (~answer.isfinite()).double().mean().item()
        return f"{share:.0%} of the numbers are not finite; is something divided by zero?"
    factor = ((answer * expected).sum() / (expected * expected).sum()).item()
    if _same(answer, factor * expected):
        return f"every number is {factor:.4g} times the right one."
    if _same(answer.flatten().sort().values, expected.flatten().sort().values):
        return "all the right numbers are there, in other places."
    worst = torch.unravel_index((answer - expected).abs().argmax(), expected.shape)
    at = tuple(int(index) for index in worst)
    return f"at index {at} stands {answer[at]:.4g} and should stand {expected[at]:.4g}."


def _result(exercise: Exercise, function: Answer | int) -> Tensor:
    if not callable(function):
        raise TypeError("an exercise whose right result is a tensor lists its mistakes as functions")
    return function(**exercise.inputs)


def _same(answer: Tensor, expected: Tensor) -> bool:
    return _largest_error(answer, expected) <= TOLERANCE * expected.abs().max().item()


def _largest_error(answer: Tensor, expected: Tensor) -> float:
    if answer.shape != expected.shape:
        return float("nan")
    return (answer.double() - expected.double()).abs().max().item()


def _told(exercise: Exercise) -> str:
    return ", ".join(_told_one(name, value) for name, value in exercise.inputs.items())


def _told_one(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return f"`{name}` with " + ", ".join(_told_one(key, each) for key, each in value.items())
    return f"`{name}` of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"`{name}={value}`"


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _softmax_of(scores: Callable[[Tensor, Tensor], Tensor], axis: int = -1) -> Answer:
    return lambda q, k: scores(q, k).softmax(axis)


_MATRICES = {
    name: _normal(*shape, 1, 1) / shape[1] ** 0.5
    for name, shape in {"query": (39, 11), "key": (13, 11), "value": (13, 11), "output": (11, 39)}.items()
}


def _published(defects: Defect) -> Answer:
    """Return what the article's layer gives when it makes just these mistakes."""

    def answer(x: Tensor, matrices: Mapping[str, Tensor], num_heads: int) -> Tensor:
        key_dim, dim = matrices["key"].shape[:2]
        layer = PublishedMQA(dim, num_heads, key_dim, defects=defects).double().eval()
        layer.load_state_dict({f"{name}.proj.weight": weight for name, weight in matrices.items()})
        return layer(x).detach()

    return answer


SCALE = Exercise(
    task="Write `weights(q, k)`: for q (batch, heads, queries, key_dim) and k (batch, 1, keys, key_dim), return the"
    " softmax of the scaled scores, of shape (batch, heads, queries, keys).",
    hint="one query's score with one key is their dot product over the square root of the number of terms in it.",
    right=functional.attention_weights,
    mistakes={
        "the scores are not scaled; divide them by sqrt(key_dim) before the softmax.": _softmax_of(
            lambda q, k: q @ k.mT
        ),
        "the scores are divided by key_dim; its square root is needed.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[-1]
        ),
        "the scores are multiplied by sqrt(key_dim); divide by it.": _softmax_of(
            lambda q, k: q @ k.mT * q.shape[-1] ** 0.5
        ),
        "this is the scale of the layer in section 8, sqrt(key_dim // num_heads); key_dim is one head's size"
        " already.": _softmax_of(lambda q, k: q @ k.mT / (q.shape[-1] // q.shape[1]) ** 0.5),
        "the scale is sqrt(num_heads); it must be sqrt(key_dim), the number of terms in a score.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[1] ** 0.5
        ),
        "the softmax runs over the queries; a query's weights over the keys must add up to 1.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[-1] ** 0.5, axis=-2
        ),
        "the softmax runs over the heads; a query's weights over the keys must add up to 1.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[-1] ** 0.5, axis=1
        ),
        "these are the scores; the softmax over the keys is missing.": lambda q, k: (
            q @ k.mT / q.shape[-1] ** 0.5
        ),
    },
    inputs={"q": _normal(2, 3, 11, 13), "k": _normal(2, 1, 7, 13)},
)

SPLIT = Exercise(
    task="Write `split(q_map, num_heads)`: cut a map (batch, heads * key_dim, height, width) into tokens of shape"
    " (batch, heads, height * width, key_dim), one token a pixel and head.",
    hint="cut the channels first, then flatten the pixels, then swap the last two axes.",
    right=lambda q_map, num_heads: torch.stack(
        [head.flatten(-2).mT for head in q_map.chunk(num_heads, dim=1)], dim=1
    ),
    mistakes={
        "this is the mistake of the layer in section 8: view cuts along the memory, so a token holds"
        " key_dim neighbouring pixels of one channel and not one pixel's channels."
        " Cut, then transpose.": lambda q_map, num_heads: q_map.reshape(
            len(q_map), num_heads, -1, q_map.shape[1] // num_heads
        ),
        "the last two axes are still (key_dim, pixels); swap them with `.mT`.": lambda q_map, num_heads: (
            q_map.unflatten(1, (num_heads, -1)).flatten(-2)
        ),
        "the channels are cut as (key_dim, heads); a head owns neighbouring channels, so cut them as"
        " (heads, key_dim).": lambda q_map, num_heads: (
            q_map.unflatten(1, (-1, num_heads)).transpose(1, 2).flatten(-2).mT
        ),
        "the pixels run down the columns; number them along the rows, as `flatten` does.": lambda q_map, num_heads: (
            q_map.mT.unflatten(1, (num_heads, -1)).flatten(-2).mT
        ),
        "heads and pixels are the wrong way round; the heads come before the tokens.": lambda q_map, num_heads: (
            q_map.unflatten(1, (num_heads, -1)).flatten(-2).permute(0, 3, 1, 2)
        ),
    },
    inputs={"q_map": _normal(2, 15, 7, 11), "num_heads": 3},
)

MERGE = Exercise(
    task="Write `merge(read, height, width)`: lay tokens of shape (batch, heads, height * width, value_dim) back into"
    " a map (batch, heads * value_dim, height, width).",
    hint="undo what `split` did, in the opposite order: swap, join heads and channels, cut the pixels.",
    right=lambda read, height, width: torch.cat([head.mT for head in read.unbind(1)], dim=1).unflatten(
        -1, (height, width)
    ),
    mistakes={
        "this is the mistake of the layer in section 8: the tokens are laid into the map as they stand. Swap the"
        " last two axes first.": lambda read, height, width: read.reshape(len(read), -1, height, width),
        "height and width are swapped.": lambda read, height, width: read.mT.reshape(
            len(read), -1, width, height
        ),
        "heads and channels are joined as (value_dim, heads); the head comes first.": lambda read, height, width: (
            read.permute(0, 3, 1, 2).flatten(1, 2).unflatten(-1, (height, width))
        ),
    },
    inputs={"read": _normal(2, 3, 77, 5), "height": 7, "width": 11},
)

LAYER = Exercise(
    task="Write `mobile_mqa(x, matrices, num_heads)`: let every pixel of the map x read from all pixels, with the 1×1"
    " convolutions `matrices` by name (query, key, value, output), and return a map of the size of x.",
    hint="project, split (keys and values have one head), weigh, read, merge, project.",
    right=lambda x, matrices, num_heads: functional.mobile_mqa(
        x, {f"{name}.proj.weight": weight for name, weight in matrices.items()}, num_heads
    ),
    mistakes={
        "the query map is cut by `view` or `reshape`, so a query is a piece of a row; see section 3.": _published(
            Defect.QUERY_LAYOUT
        ),
        "the value map is cut by `view` or `reshape`, so a value is a piece of a row; see section 3.": _published(
            Defect.VALUE_LAYOUT
        ),
        "the tokens that were read are laid into the map as they stand; swap the last two axes first.": _published(
            Defect.OUTPUT_LAYOUT
        ),
        "queries and values are both cut by `view`, so their tokens are pieces of rows.": _published(
            Defect.QUERY_LAYOUT | Defect.VALUE_LAYOUT
        ),
        "this is the layer of section 8, with all three layouts wrong and the scores scaled by the wrong"
        " root.": _published(ALL & ~Defect.SQUARE_ONLY),
        "the three layouts of section 8 are wrong; your scale is right.": _published(
            Defect.QUERY_LAYOUT | Defect.VALUE_LAYOUT | Defect.OUTPUT_LAYOUT
        ),
        "the scores are divided by sqrt(key_dim // num_heads); key_dim is one head's size already.": _published(
            Defect.SCALE
        ),
    },
    inputs={"x": _normal(2, 11, 5, 7), "matrices": _MATRICES, "num_heads": 3},
)

KEYS = Exercise(
    task="How many keys does a map of 15 × 21 pixels have with kv_stride 2?",
    hint="a convolution of stride 2 with a padding of one pixel looks at rows 0, 2, 4 and so on; count them.",
    right=88,
    mistakes={
        "this is the number without down-sampling.": 315,
        "both sides are rounded down; the last odd row and column are looked at too.": 70,
        "only the height is halved.": 168,
        "only the width is halved.": 165,
        "the pixels are divided by four and rounded; each side is halved and rounded up.": 79,
        "this is the size of one side; multiply the two.": 11,
    },
)

CHANNELS = Exercise(
    task="How many channels does the 1×1 convolution in the last row of the tiny model file take in?",
    hint="it reads the row before it, a Concat; find the two rows that the Concat reads, and what each hands on.",
    right=24,
    mistakes={
        "this is what the row just before the Concat hands on; row 0 is stacked on it.": 16,
        "this is what row 0 hands on; row 2 is stacked on it.": 8,
        "this is what the convolution hands on; what it takes in is asked.": 4,
        "a picture has three; row 0 alone reads the picture.": 3,
        "the rows of every index up to the Concat are summed; it stacks only those that it names.": 40,
    },
)

STARVED = Exercise(
    task="How many parameters does row 5 lack when the reader believes that it is handed 3 channels and not 2048?",
    hint="a 1×1 convolution without bias has (channels in) × (channels out) weights; what does not depend on the"
    " channels in, such as the norm behind it, is not lacking.",
    right=(2048 - 3) * 256,
    mistakes={
        "some weights are there, those of the 3 channels.": 2048 * 256,
        "this is all that the row should have; ask what it lacks.": 2048 * 256 + 2 * 256,
        "these are the weights that it has.": 3 * 256,
        "this is all that the row has.": 3 * 256 + 2 * 256,
        "these are the channels that it lacks; each of them has a weight for every channel handed on.": 2045,
    },
)

RENUMBER = Exercise(
    task="Write `renumber(sources, after)`: for the row numbers that the later rows of a model file read, return what"
    " they have to read once a block is put behind row `after`. Negative numbers count backwards and stay.",
    hint="a row behind the block has moved by one; who read row `after` should read the block; all before it stays.",
    right=lambda sources, after: torch.where(sources >= after, sources + 1, sources),
    mistakes={
        "who read row `after` still reads it, so the block is passed by: the file loads, it trains, and that map"
        " never sees the attention.": lambda sources, after: torch.where(
            sources > after, sources + 1, sources
        ),
        "all numbers have moved; the rows before the block stay where they are.": lambda sources, after: (
            torch.where(sources >= 0, sources + 1, sources)
        ),
        "negative numbers have moved; they count backwards from their own row.": lambda sources, after: (
            torch.where((sources >= after) | (sources < 0), sources + 1, sources)
        ),
        "nothing has moved.": lambda sources, after: sources,
    },
    inputs={"sources": torch.tensor([2, -1, 3, -2, 7, 12, 16]), "after": 3},
)

EXERCISES: Mapping[str, Exercise] = {
    "03-split": SPLIT,
    "03-scale": SCALE,
    "03-merge": MERGE,
    "03-layer": LAYER,
    "03-keys": KEYS,
    "05-channels": CHANNELS,
    "05-starved": STARVED,
    "05-renumber": RENUMBER,
}
