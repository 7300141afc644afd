"""The bar on top of a notebook: what is done of its exercises and quizzes, and what is open."""

import html
from collections.abc import Mapping

from mqa_lib.exercises import kept

_shown: "dict[str, Bar]" = {}


class Bar:
    """How much of a notebook's exercises and quizzes is done.

    Args:
        notebook: The notebook's number, as in "02".
        names: Its exercises and quizzes, each with what to say of it while it is open.
    """

    def __init__(self, notebook: str, names: Mapping[str, str]) -> None:
        self.notebook, self.names = notebook, names

    @property
    def done(self) -> list[str]:
        """The names of what is passed."""
        entries = kept.load()
        return [name for name in self.names if entries.get(name, {}).get("passed")]

    @property
    def sentence(self) -> str:
        """How far the reader has come."""
        return f"Notebook {int(self.notebook)}: {len(self.done)} of {len(self.names)} done."

    def __repr__(self) -> str:
        """Return the bar as text."""
        tenths = round(10 * len(self.done) / max(1, len(self.names)))
        return " ".join(
            [f"[{'#' * tenths}{'.' * (10 - tenths)}] {self.sentence}", *self._lists(), *kept.notes]
        )

    def _repr_html_(self) -> str:
        done = len(self.done)
        lines = "".join(f"<br>{html.escape(line)}" for line in (*self._lists(), *kept.notes))
        return (
            f'<div><label><progress max="{len(self.names)}" value="{done}"></progress>'
            f" <strong>{self.sentence}</strong></label><small>{lines}</small></div>"
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        _shown[self.notebook] = self
        display(self._data(), display_id=self._id, raw=True)

    @property
    def _id(self) -> str:
        return f"mqa-progress-{self.notebook}"

    def _lists(self) -> list[str]:
        done = self.done
        still = [f"{name} ({said})" for name, said in self.names.items() if name not in done]
        return [f"{what}: {', '.join(names)}." for what, names in (("Done", done), ("Open", still)) if names]

    def _data(self) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}


def renew() -> None:
    """Draw the bars that stand in this notebook again."""
    for bar in _shown.values():
        from IPython.display import update_display  # a bar that was shown was shown by it

        update_display(bar._data(), display_id=bar._id, raw=True)
