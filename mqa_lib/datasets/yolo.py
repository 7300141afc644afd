"""Any data set in YOLO format: read it whole and name everything that is wrong before training starts.

The format: a YAML file with `names` and, for each split, a folder of pictures, a text file that lists pictures, or
several of these; beside every folder `images` a folder `labels` with a text file for each picture, a line for each
object: class, centre x, centre y, width, height, the last four as shares of the picture.
"""

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mqa_lib.datasets import labels
from mqa_lib.pictures import unreadable

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_OTHER_PICTURES = {".avif", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2"}
# what tools put beside labels
_NO_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt"}
SPLITS, SHOWN = ("train", "val", "test"), 20
_NAMES = re.compile(r"""^["']?names["']?\s*:""", re.MULTILINE)
# of 255; data of 12 bits in a file of 16 reach 15
_DARK = 64


class DataError(ValueError):
    """A data set that cannot be trained on; the message names the offending files."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of the user's, or with its first bad line (of VOC: object) and how many `more`."""

    file: str
    line: int | None
    fault: str
    more: int = 0

    def __str__(self) -> str:
        """Return a sentence or two."""
        if self.line is None:
            return f"{self.file} {self.fault}"
        kind = "object" if self.file.endswith(".xml") else "line"
        more = f" And {self.more} more {kind}s." if self.more else ""
        return f"{self.file}, {kind} {self.line}: {self.fault}{more}"


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it.

    `problems` has one entry for each offending file or setting; `pictures` and `objects` count by split and by split
    and class; `files` has each split's pictures in order. `notes` keep nobody from training. `lines` has by picture the
    annotation and its lines, of a set whose annotations are no label files. `most` is by split the largest number of
    objects in a picture.
    """

    path: Path
    names: dict[int, str] = field(default_factory=dict)
    pictures: Counter[str] = field(default_factory=Counter)
    objects: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    files: dict[str, list[Path]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lines: dict[Path, tuple[Path, list[labels.Line]]] = field(default_factory=dict)
    most: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Return a page: counts, then the first problems and the number of the rest."""
        lines = [f"{self.path}: {len(self.names)} classes"]
        for split, count in self.pictures.items():
            found = ", ".join(f"{name} {self.objects[split, index]}" for index, name in self.names.items())
            most = f"; at most {self.most[split]} objects in a picture" if self.most[split] else ""
            lines.append(f"  {split}: {count} pictures; {found}{most}")
        lines += [f"  (note) {note}" for note in self.notes[:SHOWN]]
        # Folders and settings first; of label files with one and the same fault the first, so that its cause is seen.
        alike: dict[object, list[Problem]] = {}
        for problem in sorted(self.problems, key=lambda problem: problem.line is not None):
            alike.setdefault(problem if problem.line is None else problem.fault, []).append(problem)
        for first, *rest in list(alike.values())[:SHOWN]:
            lines.append(f"  {first}" + (f" And {len(rest)} more files with the same fault." if rest else ""))
        if len(alike) > SHOWN:
            lines.append(f"  and {len(alike) - SHOWN} more")
        return "\n".join(lines)

    def raise_if_bad(self) -> "Report":
        """Return the report itself, or raise a DataError with the page if anything is wrong."""
        if self.problems:
            raise DataError(f"The data set cannot be trained on. Mend or remove these files.\n{self}")
        return self

    def lines_of(self, picture: Path) -> tuple[Path | None, list[labels.Line]]:
        """Return the file with a picture's labels, or None if it has none, and its lines."""
        file = labels.file_of(picture)
        if picture in self.lines or not file.exists():
            return self.lines.get(picture, (None, []))
        return file, list(labels.read(file, self.names))


def yaml_in(folder: Path) -> Path | None:
    """Return the YAML file of the set in a folder: data.yaml, or the only one that names classes."""
    if (folder / "data.yaml").exists():
        return folder / "data.yaml"
    files = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    named = len(files) == 1 and _NAMES.search(files[0].read_text(encoding="utf-8", errors="replace"))
    return files[0] if named else None


def checked(path: str | Path) -> Report:
    """Return the report of a data set that can be trained on, or raise a DataError that names the files at fault."""
    return validate(path).raise_if_bad()


def validate(path: str | Path) -> Report:
    """Return what a YOLO-format data set holds and everything that is wrong with it; every picture is decoded.

    Args:
        path: The data set's YAML file, or a folder that holds it.
    """
    path = Path(path)
    report = Report(yaml_in(path) or path / "data.yaml" if path.is_dir() else path)
    settings = _settings(report)
    if settings is None:
        return report
    root, sources = _sources(report.path, settings)
    for split, places in sources.items():
        wrong = [place for place in places if not place.is_dir() and not _is_list(place)]
        if wrong:
            rule = f"is no folder, nor a text file that lists pictures. Check `path` and `{split}`"
            report.problems.append(Problem(f"`{split}`: {wrong[0]}", None, f"{rule} in {report.path.name}."))
            continue
        pictures = _pictures(places, root)
        report.notes.extend(f"`{split}`: {note}" for note in _uncounted(places, pictures, root))
        count(report, split, pictures, root, ", ".join(map(str, places)))
    for split in sorted({"train", "val"} - sources.keys()):
        rule = f"is not in {report.path.name}. Add the folder of its pictures."
        report.problems.append(Problem(f"`{split}`", None, rule))
    return report


def count(report: Report, split: str, pictures: list[Path], root: Path, where: str) -> None:
    """Add a split to a report: decode its pictures, and count what their labels say.

    Args:
        report: Gets counts, problems and notes.
        split: The split's name.
        pictures: Its pictures.
        root: The folder from which files are named.
        where: Where its pictures were looked for.
    """
    from tqdm.auto import tqdm

    report.files[split], report.pictures[split] = pictures, len(pictures)
    objects, unlabelled, brightest = 0, 0, list[int]()
    for picture in tqdm(pictures, desc=f"check {split}", unit=" pictures", leave=False, disable=None):
        if fault := _fault(picture, brightest):
            report.problems.append(Problem(_short(picture, root), None, fault))
        file, lines = report.lines_of(picture)
        bad = [line for line in lines if line.fault]
        if file is None:
            unlabelled += 1
        elif bad:
            problem = Problem(_short(file, root), bad[0].number, bad[0].fault, len(bad) - 1)
            report.problems.append(problem)
        report.objects.update((split, line.label) for line in lines if not line.fault)
        report.most[split] = max(report.most[split], len(lines) - len(bad))
        objects += len(lines) - len(bad)
    fault = ""
    if not pictures:
        fault = f"{where} holds no pictures ({', '.join(sorted(PICTURES))})."
    elif unlabelled == len(pictures):
        there = _short(labels.file_of(pictures[0]).parent, root)
        fault = f"no picture has a label file. They are looked for in {there}."
    elif not objects:
        fault = "not one whole box in all its label files. There is nothing to learn."
    elif unlabelled:
        of_all = f"{unlabelled} of {len(pictures)} pictures"
        report.notes.append(f"`{split}`: {of_all} have no label file and count as background.")
    if fault:
        report.problems.append(Problem(f"`{split}`:", None, fault))
    if brightest and max(brightest) < _DARK:
        report.notes.append(
            f"`{split}`: the brightest value of {len(brightest)} pictures with 16 bits is {max(brightest)} of 255 once "
            "they are read as 8 bits, so they are nearly black. Stretch their values to all of 16 bits."
        )


def fingerprint(path: str | Path) -> str:
    """Return a SHA-256 of a data set's settings, its labels, and the names and sizes of its pictures (JPEG: sides).

    Raises:
        DataError: The settings cannot be read.
    """
    path = Path(path)
    report = Report(yaml_in(path) or path if path.is_dir() else path)
    settings = _settings(report)
    if settings is None:
        raise DataError(str(report.problems[0]))
    digest = hashlib.sha256(report.path.read_bytes())
    root, sources = _sources(report.path, settings)
    for split, places in sources.items():
        digest.update(split.encode())
        for picture in _pictures(places, root):
            label = labels.file_of(picture)
            digest.update(os.fsencode(picture.name))
            digest.update(str(_size(picture)).encode())
            digest.update(label.read_bytes() if label.is_file() else b"")
    return digest.hexdigest()


def write_resolved(report: Report, path: str | Path) -> Path:
    """Write a YAML file, and beside it a list of each split's pictures, and return `path`.

    ultralytics looks for relative paths in more than one place, beginning with the working directory. Given this file,
    it trains on what was checked and on nothing else.
    """
    import yaml

    path = Path(path)
    settings: dict[str, object] = {"names": dict(report.names)}
    for split, pictures in report.files.items():
        listed = path.with_name(f"{path.stem}-{split}.txt").absolute()
        listed.write_text("".join(f"{picture}\n" for picture in pictures), encoding="utf-8")
        settings[split] = str(listed)
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def plain(path: Path) -> Path:
    """Return a path that is absolute and has no dots; links stay, for labels lie beside them."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (`resolve` follows links)


def _settings(report: Report) -> dict | None:
    """Return what the YAML file of a set says and keep its classes; nothing if it cannot be read."""
    import yaml

    path = report.path

    def wrong(fault: str) -> dict | None:
        report.problems.append(Problem(str(path), None, fault))
        return None

    if not path.exists():
        return wrong("does not exist. Give the path of the data set's YAML file.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        return wrong(f"is not YAML in UTF-8 ({' '.join(str(error).split())}).")
    names = settings.get("names") if isinstance(settings, dict) else None
    if not isinstance(names, dict | list) or not names:
        return wrong("names no classes. Add `names:` with a line for each class.")
    classes = dict(names.items() if isinstance(names, dict) else enumerate(names))
    if odd := [word for word in classes.values() if word is None or isinstance(word, dict | list | bool)]:
        quotes = " Put yes, no, on and off into quotes." if isinstance(odd[0], bool) else ""
        return wrong(f"has {odd[0]!r} among its `names`. Write a word for each class.{quotes}")
    report.names.update({index: str(word) for index, word in classes.items()})
    if twice := [word for word, times in Counter(report.names.values()).items() if times > 1]:
        wrong(f"has {', '.join(twice)} more than once in `names`. Give each class a name of its own.")
    if sorted(classes, key=str) != sorted(range(len(classes)), key=str):
        wrong(f"must count the classes in `names` 0 to {len(classes) - 1}, and has {list(classes)}.")
    if settings.get("nc", len(classes)) != len(classes):
        wrong(f"says that `nc` is {settings['nc']}, and `names` has {len(classes)}. Leave `nc` out.")
    for key in ("path", *SPLITS):
        said = settings.get(key)
        several = key != "path" and isinstance(said, list) and said
        if not all(isinstance(one, str | None) for one in (said if several else [said])):
            rule = (
                "a folder"
                if key == "path"
                else "a folder, a text file that lists pictures, or several of these"
            )
            return wrong(f"has {said!r} as its `{key}`, which must be {rule}. Write its path.")
    return settings


def _sources(path: Path, settings: dict) -> tuple[Path, dict[str, list[Path]]]:
    """Return where a set lies and, of each split that its settings name, the folders and lists of its pictures."""
    # an empty `test:` is none, as for ultralytics
    said = {split: settings[split] for split in SPLITS if settings.get(split)}
    said = {split: [words] if isinstance(words, str) else words for split, words in said.items()}
    own = path.parent.absolute()
    root = plain(own / (settings.get("path") or ""))
    if not root.is_dir() and (own / said.get("train", [""])[0]).exists():
        # ultralytics' own files name a folder that they lie in, or one of another machine
        root = own
    return root, {split: [_place(root, word) for word in words] for split, words in said.items()}


def _place(root: Path, said: str) -> Path:
    # Roboflow writes `../train/images` beside `train`, and ultralytics takes the dots away.
    inside = root / said.removeprefix("../")
    return inside if inside.exists() and not (root / said).exists() else root / said


def _is_list(place: Path) -> bool:
    return place.is_file() and place.suffix == ".txt"


def _pictures(places: list[Path], root: Path) -> list[Path]:
    """Return the pictures in folders and lists, each once, in ultralytics' order; some of a list may not be there."""
    found: set[Path] = set()
    for place in places:
        for file in map(Path, _lines(place)) if place.is_file() else place.rglob("*"):
            if file.suffix.lower() in PICTURES:
                # a list is seen from its own folder or from the set's, whichever has the picture
                near, far = place.parent / file, root / file
                found.add(plain(far if far.is_file() and not near.is_file() else near))
    return sorted(found, key=str)


def _lines(place: Path) -> list[str]:
    lines = place.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip().replace("\\", "/") for line in lines if line.strip()]


def _uncounted(places: Iterable[Path], pictures: list[Path], root: Path) -> Iterator[str]:
    """Yield a sentence on each kind of thing that lies or is listed there and is not counted."""
    used = {labels.file_of(picture) for picture in pictures}
    for place in places:
        if place.is_file():
            if others := [line for line in _lines(place) if Path(line).suffix.lower() not in PICTURES]:
                rule = f"{len(others)} lines of {place.name} name no picture of a kind that is read"
                yield f"{rule}, the first is {others[0]}."
            continue
        unread = sorted(file for file in place.rglob("*") if file.suffix.lower() in _OTHER_PICTURES)
        if unread:
            kinds = ", ".join(sorted({file.suffix.lower() for file in unread}))
            rule = f"{len(unread)} pictures are of a kind that is not read ({kinds})"
            yield f"{rule}, the first is {_short(unread[0], root)}. Save them as JPEG."
        there = labels.file_of(place / "any.png").parent
        alone = sorted(
            file for file in there.rglob("*.txt") if file not in used and file.name not in _NO_LABELS
        )
        if alone:
            yield f"{len(alone)} label files have no picture, the first is {_short(alone[0], root)}."


def _fault(picture: Path, brightest: list[int]) -> str:
    """Return what is wrong with a picture, if anything is; of one with 16 bits keep the brightest value of 255."""
    from PIL import Image

    try:
        with Image.open(picture) as image:
            wide = image.mode.startswith("I") or ";16" in str(image.tile)
            # decodes all of it: a file that is cut off opens, and fails only here
            image.load()
            if min(image.size) < 10:
                return f"is {image.size[0]}x{image.size[1]} pixels; at least 10x10 are needed."
            if image.mode in ("F", "I") and picture.suffix.lower() in (".tif", ".tiff"):
                return "has 32 bits a value, which ultralytics cannot open. Save it with 8 bits, as PNG."
            if wide:
                # of three channels PIL has read the upper 8 bits already
                brightest.append(int(np.max(image.getextrema())) >> (8 if image.mode.startswith("I") else 0))
            return ""
    except FileNotFoundError:
        return "does not exist, though a list of pictures or a link names it."
    except unreadable() as error:
        return f"cannot be decoded ({type(error).__name__})."


def _size(picture: Path) -> int | tuple[int, ...]:
    """Return the bytes of a picture, and of a JPEG its sides.

    A JPEG with more behind its end, as phones write them, ultralytics writes anew when it trains on it, and turned as
    its camera notes.
    """
    from PIL import Image

    if picture.suffix.lower() in (".jpg", ".jpeg"):
        with contextlib.suppress(*unreadable()), Image.open(picture) as image:
            return tuple(sorted(image.size))
    return picture.stat().st_size if picture.is_file() else 0


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
