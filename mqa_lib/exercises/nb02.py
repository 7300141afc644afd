"""The exercises and quizzes of notebook 2."""

from mqa_lib.exercises.core import Exercise, Quiz

EXERCISES: dict[str, Exercise] = {}

QUIZZES: dict[str, Quiz] = {}
