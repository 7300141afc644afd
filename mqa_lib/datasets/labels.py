"""Label files in YOLO format: a line for each object, its class and then its box as shares of the picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

_SLACK = 1e-4  # labels are written with few digits
_SURELY_PIXELS = 2.0  # a box that far outside was never a share of its picture


def file_of(picture: Path) -> Path:
    """Return the label file of a picture: beside it, or, below a folder `images`, in `labels` in its place."""
    parts = list(picture.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def checked_lines(label: Path, names: dict[int, str]) -> Iterator[tuple[str | None, int]]:
    """Yield for every line what is wrong with it (or None) and its class."""
    try:
        text = label.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        yield f"cannot be read ({error.strerror}).", -1
        return
    lines = text.splitlines()
    if {5} < (lengths := {len(line.split()) for line in lines}) and max(lengths) > 6:
        yield "holds boxes and outlines, and ultralytics reads a file of one kind. Write all as boxes.", -1
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = _numbers(line)
        except ValueError:
            yield f"line {number}: holds something that is not a number ({_no_number(line)!r}).", -1
            continue
        yield _line_problem(values, number, names), int(values[0]) if np.isfinite(values[0]) else -1


def _numbers(line: str) -> np.ndarray:
    """Return the numbers of a line; of an outline, a class and three points or more, its box, as ultralytics does."""
    values = np.array(line.split(), dtype=float)
    if len(values) < 7 or len(values) % 2 == 0:
        return values
    points = values[1:].reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([values[0], *(low + high) / 2, *(high - low)])


def _no_number(line: str) -> str:
    """Return the first word of a line that is no number."""
    for word in line.split():
        try:
            float(word)
        except ValueError:
            return word
    return line


def boxes(picture: Path, names: dict[int, str]) -> list[tuple[int, float, float, float, float, bool]]:
    """Return the boxes of a picture as its label file has them, and whether each is fit to be trained on.

    Lines that are no box at all are left out.
    """
    file = file_of(picture)
    found = []
    for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if file.is_file() else ():
        try:
            values = _numbers(line)
        except ValueError:
            continue
        if values.shape == (5,) and np.isfinite(values).all():
            label, *box = values.tolist()
            x, y, width, height = box
            found.append((int(label), x, y, width, height, _line_problem(values, 1, names) is None))
    return found


def _line_problem(values: np.ndarray, number: int, names: dict[int, str]) -> str | None:
    if values.shape != (5,):
        return (
            f"line {number}: has {len(values)} numbers and needs 5: class, centre x, centre y, width, height; "
            "or a class and the points of an outline."
        )
    if not np.isfinite(values).all():
        return f"line {number}: holds a number that is not finite."
    label, x, y, width, height = values
    if label not in names:
        return f"line {number}: class {label:g} is not in `names` (0 to {len(names) - 1})."
    low, high = min(x - width / 2, y - height / 2), max(x + width / 2, y + height / 2)
    if width <= 0 or height <= 0 or low < -_SLACK or high > 1 + _SLACK:
        hint = (
            " It seems to be in pixels: write shares of the picture, 0 to 1." if high > _SURELY_PIXELS else ""
        )
        return (
            f"line {number}: box {x:g} {y:g} {width:g} {height:g} lies outside the picture or is empty.{hint}"
        )
    return None
