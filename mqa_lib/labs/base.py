"""What every lab is made of: controls, one picture with its words, a sentence, a table, and a twin without a kernel."""

import base64
import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from mqa_lib import plots

_VIEW = "application/vnd.jupyter.widget-view+json"
_STYLE = (
    "<style>.mqa-lab .widget-html-content{line-height:1.5}.mqa-lab .widget-html{height:auto}"
    ".mqa-lab table{border-collapse:collapse;font-size:90%}.mqa-lab caption{text-align:left}"
    ".mqa-lab td{white-space:nowrap}.mqa-lab td,.mqa-lab th{border:1px solid #8888;padding:.15em .5em;text-align:left}"
    ".mqa-lab .widget-toggle-buttons .widget-toggle-button{width:auto}</style>"
)
_PER_LINE = 2


class Lab(widgets.VBox):
    """Controls over one picture, one sentence and one table, drawn anew when a control is let go.

    A subclass makes its controls, then calls this, and says what to show in `draw`, `say` and `rows`. An error while
    drawing is shown in the lab, because a notebook hides what its widgets raise, and raised to whoever moved a control.

    Args:
        controls: What the reader moves, in order; anything with a `value`.
        per_line: Controls on a line.
        below: What else stands beneath the picture.
    """

    def __init__(self, controls: Sequence[Any], per_line: int = _PER_LINE, below: Sequence[Any] = ()) -> None:
        self.controls = list(controls)
        self.picture, self.said, self.table = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.alt = ""
        lines = [self.controls[at : at + per_line] for at in range(0, len(self.controls), per_line)]
        wrap = widgets.Layout(flex_flow="row wrap")
        boxes = [widgets.HBox(line, layout=wrap) for line in lines]
        super().__init__([widgets.HTML(_STYLE), *boxes, self.said, self.picture, *below, self.table])
        self.add_class("mqa-lab")
        for control in self.controls:
            control.observe(self.redraw, names="value")
        self.redraw()

    def draw(self) -> tuple[plots.Figure, str]:
        """Return the picture for what the controls say, and the words for those who cannot see it."""
        raise NotImplementedError

    def say(self) -> str:
        """Return what the picture means, in a sentence or a few."""
        raise NotImplementedError

    def rows(self) -> str:
        """Return the numbers as an HTML table, or nothing."""
        return ""

    def redraw(self, _change: object = None) -> None:
        """Show what the controls ask for now."""
        try:
            with plots.drawn_without_a_pause():
                fig, alt = self.draw()
                picture, said, table = image(fig, alt), self.say(), self.rows()
                del fig
        except Exception as error:
            told = html.escape(f"{type(error).__name__}: {error}")
            self.said.value = f'<p role="alert"><strong>This cannot be shown.</strong> {told}</p>'
            raise
        self.alt, self.picture.value, self.table.value = alt, picture, table
        self.said.value = f'<p role="status">{html.escape(said)}</p>'

    def twin(self) -> tuple[bytes, str]:
        """Return what the lab shows as one picture with the sentence beneath, and its words."""
        fig, alt = self.draw()
        said = self.say()
        return plots.few_colours(plots.png(plots.with_caption(fig, said))), f"{alt} {said}"

    def _ipython_display_(self, **_kwargs: Any) -> None:
        """Display the lab, and its twin where there is no kernel: IPython asks this of widgets of every version."""
        from IPython.display import display

        png, words = self.twin()
        data: dict[str, Any] = {
            _VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.model_id},
            "image/png": base64.b64encode(png).decode(),
            "text/plain": words,
        }
        width = int(self.draw()[0].get_figwidth() * 100)
        display(data, metadata={"image/png": {"alt": words, "width": width}}, raw=True)
        if self.table.value:
            folded = (
                f"<details><summary>These numbers, without a kernel</summary>{self.table.value}</details>"
            )
            display({"text/html": folded, "text/plain": ""}, raw=True)


def show(lab: Lab) -> None:
    """Display a lab from anywhere in a cell, as its last line would."""
    lab._ipython_display_()


def image(fig: plots.Figure, alt: str) -> str:
    """Return the figure as an HTML image with its words: `widgets.Image` has no place for them in version 7."""
    data = base64.b64encode(plots.quick_png(fig)).decode()
    width = int(fig.get_figwidth() * 100)
    style = f"width:100%;max-width:{width}px;height:auto"
    return f'<img alt="{html.escape(alt)}" style="{style}" src="data:image/png;base64,{data}">'


def slider(name: str, options: Sequence[int], value: int) -> widgets.SelectionSlider:
    """Return a slider over numbers, `value` among them, that waits until it is let go."""
    return widgets.SelectionSlider(
        options=sorted({*options, value}),
        value=value,
        description=name,
        continuous_update=False,
        style={"description_width": "110px"},
        layout=widgets.Layout(width="360px"),
    )


def dropdown(name: str, options: Sequence[Any], value: Any) -> widgets.Dropdown:
    """Return a list to choose from."""
    return widgets.Dropdown(
        options=list(options),
        value=value,
        description=name,
        style={"description_width": "110px"},
        layout=widgets.Layout(width="360px"),
    )


def checkbox(name: str, value: bool = False) -> widgets.Checkbox:
    """Return a box to tick."""
    return widgets.Checkbox(value=value, description=name, indent=False, layout=widgets.Layout(width="360px"))


def html_table(titles: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """Return an HTML table; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    lines = [
        f'<tr><th scope="row">{html.escape(str(first))}</th>'
        + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    ]
    return (
        '<div style="overflow-x:auto">'
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
