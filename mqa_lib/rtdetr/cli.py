"""ultralytics' own command line, with our layers registered and our models' names understood."""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from ultralytics.cfg import TASKS, entrypoint

from mqa_lib.rtdetr import build, fit


def run(arguments: Sequence[str]) -> int:
    """Hand the arguments to ultralytics' `yolo`, a name of ours after `model=` standing for its file; return 0.

    A model file that ultralytics would not know for an RT-DETR, because its name lacks the word, gets the task said.
    Nothing else is changed. What ultralytics raises is raised, so that a shell sees it in the exit code.

    Raises:
        ValueError: An argument is not known to ultralytics, which says so with a `SyntaxError`.
    """
    fit.warn_if_untested()
    before = sys.argv[:]
    # ultralytics keeps this very list, and tells by its first word that it serves a command line.
    sys.argv[:] = ["yolo", *_with_task([_resolved(argument) for argument in arguments])]
    try:
        entrypoint()
    except SyntaxError as error:
        raise ValueError(str(error)) from error
    finally:
        sys.argv[:] = before
    return 0


def _with_task(arguments: list[str]) -> list[str]:
    files = [argument.partition("=")[2] for argument in arguments if argument.startswith("model=")]
    says_task = any(argument in TASKS or argument.startswith("task=") for argument in arguments)
    if says_task or not any(_is_unnamed_rtdetr(Path(file)) for file in files):
        return arguments
    return [*arguments, "task=detect"]


def _is_unnamed_rtdetr(file: Path) -> bool:
    if file.suffix not in (".yaml", ".yml") or "rtdetr" in file.stem.lower() or not file.is_file():
        return False
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))["head"][-1][2] == "RTDETRDecoder"
    except (yaml.YAMLError, KeyError, IndexError, TypeError):  # ultralytics will say what is wrong with it
        return False


def _resolved(argument: str) -> str:
    name, _, value = argument.partition("=")
    own = build.MODELS.get(value.removesuffix(".yaml"))
    if name not in ("model", "--model") or own is None or Path(value).exists():
        return argument
    return f"{name}={own}"
