"""Whether the rows of a model file fit one another, a checkpoint its model, and ultralytics our tested range."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torchvision
import yaml
from jaxtyping import Float
from torch import Tensor, nn
from ultralytics import __version__
from ultralytics.nn import tasks

from mqa_lib import bootstrap, checks

PARTS = ("backbone", "head")
_SIDE_PX = 64  # the smallest picture that leaves a map at stride 64
_SAYS_ITS_CHANNELS = (
    "MobileMQABlock",
    "MultiHeadBlock",
    "ResNetLayer",
)  # their first argument is the channels of what goes in


def read(name: str, path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text of a model file and what it says, if it can be one: rows of four under both parts.

    Args:
        name: What the argument is called that gives the file.
        path: The file, which exists.

    Raises:
        ValueError: The file is not YAML, has no rows, a row is none, or it names a layer that is not known.
    """
    text = path.read_text(encoding="utf-8", errors="ignore")  # as ultralytics reads it
    way_out = "Write rows [from, repeats, module, arguments] under `backbone` and under `head`."
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise checks.refuse(name, path, f"is not YAML ({' '.join(str(error).split())})", way_out) from error
    if not isinstance(content, dict) or not all(
        content.get(p) and isinstance(content[p], list) for p in PARTS
    ):
        raise checks.refuse(name, path, "must have the parts `backbone` and `head`", way_out)
    for index, row in enumerate(row for part in PARTS for row in content[part]):
        if not (
            isinstance(row, list) and len(row) == 4 and isinstance(row[2], str) and isinstance(row[3], list)
        ):
            raise checks.refuse(name, path, f"has no whole row {index} ({row})", way_out)
        if not _is_known(row[2]):
            rule = f"names {row[2]!r}, which ultralytics does not know"
            mend = "Mend its name, or make yours known: `setattr(ultralytics.nn.tasks, name, layer)`."
            raise checks.refuse(name, path, rule, mend)
    return text, content


def _is_known(layer: str) -> bool:
    homes = {"nn.": nn, "torchvision.ops.": torchvision.ops}
    start = next((start for start in homes if layer.startswith(start)), "")
    return hasattr(homes.get(start, tasks), layer.removeprefix(start))


@torch.no_grad()
def steps(
    rows: nn.Sequential, x: Float[Tensor, "batch channels height width"]
) -> Iterator[tuple[int, Any, Any]]:
    """Yield (index, what goes in, what comes out) of each row of a network but the last, run one after the other.

    The rows run in evaluation mode, and every module's mode is put back. The last row, the decoder, is not run.
    What comes out is None until the row is asked for: a reader may look at what goes in before anything can fail.
    """
    modes = {module: module.training for row in rows for module in row.modules()}
    made: list[Any] = []
    try:
        row: Any
        for index, row in enumerate(rows[:-1]):
            row.eval()
            wanted = [row.f] if isinstance(row.f, int) else list(row.f)
            found = [x if index == 0 and f == -1 else made[f] for f in wanted]
            given = found[0] if isinstance(row.f, int) else found
            yield index, given, None
            made.append(row(given))
            yield index, given, made[-1]
    finally:
        for module, mode in modes.items():
            module.training = mode


def check_rows(network: nn.Sequential, written: Sequence[Sequence[Any]], channels: int = 3) -> None:
    """Accept a network whose rows can be run one after the other on a small picture.

    Args:
        network: The rows that were built.
        written: The same rows as the model file has them.
        channels: Channels of a picture.

    Raises:
        ValueError: A row does not fit the maps it is given; it is named with the numbers.
    """
    weights = next((parameter for row in network for parameter in row.parameters()), torch.zeros(()))
    x = weights.new_zeros(1, channels, _SIDE_PX, _SIDE_PX)
    index, inputs, refusal = 0, x, None
    try:
        for index, given, made in steps(network, x):
            inputs = given
            refusal = None if made is not None else _wrong_channels(network[index], written[index], given)
            if refusal:
                break
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        maps = inputs if isinstance(inputs, list) else [inputs]
        shapes = " and ".join("×".join(map(str, m.shape[1:])) if isinstance(m, Tensor) else "?" for m in maps)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        rule = f"cannot take what it is given (channels×height×width {shapes} for a picture of {_SIDE_PX} px)"
        way_out = f"Check its arguments and the rows that it reads: {reason}."
        raise checks.refuse(f"row {index}", _text(written[index]), rule, way_out) from error
    if refusal:
        raise refusal


def _wrong_channels(row: Any, written: Sequence[Any], given: Any) -> ValueError | None:
    if not written[2].startswith(_SAYS_ITS_CHANNELS) or not isinstance(given, Tensor):
        return None
    says, has = written[3][0], given.shape[1]
    if says == has:
        return None
    source = row.i + row.f if row.f < 0 else row.f
    origin = "the picture" if source < 0 else f"the map from row {source}"
    rule = f"takes {says} channels, and {origin} has {has}"
    return checks.refuse(f"row {row.i}", _text(written), rule, f"Write {has} in the place of {says}.")


def _text(row: Sequence[Any]) -> str:
    source, repeats, kind, arguments = row
    return f"[{source}, {repeats}, {kind}, {arguments}]"


def check_variant(network: Any, expected: dict[str, Any], name: str) -> None:
    """Accept a network that was built from the rows of a model file, with any number of classes.

    Args:
        network: A network as ultralytics builds or unpickles it, which remembers its rows.
        expected: The model file's content.
        name: What to call that model.

    Raises:
        ValueError: The rows differ; the first that does is named.
    """
    theirs, own = ([*file["backbone"], *file["head"]] for file in (network.yaml, expected))
    if theirs == own:
        return
    pairs = zip([*theirs, None], [*own, None], strict=False)
    index, (there, here) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    first, second = ("nothing" if row is None else _text(row) for row in (there, here))
    rule = f"is of another variant than {name}: row {index} is {first} there and {second} here"
    file = getattr(network, "yaml_file", None) or network.yaml.get("yaml_file", "an unnamed model file")
    raise checks.refuse("checkpoint", file, rule, "Name the model that was trained, or take its checkpoint.")


def untested() -> str:
    """Return a sentence where the installed ultralytics is outside the range this package declares, else nothing."""
    try:
        wanted = next(r for r in bootstrap.declared("lab") if r.name == "ultralytics")
    except (StopIteration, metadata.PackageNotFoundError):  # a copied folder declares nothing
        return ""
    if wanted.specifier.contains(__version__, prereleases=True):
        return ""
    return (
        f"ultralytics {__version__} is outside the tested range {wanted.specifier}. "
        "`python -m mqa_lib doctor` says whether our models build and answer with it."
    )


@functools.cache
def warn_if_untested() -> None:
    """Warn, once in a process, where `untested` has something to say."""
    if said := untested():
        warnings.warn(said, stacklevel=3)
