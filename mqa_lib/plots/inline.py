"""Pictures without axes, for a page that lays them over each other: the photo, and one head's weights."""

import io

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import to_hex

from mqa_lib.plots.style import HEAT

FAINT, STRONG = 0.25, 0.8  # opacity of a key that is not read at all, and of the key read most
_LONGEST = 800  # pixels of a photo in a page
_QUALITY = 80


def photo(image: UInt8[np.ndarray, "height width 3"]) -> tuple[str, bytes]:
    """Return the picture as a file for a page and what kind of file it is, the smaller of PNG and JPEG.

    A large picture is made smaller; a small one stays as it is, to the pixel.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((_LONGEST, _LONGEST))
    files = {"image/png": io.BytesIO(), "image/jpeg": io.BytesIO()}
    picture.save(files["image/png"], "PNG", optimize=True)
    picture.save(files["image/jpeg"], "JPEG", quality=_QUALITY, optimize=True)
    kind = "image/png"
    if max(image.shape) > _LONGEST // 2 and files["image/jpeg"].tell() < files[kind].tell():
        kind = "image/jpeg"
    return kind, files[kind].getvalue()


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


def heat_colours(count: int = 9) -> list[str]:
    """Return colours of the scale of weights at even steps, as a page names them."""
    return [to_hex(colour) for colour in mpl.colormaps[HEAT](np.linspace(0, 1, count))]
