"""A data set of the user's own in a grid: told apart by what is in it, and read whichever format it has."""

import hashlib
import os
import sys
from pathlib import Path

from mqa_lib import locking
from mqa_lib.datasets import coco, convert, voc, yolo


def fingerprint(path: str | Path) -> str:
    """Return a SHA-256 of a data set's annotations and of its pictures' names and sizes, and of nothing else there.

    Raises:
        DataError: It is no data set in YOLO, VOC or COCO format.
    """
    place, kind = convert.found(path), convert.kind_of(path)
    if kind == "yolo":
        return yolo.fingerprint(place)
    root = place if place.is_dir() else place.parent.parent  # its pictures may lie beside its folder
    digest = hashlib.sha256()
    for file in (voc if kind == "voc" else coco).sources(place):
        digest.update(os.fsencode(file.relative_to(root).as_posix()))
        digest.update(
            str(file.stat().st_size).encode() if file.suffix.lower() in yolo.PICTURES else file.read_bytes()
        )
    return digest.hexdigest()


def prepared(path: str | Path, work: Path) -> Path:
    """Return the YAML file of a data set, which is written in YOLO format under `work` if it is in another one.

    It is written once for all runs that use it; a set that was changed since is written anew, to another folder.

    Raises:
        DataError: The set cannot be read.
    """
    place = convert.found(path)
    if convert.kind_of(path) == "yolo":
        return place
    root = work / "data" / f"{place.stem}-{fingerprint(path)[:8]}"
    with locking.hold(root.parent / f"{root.name}.lock", wait=True):
        if not (root / "data.yaml").exists():  # it is written last
            for note in convert.to_yolo(place, root).left_out:
                print(f"{place.name}: {note}", file=sys.stderr)
    return root / "data.yaml"
