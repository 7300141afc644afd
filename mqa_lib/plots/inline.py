"""Pictures without axes, for a page: the photo as a small file, and text beside figures."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from mqa_lib.plots.style import figure, image_axes

_QUALITIES = (85, 75, 65, 55, 45, 35)
_CHARACTERS = 12.5  # of a line an inch wide


def photo(
    image: UInt8[np.ndarray, "height width 3"], most: int = 80_000, longest: int = 800
) -> tuple[str, bytes]:
    """Return the picture as a file for a page and what kind of file it is, PNG or JPEG.

    A large picture is made smaller; a small one stays as it is, to the pixel, where that takes few bytes.

    Args:
        image: The picture, RGB.
        most: Bytes that a JPEG may take: its quality is lowered until it does, or can go no lower.
        longest: Pixels of its longer side that are kept.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest))
    lossless = io.BytesIO()
    picture.save(lossless, "PNG", optimize=True)
    if max(image.shape) <= longest // 2 and lossless.tell() <= most:
        return "image/png", lossless.getvalue()
    for quality in _QUALITIES:
        lossy = io.BytesIO()
        picture.save(lossy, "JPEG", quality=quality, optimize=True)
        if lossy.tell() <= most:
            break
    if lossless.tell() < lossy.tell():
        return "image/png", lossless.getvalue()
    return "image/jpeg", lossy.getvalue()


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
