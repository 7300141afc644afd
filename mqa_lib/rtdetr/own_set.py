"""The data set that a training is given: apart from its folder, in YOLO format, and told by what is in it."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from mqa_lib import checks
from mqa_lib.datasets import inspect, voc, yolo

_WRITTEN = "data-as-yolo"


def check_apart(data: Path, folder: Path) -> None:
    """Refuse to train into the folder of the data, whose files would be written over.

    Raises:
        ValueError: The data lie in the folder, or where it keeps what it wrote of others.
    """
    place, places = folder.resolve(), [data.resolve()]
    # that they are no data set is told where they are read
    with contextlib.suppress(yolo.DataError):
        places.append(inspect.found(data).resolve())
    holders = {there.parent if there.is_file() else there for there in places}
    if place in holders or places[0].is_relative_to(place / _WRITTEN):
        raise checks.refuse("folder", folder, f"holds the data ({data})", "Train into another folder.")


def written(report: yolo.Report, folder: Path) -> yolo.Report:
    """Return the report of a set in YOLO format: of one in VOC's, as it is then written anew in `folder`."""
    if not report.lines:
        return report
    shutil.rmtree(folder / _WRITTEN, ignore_errors=True)
    return voc.write(report, folder / _WRITTEN)


def card(data: Path, report: yolo.Report) -> dict[str, Any]:
    """Return what a record says of its data: the card of a set that this library made, else name, counts, content."""
    file = report.path.parent / "card.json"
    if file.exists():
        with contextlib.suppress(ValueError):
            known = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(known, dict) and known.keys() & {"made by", "source"}:
                return known
    name = data.absolute().parent.name if data.name == "data.yaml" else data.stem
    said = {"name": name, "pictures": dict(report.pictures), "classes": list(report.names.values())}
    said["fingerprint"] = inspect.fingerprint(data)
    return {**said, "left out": report.notes} if report.lines and report.notes else said
