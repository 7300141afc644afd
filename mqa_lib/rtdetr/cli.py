"""ultralytics' own command line, with our layers registered and our models' names understood."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ultralytics.cfg import TASKS, entrypoint

from mqa_lib.rtdetr import article, build, fit


def run(arguments: Sequence[str]) -> int:
    """Hand the arguments to ultralytics' `yolo`, a name of ours after `model=` standing for its file; return 0.

    A model file that ultralytics would not know for an RT-DETR, because its name lacks the word, gets the task said.
    Nothing else is changed. What ultralytics raises is raised, so that a shell sees it in the exit code.

    Raises:
        ValueError: An argument is not known to ultralytics, which says so with a `SyntaxError`; the data set is not
            there or broken, which it says with a `RuntimeError`; or a model file is broken.
    """
    fit.warn_if_untested()
    _check_square(arguments)
    before = sys.argv[:]
    # ultralytics keeps this very list, and tells by its first word that it serves a command line.
    sys.argv[:] = ["yolo", *_with_task([_resolved(argument) for argument in arguments])]
    try:
        entrypoint()
    except SyntaxError as error:
        raise ValueError(str(error)) from error
    except RuntimeError as error:
        if not str(error).startswith("Dataset "):
            raise
        raise ValueError(str(error)) from error
    finally:
        sys.argv[:] = before
    return 0


def _check_square(arguments: Sequence[str]) -> None:
    """Refuse at once a model file with the article's layer together with sides that differ."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    sides = re.findall(r"\d+", given.get("imgsz", ""))
    name = given.get("model", "")
    if len(set(sides)) > 1 and name.removesuffix(".yaml") in build.MODELS:
        article.check_square(build.load(name.removesuffix(".yaml")).model, [int(side) for side in sides])


def _with_task(arguments: list[str]) -> list[str]:
    named = [Path(argument.partition("=")[2]) for argument in arguments if argument.startswith("model=")]
    files = [file for file in named if file.suffix in (".yaml", ".yml") and file.is_file()]
    ends = {file: fit.read("model", file)[1]["head"][-1][2] for file in files}
    unnamed = [file for file in files if ends[file] == "RTDETRDecoder" and "rtdetr" not in file.stem.lower()]
    says_task = any(argument in TASKS or argument.startswith("task=") for argument in arguments)
    return [*arguments, "task=detect"] if unnamed and not says_task else arguments


def _resolved(argument: str) -> str:
    name, _, value = argument.partition("=")
    own = build.MODELS.get(value.removesuffix(".yaml"))
    if name not in ("model", "--model") or own is None or Path(value).exists():
        return argument
    return f"{name}={own}"
