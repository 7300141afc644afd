"""A data set at a glance: some of its pictures side by side, with their boxes."""

from collections import Counter
from pathlib import Path

import numpy as np

from mqa_lib import checks, pictures, plots
from mqa_lib.datasets import yolo
from mqa_lib.pictures import unreadable

_SIDE = 480  # pixels of the longer side; more would not be seen


def draw(report: yolo.Report, path: str | Path, count: int = 12) -> Path:
    """Write a contact sheet to `path` and return it; boxes that lie outside or are of no class are dashed and crossed.

    Args:
        report: What was found in the data set.
        path: Where to write, ending in .png.
        count: Pictures, spread evenly over splits and within each.

    Raises:
        ValueError: `path` ends in something else, or there is not one picture that can be read.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise checks.refuse("sheet", path, "must end in .png", f"Use {path.with_suffix('.png')}.")
    fig = sheet(report, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plots.png(fig))
    return path


def sheet(report: yolo.Report, count: int = 12) -> plots.Figure:
    """Return the contact sheet as a figure.

    Args:
        report: What was found in the data set.
        count: Pictures, spread evenly over splits and within each.

    Raises:
        ValueError: There is not one picture that can be read.
    """
    shown, boxes, titles = [], [], []
    share = -(-checks.positive("count", count) // max(len(report.files), 1))
    for split, files in report.files.items():
        for index in np.unique(np.linspace(0, len(files) - 1, min(share, len(files))).astype(int)):
            picture = _read(files[index])
            if picture is not None:
                shown.append(picture)
                boxes.append(_boxes(report, files[index], picture.shape[:2]))
                titles.append(f"{split}: {files[index].name}")
    if not shown:
        raise checks.refuse("path", report.path, "has no picture that can be read", "See its problems.")
    return plots.scenes(shown, boxes, titles)


def alt(report: yolo.Report) -> str:
    """Return the sentence that goes with the sheet: pictures of each split, and objects of each class."""
    pictures = ", ".join(f"{split} {count:,}" for split, count in report.pictures.items())
    objects: Counter[str] = Counter()
    for (_, label), count in report.objects.items():
        objects[report.names.get(label, str(label))] += count
    said = ", ".join(f"{name} {count:,}" for name, count in objects.items())
    folder = report.path if report.path.is_dir() else report.path.parent
    return f"Some pictures of {folder.name} with their boxes. Pictures: {pictures}. Objects: {said}."


def _read(file: Path) -> np.ndarray | None:
    from PIL import Image

    try:
        # As it will be trained on: turned as a camera notes, and of 16 bits the upper 8.
        picture = Image.fromarray(pictures.read(file))
    except unreadable():
        return None
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture)


def _boxes(
    report: yolo.Report, picture: Path, shape: tuple[int, ...]
) -> list[tuple[float, float, float, float, str, bool]]:
    height, width = shape
    found = []
    for line in report.lines_of(picture)[1]:
        if line.box:
            x, y, w, h = line.box
            name = report.names.get(line.label, str(line.label))
            corners = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
            found.append((*corners, name, not line.fault))
    return found
