"""A data set of the user's own in a grid: told apart by what is in it, and read whichever format it has."""

import hashlib
import sys
from pathlib import Path

from mqa_lib import locking
from mqa_lib.datasets import convert, yolo

_SAID = {".json", ".txt", ".xml"}  # files of annotations and of splits


def fingerprint(path: str | Path) -> str:
    """Return a SHA-256 of a data set's annotations and of its pictures' names and sizes.

    Raises:
        DataError: It is no data set in YOLO, VOC or COCO format.
    """
    place = convert.found(path)
    if convert.kind_of(path) == "yolo":
        return yolo.fingerprint(place)
    root = place if place.is_dir() else place.parent
    root = root.parent if root.name.lower() == "annotations" else root  # the pictures lie beside it
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        kind = file.suffix.lower()
        if kind in yolo.PICTURES:
            digest.update(f"{file.relative_to(root).as_posix()} {file.stat().st_size}".encode())
        elif kind in _SAID and file.is_file():
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
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
