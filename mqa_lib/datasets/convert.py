"""Data sets in Pascal VOC's and in COCO's format, written anew in YOLO format, which everything here reads.

Nothing is mended on the way: a box outside its picture comes out as one, and `yolo.validate` names it. Only what YOLO's
format cannot say at all is left out, and told.
"""

import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mqa_lib.datasets.yolo import PICTURES, DataError
from mqa_lib.pictures import unreadable


@dataclass
class Converted:
    """A data set in YOLO format, and what was left out of it, one sentence for each thing.

    Args:
        path: Its YAML file.
        left_out: Sentences.
    """

    path: Path
    left_out: list[str] = field(default_factory=list)


_COCO = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
_EXIF_ORIENTATION, _LYING = 274, (5, 6, 7, 8)  # how a camera notes that it was held upright
Box = tuple[str, float, float, float, float]  # class, then left, top, right, bottom as shares of the picture


def kind_of(path: str | Path) -> str:
    """Return the format of a data set: "yolo", "voc" or "coco", by the files that it has.

    Raises:
        DataError: It has none of the files by which they are known.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml") or (path / "data.yaml").exists():
        return "yolo"
    if _voc_root(path) is not None:
        return "voc"
    if path.suffix == ".json" or _coco_files(path):
        return "coco"
    raise DataError(
        f"{path} is no data set in YOLO format (data.yaml), VOC (Annotations/*.xml) or COCO (annotations/*.json). "
        "Check the path."
    )


def to_yolo(path: str | Path, out: str | Path) -> Converted:
    """Write a data set in VOC's or COCO's format to the folder `out` in YOLO format; its own files stay as they are.

    One that is in YOLO format already is returned as it is, and nothing is written.

    Args:
        path: Folder of the set, or a COCO file with a folder of pictures beside it.
        out: Folder to write.

    Raises:
        DataError: The set cannot be read, or names a picture that is not there.
    """
    kind = kind_of(path)
    if kind == "yolo":
        return Converted(Path(path))
    return from_voc(path, out) if kind == "voc" else from_coco(path, out)


def from_voc(path: str | Path, out: str | Path, names: Sequence[str] = ()) -> Converted:
    """Write a VOC set, with the splits of its ImageSets/Main or all of it as train and val.

    Args:
        path: Folder with Annotations and JPEGImages, or one above it.
        out: Folder to write.
        names: The classes in their order; those that occur, in alphabetical order, if not given.

    Raises:
        DataError: An annotation cannot be read, or its picture is not there.
    """
    root = _voc_root(Path(path))
    if root is None:
        raise DataError(f"{path} has no folder Annotations with XML files. Check the path.")
    converted = Converted(Path(out) / "data.yaml")
    read = {
        file.stem: _voc_boxes(file, converted.left_out)
        for file in sorted((root / "Annotations").glob("*.xml"))
    }
    pictures = {
        file.stem: file for file in sorted((root / "JPEGImages").glob("*")) if file.suffix.lower() in PICTURES
    }
    if missing := sorted(read.keys() - pictures.keys()):
        raise DataError(
            f"{len(missing)} annotations have no picture in JPEGImages, the first is {missing[0]}.xml."
        )
    for stem, (size, _) in read.items():
        _check_size(f"{stem}.xml", pictures[stem], size)
    names = list(names) or sorted({box[0] for _, boxes in read.values() for box in boxes})
    splits = _voc_splits(root, list(read))
    for split, stems in splits.items():
        if absent := sorted(set(stems) - read.keys()):
            raise DataError(f"{split}.txt names {absent[0]}, which has no annotation. Mend the list.")
        _write(Path(out), split, [(pictures[stem], read[stem][1]) for stem in stems], names)
    _write_yaml(converted.path, list(splits), names)
    return converted


def from_coco(path: str | Path, out: str | Path) -> Converted:
    """Write a COCO set: a JSON file for each split, whose name says which; a single file serves as train and val.

    Args:
        path: A COCO file, or a folder with annotations/*.json, its pictures somewhere below.
        out: Folder to write.

    Raises:
        DataError: A file cannot be read, or names a picture that is not there.
    """
    path = Path(path)
    files = [path] if path.suffix == ".json" else _coco_files(path)
    root = path.parent if path.suffix == ".json" else path
    read: dict[str, dict[str, Any]] = {}
    named: dict[str, Path] = {}
    for file in files:
        split = _split_of(file)
        if split in named:
            both = " and ".join(str(one.relative_to(root)) for one in (named[split], file))
            raise DataError(
                f"{both} would both be `{split}`. Give the path of one file, or move the other away."
            )
        named[split], read[split] = file, _coco(file)
    if len(read) == 1:
        only = next(iter(read.values()))
        read = {"train": only, "val": only}
    categories: dict[int | str, str] = {}
    for split, said in read.items():
        for entry in said["categories"]:
            name = str(entry["name"])
            if (other := categories.setdefault(entry["id"], name)) != name:
                raise DataError(
                    f"{split}: category {entry['id']} is {name}, and {other} in another file. Mend one."
                )
    names = [categories[key] for key in sorted(categories, key=lambda key: (isinstance(key, str), key))]
    pictures: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in PICTURES:
            pictures.setdefault(file.name, []).append(file.relative_to(root))
    converted = Converted(Path(out) / "data.yaml")
    for split, said in read.items():
        converted.left_out.extend(_coco_left_out(said, split))
        _write(Path(out), split, _coco_pairs(said, split, categories, pictures, root), names)
    _write_yaml(converted.path, list(read), names)
    return converted


def _voc_root(path: Path) -> Path | None:
    if not path.is_dir():
        return None
    places = (path, *sorted(inner for inner in path.iterdir() if inner.is_dir()))
    return next((root for root in places if any((root / "Annotations").glob("*.xml"))), None)


def _check_size(where: str, picture: Path, size: tuple[float, float]) -> None:
    """Accept a picture of the size that its annotation names; one that cannot be read is named later.

    A picture whose camera notes that it was held upright is read turned, so that is the size that counts.

    Raises:
        DataError: It has another size, so that every box would lie elsewhere.
    """
    from PIL import Image

    try:
        with Image.open(picture) as image:
            lying = image.getexif().get(_EXIF_ORIENTATION) in _LYING
            own = image.size[::-1] if lying else image.size
    except unreadable():
        return
    if tuple(size) != own:
        turned = ", turned as its camera notes" if lying else ""
        raise DataError(
            f"{where} says that {picture.name} is {size[0]:g}x{size[1]:g} pixels, and it is {own[0]}x{own[1]}{turned}, "
            "so all its boxes would lie elsewhere. Mend the size, or take the picture that was annotated."
        )


def _voc_boxes(file: Path, left_out: list[str]) -> tuple[tuple[float, float], list[Box]]:
    try:
        said = ET.parse(file).getroot()
        width, height = (float(_text(said, f"size/{side}")) for side in ("width", "height"))
        if not min(width, height) >= 1:
            raise ValueError(f"its size is {width:g}x{height:g} pixels")
        found = []
        for number, entry in enumerate(said.iter("object"), start=1):
            left, top, right, bottom = (
                float(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            if right <= left or bottom <= top:
                left_out.append(f"{file.name}, object {number}: its box is empty.")
                continue
            # VOC counts pixels from 1 and names the last one inside; some makers count from 0.
            left, top = max(left - 1, 0.0), max(top - 1, 0.0)
            found.append((_text(entry, "name"), left / width, top / height, right / width, bottom / height))
        return (width, height), found
    except (ET.ParseError, ValueError, OSError) as error:
        raise DataError(
            f"{file.name} cannot be read as an annotation of VOC ({error}). Mend or remove it."
        ) from error


def _text(entry: ET.Element, path: str) -> str:
    found = entry.find(path)
    if found is None or found.text is None:
        raise ValueError(f"it has no {path}")
    return found.text.strip()


def _voc_splits(root: Path, stems: list[str]) -> dict[str, list[str]]:
    found = {}
    for split in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if file.exists():
            try:
                lines = file.read_text(encoding="utf-8").splitlines()  # a name may hold spaces
            except UnicodeDecodeError as error:
                raise DataError(f"{file.name} is not text in UTF-8 ({error}). Save it as such.") from error
            found[split] = [line.strip() for line in lines if line.strip()]
    return found if "train" in found and "val" in found else {"train": stems, "val": stems}


def _coco_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(
        {*(path / "annotations").glob("*.json"), *path.glob("*.json"), *path.glob("*/_annotations.coco.json")}
    )


def _split_of(file: Path) -> str:
    """Return the split that a COCO file's name says, or its folder's where all files have one name."""
    for said in (file.stem.lower(), file.parent.name.lower()):
        for split in ("train", "test", "val"):
            if split in said:
                return split
    return "val"


def _coco(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if fault := _coco_fault(said):
            raise ValueError(fault)
        return said
    except (ValueError, OSError) as error:
        raise DataError(
            f"{file.name} cannot be read as a file of COCO ({error}). Mend or remove it."
        ) from error


def _coco_fault(said: Any) -> str:
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
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(one, int | float) for one in box):
            return f"has the bbox {box!r}, which is not four numbers"
    if kind == "images":
        if not isinstance(entry["file_name"], str):
            return f"has the file_name {entry['file_name']!r}, which is no text"
        size = entry["width"], entry["height"]
        if not all(isinstance(side, int | float) and side >= 1 for side in size):
            return f"is {size[0]!r}x{size[1]!r} pixels"
    return ""


def _coco_left_out(said: dict[str, Any], split: str) -> Iterator[str]:
    listed = {entry["id"] for entry in said["images"]}
    if lost := [entry["image_id"] for entry in said["annotations"] if entry["image_id"] not in listed]:
        yield f"{split}: {len(lost)} annotations are of pictures that are not listed, the first of image_id {lost[0]}."
    if crowds := sum(bool(entry.get("iscrowd")) for entry in said["annotations"]):
        yield f"{split}: {crowds} annotations are of crowds, for which YOLO's format has no word."


def _coco_pairs(
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
        name, width, height = Path(image["file_name"]), image["width"], image["height"]
        found = pictures.get(name.name, [])
        if not found:
            raise DataError(f"{split}: the picture {name} is not there. Put it beside the JSON file.")
        # The file may say in which folder it is; else its folder may be named after the split.
        found = [file for file in found if file.parts[-len(name.parts) :] == name.parts] or found
        nearest = root / next((file for file in found if split in str(file.parent).lower()), found[0])
        _check_size(split, nearest, (float(width), float(height)))
        boxes = [
            (categories[entry["category_id"]], x / width, y / height, (x + w) / width, (y + h) / height)
            for entry in by_image.get(image["id"], [])
            if not entry.get("iscrowd")
            for x, y, w, h in [entry["bbox"]]
        ]
        yield nearest, boxes


def _write(out: Path, split: str, pairs: Iterable[tuple[Path, list[Box]]], names: Sequence[str]) -> None:
    for folder in ("images", "labels"):
        (out / folder / split).mkdir(parents=True, exist_ok=True)
    taken: dict[str, Path] = {}
    for picture, boxes in pairs:
        if taken.setdefault(picture.stem, picture) != picture:
            raise DataError(
                f"{split}: {taken[picture.stem]} and {picture} would share the label file {picture.stem}.txt. "
                "Rename one of them."
            )
        if unknown := sorted({box[0] for box in boxes} - set(names)):
            raise DataError(
                f"{split}: {picture.name} has objects of {', '.join(unknown)}, and the classes are {', '.join(names)}. "
                "Mend its annotation, or name the class."
            )
        there = out / "images" / split / picture.name
        if not there.exists():
            _link_or_copy(picture, there)
        lines = [
            f"{names.index(name)} {(left + right) / 2:.6f} {(top + bottom) / 2:.6f} "
            f"{right - left:.6f} {bottom - top:.6f}\n"
            for name, left, top, right, bottom in boxes
        ]
        (out / "labels" / split / f"{picture.stem}.txt").write_text("".join(lines))


def _link_or_copy(picture: Path, there: Path) -> None:
    try:
        os.link(picture, there)  # costs no room; not across disks, and not on every file system
    except OSError:
        draft = there.with_suffix(".part")
        shutil.copyfile(picture, draft)
        draft.replace(there)


def _write_yaml(path: Path, splits: Sequence[str], names: Sequence[str]) -> None:
    import yaml

    said: dict[str, Any] = {split: f"images/{split}" for split in splits}
    path.write_text(
        yaml.safe_dump({**said, "names": dict(enumerate(names))}, sort_keys=False, allow_unicode=True)
    )
