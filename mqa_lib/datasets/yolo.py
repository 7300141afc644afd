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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mqa_lib import checks
from mqa_lib.datasets import labels
from mqa_lib.pictures import unreadable

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_OTHER_PICTURES = {".avif", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2"}
_NO_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt"}  # what tools put beside labels
SPLITS, SHOWN = ("train", "val", "test"), 20
_IN_LABEL, _MORE_LINES = re.compile(r"^.*?\.txt, line \d+: "), re.compile(r" And \d+ more lines\.$")
_NAMES = re.compile(r"""^["']?names["']?\s*:""", re.MULTILINE)


class DataError(ValueError):
    """A data set that cannot be trained on; the message names the offending files."""


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it.

    `problems` has one sentence for each offending file or setting, folders first; `pictures` and `objects` count by
    split and by split and class; `files` has each split's pictures in order. `notes` keep nobody from training.
    """

    path: Path
    names: dict[int, str] = field(default_factory=dict)
    pictures: Counter[str] = field(default_factory=Counter)
    objects: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    files: dict[str, list[Path]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a page: counts, then the first problems and the number of the rest."""
        lines = [f"{self.path}: {len(self.names)} classes"]
        for split, count in self.pictures.items():
            found = ", ".join(f"{name} {self.objects[split, index]}" for index, name in self.names.items())
            lines.append(f"  {split}: {count} pictures; {found}")
        lines += [f"  (note) {note}" for note in self.notes[:SHOWN]]
        grouped = _grouped(self.problems)
        lines += [f"  {problem}" for problem in grouped[:SHOWN]]
        if len(grouped) > SHOWN:
            lines.append(f"  and {len(grouped) - SHOWN} more")
        return "\n".join(lines)

    def raise_if_bad(self) -> "Report":
        """Return the report itself if nothing is wrong.

        Raises:
            DataError: Something is wrong; the message is the page with every problem up to 20.
        """
        if self.problems:
            raise DataError(f"The data set cannot be trained on. Mend or remove these files.\n{self}")
        return self


def _grouped(problems: list[str]) -> list[str]:
    """Return the problems with label files of one and the same fault told once, by the first of them."""
    alike: dict[str, list[str]] = {}
    for problem in problems:
        fault = _MORE_LINES.sub("", _IN_LABEL.sub("", problem)) if _IN_LABEL.match(problem) else problem
        alike.setdefault(fault, []).append(problem)
    return [
        first if not rest else f"{first} And {len(rest)} more files with the same fault."
        for first, *rest in alike.values()
    ]


def yaml_in(folder: Path) -> Path | None:
    """Return the YAML file of the set in a folder: data.yaml, or the only one that names classes."""
    if (folder / "data.yaml").exists():
        return folder / "data.yaml"
    if not folder.is_dir():
        return None
    files = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    named = len(files) == 1 and _NAMES.search(files[0].read_text(encoding="utf-8", errors="replace"))
    return files[0] if named else None


def validate(path: str | Path) -> Report:
    """Return what a YOLO-format data set holds and everything that is wrong with it; every picture is decoded.

    Args:
        path: The data set's YAML file, or a folder that holds it.
    """
    path = Path(path)
    path = yaml_in(path) or path / "data.yaml" if path.is_dir() else path
    report = Report(path)
    settings = _settings(path, report.problems)
    if settings is None:
        return report
    names = settings["names"]
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    report.names.update({index: str(name) for index, name in pairs})
    root, sources = _sources(path, settings)
    for split in SPLITS:
        if split in sources:
            _check_split(report, root, split, sources[split])
        elif split != "test":
            report.problems.insert(0, f"`{split}` is not in {path.name}. Add the folder of its pictures.")
    return report


def fingerprint(path: str | Path) -> str:
    """Return a SHA-256 of a data set's settings, its labels, and the names and sizes of its pictures (JPEG: sides).

    Raises:
        DataError: The settings cannot be read.
    """
    path, problems = Path(path), list[str]()
    path = yaml_in(path) or path if path.is_dir() else path
    settings = _settings(path, problems)
    if settings is None:
        raise DataError(problems[0])
    digest = hashlib.sha256(path.read_bytes())
    root, sources = _sources(path, settings)
    for split, places in sources.items():
        digest.update(split.encode())
        for picture in _pictures(places, root):
            label = labels.file_of(picture)
            digest.update(os.fsencode(picture.name))
            digest.update(str(_size(picture)).encode())
            digest.update(label.read_bytes() if label.is_file() else b"")
    return digest.hexdigest()


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


def _settings(path: Path, problems: list[str]) -> dict | None:
    import yaml

    if not path.exists():
        problems.append(f"{path} does not exist. Give the path of the data set's YAML file.")
        return None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"{path} is not YAML in UTF-8 ({' '.join(str(error).split())}).")
        return None
    if (
        not isinstance(settings, dict)
        or not isinstance(settings.get("names"), dict | list)
        or not settings["names"]
    ):
        problems.append(f"{path} names no classes. Add `names:` with a line for each class.")
        return None
    names = settings["names"]
    words = list(names.values() if isinstance(names, dict) else names)
    if wrong := [word for word in words if word is None or isinstance(word, dict | list | bool)]:
        quotes = " Put yes, no, on and off into quotes." if isinstance(wrong[0], bool) else ""
        problems.append(
            f"{path}: `names` has {wrong[0]!r} in the place of a name. Write a word for each class.{quotes}"
        )
        return None
    if twice := sorted({str(word) for word in words if list(map(str, words)).count(str(word)) > 1}):
        problems.append(
            f"{path}: `names` has {', '.join(twice)} more than once. Give each class a name of its own."
        )
    if isinstance(names, dict) and sorted(names, key=str) != sorted(range(len(names)), key=str):
        problems.append(
            f"{path}: `names` must count its classes 0 to {len(names) - 1}, and has {list(names)}."
        )
    if settings.get("nc", len(names)) != len(names):
        problems.append(f"{path}: `nc` is {settings['nc']}, and `names` has {len(names)}. Leave `nc` out.")
    for key in ("path", *SPLITS):
        said = settings.get(key)
        if not isinstance(said, str | None) and not (key != "path" and _is_list_of_words(said)):
            several = "" if key == "path" else ", a text file that lists pictures, or several of these"
            problems.append(f"{path}: `{key}` is {said!r} and must be a folder{several}. Write its path.")
            return None
    return settings


def _is_list_of_words(said: object) -> bool:
    return isinstance(said, list) and bool(said) and all(isinstance(word, str) for word in said)


def _sources(path: Path, settings: dict) -> tuple[Path, dict[str, list[Path]]]:
    """Return where a set lies and, of each split that its settings name, the folders and lists of its pictures."""
    said = {split: settings[split] for split in SPLITS if settings.get(split) is not None}
    said = {split: [words] if isinstance(words, str) else words for split, words in said.items()}
    own = path.parent.absolute()
    root = _plain(own / (settings.get("path") or ""))
    if not root.is_dir() and (own / said.get("train", [""])[0]).exists():
        root = own  # ultralytics' own files name a folder that they lie in, or one of another machine
    return root, {split: [_place(root, word) for word in words] for split, words in said.items()}


def _place(root: Path, said: str) -> Path:
    # Roboflow writes `../train/images` beside `train`, and ultralytics takes the dots away.
    inside = root / said[3:] if said.startswith("../") else root / said
    return inside if inside.exists() and not (root / said).exists() else root / said


def _plain(path: Path) -> Path:
    """Return a path that is absolute and has no dots; links stay, for labels lie beside them."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (`resolve` follows links)


def _pictures(places: list[Path], root: Path) -> list[Path]:
    """Return the pictures in folders and lists, each once, in ultralytics' order; some of a list may not be there."""
    found: set[Path] = set()
    for place in places:
        if place.is_file():
            found.update(_listed(place, root))
        else:
            found.update(file for file in place.rglob("*") if file.suffix.lower() in PICTURES)
    return sorted({_plain(file) for file in found}, key=str)


def _listed(place: Path, root: Path) -> Iterator[Path]:
    """Yield the paths that a list has, seen from its own folder or from the set's, whichever has the picture."""
    for word in _lines(place):
        if Path(word).suffix.lower() in PICTURES:
            near, far = place.parent / word, root / word
            yield far if far.is_file() and not near.is_file() else near


def _lines(place: Path) -> list[str]:
    lines = place.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip().replace("\\", "/") for line in lines if line.strip()]


def _check_split(report: Report, root: Path, split: str, places: list[Path]) -> None:
    from tqdm.auto import tqdm

    for place in places:
        if not place.is_dir() and not (place.is_file() and place.suffix == ".txt"):
            report.problems.insert(
                0,
                f"`{split}`: {place} is not a folder, nor a text file that lists pictures. Check `path` and `{split}` "
                f"in {report.path.name}.",
            )
            return
    pictures = report.files[split] = _pictures(places, root)
    report.pictures[split] = len(pictures)
    for folder in places:
        if folder.is_dir():
            report.notes.extend(_uncounted(folder, pictures, root, split))
        elif others := [line for line in _lines(folder) if Path(line).suffix.lower() not in PICTURES]:
            report.notes.append(
                f"`{split}`: {len(others)} lines of {folder.name} name no picture of a kind that is read, the first is "
                f"{others[0]}."
            )
    if not pictures:
        where = ", ".join(map(str, places))
        report.problems.insert(0, f"`{split}`: {where} holds no pictures ({', '.join(sorted(PICTURES))}).")
        return
    labelled = False
    for picture in tqdm(pictures, desc=f"check {split}", unit=" pictures", leave=False, disable=None):
        report.problems.extend(_picture_problems(picture, root))
        label = labels.file_of(picture)
        if label.exists():
            labelled = True
            lines = list(labels.checked_lines(label, report.names))
            bad = [problem for problem, _ in lines if problem]
            if bad:
                more = f" And {len(bad) - 1} more lines." if len(bad) > 1 else ""
                report.problems.append(f"{_short(label, root)}, {bad[0]}{more}")
            report.objects.update((split, index) for problem, index in lines if not problem)
    if not labelled:
        where = _short(labels.file_of(pictures[0]).parent, root)
        report.problems.insert(0, f"`{split}`: no picture has a label file. They are looked for in {where}.")
    elif not any(count for (part, _), count in report.objects.items() if part == split):
        report.problems.insert(
            0, f"`{split}`: not one whole box in all its label files. There is nothing to learn."
        )


def _uncounted(folder: Path, pictures: list[Path], root: Path, split: str) -> Iterator[str]:
    """Yield a sentence on pictures of other kinds and one on label files without a picture."""
    others = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _OTHER_PICTURES)
    if others:
        kinds = ", ".join(sorted({file.suffix.lower() for file in others}))
        yield (
            f"`{split}`: {len(others)} pictures are of a kind that is not read ({kinds}), the first is "
            f"{_short(others[0], root)}. Save them as JPEG."
        )
    used = {labels.file_of(picture) for picture in pictures}
    there = labels.file_of(folder / "any.png").parent
    alone = sorted(file for file in there.rglob("*.txt") if file not in used and file.name not in _NO_LABELS)
    if alone:
        yield f"`{split}`: {len(alone)} label files have no picture, the first is {_short(alone[0], root)}."


def _picture_problems(picture: Path, root: Path) -> Iterator[str]:
    from PIL import Image

    try:
        with Image.open(picture) as image:
            image.load()  # decodes all of it: a file that is cut off opens, and fails only here
            if min(image.size) < 10:
                yield f"{_short(picture, root)} is {image.size[0]}x{image.size[1]} pixels; at least 10x10 are needed."
    except FileNotFoundError:
        yield f"{_short(picture, root)} does not exist, though a list of pictures or a link names it."
    except unreadable() as error:
        yield f"{_short(picture, root)} cannot be decoded ({type(error).__name__})."


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def checked(path: str | Path) -> Report:
    """Return the report of a data set that can be trained on.

    Raises:
        DataError: Something is wrong with it; the message names the files.
    """
    if not str(path):
        raise checks.refuse("data", repr(path), "must be a path", "Give the data set's YAML file.")
    return validate(path).raise_if_bad()
