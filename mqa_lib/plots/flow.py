"""A layer as a flow of boxes, each as large as the array that it stands for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mqa_lib import cost
from mqa_lib.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, figure, image_axes

_COLOURS = {"map": SKY, "query": BLUE, "key": ORANGE, "value": GREEN, "scores": PURPLE}
_PITCH, _LARGEST, _SMALLEST = 1.0, 0.82, 0.03


@dataclass(frozen=True)
class Box:
    """One array of a flow.

    Args:
        name: What it is called.
        shape: Its axes, without the batch.
        column: Its place from left to right.
        row: Its place from top to bottom.
        kind: What it belongs to: "map", "query", "key", "value" or "scores".
        after: Numbers of the boxes that it is made from.
        written: Whether it is ever in memory as a whole.
    """

    name: str
    shape: tuple[int, ...]
    column: int
    row: float
    kind: str
    after: tuple[int, ...] = ()
    written: bool = True

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def layer_flow(boxes: Sequence[Box]) -> tuple[Figure, str]:
    """Return the boxes with arrows between them, each square as large as its array has numbers."""
    columns = max(box.column for box in boxes) + 1
    fig, ax = figure(width=1.5 * columns, height=4.2)
    image_axes(ax)
    most = max(box.numbers for box in boxes)
    sides = [max(_LARGEST * math.sqrt(box.numbers / most), _SMALLEST) for box in boxes]
    for box, side in zip(boxes, sides, strict=True):
        for number in box.after:
            start, end = boxes[number].column + sides[number] / 2, box.column - side / 2
            ends = ((start, -boxes[number].row), (end, -box.row))
            passes = any(
                boxes[number].column < other.column < box.column and not other.written for other in boxes
            )
            bend = "arc3,rad=0.25" if passes else "arc3"  # around the words beneath a box on the way
            look = {"arrowstyle": "-|>", "color": "#777777", "connectionstyle": bend}
            ax.annotate("", ends[1], ends[0], arrowprops=look)
    for box, side in zip(boxes, sides, strict=True):
        corner = (box.column - side / 2, -box.row - side / 2)
        style = "-" if box.written else "--"
        face = _COLOURS[box.kind] if box.written else "none"
        ax.add_patch(
            Rectangle(corner, side, side, facecolor=face, edgecolor=BLACK, linestyle=style, zorder=3)
        )
        shape = " × ".join(f"{extent:,}" for extent in box.shape)
        text = f"{box.name}\n{shape}\n{cost.in_thousands(box.numbers)}"
        text += "" if box.written else "\nnever written"
        place = (box.column, -box.row - side / 2 - 0.04)
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # an arrow may pass beneath
        ax.text(*place, text, ha="center", va="top", fontsize=8.5, zorder=4, bbox=ground)
    top = max(0.5, *(side / 2 - box.row for box, side in zip(boxes, sides, strict=True)))
    bottom = max(box.row + side / 2 for box, side in zip(boxes, sides, strict=True))
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(-bottom - 0.4, top), aspect="equal")
    told = "; ".join(
        f"{box.name} {' by '.join(map(str, box.shape))}, {cost.in_thousands(box.numbers)} numbers"
        + ("" if box.written else ", never written")
        for box in boxes
    )
    return fig, f"Boxes as large as the arrays of one run, from left to right: {told}."
