"""What every conversion writes: a data set in YOLO format, its pictures linked or copied."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mqa_lib.datasets.yolo import DataError
from mqa_lib.pictures import unreadable

_SPLIT = re.compile(r"(?<![a-z])e?(train|test|val)")
_OURS = {"data.yaml", "record.json"}  # a set in YOLO format, or a training
_EXIF_ORIENTATION, _LYING = 274, (5, 6, 7, 8)  # how a camera notes that it was held upright
Box = tuple[str, float, float, float, float]  # class, then left, top, right, bottom as shares of the picture
Item = TypeVar("Item")


@dataclass
class Converted:
    """A data set in YOLO format, and what was left out of it, one sentence for each thing.

    Args:
        path: Its YAML file.
        left_out: Sentences.
    """

    path: Path
    left_out: list[str] = field(default_factory=list)


def check_size(where: str, picture: Path, size: tuple[float, float]) -> None:
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


def split_named(name: str) -> str:
    """Return the split that the name of a file or folder says; nothing if it says none."""
    found = _SPLIT.search(name.lower())  # "interval" and "latest" say none
    return found[1] if found else ""


def below(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, those behind links too, without what this library wrote there."""
    seen: set[Path] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        here = Path(place)
        if here.resolve() in seen or (here != root and _OURS & set(names)):
            folders.clear()
            continue
        seen.add(here.resolve())
        folders.sort()
        yield from (here / name for name in sorted(names))


def with_val(
    parts: dict[str, list[Item]], name: Callable[[Item], str], left_out: list[str]
) -> dict[str, list[Item]]:
    """Return the splits of a set with train and val, in this order.

    Where one of them is missing, every fifth picture of the other becomes it, the same ones every time. To measure on
    what was trained on would be too good.

    Args:
        parts: What each split has.
        name: Returns the name by which a picture is chosen.
        left_out: Gets a sentence if pictures were chosen.
    """
    parts = {split: parts[split] for split in ("train", "val", "test") if parts.get(split)}
    if not parts or {"train", "val"} <= parts.keys():
        return parts or {"train": [], "val": []}
    source, whole = next(iter(parts.items()))
    lacking = " and no ".join(f"`{split}`" for split in ("train", "val") if split not in parts)
    if len(whole) == 1:
        left_out.append(f"The set names no {lacking}, and its one picture is `train` and `val`.")
        return {**parts, "train": whole, "val": whole}
    order = sorted(range(len(whole)), key=lambda place: hashlib.sha256(name(whole[place]).encode()).digest())
    chosen = set(order[: max(1, len(whole) // 5)])
    left_out.append(
        f"The set names no {lacking}: {len(chosen)} of the {len(whole)} pictures of `{source}`, chosen by their names, "
        f"are `val`, and the other {len(whole) - len(chosen)} `train`."
    )
    halves = ([one for place, one in enumerate(whole) if (place in chosen) == val] for val in (False, True))
    cut = dict(zip(("train", "val"), halves, strict=True))
    return cut | {split: part for split, part in parts.items() if split == "test" != source}


def write(out: Path, split: str, pairs: Iterable[tuple[Path, list[Box]]], names: Sequence[str]) -> None:
    """Write one split, its pictures and their labels."""
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
        (out / "labels" / split / f"{picture.stem}.txt").write_text("".join(lines), encoding="utf-8")


def _link_or_copy(picture: Path, there: Path) -> None:
    # Links cost no room; a hard one does not reach across disks, and neither is to be had on every system.
    for link, source in ((os.link, picture.resolve()), (os.symlink, picture.absolute())):
        try:
            link(source, there)
            return
        except OSError:
            pass
    draft = there.with_suffix(".part")
    shutil.copyfile(picture, draft)
    draft.replace(there)


def write_yaml(path: Path, splits: Sequence[str], names: Sequence[str]) -> None:
    """Write the YAML file of a set whose splits are written."""
    import yaml

    said: dict[str, Any] = {split: f"images/{split}" for split in splits}
    draft = path.with_suffix(".part")  # a set with half a file would be taken for whole
    draft.write_text(
        yaml.safe_dump({**said, "names": dict(enumerate(names))}, sort_keys=False, allow_unicode=True),
        encoding="utf-8",
    )
    draft.replace(path)
