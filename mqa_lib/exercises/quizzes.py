"""A quiz in a cell: radio buttons with the explanation of what is chosen, or a folded list where no kernel answers."""

import html
import re
from typing import Any

from mqa_lib.exercises import bar, kept
from mqa_lib.exercises.core import Quiz

_VIEW = "application/vnd.jupyter.widget-view+json"
_STYLE = (  # the buttons' labels have one line of fixed height otherwise, and a long answer is cut
    "<style>.mqa-quiz .widget-radio-box label{display:flex;flex-direction:row-reverse;justify-content:flex-end;"
    "align-items:flex-start;gap:.5em;height:auto;line-height:1.4;white-space:normal;margin-bottom:.3em}"
    ".mqa-quiz .widget-radio-box input{flex:none;margin:.2em 0 0}"
    ".mqa-quiz,.mqa-quiz .widget-radio,.mqa-quiz .widget-radio-box{width:auto;max-width:100%;height:auto}"
    ".mqa-quiz .widget-html-content{line-height:1.5}</style>"
)


def marked(text: str) -> str:
    """Return text as HTML in which only `code` is set; nothing else is taken for markup."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def explained(quiz: Quiz, option: str) -> str:
    """Return what to say to a chosen option, as HTML: whether it is right, and why, with no second "Yes" or "No"."""
    why = quiz.options[option].removeprefix("Yes. ").removeprefix("No. ")
    return f"<strong>{'Right' if option == quiz.right else 'Not so'}.</strong> {marked(why)}"


class QuizView:
    """A quiz as a notebook shows it: alive where widgets are, folded anywhere else.

    Args:
        name: The quiz's name, under which the answer is kept.
        quiz: What it asks.
    """

    def __init__(self, name: str, quiz: Quiz) -> None:
        self.name, self.quiz = name, quiz
        self._widget: Any = None

    @property
    def widget(self) -> Any:
        """The quiz as a widget, with the answer that was given before."""
        if self._widget is None:
            self._widget = self._made()
        return self._widget

    def _made(self) -> Any:
        import ipywidgets as widgets

        earlier = kept.load().get(self.name, {}).get("answer")
        options = list(self.quiz.options)
        index = options.index(earlier) if earlier in options else None
        layout = widgets.Layout(width="auto")
        self.buttons = widgets.RadioButtons(options=options, index=index, layout=layout)
        self.said = widgets.HTML("" if index is None else self._words(options[index]))
        self.buttons.observe(self._answered, names="value")
        question = widgets.HTML(f"{_STYLE}<strong>{marked(self.quiz.question)}</strong>")
        box = widgets.VBox([question, self.buttons, self.said])
        box.add_class("mqa-quiz")
        return box

    def _answered(self, change: Any) -> None:
        option = change["new"]
        if option is None:
            return
        note = kept.keep(self.name, option == self.quiz.right, answer=option)
        bar.renew()
        self.said.value = self._words(option) + (f"<br><small>{html.escape(note)}</small>" if note else "")

    def _words(self, option: str) -> str:
        return f'<div role="status">{explained(self.quiz, option)}</div>'

    def __repr__(self) -> str:
        """Return the quiz as text, for a prompt."""
        return "\n".join([self.quiz.question, *(f"( ) {option}" for option in self.quiz.options)])

    def static(self) -> str:
        """Return the quiz as HTML without any script: every option folds out its explanation."""
        folded = (
            f"<details><summary>{marked(option)}</summary><p>{explained(self.quiz, option)}</p></details>"
            for option in self.quiz.options
        )
        return f"<p><strong>{marked(self.quiz.question)}</strong></p>{''.join(folded)}"

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, Any]:
        """Return the widget, and the folded list for where there is none."""
        data: dict[str, Any] = {"text/plain": repr(self), "text/html": self.static()}
        try:
            model = self.widget.model_id
        except ImportError:
            return data
        return {**data, _VIEW: {"version_major": 2, "version_minor": 0, "model_id": model}}
