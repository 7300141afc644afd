"""Show attention in the best way that can run here; and the explorer of sliders, whose pictures the kernel draws."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import HTML, display
from torch import nn

from mqa_lib import checks, plots
from mqa_lib.explorer import words
from mqa_lib.explorer.seen import Seen, gather
from mqa_lib.record import AttentionRecord

if TYPE_CHECKING:
    from mqa_lib.explorer.widget import AttentionExplorer

MODES = ("auto", "explorer", "widgets", "static")
_ALL_HEADS = -1


class Explorer(widgets.VBox):
    """Sliders for a query's row and column, menus for head and layer, the picture, and a table of what is read.

    The state is in the sliders and menus: set `row.value` and the like from Python, and the picture follows. A redraw
    that fails says so in the table, and raises.

    Args:
        records: The layers to choose from.
        query: Number of the first layer's query to start at; the middle one if not given.

    Raises:
        ValueError: There is no record, or the first has no such query.
    """

    def __init__(self, records: Sequence[AttentionRecord], query: int | None = None) -> None:
        self.records = list(records)
        first = _first(self.records)
        rows, columns = first.query_grid
        row, column = divmod(_start(first, query), columns)
        self.layer = widgets.Dropdown(
            options=[(words.layer_name(record), number) for number, record in enumerate(self.records)],
            description="layer",
            layout=widgets.Layout(width="auto"),
        )
        self.head = widgets.Dropdown(options=_head_options(first), value=_ALL_HEADS, description="head")
        self.row = _slider("row", row, rows)
        self.column = _slider("column", column, columns)
        self.picture = widgets.Image(format="png", layout=widgets.Layout(width="100%", max_width="1000px"))
        self.readout = widgets.HTML()
        self._busy = False
        self.layer.observe(self._change_layer, names="value")
        for control in (self.head, self.row, self.column):
            control.observe(self._redraw, names="value")
        self._redraw()
        menus = [self.layer, self.head] if len(self.records) > 1 else [self.head]
        super().__init__([*menus, widgets.HBox([self.row, self.column]), self.picture, self.readout])

    @property
    def record(self) -> AttentionRecord:
        """Return the layer that is shown."""
        return self.records[self.layer.value]

    @property
    def query(self) -> int:
        """Return the number of the query that is shown."""
        return self.row.value * self.record.query_grid[1] + self.column.value

    def _change_layer(self, change: dict[str, Any]) -> None:
        """Keep looking at the same place of the picture, in the new layer's grid."""
        top, left, bottom, right = self.records[change["old"]].query_cell_of(self._query_in(change["old"]))
        rows, columns = self.record.query_grid
        query = self.record.query_at(int((top + bottom) / 2), int((left + right) / 2))
        self._busy = True
        try:
            head = self.head.value
            self.head.options = _head_options(self.record)
            self.head.value = head if head < self.record.num_heads else _ALL_HEADS
            for slider, extent, place in zip(
                (self.row, self.column), (rows, columns), divmod(query, columns), strict=True
            ):
                slider.max = extent - 1
                slider.value = place
        finally:
            self._busy = False
        self._redraw()

    def _query_in(self, layer: int) -> int:
        return self.row.value * self.records[layer].query_grid[1] + self.column.value

    def _redraw(self, change: object = None) -> None:
        if self._busy:
            return
        head = None if self.head.value == _ALL_HEADS else self.head.value
        try:
            with plots.drawn_without_a_pause():
                drawn = plots.quick_png(plots.explorer_figure(self.record, self.query, head))
            self.picture.value = drawn
            self.readout.value = words.readout(self.record, self.query, head)
        except Exception as error:
            # A notebook hides what a callback raises in a log; the reader has to see it where they look.
            self.readout.value = words.failure(error)
            raise


def show(
    records: AttentionRecord | Seen | Sequence[AttentionRecord] | Sequence[Seen],
    mode: str = "auto",
    query: int | None = None,
    pairs: Sequence[Any] = (),
    guess: bool = False,
    model: nn.Module | None = None,
) -> "AttentionExplorer | Explorer | None":
    """Display the explorer and return it, or display its static picture and table and return nothing.

    One line is printed that says which of them it is, and why.

    Args:
        records: What `record.capture` or `look` returns: one layer, or several to choose from; one picture or several.
        mode: `explorer` (it computes in the browser), `widgets` (the kernel draws), `static` (pictures), or `auto`: the
            first of them that can run here.
        query: Number of the first layer's query to start at; the middle one if not given.
        pairs: What the explorer should know of the right keys, as in `gather`.
        guess: Whether the explorer hides its maps until the reader has guessed a key, which is then its `guess`; in the
            other modes only the query is shown.
        model: The model that was looked at, if the explorer may ask it to mask keys.

    Raises:
        ValueError: `mode` is not known, there is no record, or the first has no such query.
    """
    scenes = gather(records, pairs)
    layers = scenes[0].layers
    start = _start(layers[0], query) if layers else 0
    chosen, reason = _mode(checks.one_of("mode", mode, MODES), bool(layers))
    print(f"Explorer: {chosen}, {reason}.")
    if chosen == "explorer":
        from mqa_lib.explorer.widget import AttentionExplorer  # here, for anywidget may be missing

        view = AttentionExplorer(scenes, query, guess, model)
        display(view)
        return view
    if guess and layers:
        picture, row = plots.query_figure(layers[0], start), divmod(start, layers[0].query_grid[1])
        plots.show(picture, "The picture with the query at row {}, column {} marked.".format(*row))
        return None
    if chosen == "widgets":
        explorer = Explorer([record for scene in scenes for record in scene.layers], start)
        display(explorer)
        return explorer
    for scene in scenes:
        _show_static(scene, layers, start)
    return None


def _show_static(scene: Seen, layers: Sequence[AttentionRecord], start: int) -> None:
    """Display a picture and a table of every layer, at the same place of the picture in each."""
    for record in scene.layers:
        top, left, bottom, right = layers[0].query_cell_of(start)
        limits = record.image.shape
        row, column = min(int((top + bottom) / 2), limits[0] - 1), min(int((left + right) / 2), limits[1] - 1)
        there = record.query_at(row, column)
        plots.show(plots.explorer_figure(record, there), plots.explorer_alt(record, there))
        display(HTML(words.readout(record, there)))
    if not scene.layers and scene.points is not None:
        plots.show(plots.sampling_figure(scene.points), plots.sampling_alt(scene.points))


def _mode(mode: str, has_layers: bool) -> tuple[str, str]:
    if mode != "auto":
        return mode, "as asked for"
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return "static", "because no notebook's kernel is running"
    if find_spec("anywidget") is not None:
        return (
            "explorer",
            "because anywidget is here; if nothing shows but this line, reload the browser's tab",
        )
    if has_layers:
        return "widgets", "because anywidget is not installed; the kernel draws every picture"
    return "static", "because anywidget is not installed"


def _first(records: Sequence[AttentionRecord]) -> AttentionRecord:
    if not records:
        raise checks.refuse("records", [], "is empty", "Give what `record.capture` returns.")
    return records[0]


def _start(record: AttentionRecord, query: int | None) -> int:
    rows, columns = record.query_grid
    if query is None:
        return rows // 2 * columns + columns // 2
    if not 0 <= query < rows * columns:
        raise checks.refuse(
            "query", query, f"must be from 0 to {rows * columns - 1}", "Use `record.query_at(row, column)`."
        )
    return query


def _head_options(record: AttentionRecord) -> list[tuple[str, int]]:
    single = [(f"head {head}", head) for head in range(record.num_heads)]
    return [("all heads side by side", _ALL_HEADS), *single]


def _slider(name: str, value: int, count: int) -> widgets.IntSlider:
    return widgets.IntSlider(value=value, min=0, max=count - 1, description=name, continuous_update=False)
