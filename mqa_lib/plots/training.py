"""Pictures of training: curves over steps or epochs, scenes and what was found in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke

from mqa_lib.plots.style import BLACK, PALETTE, figure, image_axes, whole_ticks

_MARKERS = "osD^vP"
_Box = tuple[float, float, float, float, str, bool]


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    level: tuple[str, float] | None = None,
    width: float = 7.5,
) -> Figure:
    """Return named lines of (x, y) points, y from 0 to 1, with an optional named level to compare them with."""
    fig, ax = figure(width=width, height=3.2)
    for (name, points), colour, marker in zip(lines.items(), PALETTE, _MARKERS, strict=False):
        x, y = zip(*points, strict=True)
        ax.plot(x, y, color=colour, marker=marker, markersize=4, label=name)
    if level is not None:
        ax.axhline(level[1], color=BLACK, linestyle=":", linewidth=1)
        beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        ax.annotate(level[0], (1, level[1]), (4, 0), **beside)
    ax.set(xlabel=x_label, ylabel=y_label, ylim=(0, 1.03))
    whole_ticks(ax, [x for points in lines.values() for x, _ in points])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return fig


def scenes(
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]],
    boxes: Sequence[Sequence[_Box]] | None = None,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Figure:
    """Return pictures side by side, each with its boxes.

    Args:
        pictures: The pictures.
        boxes: For each picture its boxes: left, top, right, bottom in pixels, a name, and whether it is right. What
            is wrong is drawn dashed and marked with a cross before its name.
        titles: A line above each picture.
        columns: Pictures in a row, at most.
    """
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    fig, axes = figure(rows, columns, width=2.5 * columns, height=2.85 * rows, squeeze=False)
    for ax in axes.flat:
        image_axes(ax)
    for index, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        ax.imshow(picture, interpolation="nearest")
        if titles is not None:
            ax.set_title(titles[index], fontsize=9)
        _draw_boxes(ax, boxes[index] if boxes else (), picture.shape[:2])
    return fig


def _draw_boxes(ax: Any, boxes: Sequence[_Box], shape: tuple[int, ...]) -> None:
    """Draw boxes with their names: above or else below, inside the picture, and beside the names already there."""
    height, width = shape
    letter = max(shape) / 46  # so wide is a letter on the picture, in its pixels; a line is twice as high
    taken: list[tuple[float, float, float]] = []  # left, right and top of each name
    for left, top, right, bottom, name, good in boxes:
        corner, line = (left - 0.5, top - 0.5), "-" if good else "--"
        box = Rectangle(corner, right - left, bottom - top, ls=line, ec="white", fc="none", lw=1.2)
        box.set_path_effects(_outline(2.6))
        ax.add_patch(box)
        label = name if good else f"\u2717 {name}"
        long = len(label) * letter
        start = max(0.0, min(left, width - long))
        lines = [y for y in (top - 1 - 2 * letter, bottom + 0.5) if 0 <= y <= height - 2 * letter]
        free = [y for y in lines if not any(_meet((start, start + long, y), name, letter) for name in taken)]
        # A box from edge to edge, or outside, has its name inside the picture.
        inside = max(0.0, min(top + 1, height - 2 * letter))
        y = next(iter((*free, *lines)), inside)
        taken.append((start, start + long, y))
        words = ax.text(start, y, label, color="white", fontsize=6.5, va="top", ha="left")
        words.set_path_effects(_outline(1.6))


def _outline(width: float) -> list[AbstractPathEffect]:
    """Return what draws a dark line beneath a white one, which would not be seen on a bright picture."""
    return [Stroke(linewidth=width, foreground=BLACK), Normal()]


def _meet(one: tuple[float, float, float], other: tuple[float, float, float], letter: float) -> bool:
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < 2 * letter
