"""Pictures without axes, for a page that lays them over each other: the photo, and one head's weights."""

import io
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mqa_lib.plots.style import HEAT, figure, image_axes

FAINT, STRONG = 0.25, 0.8  # opacity of a key that is not read at all, and of the key read most
_LONGEST = 800  # pixels of a photo in a page
_QUALITIES = (85, 75, 65, 55, 45, 35)
_CHARACTERS = 12.5  # of a line an inch wide


def photo(image: UInt8[np.ndarray, "height width 3"], most: int = 80_000) -> tuple[str, bytes]:
    """Return the picture as a file for a page and what kind of file it is, PNG or JPEG.

    A large picture is made smaller; a small one stays as it is, to the pixel, where that takes few bytes.

    Args:
        image: The picture, RGB.
        most: Bytes that a JPEG may take: its quality is lowered until it does, or can go no lower.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((_LONGEST, _LONGEST))
    lossless = io.BytesIO()
    picture.save(lossless, "PNG", optimize=True)
    if max(image.shape) <= _LONGEST // 2 and lossless.tell() <= most:
        return "image/png", lossless.getvalue()
    for quality in _QUALITIES:
        lossy = io.BytesIO()
        picture.save(lossy, "JPEG", quality=quality, optimize=True)
        if lossy.tell() <= most:
            break
    if lossless.tell() < lossy.tell():
        return "image/png", lossless.getvalue()
    return "image/jpeg", lossy.getvalue()


def heat_png(weights: Float[np.ndarray, "rows columns"], largest: float) -> bytes:
    """Return weights as a PNG of one pixel for each, to lie over a dim picture: the more it is read, the less clear.

    Args:
        weights: What to draw.
        largest: The weight that has the last colour of the scale; 0 has the first.
    """
    from PIL import Image

    share = np.clip(weights / largest, 0, 1)
    colours = mpl.colormaps[HEAT](share)
    colours[..., 3] = FAINT + (STRONG - FAINT) * share
    buffer = io.BytesIO()
    Image.fromarray((colours * 255).round().astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def note_figure(paragraphs: Sequence[str], width: float = 12.0) -> Figure:
    """Return paragraphs of text as a figure, to stand above or beneath others in one picture.

    Args:
        paragraphs: What to write.
        width: In inches, as wide as those others.
    """
    lines = [line for text in paragraphs for line in [*textwrap.wrap(text, int(_CHARACTERS * width)), ""]]
    fig, ax = figure(width=width, height=0.2 + 0.2 * len(lines))
    image_axes(ax)
    said = "\n".join(lines).replace("$", r"\$")
    ax.text(0, 1, said, fontsize=10, va="top", linespacing=1.35, transform=ax.transAxes)
    return fig


def heat_colours(count: int = 9) -> list[str]:
    """Return colours of the scale of weights at even steps, as a page names them."""
    return [to_hex(colour) for colour in mpl.colormaps[HEAT](np.linspace(0, 1, count))]
