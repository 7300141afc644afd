"""Exercises and quizzes of the course: `check("03-scale", answer)` names the mistake, `quiz("02-share")` asks.

An exercise knows the right result and the results of the mistakes that people make. An answer that equals one of
those is told which mistake it is; any other is told how far off it is, where, and what to look at. What was passed is
kept in a file beside the notebook, and `progress("03")` shows it. Each notebook's content has a module of its own.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mqa_lib import checks
from mqa_lib.exercises import bar, kept, nb01, nb02, nb03, nb04, nb05, nb06, nb07
from mqa_lib.exercises.bar import Bar
from mqa_lib.exercises.core import Exercise, Quiz, Verdict, judge
from mqa_lib.exercises.quizzes import QuizView

_MODULES = (nb01, nb02, nb03, nb04, nb05, nb06, nb07)
EXERCISES: Mapping[str, Exercise] = {
    name: each for module in _MODULES for name, each in module.EXERCISES.items()
}
QUIZZES: Mapping[str, Quiz] = {name: each for module in _MODULES for name, each in module.QUIZZES.items()}
__all__ = [
    "EXERCISES",
    "QUIZZES",
    "Exercise",
    "Quiz",
    "Verdict",
    "check",
    "inputs",
    "minutes",
    "progress",
    "quiz",
]
_BUILT = Path(__file__).parents[2] / "data/benchmarks/notebooks.json"


def check(name: str, answer: object) -> Verdict:
    """Return whether `answer` solves the exercise, with the largest error and, if it can be told, the mistake.

    A function is called with the exercise's inputs; a tensor is taken for its result on `inputs(name)`. An exercise
    that asks for a number or a choice is given just that. What is right is kept for the progress bar.

    Raises:
        ValueError: There is no exercise of that name.
    """
    verdict = judge(EXERCISES[checks.one_of("name", name, EXERCISES)], answer)
    if not verdict.right or kept.is_off():
        return verdict
    note = kept.keep(name, passed=True)
    bar.renew()
    return replace(verdict, message=f"{verdict.message} {note or progress(name[:2]).sentence}")


def inputs(name: str) -> dict[str, Any]:
    """Return what the exercise's function is called with, to try things on.

    Raises:
        ValueError: There is no exercise of that name.
    """
    return copy.deepcopy(dict(EXERCISES[checks.one_of("name", name, EXERCISES)].inputs))


def quiz(name: str) -> QuizView:
    """Return a quiz, ready to be the last line of a cell.

    Raises:
        ValueError: There is no quiz of that name.
    """
    return QuizView(name, QUIZZES[checks.one_of("name", name, QUIZZES)])


def progress(notebook: str) -> Bar:
    """Return the bar of a notebook, ready to be the last line of a cell; it moves with every right answer.

    Args:
        notebook: The notebook's number, as in "02".

    Raises:
        ValueError: There is no notebook of that number.
    """
    numbers = [module.__name__[-2:] for module in _MODULES]
    module = _MODULES[numbers.index(checks.one_of("notebook", notebook, numbers))]
    exercises = {name: f"{each.kind}, {each.minutes} min" for name, each in module.EXERCISES.items()}
    return Bar(notebook, exercises | dict.fromkeys(module.QUIZZES, "quiz"))


def minutes(notebook: str) -> str:
    """Return in a sentence how long a notebook took when it was built, as recorded: within a build, the one before.

    Args:
        notebook: The notebook's number, as in "02".
    """
    built = json.loads(_BUILT.read_text(encoding="utf-8"))
    cores = built["machine"]["cores"]
    for name, seconds in built["seconds"].items():
        if name.startswith(f"{notebook}_"):
            return f"{seconds / 60:.1f} minutes on {cores} CPU cores in the recorded build; on a GPU not measured."
    return f"How long notebook {notebook} takes has not been recorded."
