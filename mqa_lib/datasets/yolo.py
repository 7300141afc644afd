"""Any data set in YOLO format: read it whole and name everything that is wrong before training starts.

The format: a YAML file with `names` and a folder of pictures for each split; beside every folder `images` a folder
`labels` with a text file for each picture, a line for each object: class, centre x, centre y, width, height, the last
four as shares of the picture.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mqa_lib import checks
from mqa_lib.pictures import unreadable

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_OTHER_PICTURES = {".avif", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2"}
_NO_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt"}  # what tools put beside labels
SHOWN = 20
_IN_LABEL, _MORE_LINES = re.compile(r"^.*?\.txt, line \d+: "), re.compile(r" And \d+ more lines\.$")
_NAMES = re.compile(r"""^["']?names["']?\s*:""", re.MULTILINE)
_SLACK = 1e-4  # labels are written with few digits
_SURELY_PIXELS = 2.0  # a box that far outside was never a share of its picture


class DataError(ValueError):
    """A data set that cannot be trained on; the message names the offending files."""


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it.

    `problems` has one sentence for each offending file or setting, folders first; `pictures` and `objects` count by
    split and by split and class; `folders` says where each split's pictures are. `notes` keep nobody from training.
    """

    path: Path
    names: dict[int, str] = field(default_factory=dict)
    pictures: Counter[str] = field(default_factory=Counter)
    objects: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
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
    root, folders = _folders(path, settings)
    for split in ("train", "val", "test"):
        if split in folders:
            report.folders[split] = folders[split]
            _check_split(report, root, split)
        elif split != "test":
            report.problems.insert(0, f"`{split}` is not in {path.name}. Add the folder of its pictures.")
    return report


def fingerprint(path: str | Path) -> str:
    """Return a SHA-256 of a data set's settings, its labels, and the names and sizes of its pictures.

    Raises:
        DataError: The settings cannot be read.
    """
    path, problems = Path(path), list[str]()
    path = yaml_in(path) or path if path.is_dir() else path
    settings = _settings(path, problems)
    if settings is None:
        raise DataError(problems[0])
    digest = hashlib.sha256(path.read_bytes())
    folders = _folders(path, settings)[1]
    for split in ("train", "val", "test"):
        for picture in sorted(folders[split].rglob("*")) if settings.get(split) else ():
            if picture.suffix.lower() in PICTURES:
                label = _label_file(picture)
                digest.update(f"{picture.name} {picture.stat().st_size}".encode())
                digest.update(label.read_bytes() if label.is_file() else b"")
    return digest.hexdigest()


def write_resolved(report: Report, path: str | Path) -> Path:
    """Write a YAML file that names the report's folders absolutely, and return `path`.

    ultralytics looks for relative folders in more than one place, beginning with the working directory. Given this
    file, it trains on what was checked and on nothing else.
    """
    import yaml

    settings: dict[str, object] = {split: str(folder) for split, folder in report.folders.items()}
    settings["names"] = dict(report.names)
    Path(path).write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Path(path)


def _settings(path: Path, problems: list[str]) -> dict | None:
    import yaml

    if not path.exists():
        problems.append(f"{path} does not exist. Give the path of the data set's YAML file.")
        return None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    for key in ("path", "train", "val", "test"):
        if not isinstance(settings.get(key), str | None):
            problems.append(
                f"{path}: `{key}` is {settings[key]!r} and must be one folder. Write its path, or that of the folder "
                "above where there are several: what lies deeper is found."
            )
            return None
    return settings


def _folders(path: Path, settings: dict) -> tuple[Path, dict[str, Path]]:
    """Return where a set lies and the folder of each split that its settings name."""
    own = path.parent.absolute()
    root = own / (settings.get("path") or "")
    if not root.is_dir() and (own / (settings.get("train") or "")).is_dir():
        root = own  # ultralytics' own files name a folder that they lie in, or one of another machine
    folders = {}
    for split in ("train", "val", "test"):
        if (said := settings.get(split)) is not None:
            folders[split] = root / said
            # Roboflow writes `../train/images` beside `train`, and ultralytics takes the dots away.
            if not folders[split].exists() and said.startswith("../"):
                folders[split] = root / said[3:]
    return root, folders


def _check_split(report: Report, root: Path, split: str) -> None:
    from tqdm.auto import tqdm

    folder = report.folders[split]
    if not folder.is_dir():
        way_out = f"Check `path` and `{split}` in {report.path.name}."
        if folder.suffix == ".txt":
            way_out = (
                f"A list of pictures is not read: move them to images/{split} and their labels to labels/{split}, and "
                f"write `{split}: images/{split}`."
            )
        report.problems.insert(0, f"`{split}`: {folder} is not a folder. {way_out}")
        return
    pictures = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)
    report.pictures[split] = len(pictures)
    report.notes.extend(_uncounted(folder, pictures, root, split))
    if not pictures:
        report.problems.insert(0, f"`{split}`: {folder} holds no pictures ({', '.join(sorted(PICTURES))}).")
        return
    labelled = False
    for picture in tqdm(pictures, desc=f"check {split}", unit=" pictures", leave=False, disable=None):
        report.problems.extend(_picture_problems(picture, root))
        label = _label_file(picture)
        if label.exists():
            labelled = True
            lines = list(_label_lines(label, report.names))
            bad = [problem for problem, _ in lines if problem]
            if bad:
                more = f" And {len(bad) - 1} more lines." if len(bad) > 1 else ""
                report.problems.append(f"{_short(label, root)}, {bad[0]}{more}")
            report.objects.update((split, index) for problem, index in lines if not problem)
    if not labelled:
        where = _short(_label_file(pictures[0]).parent, root)
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
    used = {_label_file(picture) for picture in pictures}
    there = _label_file(folder / "any.png").parent
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
    except unreadable() as error:
        yield f"{_short(picture, root)} cannot be decoded ({type(error).__name__})."


def _label_file(picture: Path) -> Path:
    parts = list(picture.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _label_lines(label: Path, names: dict[int, str]) -> Iterator[tuple[str | None, int]]:
    """Yield for every line what is wrong with it (or None) and its class."""
    try:
        text = label.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        yield f"cannot be read ({error.strerror}).", -1
        return
    lines = text.splitlines()
    if {5} < (lengths := {len(line.split()) for line in lines}) and max(lengths) > 6:
        yield "holds boxes and outlines, and ultralytics reads a file of one kind. Write all as boxes.", -1
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = _numbers(line)
        except ValueError:
            yield f"line {number}: holds something that is not a number ({_no_number(line)!r}).", -1
            continue
        yield _line_problem(values, number, names), int(values[0]) if np.isfinite(values[0]) else -1


def _numbers(line: str) -> np.ndarray:
    """Return the numbers of a line; of an outline, a class and three points or more, its box, as ultralytics does."""
    values = np.array(line.split(), dtype=float)
    if len(values) < 7 or len(values) % 2 == 0:
        return values
    points = values[1:].reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([values[0], *(low + high) / 2, *(high - low)])


def _no_number(line: str) -> str:
    """Return the first word of a line that is no number."""
    for word in line.split():
        try:
            float(word)
        except ValueError:
            return word
    return line


def labels(picture: Path, names: dict[int, str]) -> list[tuple[int, float, float, float, float, bool]]:
    """Return the boxes of a picture as its label file has them, and whether each is fit to be trained on.

    Lines that are no box at all are left out.
    """
    file = _label_file(picture)
    found = []
    for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if file.is_file() else ():
        try:
            values = _numbers(line)
        except ValueError:
            continue
        if values.shape == (5,) and np.isfinite(values).all():
            label, *box = values.tolist()
            x, y, width, height = box
            found.append((int(label), x, y, width, height, _line_problem(values, 1, names) is None))
    return found


def _line_problem(values: np.ndarray, number: int, names: dict[int, str]) -> str | None:
    if values.shape != (5,):
        return (
            f"line {number}: has {len(values)} numbers and needs 5: class, centre x, centre y, width, height; "
            "or a class and the points of an outline."
        )
    if not np.isfinite(values).all():
        return f"line {number}: holds a number that is not finite."
    label, x, y, width, height = values
    if label not in names:
        return f"line {number}: class {label:g} is not in `names` (0 to {len(names) - 1})."
    low, high = min(x - width / 2, y - height / 2), max(x + width / 2, y + height / 2)
    if width <= 0 or height <= 0 or low < -_SLACK or high > 1 + _SLACK:
        hint = (
            " It seems to be in pixels: write shares of the picture, 0 to 1." if high > _SURELY_PIXELS else ""
        )
        return (
            f"line {number}: box {x:g} {y:g} {width:g} {height:g} lies outside the picture or is empty.{hint}"
        )
    return None


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
