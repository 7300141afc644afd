"""Show attention in the best way that can run here: the explorer, or its still pictures with their tables."""

from collections.abc import Sequence
from functools import singledispatch
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from IPython import get_ipython
from IPython.display import HTML, display
from torch import nn

from mqa_lib import checks, pictures, plots
from mqa_lib import record as records
from mqa_lib.explorer import words
from mqa_lib.explorer.seen import Seen, gather, look
from mqa_lib.explorer.still import stills
from mqa_lib.record import AttentionRecord

if TYPE_CHECKING:
    from mqa_lib.explorer.widget import AttentionExplorer

MODES = ("auto", "explorer", "static")


@singledispatch
def show(
    seen: nn.Module | AttentionRecord | Seen | Sequence[AttentionRecord] | Sequence[Seen],
    mode: str = "auto",
    query: int | None = None,
    pairs: Sequence[Any] = (),
    guess: bool = False,
    model: nn.Module | None = None,
) -> "AttentionExplorer | None":
    """Display the explorer and return it, or display its still pictures and tables and return nothing.

    `show(model, picture)` looks first, with `size` and `layer` as in `look`. One line is printed that says which of
    the two it is, and why.

    Args:
        seen: What `record.capture` or `look` returns: one layer, or several to choose from; one picture or several; or
            a model.
        mode: `explorer` (it computes in the browser), `static` (pictures), or `auto`: the first that can run here.
        query: Number of the first layer's query to start at; the one in the middle of the best detection, or of the
            picture, if not given.
        pairs: What the explorer should know of the right keys, as in `gather`.
        guess: Whether the explorer hides its maps until the reader has guessed a key, which is then its `guess`; as a
            still picture only the query is shown.
        model: The model that was looked at, if the explorer may ask it to mask keys.

    Raises:
        ValueError: `mode` is not known, there is nothing to show, or the first layer has no such query.
    """
    scenes = gather(seen, pairs)
    layers = scenes[0].layers
    if query is not None and layers:
        checks.index("query", query, layers[0].q.shape[1], "Use `record.query_at(row, column)`.")
    chosen, reason = _mode(checks.one_of("mode", mode, MODES))
    print(f"Explorer: {chosen}, {reason}.")
    if chosen == "explorer":
        from mqa_lib.explorer.widget import AttentionExplorer  # here, for anywidget may be missing

        view = AttentionExplorer(scenes, query, guess, model)
        display(view)
        return view
    places = [scene.middle for scene in scenes]
    if query is not None and layers:
        places[0] = layers[0].pixel_of(query)
    if guess and layers:
        asked = layers[0].query_at(*places[0])
        row, column = divmod(asked, layers[0].query_grid[1])
        said = f"The picture with the query at row {row}, column {column} marked."
        plots.show(plots.query_figure(layers[0], asked), said)
        return None
    for scene, at in zip(scenes, places, strict=True):
        for still in stills(scene, at):
            plots.show(still.captioned(), still.said)
            if still.table:
                display(HTML(still.table))
    display(HTML(words.caveat()))
    return None


@show.register(nn.Module)
def _show_model(
    seen: nn.Module,
    picture: pictures.Picture | None = None,
    mode: str = "auto",
    query: int | None = None,
    pairs: Sequence[Any] = (),
    guess: bool = False,
    size: records.Size = None,
    layer: str | None = None,
) -> "AttentionExplorer | None":
    if picture is None:
        raise checks.refuse("picture", None, "must be given with a model", "Use `show(model, 'photo.jpg')`.")
    return show(look(seen, picture, size=size, layer=layer), mode, query, pairs, guess, seen)


def _mode(mode: str) -> tuple[str, str]:
    if mode != "auto":
        return mode, "as asked for"
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return "static", "because no notebook's kernel is running"
    if find_spec("anywidget") is None:
        return "static", "because anywidget is not installed"
    return "explorer", "because anywidget is here; if nothing shows but this line, reload the browser's tab"
