"""Label files in YOLO format: a line for each object, its class and then its box as shares of the picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

# labels are written with few digits
_SLACK = 1e-4
# a box that far outside was never a share of its picture
_SURELY_PIXELS = 2.0


class Line(NamedTuple):
    """A line of a label file: its number, class and box (centre and sides), and what is wrong, if anything is."""

    number: int | None
    label: int = -1
    box: tuple[float, ...] = ()
    fault: str = ""


def file_of(picture: Path) -> Path:
    """Return the label file of a picture: beside it, or, below a folder `images`, in `labels` in its place."""
    parts = list(picture.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def read(label: Path, names: dict[int, str]) -> Iterator[Line]:
    """Yield the lines of a label file, and first what is wrong with the whole of it."""
    try:
        text = label.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        yield Line(None, fault=f"cannot be read ({error.strerror}).")
        return
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    lengths = {len(words) for _, words in lines}
    if 5 in lengths and max(lengths) > 6:
        fault = "holds boxes and outlines, and ultralytics reads a file of one kind. Write all as boxes."
        yield Line(None, fault=fault)
    for number, words in lines:
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            wrong = str(error).partition(": ")[2]
            yield Line(number, fault=f"holds something that is not a number ({wrong}).")
            continue
        yield _line(number, values, names)


def fault_of(label: float | int, box: tuple[float, ...], names: dict[int, str]) -> str:
    """Return what is wrong with a class and a box; nothing if they are right."""
    if label not in names:
        return f"class {label:g} is not in `names` (0 to {len(names) - 1})."
    x, y, width, height = box
    low, high = min(x - width / 2, y - height / 2), max(x + width / 2, y + height / 2)
    # so written that what is no number is wrong, too
    if width > 0 and height > 0 and low >= -_SLACK and high <= 1 + _SLACK:
        return ""
    hint = " It seems to be in pixels: write shares of the picture, 0 to 1." if high > _SURELY_PIXELS else ""
    return f"box {x:g} {y:g} {width:g} {height:g} lies outside the picture or is empty.{hint}"


def _line(number: int, values: list[float], names: dict[int, str]) -> Line:
    if len(values) >= 7 and len(values) % 2:
        # an outline: a class and three points or more, of which ultralytics takes the box
        points = np.array(values[1:]).reshape(-1, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        values = [values[0], *((low + high) / 2).tolist(), *(high - low).tolist()]
    if len(values) != 5:
        rule = "class, centre x, centre y, width, height; or a class and the points of an outline."
        return Line(number, fault=f"has {len(values)} numbers and needs 5: {rule}")
    if not np.isfinite(values).all():
        return Line(number, fault="holds a number that is not finite.")
    label, *box = values
    return Line(number, int(label), tuple(box), fault_of(label, tuple(box), names))
