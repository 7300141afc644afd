"""One look for every figure, and the one way to show it: as a picture with alternative text."""

import gc
import io
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette: told apart with every common colour-vision deficiency.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, BLACK)
HEAT = "cividis"  # tuned for colour-vision deficiency, even steps of lightness

_RC = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.dpi": 100,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def figure(
    rows: int = 1, columns: int = 1, width: float = 8.0, height: float = 3.2, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of `width` × `height` inches and its Axes, in the course's style.

    The figure is not known to pyplot, so nothing is drawn twice and nothing has to be closed.
    """
    with mpl.rc_context({**sns.axes_style("ticks"), **_RC}):
        fig = Figure(figsize=(width, height), layout="constrained")
        axes = fig.subplots(rows, columns, **options)
    return fig, axes


def image_axes(ax: Any) -> None:
    """Take ticks, grid and frame off Axes that hold a picture."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def whole_ticks(ax: Any, places: Iterable[float]) -> None:
    """Tick whole numbers alone where all places on the axis are whole: there is no epoch 1.5."""
    if all(float(place).is_integer() for place in places):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def png(fig: Figure) -> bytes:
    """Return the figure as a PNG of 150 dots per inch."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def quick_png(fig: Figure) -> bytes:
    """Return the figure as a PNG of 120 dots per inch, laid out and drawn once: for what is redrawn while one waits."""
    canvas = FigureCanvasAgg(fig)
    fig.set_dpi(120)
    canvas.draw()
    buffer = io.BytesIO()
    _picture(canvas).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@contextmanager
def drawn_without_a_pause() -> Iterator[None]:
    """Keep the garbage collector from a figure until it has been drawn and let go of, and collect only that then.

    A figure is full of cycles. Collected halfway, its parts count as old ones, and every few pictures wait twice as
    long for a collection of all that is in memory.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.collect(1)  # all that has come since the last one is young
    finally:
        if collecting:
            gc.enable()


def _picture(canvas: FigureCanvasAgg) -> Any:
    from PIL import Image

    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def with_caption(fig: Figure, text: str) -> Figure:
    """Return the figure with a text beneath, for where it stands alone."""
    lines = textwrap.fill(text, int(fig.get_figwidth() * 14.3)).replace("$", r"\$")
    before, more = fig.get_figheight(), 0.1 + 0.17 * (lines.count("\n") + 1)
    fig.set_figheight(before + more)
    fig.supxlabel(lines, fontsize=9, x=0.01, ha="left")
    if isinstance(fig.get_layout_engine(), PlaceHolderLayoutEngine):  # then nobody else makes room
        for ax in fig.axes:
            place = ax.get_position()
            bottom, height = ((inches * before) / (before + more) for inches in (place.y0, place.height))
            ax.set_position((place.x0, bottom + more / (before + more), place.width, height))
    return fig


def few_colours(png: bytes) -> bytes:
    """Return a PNG with 256 colours: a notebook keeps one for every lab, and has to stay small."""
    from PIL import Image

    buffer = io.BytesIO()
    # an octree, for the median cut spends its colours on the ground and loses those of the lines
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def show(fig: Figure, alt: str) -> None:
    """Display the figure in a notebook with `alt`, a sentence that says what it shows, made from its data.

    Raises:
        ValueError: `alt` is empty.
    """
    from IPython.display import Image, display

    if not alt.strip():
        raise ValueError(
            "`alt` (='') must say what the figure shows. Write one sentence with its main numbers."
        )
    display(
        Image(png(fig), width=int(fig.get_figwidth() * 100), alt=alt), metadata={"image/png": {"alt": alt}}
    )


class LivePicture:
    """One place in a notebook whose picture is replaced as a training goes on.

    The first picture opens the place; every later one takes it over, so a saved notebook holds the last alone.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, fig: Figure, alt: str) -> None:
        """Put the figure into the place, with `alt` as its alternative text."""
        from IPython.display import display

        data = {"image/png": png(fig), "text/plain": alt}
        metadata = {"image/png": {"alt": alt, "width": int(fig.get_figwidth() * 100)}}
        if self._handle is None:
            self._handle = display(data, metadata=metadata, raw=True, display_id=True)
        else:
            self._handle.update(data, metadata=metadata, raw=True)
