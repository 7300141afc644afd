"""Data sets in COCO's format: a JSON file for each split."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from mqa_lib.datasets.written import (
    Box,
    Converted,
    below,
    check_size,
    split_named,
    with_val,
    write,
    write_yaml,
)
from mqa_lib.datasets.yolo import PICTURES, DataError

_COCO = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
# COCO has its own set five times, each time for another task.
_HUGE = 1e9  # more pixels than any picture has
_OTHER_TASKS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")


def files_of(path: Path) -> list[Path]:
    """Return the COCO files of a folder, or none; of COCO's own those with the boxes."""
    if not path.is_dir():
        return []
    files = sorted(
        {*(path / "annotations").glob("*.json"), *path.glob("*.json"), *path.glob("*/_annotations.coco.json")}
    )
    if any(file.name.startswith("instances_") for file in files):
        return [file for file in files if not file.name.startswith(_OTHER_TASKS)]
    return files


def from_coco(path: str | Path, out: str | Path) -> Converted:
    """Write a COCO set: a JSON file for each split, whose name says which.

    Where there is no val or no train, a fifth of the pictures becomes val, which is told.

    Args:
        path: A COCO file, or a folder with annotations/*.json, its pictures somewhere below.
        out: Folder to write.

    Raises:
        DataError: A file cannot be read, or names a picture that is not there.
    """
    files, root = _places(Path(path))
    read: dict[str, dict[str, Any]] = {}
    named: dict[str, Path] = {}
    for file in files:
        split = split_named(file.stem) or split_named(file.parent.name) or ("val" if files[1:] else "train")
        if split in named:
            both = " and ".join(str(one.relative_to(root)) for one in (named[split], file))
            raise DataError(
                f"{both} would both be `{split}`. Give the path of one file, or move the other away."
            )
        named[split], read[split] = file, _read(file)
    categories: dict[int | str, str] = {}
    for split, said in read.items():
        for entry in said["categories"]:
            name = str(entry["name"])
            if (other := categories.setdefault(entry["id"], name)) != name:
                raise DataError(
                    f"{split}: category {entry['id']} is {name}, and {other} in another file. Mend one."
                )
    names = [categories[key] for key in sorted(categories, key=lambda key: (isinstance(key, str), key))]
    pictures = _pictures(root)
    converted = Converted(Path(out) / "data.yaml")
    parts: dict[str, list[tuple[Path, list[Box]]]] = {}
    for split, said in read.items():
        converted.left_out.extend(_left_out(said, split))
        parts[split] = list(_pairs(said, split, categories, pictures, root))
    parts = with_val(parts, lambda pair: pair[0].name, converted.left_out)
    for split, pairs in parts.items():
        write(Path(out), split, pairs, names)
    write_yaml(converted.path, list(parts), names)
    return converted


def sources(path: Path) -> list[Path]:
    """Return the files that `from_coco` reads of a set: those with the boxes, and all pictures it may take."""
    files, root = _places(path)
    return [*files, *(root / picture for found in _pictures(root).values() for picture in found)]


def _places(path: Path) -> tuple[list[Path], Path]:
    """Return the COCO files of a set, and the folder that its pictures are below."""
    if path.suffix != ".json":
        return files_of(path), path
    root = path.parent
    return [path], root.parent if root.name.lower() == "annotations" else root


def _pictures(root: Path) -> dict[str, list[Path]]:
    """Return by name the pictures below a folder, as seen from it."""
    found: dict[str, list[Path]] = {}
    for file in below(root):
        if file.suffix.lower() in PICTURES:
            found.setdefault(file.name, []).append(file.relative_to(root))
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8-sig"))
        if fault := _fault(said):
            raise ValueError(fault)
        return said
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(
            f"{file.name} cannot be read as a file of COCO ({error}). Mend or remove it."
        ) from error


def _fault(said: Any) -> str:
    """Return why what a file holds cannot be read as COCO's; nothing if it can."""
    if not isinstance(said, dict) or not all(isinstance(said.get(key), list) for key in _COCO):
        return "it has no images, annotations and categories"
    for kind, keys in _COCO.items():
        for place, entry in enumerate(said[kind], start=1):
            lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if fault := f"has no {lacking[0]}" if lacking else _entry_fault(kind, entry):
                return f"entry {place} of its {kind} {fault}"
    known = {entry["id"] for entry in said["categories"]}
    for place, entry in enumerate(said["annotations"], start=1):
        if entry["category_id"] not in known:
            return f"entry {place} of its annotations is of category {entry['category_id']}, not listed"
    for key in ("id", "file_name"):
        values = Counter(entry[key] for entry in said["images"])
        if twice := [value for value, count in values.items() if count > 1]:
            return f"two of its images have the {key} {twice[0]}"
    return ""


def _entry_fault(kind: str, entry: dict[str, Any]) -> str:
    """Return what is wrong with an entry that has all it needs, by itself; nothing if it is right."""
    for key in ("id", "image_id", "category_id", "name"):
        if key in _COCO[kind] and not isinstance(entry[key], int | str):
            return f"has the {key} {entry[key]!r}, which is no number and no text"
    if kind == "annotations":
        box = entry["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            return f"has the bbox {box!r}, which is not four numbers"
    if kind == "images":
        if not isinstance(entry["file_name"], str):
            return f"has the file_name {entry['file_name']!r}, which is no text"
        size = entry["width"], entry["height"]
        if not all(isinstance(side, int | float) and side >= 1 for side in size):
            return f"is {size[0]!r}x{size[1]!r} pixels"
    return ""


def _is_number(one: Any) -> bool:
    return isinstance(one, int | float) and abs(one) < _HUGE


def _left_out(said: dict[str, Any], split: str) -> Iterator[str]:
    listed = {entry["id"] for entry in said["images"]}
    if lost := [entry["image_id"] for entry in said["annotations"] if entry["image_id"] not in listed]:
        yield f"{split}: {len(lost)} annotations are of pictures that are not listed, the first of image_id {lost[0]}."
    if crowds := sum(bool(entry.get("iscrowd")) for entry in said["annotations"]):
        yield f"{split}: {crowds} annotations are of crowds, for which YOLO's format has no word."


def _pairs(
    said: dict[str, Any],
    split: str,
    categories: dict[int | str, str],
    pictures: dict[str, list[Path]],
    root: Path,
) -> Iterator[tuple[Path, list[Box]]]:
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for entry in said["annotations"]:
        by_image.setdefault(entry["image_id"], []).append(entry)
    for image in said["images"]:
        name = Path(*PureWindowsPath(image["file_name"]).parts)  # which splits at both kinds of stroke
        width, height = image["width"], image["height"]
        found = pictures.get(name.name, [])
        if not found:
            raise DataError(f"{split}: the picture {name} is not there. Put it beside the JSON file.")
        # The file may say in which folder it is; else its folder may be named after the split.
        found = [file for file in found if file.parts[-len(name.parts) :] == name.parts] or found
        found = [file for file in found if split in str(file.parent).lower()] or found
        found = [file for file in found if file == name] or found
        if found[1:]:
            raise DataError(
                f"{split}: the picture {name} may be {found[0]} or {found[1]}. Name its folder in `file_name`, or move "
                "the other away."
            )
        nearest = root / found[0]
        check_size(split, nearest, (float(width), float(height)))
        boxes = [
            (categories[entry["category_id"]], x / width, y / height, (x + w) / width, (y + h) / height)
            for entry in by_image.get(image["id"], [])
            if not entry.get("iscrowd")
            for x, y, w, h in [entry["bbox"]]
        ]
        yield nearest, boxes
