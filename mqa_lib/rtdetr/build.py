"""Model files and their names: what ultralytics has to know to build them, told to it in memory."""

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics import RTDETR
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv
from ultralytics.utils import LOGGER

from mqa_lib import checks
from mqa_lib.blocks import MobileMQABlock
from mqa_lib.rtdetr import article

_FOLDER = Path(__file__).parent / "models"
MODELS: dict[str, Path] = {file.stem: file for file in sorted(_FOLDER.glob("*.yaml"))}
BACKBONE_ACTIVATION = (
    "backbone_activation"  # a key of model files; `activation`, ultralytics' own, changes the neck too
)
_ACTIVATIONS = {"SiLU": nn.SiLU, "ReLU": nn.ReLU}
_STAGES = {name: getattr(article, name) for name in ("ResNetLayer_MQA", "ResNetLayer_MQA_Corrected")}


def register() -> None:
    """Make our layers' names known to ultralytics' model files; calling it again changes nothing.

    A block that keeps its channels needs only its name. The article's stages change the number of channels, and
    ultralytics works that out for its own `ResNetLayer` alone, which it recognises by identity. So while a model file
    that names them is read, and only then, `ResNetLayer` stands for them.
    """
    tasks.MobileMQABlock = MobileMQABlock
    for name, stage in _STAGES.items():
        setattr(tasks, name, stage)
    if not hasattr(tasks.parse_model, "reads_article_stages"):
        tasks.parse_model = _reading_article_stages(_reading_backbone_activation(tasks.parse_model))


def _reading_article_stages(parse_model: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(parse_model)
    def parse(d: dict[str, Any], ch: int, verbose: bool = True) -> Any:
        named = {row[2] for part in ("backbone", "head") for row in d[part]}
        ours = named & _STAGES.keys()
        if not ours:
            return parse_model(d, ch, verbose)
        if len(ours) > 1 or "ResNetLayer" in named:
            both = ", ".join(sorted(ours | (named & {"ResNetLayer"})))
            raise checks.refuse(
                "backbone", both, "mixes kinds of ResNet stages", "Use one kind in a model file."
            )
        stock = tasks.ResNetLayer
        tasks.ResNetLayer = _STAGES[ours.pop()]
        try:
            return parse_model(d, ch, verbose)
        finally:
            tasks.ResNetLayer = stock

    parse.reads_article_stages = True  # type: ignore[attr-defined]
    return parse


def _reading_backbone_activation(parse_model: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(parse_model)
    def parse(d: dict[str, Any], ch: int, verbose: bool = True) -> Any:
        rows, save = parse_model(d, ch, verbose)
        if BACKBONE_ACTIVATION in d:
            wanted = _ACTIVATIONS[checks.one_of(BACKBONE_ACTIVATION, d[BACKBONE_ACTIVATION], _ACTIVATIONS)]
            for module in rows[: len(d["backbone"])].modules():
                if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
                    module.act = wanted()
        return rows, save

    return parse


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep ultralytics from printing, its progress bars included, while the block runs; warnings still come through."""
    before = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        LOGGER.setLevel(before)


def load(model: str | Path) -> RTDETR:
    """Return an ultralytics `RTDETR` by the name of a model of ours, or from a file.

    Args:
        model: A name in `MODELS` such as `rtdetr-nano-mobile-mqa`, a model file (.yaml), a checkpoint of ultralytics
            (.pt), or weights that `save_weights` wrote (.safetensors, with their card beside them).

    Raises:
        ValueError: The name is not known, or the file is of another kind.
        FileNotFoundError: The file does not exist.
    """
    path = source(model)
    if path.suffix == ".safetensors":
        from mqa_lib.rtdetr.weights import load_weights

        return load_weights(path)
    return RTDETR(str(path))


def source(model: str | Path) -> Path:
    """Return the file that a model's name or path stands for.

    Raises:
        ValueError: The name is not known, or the file is of another kind.
        FileNotFoundError: The file does not exist.
    """
    path = Path(model)
    if path.suffix == "":
        return MODELS[checks.one_of("model", str(model), MODELS)]
    if path.suffix not in (".yaml", ".pt", ".safetensors"):
        raise checks.refuse(
            "model", model, "must end in .yaml, .pt or .safetensors", f"Or use: {', '.join(MODELS)}."
        )
    if not path.exists():
        raise FileNotFoundError(
            f"`model` (={model}) does not exist. Check the path, or use one of: {', '.join(MODELS)}."
        )
    return path
