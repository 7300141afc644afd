"""The shapes of Keys & Locks as coverage masks, drawn with whole numbers only.

Floating-point sines and a drawing library's smoothing differ in the last digit between platforms and releases; sums and
products of integers do not, so a seed gives the same pixels everywhere.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int, UInt8

FULL = 16  # coverage of a pixel that lies wholly inside: 4 x 4 sample points
_GRID = 8  # positions are counted in eighths of a pixel
_RING = 5  # a lock's hole is 5/8 of its shape

# Corners as (row, column), in thousandths of the radius. The circle has none.
_CORNERS: dict[str, tuple[tuple[int, int], ...]] = {
    "square": ((-800, -800), (-800, 800), (800, 800), (800, -800)),
    "triangle": ((-1000, 0), (700, 980), (700, -980)),
    "diamond": ((-1000, 0), (0, 680), (1000, 0), (0, -680)),
    "cross": (
        *((-1000, -340), (-1000, 340), (-340, 340), (-340, 1000), (340, 1000), (340, 340)),
        *((1000, 340), (1000, -340), (340, -340), (340, -1000), (-340, -1000), (-340, -340)),
    ),
    "star": (
        *((-1000, 0), (-364, 265), (-309, 951), (139, 428), (809, 588)),
        *((450, 0), (809, -588), (139, -428), (-309, -951), (-364, -265)),
    ),
}
SHAPES = ("circle", *_CORNERS)


@lru_cache(maxsize=4096)
def coverage(shape: str, radius: int, outline: bool) -> UInt8[np.ndarray, "side side"]:
    """Return how much of each pixel the shape covers, from 0 to 16, on a square that just holds it.

    `radius` is in pixels. The shape is centred on the middle pixel. An outline leaves a hole of 5/8 of the radius.
    """
    side = 2 * radius + 3
    offsets = np.arange(side * _GRID // 2, dtype=np.int64) * 2 + 1 - (side * _GRID) // 2
    inside = _inside(shape, offsets, radius * _GRID)
    if outline:
        inside &= ~_inside(shape, offsets, radius * _RING)
    samples = inside.reshape(side, _GRID // 2, side, _GRID // 2).sum(axis=(1, 3), dtype=np.uint8)
    samples.setflags(write=False)
    return samples


def _inside(shape: str, offsets: Int[np.ndarray, " n"], reach: int) -> Bool[np.ndarray, "n n"]:
    """Return which sample points lie inside the shape, whose radius is `reach` eighths of a pixel."""
    rows, columns = offsets[:, None] * 1000, offsets[None, :] * 1000
    if shape == "circle":
        return rows**2 + columns**2 < (reach * 900) ** 2
    return _even_odd(rows, columns, [(row * reach, column * reach) for row, column in _CORNERS[shape]])


def _even_odd(
    rows: Int[np.ndarray, "n 1"], columns: Int[np.ndarray, "1 n"], corners: Sequence[tuple[int, int]]
) -> Bool[np.ndarray, "n n"]:
    """Return which points a ray leaves an odd number of times: the even-odd rule, without a division."""
    inside = np.zeros((rows.shape[0], columns.shape[1]), dtype=bool)
    for (row_a, column_a), (row_b, column_b) in zip(corners, [*corners[1:], corners[0]], strict=True):
        crosses = (row_a > rows) != (row_b > rows)
        side = (column_b - column_a) * (rows - row_a) - (columns - column_a) * (row_b - row_a)
        inside ^= crosses & (side > 0 if row_b > row_a else side < 0)
    return inside
