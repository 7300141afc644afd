"""Data sets in Pascal VOC's format: an XML file for each picture, in a folder Annotations or beside the pictures."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

from mqa_lib.datasets.written import Box, Converted, check_size, split_named, with_val, write, write_yaml
from mqa_lib.datasets.yolo import PICTURES, DataError


def root_of(path: Path) -> Path | None:
    """Return the folder of a VOC set, `path` or one in it; nothing if there is none.

    Raises:
        DataError: There are several.
    """
    if not path.is_dir():
        return None
    if _inner(path, "annotations") is not None:
        return path
    folders = sorted(inner for inner in path.iterdir() if inner.is_dir())
    roots = [folder for folder in folders if _inner(folder, "annotations") is not None]
    if roots[1:]:
        raise DataError(
            f"{path} holds several sets of VOC ({', '.join(root.name for root in roots)}). Give the path of one, or "
            "move all XML files into one folder Annotations, and name the splits in ImageSets/Main."
        )
    if roots:
        return roots[0]
    splits = (folder for folder in folders if split_named(folder.name))
    return path if any(_beside(folder) for folder in (path, *splits)) else None


def from_voc(path: str | Path, out: str | Path, names: Sequence[str] = ()) -> Converted:
    """Write a VOC set with the splits of its ImageSets/Main, or of its folders where each is a split.

    Where no val is named, a fifth of the pictures to train on becomes it, which is told.

    Args:
        path: Folder with Annotations and JPEGImages, or with XML files beside pictures, or one above it.
        out: Folder to write.
        names: The classes in their order; those that occur, in alphabetical order, if not given.

    Raises:
        DataError: An annotation cannot be read, or its picture is not there.
    """
    root = root_of(Path(path))
    if root is None:
        raise DataError(f"{path} has no folder Annotations with XML files. Check the path.")
    converted = Converted(Path(out) / "data.yaml")
    files = _files(root)
    pictures = _pictures(root, files)
    read = {}
    for file, picture in pictures.items():
        size, read[file] = _boxes(file, converted.left_out)
        check_size(file.name, picture, size)
    names = list(names) or sorted({box[0] for boxes in read.values() for box in boxes})
    parts = with_val(_splits(root, files, converted.left_out), lambda file: file.stem, converted.left_out)
    for split, chosen in parts.items():
        write(Path(out), split, [(pictures[file], read[file]) for file in chosen], names)
    write_yaml(converted.path, list(parts), names)
    return converted


def sources(root: Path) -> list[Path]:
    """Return the files that `from_voc` reads of a set: annotations, lists of splits, pictures.

    Raises:
        DataError: An annotation has no picture.
    """
    files = _files(root)
    lists = sorted((root / "ImageSets" / "Main").glob("*.txt"))
    return [*files, *lists, *_pictures(root, files).values()]


def _inner(root: Path, name: str) -> Path | None:
    """Return the folder of that name, however it is written, if it holds annotations."""
    try:
        inside = sorted(root.iterdir())
    except OSError:  # a disk's lost+found, say
        return None
    found = (inner for inner in inside if inner.name.lower() == name and inner.is_dir())
    return next((inner for inner in found if any(inner.glob("*.xml"))), None)


def _beside(folder: Path) -> list[Path]:
    """Return the annotations that lie in a folder itself, told from other XML by how they begin."""
    return [file for file in sorted(folder.glob("*.xml")) if b"<annotation" in _beginning(file)]


def _beginning(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(1000)
    except OSError:
        return b""


def _files(root: Path) -> list[Path]:
    folder = _inner(root, "annotations")
    if folder is not None:
        return sorted(folder.glob("*.xml"))
    if found := _beside(root):
        return found
    return [
        file
        for inner in sorted(root.iterdir())
        if split_named(inner.name) and inner.is_dir()
        for file in _beside(inner)
    ]


def _pictures(root: Path, files: Sequence[Path]) -> dict[Path, Path]:
    """Return the picture of each annotation: in JPEGImages, in images, or beside it.

    Raises:
        DataError: There is none.
    """
    seen: dict[tuple[Path, str], Path] = {}
    folders = [inner for inner in sorted(root.iterdir()) if inner.name.lower() in ("jpegimages", "images")]
    for folder in (*folders, root, *{file.parent for file in files}):
        for picture in sorted(folder.iterdir()) if folder.is_dir() else ():
            if picture.suffix.lower() in PICTURES:
                seen[folder, picture.stem] = picture
    found = {}
    for file in files:
        places = ((folder, file.stem) for folder in (*folders, file.parent, root))
        found[file] = next((seen[place] for place in places if place in seen), None)
    if missing := [file.name for file, picture in found.items() if picture is None]:
        raise DataError(
            f"{len(missing)} annotations have no picture in JPEGImages, images or beside them, "
            f"the first is {missing[0]}."
        )
    return {file: picture for file, picture in found.items() if picture is not None}


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
            left, top = (at - 1 if at >= 1 else at for at in (left, top))
            found.append((_text(entry, "name"), left / width, top / height, right / width, bottom / height))
        return (width, height), found
    except (ET.ParseError, ValueError, LookupError, OSError) as error:
        raise DataError(
            f"{file.name} cannot be read as an annotation of VOC ({error}). Mend or remove it."
        ) from error


def _text(entry: ET.Element, path: str) -> str:
    found = entry.find(path)
    if found is None or found.text is None:
        raise ValueError(f"it has no {path}")
    return found.text.strip()


def _splits(root: Path, files: Sequence[Path], left_out: list[str]) -> dict[str, list[Path]]:
    """Return the annotations of each split that lists or folders name; all of them as train where none does."""
    folders = {file.parent for file in files}
    if not folders <= {root, _inner(root, "annotations")}:
        parts: dict[str, list[Path]] = {}
        for file in files:
            parts.setdefault(split_named(file.parent.name), []).append(file)
        return parts
    lists = dict(_lists(root))
    known = {file.stem: file for file in files}
    for name, stems in lists.items():
        if absent := [stem for stem in stems if stem not in known]:
            raise DataError(f"{name}.txt names {absent[0]}, which has no annotation. Mend the list.")
    both = lists.pop("trainval", None)
    if both is None and "train" not in lists:
        both = list(known)
    # "trainval" is what VOC calls the two together; one that has a list of its own is not to be the other as well.
    rest = [stem for stem in both or () if not any(stem in stems for stems in lists.values())]
    lacking = next((split for split in ("train", "val") if split not in lists), None)
    if lacking is not None and rest:
        lists[lacking] = rest
    if unlisted := sorted(known.keys() - {stem for stems in lists.values() for stem in stems}):
        left_out.append(
            f"{len(unlisted)} annotations are in no list of ImageSets/Main, the first is {unlisted[0]}.xml."
        )
    return {split: [known[stem] for stem in stems] for split, stems in lists.items()}


def _lists(root: Path) -> Iterator[tuple[str, list[str]]]:
    for name in ("train", "val", "test", "trainval"):
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        if file.exists():
            try:
                lines = file.read_text(encoding="utf-8-sig").splitlines()  # a name may hold spaces
            except UnicodeDecodeError as error:
                raise DataError(f"{file.name} is not text in UTF-8 ({error}). Save it as such.") from error
            if stems := [line.strip() for line in lines if line.strip()]:
                yield name, list(dict.fromkeys(stems))
