"""A quiz in a cell: radio buttons with the explanation of what is chosen, or a folded list where no kernel answers."""

import html
import re

from mqa_lib.exercises.core import Quiz


def static(quiz: Quiz) -> str:
    """Return the quiz as HTML without any script: every option folds out its explanation."""
    folded = (
        f"<details><summary>{marked(option)}</summary>"
        f"<p><strong>{'Right' if option == quiz.right else 'Not so'}.</strong> {marked(why)}</p></details>"
        for option, why in quiz.options.items()
    )
    return f"<p><strong>{marked(quiz.question)}</strong></p>{''.join(folded)}"


def plain(quiz: Quiz) -> str:
    """Return the quiz as text."""
    return "\n".join([quiz.question, *(f"( ) {option}" for option in quiz.options)])


def marked(text: str) -> str:
    """Return text as HTML in which only `code` is set; nothing else is taken for markup."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


class QuizView:
    """A quiz as a notebook shows it.

    Args:
        name: The quiz's name.
        quiz: What it asks.
    """

    def __init__(self, name: str, quiz: Quiz) -> None:
        self.name, self.quiz = name, quiz

    def __repr__(self) -> str:
        """Return the quiz as text, for a prompt."""
        return plain(self.quiz)

    def _repr_html_(self) -> str:
        return static(self.quiz)
