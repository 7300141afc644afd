"""Arrays and what is said of them in one `.npz` file, without pickle."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mqa_lib import checks

_FORMAT = 1


def write(path: str | Path, arrays: dict[str, np.ndarray], rest: dict[str, Any]) -> Path:
    """Write the arrays and, as JSON, the rest to one file, and return its path."""
    path = Path(path)
    said: dict[str, Any] = {"about": np.array(json.dumps({"format": _FORMAT, **rest})), **arrays}
    with path.open("wb") as file:
        np.savez_compressed(file, **said)
    return path


def read(path: str | Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what `write` wrote: the arrays of these names and the rest, each list in it as a tuple.

    Raises:
        ValueError: The file is of another format. A missing or damaged file raises what numpy makes of it.
    """
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        arrays = {name: file[name] for name in names}
    if about.pop("format") != _FORMAT:
        raise ValueError(f"it is not of format {_FORMAT}")
    return {**arrays, **{name: _as_tuples(value) for name, value in about.items()}}


def refuse(path: str | Path, what: str, error: Exception) -> ValueError:
    """Return the error for a file that does not hold `what`."""
    way_out = "Write it again with `record.save(path)`."
    return checks.refuse("path", str(path), f"does not hold {what} ({error})", way_out)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
