"""Data sets in Pascal VOC's format, an XML file for each picture: read whole, and written anew in YOLO format."""

import hashlib
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mqa_lib.datasets import labels, yolo
from mqa_lib.datasets.yolo import DataError, Problem, Report
from mqa_lib.pictures import unreadable

# "interval" and "latest" name no split
_SPLIT = re.compile(r"(?<![a-z])e?(train|test|val)")
# how a camera notes that it was held upright
_ORIENTATION, _LYING = 274, (5, 6, 7, 8)
_SIDES = ("xmin", "ymin", "xmax", "ymax")
# class, corners in pixels, sides of the picture
Objects = list[tuple[str, np.ndarray, np.ndarray]]


def root_of(path: Path) -> Path | None:
    """Return the folder of a set, `path` or one in it; nothing if there is none, a DataError if there are several."""
    path = path.parent if path.name.lower() == "annotations" else path
    if _files(path):
        return path
    roots = [inner for inner in sorted(path.iterdir()) if inner.is_dir() and _files(inner)]
    if roots[1:]:
        several = f"{path} holds several sets of VOC ({', '.join(root.name for root in roots)})"
        raise DataError(
            f"{several}. Give the path of one, or move all XML files into one folder Annotations."
        )
    return roots[0] if roots else None


def read(root: Path, names: Sequence[str] = ()) -> Report:
    """Return what a VOC set holds, and everything that is wrong with it by the names of its own files.

    Its splits are those of ImageSets/Main or of its folders. An empty box is left out, which is noted.

    Args:
        root: Folder with Annotations and JPEGImages, or with XML files beside pictures.
        names: The classes in their order; those that occur, in alphabetical order, if not given.
    """
    report, pictures, found = Report(root), _pictures(root), dict[Path, Objects]()
    for file, picture in pictures.items():
        try:
            found[file] = _objects(file, picture)
        except (ET.ParseError, ValueError, LookupError, OSError) as error:
            rule = f"cannot be read as an annotation of VOC ({error}). Mend or remove it."
            found[file] = []
            report.problems.append(Problem(str(file.relative_to(root)), None, rule))
    report.names.update(
        enumerate(names or sorted({name for objects in found.values() for name, *_ in objects}))
    )
    for file, objects in found.items():
        if picture := pictures[file]:
            report.lines[picture] = file, list(_lines(file, objects, report))
    for split, part in _splits(root, list(pictures), report).items():
        if twice := sorted(stem for stem, times in Counter(file.stem for file in part).items() if times > 1):
            rule = f"{twice[0]}.xml lies in two folders of it. Rename one of them, and its picture."
            report.problems.append(Problem(f"`{split}`:", None, rule))
        shown = [picture for file in part if (picture := pictures[file])]
        if shown:
            yolo.count(report, split, shown, root, str(root))
    return report


def write(report: Report, out: Path) -> Report:
    """Write a set that was read to the folder `out`, in YOLO format; return its report with the files there."""
    import yaml

    out, files = yolo.plain(out), dict[str, list[Path]]()
    for split, pictures in report.files.items():
        for folder in ("images", "labels"):
            (out / folder / split).mkdir(parents=True, exist_ok=True)
        files[split] = [out / "images" / split / picture.name for picture in pictures]
        for picture, there in zip(pictures, files[split], strict=True):
            there.unlink(missing_ok=True)
            try:
                # a link costs no room, and does not reach across disks
                os.link(picture.resolve(), there)
            except OSError:
                shutil.copyfile(picture, there)
            lines = (
                f"{line.label} {' '.join(f'{at:.6f}' for at in line.box)}\n"
                for line in report.lines[picture][1]
            )
            labels.file_of(there).write_text("".join(lines), encoding="utf-8")
    settings = {**{split: f"images/{split}" for split in files}, "names": report.names}
    # a set with half a file would be taken for whole
    draft = out / "data.part"
    draft.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return replace(report, path=draft.replace(out / "data.yaml"), files=files, lines={})


def fingerprint(root: Path) -> str:
    """Return a SHA-256 of a set's annotations and lists, and of its pictures' names and sizes."""
    digest, pictures = hashlib.sha256(), [picture for picture in _pictures(root).values() if picture]
    for file in (*_files(root), *sorted(root.glob("ImageSets/Main/*.txt")), *pictures):
        digest.update(os.fsencode(file.relative_to(root).as_posix()))
        is_picture = file.suffix.lower() in yolo.PICTURES
        digest.update(str(file.stat().st_size).encode() if is_picture else file.read_bytes())
    return digest.hexdigest()


def _files(root: Path) -> list[Path]:
    """Return the XML files in Annotations, or else those beside pictures, in the folder or in those of splits."""
    inner = sorted(root.glob("*/*.xml"))
    beside = [
        *sorted(root.glob("*.xml")),
        *(file for file in inner if _SPLIT.search(file.parent.name.lower())),
    ]
    return [file for file in inner if file.parent.name.lower() == "annotations"] or [
        file for file in beside if file.is_file() and b"<annotation" in file.read_bytes()[:1000]
    ]


def _pictures(root: Path) -> dict[Path, Path | None]:
    """Return the annotations, each with its picture in JPEGImages or images, beside it, or in the set's folder."""
    files = _files(root)
    own = [inner for inner in sorted(root.glob("*/")) if inner.name.lower() in ("jpegimages", "images")]
    folders = {*own, root, *(file.parent for file in files)}
    inside = [picture for folder in folders for picture in sorted(folder.iterdir())]
    there = {(one.parent, one.stem): one for one in inside if one.suffix.lower() in yolo.PICTURES}
    places = {file: [(folder, file.stem) for folder in (*own, file.parent, root)] for file in files}
    return {file: next((there[at] for at in places[file] if at in there), None) for file in files}


def _objects(file: Path, picture: Path | None) -> Objects:
    """Return the objects in an annotation, or raise an error that says why they cannot be those of the picture."""
    from PIL import Image

    tree, turned = ET.parse(file).getroot(), ""
    size = np.array([float(_text(tree, f"size/{side}")) for side in ("width", "height")])
    if picture is None:
        raise ValueError("it has no picture in JPEGImages, in images or beside it")
    try:
        with Image.open(picture) as image:
            turned = ", turned as its camera notes" if image.getexif().get(_ORIENTATION) in _LYING else ""
            own: tuple[float, ...] = image.size[:: -1 if turned else 1]
    except unreadable():
        # that is told with what is wrong with pictures
        own = tuple(size)
    if tuple(size) != own or not size.min() >= 1:
        said, real = (f"{width:g}x{height:g}" for width, height in (size, own))
        raise ValueError(
            f"it says {said} pixels, and {picture.name} is {real}{turned}: its boxes would lie elsewhere"
        )
    corners = [
        np.array([float(_text(one, f"bndbox/{side}")) for side in _SIDES]) for one in tree.iter("object")
    ]
    return [(_text(one, "name"), at, size) for one, at in zip(tree.iter("object"), corners, strict=True)]


def _text(entry: ET.Element, path: str) -> str:
    if not (said := (entry.findtext(path) or "").strip()):
        raise ValueError(f"it has no {path}")
    return said


def _lines(file: Path, objects: Objects, report: Report) -> Iterator[labels.Line]:
    classes = {name: label for label, name in report.names.items()}
    for number, (name, corners, size) in enumerate(objects, start=1):
        low, high = corners.reshape(2, 2)
        if (high <= low).any():
            report.notes.append(f"{file.name}, object {number}: its box is empty.")
            continue
        # VOC counts pixels from 1 and names the last one inside; some makers count from 0
        low = np.where(low >= 1, low - 1, low)
        box = *((low + high) / 2 / size).tolist(), *((high - low) / size).tolist()
        label = classes.get(name, -1)
        fault = labels.fault_of(label, box, report.names)
        if label < 0:
            fault = f"is of class {name}, and the classes are {', '.join(classes)}. Mend it."
        elif fault:
            fault = f"its box {' '.join(f'{at:g}' for at in corners)} lies outside the picture. Mend it."
        yield labels.Line(number, label, box, fault)


def _splits(root: Path, files: list[Path], report: Report) -> dict[str, list[Path]]:
    """Return the annotations of each split; where train or val is missing, a fifth of what there is becomes val."""
    parts: dict[str, list[Path]] = {split: [] for split in yolo.SPLITS}
    for file in files:
        if file.parent != root and (named := _SPLIT.search(file.parent.name.lower())):
            parts[named[1]].append(file)
    known = {file.stem: file for file in files}
    for split in yolo.SPLITS:
        listed = root / f"ImageSets/Main/{split}.txt"
        lines = (
            listed.read_text(encoding="utf-8-sig", errors="replace").splitlines() if listed.exists() else []
        )
        stems = dict.fromkeys(line.strip() for line in lines if line.strip())
        parts[split] += [known[stem] for stem in stems if stem in known]
        if absent := [stem for stem in stems if stem not in known]:
            rule = f"names {absent[0]}, which has no annotation. Mend the list, in UTF-8."
            report.problems.append(Problem(listed.name, None, rule))
    unlisted = sorted(set(files).difference(*parts.values()))
    if not parts["train"]:
        parts["train"] = unlisted
    elif unlisted:
        said = f"{len(unlisted)} annotations are in no list of ImageSets/Main"
        report.notes.append(f"{said}, the first is {unlisted[0].name}.")
    lacking = " and no ".join(f"`{split}`" for split in ("train", "val") if not parts[split])
    parts = {split: part for split, part in parts.items() if part}
    if lacking and parts:
        source = next(iter(parts))
        whole = parts.pop(source)
        by_name = sorted(whole, key=lambda file: hashlib.sha256(file.stem.encode()).digest())
        val = by_name[: max(1, len(whole) // 5)]
        parts = {"train": by_name[len(val) :] or val, "val": val, **parts}
        said = f"{len(val)} of the {len(whole)} pictures of `{source}`, chosen by their names, are `val`"
        report.notes.append(f"The set names no {lacking}: {said}, and {len(parts['train'])} are `train`.")
    return parts
