"""ultralytics' own command line, with our layers registered and our models' names understood."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ultralytics.cfg import entrypoint

from mqa_lib.rtdetr import build, fit


def run(arguments: Sequence[str]) -> int:
    """Hand the arguments to ultralytics' `yolo`, a name of ours after `model=` standing for its file; return 0.

    Nothing else is changed. What ultralytics raises is raised, so that a shell sees it in the exit code.

    Raises:
        ValueError: An argument is not known to ultralytics, which says so with a `SyntaxError`.
    """
    fit.warn_if_untested()
    before = sys.argv[:]
    # ultralytics keeps this very list, and tells by its first word that it serves a command line.
    sys.argv[:] = ["yolo", *map(_resolved, arguments)]
    try:
        entrypoint()
    except SyntaxError as error:
        raise ValueError(str(error)) from error
    finally:
        sys.argv[:] = before
    return 0


def _resolved(argument: str) -> str:
    name, _, value = argument.partition("=")
    own = build.MODELS.get(value.removesuffix(".yaml"))
    if name not in ("model", "--model") or own is None or Path(value).exists():
        return argument
    return f"{name}={own}"
