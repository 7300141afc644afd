"""A data set of one's own: which format it is in, what is in it, and what only a look across its splits shows."""

import hashlib
from itertools import combinations
from pathlib import Path

from mqa_lib.datasets import voc, yolo
from mqa_lib.datasets.yolo import DataError, Problem, Report

_NAMED = 3
_COCO = ("*.json", "annotations/*.json", "*/_annotations.coco.json")
_CONVERT = (
    "from ultralytics.data.converter import convert_coco; convert_coco({!r}, 'as-yolo', cls91to80=False)"
)


def inspect(path: str | Path, scratch: object = None) -> Report:
    """Return the report of a data set with what only a look at the whole shows; nothing is written.

    Beyond what `read` finds: classes without an object, and pictures that are in two splits.

    Args:
        path: A YAML file or folder in YOLO format, or a folder of VOC.
        scratch: Not used any more.
    """
    report = read(path)
    report.problems.extend(duplicates(report))
    report.notes.extend(empty_classes(report))
    return report


def read(path: str | Path) -> Report:
    """Return the report of a data set in YOLO's or VOC's format; that it is not there is a problem in it."""
    place = found(path) if Path(path).exists() else Path(path)
    return voc.read(place) if place.is_dir() else yolo.validate(place)


def fingerprint(path: str | Path) -> str:
    """Return a SHA-256 of a data set's annotations, and of its pictures' names and sizes."""
    place = found(path)
    return voc.fingerprint(place) if place.is_dir() else yolo.fingerprint(place)


def found(path: str | Path) -> Path:
    """Return what is really read of a data set: its YAML file (YOLO) or its folder (VOC).

    Folders that hold nothing but one folder, as archives make them, are gone through.

    Raises:
        DataError: It is in neither format. Of one in COCO's it is told how to convert it.
    """
    place = Path(path)
    coco = [place] if place.suffix == ".json" else []
    while place.is_dir():
        if (root := yolo.yaml_in(place) or voc.root_of(place)) is not None:
            return root
        if (place / "classes.txt").is_file() and (place / "labels").is_dir():
            text = (place / "classes.txt").read_text(encoding="utf-8-sig", errors="replace")
            names = ", ".join(line.strip() for line in text.splitlines() if line.strip())
            raise DataError(
                f"{place} has labels in YOLO format and no data.yaml, as Label Studio exports them. Move the pictures "
                "to images/train and images/val, their labels to labels/train and labels/val, and write a data.yaml: "
                f"`train: images/train`, `val: images/val`, `names: [{names}]`."
            )
        coco += sorted(file for pattern in _COCO for file in place.glob(pattern))
        seen = [
            inner
            for inner in place.iterdir()
            if inner.is_dir() and not inner.name.startswith((".", "__MACOSX"))
        ]
        if len(seen) != 1:
            break
        place = seen[0]
    if place.is_file() and place.suffix in (".yaml", ".yml"):
        return place
    if coco:
        raise DataError(
            f"{coco[0]} seems to be a file of COCO, and data are read in YOLO's format, a text file for each picture. "
            f'Convert it with `python -c "{_CONVERT.format(str(coco[0].parent))}"`, which writes as-yolo/labels with '
            "category 1 as class 0; put the pictures beside, into as-yolo/images, in folders of the same names, and "
            "write as-yolo/data.yaml with `train`, `val` and `names`."
        )
    raise DataError(
        f"{path} is no data set in YOLO format (data.yaml) or VOC (Annotations/*.xml). Check the path."
    )


def empty_classes(report: Report) -> list[str]:
    """Return a sentence for every split in which classes have no object, though the split has some."""
    said = []
    for split in report.pictures:
        lacking = [name for index, name in report.names.items() if not report.objects[split, index]]
        if lacking and len(lacking) < len(report.names):
            rule = f"`{split}`: no object of {', '.join(lacking)}."
            said.append(f"{rule} Nothing about it can be learnt or measured there.")
    return said


def duplicates(report: Report) -> list[Problem]:
    """Return what is wrong with every two splits that share pictures, told by the SHA-256 of the files."""
    said = []
    seen = {split: {_digest(file): file.name for file in files} for split, files in report.files.items()}
    for first, second in combinations(seen, 2):
        shared = [name for digest, name in seen[second].items() if digest and digest in seen[first]]
        more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
        rule = f"{len(shared)} pictures are in `{first}` too: {', '.join(shared[:_NAMED])}{more}."
        if shared:
            said.append(Problem(f"`{second}`:", None, f"{rule} What is measured there would be too good."))
    return said


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file; nothing of one that cannot be read, which is a problem already."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
