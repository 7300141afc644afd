"""The data set that a training is given: apart from its folder, in YOLO format, and told by what is in it."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mqa_lib import checks
from mqa_lib.datasets import convert, yolo

_WRITTEN = "data-as-yolo"


def check_apart(data: Path, folder: Path) -> None:
    """Refuse to train into the folder of the data, whose files would be written over.

    Raises:
        ValueError: The data lie in the folder, or where it keeps what it wrote of others.
    """
    place, there = folder.resolve(), data.resolve()
    holders = {there.parent if there.is_file() else there}
    with contextlib.suppress(yolo.DataError):  # that is told where the data are read
        read = convert.found(data).resolve()  # further in, where folders lie on top
        holders.add(read.parent if read.is_file() else read)
    holders |= {holder.parent for holder in holders if holder.name.lower() == "annotations"}
    if place in holders or there.is_relative_to(place / _WRITTEN):
        raise checks.refuse("folder", folder, f"holds the data ({data})", "Train into another folder.")


@contextlib.contextmanager
def in_yolo_format(
    data: Path, folder: Path
) -> Iterator[tuple[convert.Converted, Callable[[yolo.Report], yolo.Report]]]:
    """Yield a data set as YOLO has it, and what settles it in `folder` if it had to be written for that.

    What an earlier training has there stays until then: the data may yet be refused.
    """
    place = Path(os.path.abspath(folder)) / _WRITTEN  # noqa: PTH100 (`resolve` follows links)
    if not data.exists():
        yield convert.Converted(data), lambda report: report  # named where it is read
        return
    draft = place.with_name(f"{place.name}.part")
    shutil.rmtree(draft, ignore_errors=True)

    def settle(report: yolo.Report) -> yolo.Report:
        if not report.path.is_relative_to(draft):
            return report
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
        files = {
            split: [place / file.relative_to(draft) for file in found]
            for split, found in report.files.items()
        }
        return replace(report, path=place / report.path.relative_to(draft), files=files)

    made = not place.parent.exists()
    try:
        yield convert.to_yolo(data, draft), settle
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):  # it is not empty
                place.parent.rmdir()


def card(data: Path, report: yolo.Report, left_out: list[str]) -> dict[str, Any]:
    """Return what a record says of its data: the card of a set that this library made, else name, counts, content."""
    file = report.path.parent / "card.json"
    if file.exists():
        with contextlib.suppress(ValueError):
            known = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(known, dict) and known.keys() & {"made by", "source"}:
                return known
    name = data.absolute().parent.name if data.name == "data.yaml" else data.stem
    said = {"name": name, "pictures": dict(report.pictures), "classes": list(report.names.values())}
    said["fingerprint"] = yolo.fingerprint(report.path)
    return {**said, "left out": left_out} if left_out else said
