"""One look for every figure, and the one way to show it: as a picture with alternative text."""

import io
from typing import Any

import matplotlib as mpl
import seaborn as sns
from cycler import cycler
from matplotlib.figure import Figure

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


def png(fig: Figure) -> bytes:
    """Return the figure as a PNG of 150 dots per inch."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=150)
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
