"""What a reader has passed, kept in a file beside the notebook.

`MQA_PROGRESS` names another file, or says "off": then nothing is kept, as when the course's own notebooks are built.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mqa_lib import locking

NAME = "mqa_progress.json"
try:
    HERE = Path.cwd()  # a kernel starts beside its notebook, which may change folders later
except OSError:  # the folder is gone
    HERE = Path(tempfile.gettempdir())
DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts it; outlives the session
MADE_BY = "mqa_lib.exercises"

Entries = dict[str, dict[str, Any]]
notes: list[str] = []  # what the reader should know of the file, since it was last written
_session: Entries = {}  # so that a folder that cannot be written costs the file and not the bar


def is_off() -> bool:
    """Return whether nothing is to be kept."""
    return os.environ.get("MQA_PROGRESS") == "off"


def file() -> Path:
    """Return where progress is kept: what `MQA_PROGRESS` names, a mounted Drive, or beside the notebook."""
    if named := os.environ.get("MQA_PROGRESS"):
        return Path(named)
    return (DRIVE if DRIVE.is_dir() else HERE) / NAME


def load() -> Entries:
    """Return what has been passed and answered, by the name of the exercise or quiz."""
    if is_off():
        return {}
    # What was passed before Drive was mounted counts too.
    places = [file()] if "MQA_PROGRESS" in os.environ else [HERE / NAME, file()]
    merged: Entries = {}
    for entries in (*map(_read, dict.fromkeys(places)), _session):
        for name, entry in entries.items():
            passed = merged.get(name, {}).get("passed", False) or entry["passed"]
            merged[name] = {**merged.get(name, {}), **entry, "passed": passed}
    return merged


def keep(name: str, passed: bool, **more: str) -> str:
    """Keep that an exercise or quiz was passed, and return what the reader should know of it.

    Args:
        name: The name of the exercise or quiz.
        passed: Whether it is right now; what was right once stays passed.
        more: What else to keep, such as the answer.
    """
    if is_off():
        return ""
    notes.clear()
    path = file()
    try:
        with _alone(path):
            before = load()
            earlier = before.get(name, {"passed": False})
            _session[name] = {**more, "passed": passed or earlier["passed"]}
            _write(path, {**before, name: _session[name]})
    except OSError as error:
        why = error.strerror or type(error).__name__
        _note(f"Progress cannot be kept in {path} ({why}). It counts until the kernel stops.")
    return " ".join(notes)


def _read(path: Path) -> Entries:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["done"]
        return {str(name): {**entry, "passed": bool(entry["passed"])} for name, entry in kept.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        _note(f"{path} cannot be read ({error.strerror}).")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        _set_aside(path)
    return {}


def _set_aside(path: Path) -> None:
    """Keep a file that makes no sense under another name, so that the next writing does not lose it."""
    taken = 0
    while (copy := path.with_name(f"{path.stem}.broken{taken or ''}.json")).exists():
        taken += 1
    with contextlib.suppress(OSError):
        path.replace(copy)
        _note(f"{path.name} could not be understood; it is kept as {copy.name}, and a new one begins.")


def _write(path: Path, entries: Entries) -> None:
    """Write whole or not at all: another notebook may read at any moment."""
    text = json.dumps({"made by": MADE_BY, "done": entries}, indent=1, ensure_ascii=False, sort_keys=True)
    path = path.resolve()  # a link stays a link
    half = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    try:
        half.write_text(text + "\n", encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other notebooks from writing meanwhile; the lock lies among temporary files, for elsewhere it is litter."""
    mine = hashlib.sha256(f"{Path.home()} {path.resolve()}".encode()).hexdigest()[:16]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no locks here: the writing itself is still whole
            stack.enter_context(
                locking.hold(Path(tempfile.gettempdir()) / f"mqa-progress-{mine}.lock", wait=True)
            )
        yield


def _note(text: str) -> None:
    if text not in notes:
        notes.append(text)
