"""Data sets in Pascal VOC's format: an XML file for each picture."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from mqa_lib.datasets.written import Box, Converted, check_size, write, write_yaml
from mqa_lib.datasets.yolo import PICTURES, DataError


def root_of(path: Path) -> Path | None:
    """Return the folder that holds Annotations, `path` or one in it, or nothing."""
    if not path.is_dir():
        return None
    places = (path, *sorted(inner for inner in path.iterdir() if inner.is_dir()))
    return next((root for root in places if any((root / "Annotations").glob("*.xml"))), None)


def from_voc(path: str | Path, out: str | Path, names: Sequence[str] = ()) -> Converted:
    """Write a VOC set, with the splits of its ImageSets/Main or all of it as train and val.

    Args:
        path: Folder with Annotations and JPEGImages, or one above it.
        out: Folder to write.
        names: The classes in their order; those that occur, in alphabetical order, if not given.

    Raises:
        DataError: An annotation cannot be read, or its picture is not there.
    """
    root = root_of(Path(path))
    if root is None:
        raise DataError(f"{path} has no folder Annotations with XML files. Check the path.")
    converted = Converted(Path(out) / "data.yaml")
    read = {
        file.stem: _boxes(file, converted.left_out) for file in sorted((root / "Annotations").glob("*.xml"))
    }
    pictures = {
        file.stem: file for file in sorted((root / "JPEGImages").glob("*")) if file.suffix.lower() in PICTURES
    }
    if missing := sorted(read.keys() - pictures.keys()):
        raise DataError(
            f"{len(missing)} annotations have no picture in JPEGImages, the first is {missing[0]}.xml."
        )
    for stem, (size, _) in read.items():
        check_size(f"{stem}.xml", pictures[stem], size)
    names = list(names) or sorted({box[0] for _, boxes in read.values() for box in boxes})
    splits = _splits(root, list(read))
    for split, stems in splits.items():
        if absent := sorted(set(stems) - read.keys()):
            raise DataError(f"{split}.txt names {absent[0]}, which has no annotation. Mend the list.")
        write(Path(out), split, [(pictures[stem], read[stem][1]) for stem in stems], names)
    write_yaml(converted.path, list(splits), names)
    return converted


def _boxes(file: Path, left_out: list[str]) -> tuple[tuple[float, float], list[Box]]:
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


def _splits(root: Path, stems: list[str]) -> dict[str, list[str]]:
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
