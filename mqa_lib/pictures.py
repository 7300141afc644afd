"""Any picture as an array of RGB bytes, read as a detector would read it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mqa_lib import checks

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = np.ndarray | Image | str | Path
else:
    Picture = object  # naming PIL's class here would import PIL with the library

_WAY_OUT = "Give a path, a PIL picture, or an array of height × width × 3 in uint8."
_SIXTEEN_BIT = 65535


def unreadable() -> tuple[type[Exception], ...]:
    """Return what opening a file that is no whole picture can raise."""
    from PIL import Image

    # ImportError: ultralytics, once imported, makes Pillow look for one more package before it gives up.
    return (OSError, SyntaxError, ValueError, ImportError, Image.DecompressionBombError)


def read(picture: Picture) -> UInt8[np.ndarray, "height width 3"]:
    """Return a picture as RGB bytes.

    Grey becomes RGB, 16 bits become 8, transparency is dropped, and a camera's note on which way is up is followed:
    what ultralytics does when it reads a file.

    Args:
        picture: A path, a PIL picture, or an array: height × width, or height × width × 1, 3 (RGB) or 4.

    Raises:
        ValueError: There is no such file, it is no picture, or the array is of another shape, type or of no pixels.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    from PIL import Image, ImageOps

    if isinstance(picture, str | Path):
        try:
            with Image.open(picture) as file:
                file.load()  # decodes all of it: a file that is cut off opens, and fails only here
                upright = ImageOps.exif_transpose(file)
        except unreadable() as error:
            reason = (
                "is not there"
                if isinstance(error, FileNotFoundError)
                else f"cannot be read as a picture ({error})"
            )
            raise checks.refuse("picture", str(picture), reason, _WAY_OUT) from error
        return _from_pil(upright)
    if isinstance(picture, Image.Image):
        return _from_pil(picture)
    raise checks.refuse("picture", type(picture).__name__, "is not a picture", _WAY_OUT)


def tensor(
    picture: UInt8[np.ndarray, "height width 3"], size: tuple[int, int] | None = None
) -> Float[Tensor, "1 3 rows columns"]:
    """Return the picture as a batch of one with values from 0 to 1, stretched to `size` (rows, columns) if given.

    Stretching is bilinear without smoothing, which is what ultralytics feeds to RT-DETR.
    """
    # a copy: what PIL decoded cannot be written to, and torch warns of that
    batch = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    if size is not None and size != tuple(batch.shape[2:]):
        # ultralytics resizes bytes and so rounds to whole levels before it divides
        batch = F.interpolate(batch, size=size, mode="bilinear", align_corners=False).round()
    return batch / 255


def _from_pil(picture: "Image") -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode.startswith("I"):
        return _from_array(np.asarray(picture).clip(0, _SIXTEEN_BIT).astype(np.uint16))
    if picture.mode == "F":
        raise checks.refuse("picture", "mode F", "holds floating-point numbers", _WAY_OUT)
    return _from_array(np.asarray(picture.convert("RGB")))


def _from_array(array: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    if array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    if array.dtype != np.uint8:
        way_out = "Bring it to 0…255 and use `.astype(np.uint8)`."
        raise checks.refuse("picture", f"array of {array.dtype}", "must be of uint8 or uint16", way_out)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise checks.refuse(
            "picture", f"array of shape {array.shape}", "is not height × width × 1, 3 or 4", _WAY_OUT
        )
    return np.ascontiguousarray(array[..., :3] if array.shape[2] > 1 else array.repeat(3, axis=2))
