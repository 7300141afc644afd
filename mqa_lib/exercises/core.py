"""What an exercise and a quiz are, and how an answer is judged: by the wrong variant that gives the same result."""

import copy
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["implement", "predict", "investigate"]
Answer = Callable[..., Any]
TOLERANCE = 1e-5  # of the largest right number: float32 passes, every listed mistake is far beyond
ROUNDING = 1e-6  # of a right number that is no whole number
NEAR = 0.01  # of a mistake's number, where an estimate is asked


@dataclass(frozen=True)
class Exercise:
    """What is asked, what is right, and what people do instead.

    Args:
        task: What the answer must be, in a sentence.
        hint: Where to look when the mistake is not a known one.
        right: For "implement" the right function. Otherwise the right number or one of `choices`, or a function of
            `inputs` that finds it out, so that nobody types it.
        mistakes: The mistake in a sentence, and what makes it: a function, a number or a choice, as in `right`.
        inputs: What a function is called with, by argument name.
        kind: "implement" asks for a function, "predict" for a number or choice before the cell that shows it,
            "investigate" for one that is found by trying.
        minutes: How long it takes most people.
        difficulty: 1, 2 or 3.
        tolerance: How far off an estimate may be, as a share of the right number (of 1 where that is 0).
        choices: The words among which the answer must be, where it is no number.
    """

    task: str
    hint: str
    right: Answer | int | float | str
    mistakes: Mapping[str, Answer | int | float | str]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "implement"
    minutes: int = 5
    difficulty: Literal[1, 2, 3] = 2
    tolerance: float = 0.0
    choices: tuple[str, ...] = ()

    @property
    def dots(self) -> str:
        """The difficulty as it stands in a heading."""
        return "●" * self.difficulty + "○" * (3 - self.difficulty)


@dataclass(frozen=True)
class Quiz:
    """A question with a few answers, each explained.

    Args:
        question: What is asked.
        options: Each answer, in a few words, and why it is right or wrong.
        right: The right answer, as it stands in `options`.
    """

    question: str
    options: Mapping[str, str]
    right: str


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


def normal(*shape: int) -> Tensor:
    """Return normal float64 numbers of a shape, the same at every call: an exercise's input."""
    seed = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=seed, dtype=torch.float64, device="cpu")


def judge(exercise: Exercise, answer: object) -> Verdict:
    """Return whether `answer` solves the exercise, with the largest error and, if it can be told, the mistake."""
    with torch.random.fork_rng(devices=[]):  # asking changes nothing that the reader draws next
        if exercise.kind != "implement":
            return _judge_found(exercise, answer)
        if callable(answer):
            return _judge_function(exercise, answer)
        return _judge_result(exercise, answer)


def _judge_function(exercise: Exercise, function: Answer) -> Verdict:
    given = copy.deepcopy(dict(exercise.inputs))  # what the reader's code does to them stays here
    try:
        result = function(**given)
    except NotImplementedError as error:
        *outer, unwritten = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        if len(outer) < 2:  # the stub, and who calls it
            return _nothing_yet(exercise)
        return Verdict(False, f"Not yet: your function calls {code(unwritten)}, which is not written yet.")
    except Exception as error:  # whatever the reader's code raises is the reader's to see
        said = code(f"{type(error).__name__}: {_words(error)}")
        called = f"It was called with {_told(exercise)}. Hint: {exercise.hint}"
        return Verdict(False, f"Your function stopped with {said}. {called}")
    verdict = _judge_result(exercise, result)
    if changed := [name for name, value in given.items() if _differs(value, exercise.inputs[name])]:
        names = " and ".join(code(name) for name in changed)
        note = f" Mind: your function changes {names} in place, which its caller will not expect."
        return Verdict(verdict.right, verdict.message + note, verdict.largest_error)
    return verdict


def _judge_result(exercise: Exercise, result: object) -> Verdict:
    if result is ...:
        return _nothing_yet(exercise)
    expected = result_of(exercise, exercise.right)
    if not isinstance(expected, Tensor):
        return _judge_value(exercise, result, expected)
    if not isinstance(result, Tensor):
        way_out = {"NoneType": " Does it end with `return`?", "ndarray": " `torch.from_numpy` makes it one."}
        way_out |= dict.fromkeys(("list", "tuple"), " `torch.stack` or `torch.cat` makes one of several.")
        kind = type(result).__name__
        return Verdict(
            False, f"A tensor is needed and this is {kind}.{way_out.get(kind, '')} {exercise.task}"
        )
    return _judge_tensor(exercise, result.detach(), expected)


def _judge_found(exercise: Exercise, answer: object) -> Verdict:
    if answer is None or answer is ... or callable(answer):
        return _nothing_yet(exercise)
    return _judge_value(exercise, answer, result_of(exercise, exercise.right))


def _judge_value(exercise: Exercise, answer: object, right: Any) -> Verdict:
    if isinstance(right, str):
        return _judge_choice(exercise, answer, right)
    number = _number(answer)
    if number is None:
        ending = " Does it end with `return`?" if answer is None else ""
        kind = type(answer).__name__
        return Verdict(False, f"A number is needed and this is {kind}.{ending} {exercise.task}")
    if math.isnan(number):
        return Verdict(False, f"Not yet: this is NaN, not a number. Hint: {exercise.hint}")
    error, right = abs(number - right), _number(right)
    allowed = exercise.tolerance * (abs(right) or 1) or (
        0 if isinstance(right, int) else ROUNDING * abs(right)
    )
    if error <= allowed:
        near = f" Yours is off by {error:.3g}, which is near enough." if error > ROUNDING * abs(right) else ""
        return Verdict(True, f"Right: {_shown(right)}.{near}", float(error))
    for mistake, wrong in exercise.mistakes.items():
        value = _number(result_of(exercise, wrong))
        if value is not None and abs(number - value) <= (NEAR if exercise.tolerance else ROUNDING) * abs(
            value
        ):
            return Verdict(False, f"Not yet: {mistake} The answer is off by {_shown(error)}.", float(error))
    side = "too large" if number > right else "too small"
    return Verdict(
        False, f"Not yet: {_shown(number)} is {side} by {_shown(error)}. Hint: {exercise.hint}", float(error)
    )


def _judge_choice(exercise: Exercise, answer: object, right: str) -> Verdict:
    known = " | ".join(f'"{choice}"' for choice in exercise.choices)
    if not isinstance(answer, str):
        kind = type(answer).__name__
        return Verdict(False, f"One of {known} is needed and this is {kind}. {exercise.task}")
    said = " ".join(answer.split()).casefold()
    if said == right.casefold():
        return Verdict(True, f'Right: "{right}".', 0.0)
    for mistake, wrong in exercise.mistakes.items():
        if said == str(result_of(exercise, wrong)).casefold():
            return Verdict(False, f"Not yet: {mistake}")
    return Verdict(False, f"{code(answer)} is none of {known}. {exercise.task}")


def _judge_tensor(exercise: Exercise, answer: Tensor, expected: Tensor) -> Verdict:
    if answer.is_meta or answer.is_complex():
        what = "on the device meta, where there are no numbers" if answer.is_meta else "complex"
        return Verdict(False, f"Not yet: the tensor is {what}. Hint: {exercise.hint}")
    kind = answer.dtype
    answer = (answer.to_dense() if answer.layout != torch.strided else answer).cpu().double()
    error = largest_error(answer, expected)
    if same(answer, expected):
        return Verdict(
            True, f"Right: the largest error of {expected.numel():,} numbers is {error:.1e}.", error
        )
    off = f" The largest error is {error:.2g}." if answer.shape == expected.shape else ""
    for mistake, wrong in exercise.mistakes.items():
        if same(answer, result_of(exercise, wrong)):
            return Verdict(False, f"Not yet: {mistake}{off}", error)
    if answer.shape != expected.shape:
        shapes = f"the shape is {tuple(answer.shape)} and must be {tuple(expected.shape)}"
        return Verdict(False, f"Not yet: {shapes}. Hint: {exercise.hint}")
    return Verdict(False, f"Not yet: {_symptom(answer, expected, kind)}{off} Hint: {exercise.hint}", error)


def _symptom(answer: Tensor, expected: Tensor, dtype: torch.dtype) -> str:
    if not answer.isfinite().all():
        share = (~answer.isfinite()).double().mean().item()
        return f"{share:.0%} of the numbers are not finite; is something divided by zero, or 0 times something endless?"
    if not dtype.is_floating_point and expected.is_floating_point():
        return f"the numbers are {dtype}, which has no place for fractions."
    expected = expected.double()
    if dtype.is_floating_point and torch.finfo(dtype).bits < 32 and same(answer, expected, 0.05):
        return f"the numbers are {dtype}, too coarse to tell; compute in the dtype of the inputs."
    factor = ((answer * expected).sum() / (expected * expected).sum()).item()
    if same(answer, factor * expected):
        return f"every number is {factor:.4g} times the right one."
    if same(answer.flatten().sort().values, expected.flatten().sort().values):
        return "all the right numbers are there, in other places."
    worst = torch.unravel_index((answer - expected).abs().argmax(), expected.shape)
    at = tuple(int(index) for index in worst)
    return f"at index {at} stands {answer[at]:.4g} and should stand {expected[at]:.4g}."


def result_of(exercise: Exercise, source: object) -> Any:
    """Return what `right` or a mistake gives: a function's result on fresh inputs, anything else as it is."""
    return source(**copy.deepcopy(dict(exercise.inputs))) if callable(source) else source


def same(answer: Tensor, expected: Tensor, share: float = TOLERANCE) -> bool:
    """Return whether two tensors agree, up to a share of the largest expected number."""
    return answer.shape == expected.shape and (
        not expected.numel() or largest_error(answer, expected) <= share * expected.abs().max().item()
    )


def largest_error(answer: Tensor, expected: Tensor) -> float:
    """Return the largest difference, NaN where the shapes differ or there is nothing to compare."""
    if answer.shape != expected.shape or not expected.numel():
        return float("nan")
    return (answer.double() - expected.double()).abs().max().item()


def code(text: str) -> str:
    """Return text of the reader's set as code, in which no HTML and no Markdown is seen."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _nothing_yet(exercise: Exercise) -> Verdict:
    among = f" One of {' | '.join(exercise.choices)}." if exercise.choices else ""
    return Verdict(False, f"Nothing to check yet. {exercise.task}{among} Hint: {exercise.hint}")


def _number(value: object) -> int | float | None:
    """Return a number as Python's own, whole ones as `int`; None if it is none."""
    if isinstance(value, bool | str | bytes) or value is None:
        return None
    if not isinstance(value, int | float):
        try:
            value = value.item()  # type: ignore[attr-defined]  # a tensor or numpy's, of one element
        except Exception:  # has none, or more than one element, or no numbers
            return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 2**1000 else math.inf
    return value if isinstance(value, float) else None


def _shown(number: int | float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.6g}"


def _words(error: Exception) -> str:
    try:
        return (str(error).splitlines() or [""])[0][:300]
    except Exception:  # a class of the reader's whose own words fail
        return ""


def _differs(value: object, original: object) -> bool:
    if isinstance(value, Tensor) and isinstance(original, Tensor):
        return value.shape != original.shape or not torch.equal(value.detach(), original)
    if isinstance(value, Mapping) and isinstance(original, Mapping):
        return value.keys() != original.keys() or any(_differs(value[key], original[key]) for key in original)
    return False


def _told(exercise: Exercise) -> str:
    return ", ".join(_told_one(name, value) for name, value in exercise.inputs.items())


def _told_one(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return f"`{name}` with " + ", ".join(_told_one(key, each) for key, each in value.items())
    return f"`{name}` of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"`{name}={value}`"
