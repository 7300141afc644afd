"""A closer look at a data set than training needs: of any of three formats, and across its splits."""

import hashlib
from dataclasses import replace
from pathlib import Path

from mqa_lib.datasets import convert, yolo
from mqa_lib.datasets.yolo import Report

_NAMED = 3


def inspect(path: str | Path, scratch: str | Path) -> Report:
    """Return the report of a data set in YOLO, VOC or COCO format, with what only a look at the whole shows.

    Beyond what `yolo.validate` finds: classes without an object, pictures that are in two splits, and what could not be
    said in YOLO format.

    Args:
        path: A YAML file or folder in YOLO format, a folder of VOC, a file or folder of COCO.
        scratch: Folder for the set in YOLO format, where it is in another one.
    """
    path = Path(path)
    read = convert.to_yolo(path, scratch) if path.exists() else convert.Converted(path)
    report = yolo.validate(read.path)
    report.problems.extend(duplicates(report))
    report.notes.extend(read.left_out + empty_classes(report))
    written = read.path.parent == Path(scratch)  # the user's own is told, not the scratch folder
    return replace(report, path=path) if written else report


def empty_classes(report: Report) -> list[str]:
    """Return a sentence for every split in which classes have no object, though the split has some."""
    said = []
    for split in report.pictures:
        counts = {name: report.objects[split, index] for index, name in report.names.items()}
        lacking = [name for name, count in counts.items() if not count]
        if lacking and any(counts.values()):
            said.append(
                f"`{split}`: no object of {', '.join(lacking)}. Nothing about it can be learnt or measured there."
            )
    return said


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file; nothing of one that cannot be read, which `yolo.validate` names."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def duplicates(report: Report) -> list[str]:
    """Return a sentence for every two splits that share pictures, told by the SHA-256 of the files."""
    seen: dict[str, dict[str, str]] = {}
    for split, files in report.files.items():
        seen[split] = {digest: file.name for file in files if (digest := _digest(file))}
    said, splits = [], list(seen)
    for index, first in enumerate(splits):
        for second in splits[index + 1 :]:
            shared = [name for digest, name in seen[second].items() if digest in seen[first]]
            if shared:
                more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
                said.append(
                    f"`{second}`: {len(shared)} pictures are in `{first}` too: {', '.join(shared[:_NAMED])}{more}. "
                    "What is measured there would be too good."
                )
    return said
