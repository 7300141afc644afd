"""Model files and their names: what ultralytics has to know to build them, told to it in memory."""

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from ultralytics import RTDETR, YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import RTDETRDecoder
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks.base import default_callbacks

from mqa_lib import checks, hooks
from mqa_lib.blocks import MobileMQABlock, MultiHeadBlock
from mqa_lib.rtdetr import activation, article, encoder, fit

_FOLDER = Path(__file__).parent / "models"
MODELS: dict[str, Path] = {file.stem: file for file in sorted(_FOLDER.glob("*.yaml"))}
_BLOCKS = (MobileMQABlock, MultiHeadBlock)
# What stands for a class of ultralytics that its reader of model files knows by identity, and for which.
_STANDS_FOR: dict[str, tuple[type, str]] = {
    "ResNetLayer_MQA": (article.ResNetLayer_MQA, "ResNetLayer"),
    "ResNetLayer_MQA_Corrected": (article.ResNetLayer_MQA_Corrected, "ResNetLayer"),
    "C3_MQA": (article.C3_MQA, "C3"),
    "C3_MQA_Corrected": (article.C3_MQA_Corrected, "C3"),
    "AIFI_MQA": (encoder.AIFI_MQA, "AIFI"),
}
# Two models with both kinds of places for our layers, and the attention that has to be found in them.
_TRIED = {
    "rtdetr-nano-mobile-mqa": ["Mobile MQA", "Mobile MQA", "AIFI"],
    "rtdetr-nano-mqa-encoder": ["Mobile MQA"],
}


def register() -> None:
    """Make our layers' names known to ultralytics' model files; calling it again changes nothing.

    A block that keeps its channels needs only its name. The article's stages change the number of channels, and the
    encoder has to be told it; ultralytics works both out for its own `ResNetLayer` and `AIFI` alone, which it
    recognises by identity. So while a model file that names ours is read, and only then, those names stand for ours.
    The rows of such a file are tried out at once: what does not fit is said before any training. And whatever
    ultralytics trains from now on brings `travels_along` with it, so that its processes on other GPUs know us too.
    """
    for block in _BLOCKS:
        setattr(tasks, block.__name__, block)
    for name, (layer, _) in _STANDS_FOR.items():
        setattr(tasks, name, layer)
    if not hasattr(tasks.parse_model, "reads_our_layers"):
        tasks.parse_model = _reading_our_layers(activation.reading(tasks.parse_model))
    brought = default_callbacks["on_pretrain_routine_start"]
    if travels_along not in brought:
        brought.append(travels_along)


def travels_along(_: object) -> None:
    """Do nothing: whoever unpickles this function, in a checkpoint or in a process for a GPU, imports this package."""


def _reading_our_layers(parse_model: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(parse_model)
    def parse(d: dict[str, Any], ch: int, verbose: bool = True) -> Any:
        written = [[*row[:3], list(row[3])] for part in fit.PARTS for row in d[part]]
        named = {row[2] for row in written}
        ours = named & _STANDS_FOR.keys()
        if not ours and not named & {block.__name__ for block in _BLOCKS} and activation.KEY not in d:
            return parse_model(d, ch, verbose)
        with _standing_for(ours, named):
            network, save = parse_model(d, ch, verbose)
        fit.check_rows(network, written, ch)
        # It travels in every checkpoint too: whoever opens one can also train on from it.
        network.brings = travels_along
        return network, save

    parse.reads_our_layers = True  # type: ignore[attr-defined]
    return parse


@contextlib.contextmanager
def _standing_for(ours: set[str], named: set[str]) -> Iterator[None]:
    """Let our layers stand for ultralytics' own while the block runs.

    Raises:
        ValueError: Two of them would stand for the same one, or it is named too.
    """
    stock: dict[str, type] = {}
    for known in {_STANDS_FOR[name][1] for name in ours}:
        kinds = sorted(
            name for name in named if name == known or _STANDS_FOR.get(name, (None, ""))[1] == known
        )
        if len(kinds) > 1:
            way_out = "Use one kind in a model file."
            raise checks.refuse("model file", ", ".join(kinds), f"mixes kinds of {known}", way_out)
        stock[known] = getattr(tasks, known)
    try:
        for name in ours:
            setattr(tasks, _STANDS_FOR[name][1], _STANDS_FOR[name][0])
        yield
    finally:
        for known, layer in stock.items():
            setattr(tasks, known, layer)


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


def load(model: str | Path) -> RTDETR | YOLO:
    """Return an ultralytics `RTDETR` or `YOLO` by the name of a model of ours, or from a file.

    Args:
        model: A name in `MODELS` such as `rtdetr-nano-mobile-mqa`, a model file (.yaml), a checkpoint of ultralytics
            (.pt), or weights that `save_weights` wrote (.safetensors, with their card beside them).

    Raises:
        ValueError: The name is not known, the file is of another kind, broken or no detector's, or the rows of a model
            file do not fit each other or name a layer that is not known.
        FileNotFoundError: The file does not exist.
    """
    fit.warn_if_untested()
    path = source(model)
    if path.suffix == ".safetensors":
        from mqa_lib.rtdetr.weights import load_weights

        return load_weights(path)
    if path.suffix == ".pt":
        return _checkpoint(path)
    rows = fit.read("model", path)[1]
    return _facade(rows["head"][-1][2])(str(path))


def _facade(head: str) -> type[RTDETR] | type[YOLO]:
    """Return ultralytics' class for a model, by the layer in its last row."""
    return RTDETR if head == "RTDETRDecoder" else YOLO


def _checkpoint(path: Path) -> RTDETR | YOLO:
    try:
        # turns itself into an `RTDETR` where the file holds one
        model = YOLO(str(path))
    # torch, pickle and ultralytics each have errors of their own for each way in which a file can be broken
    except Exception as error:
        said = str(error).splitlines()
        rule = f"cannot be read as a checkpoint of ultralytics ({said[0] if said else type(error).__name__})"
        way_out = "Fetch or save it again; a file of weights alone has to be put into a model first."
        raise checks.refuse("model", path, rule, way_out) from error
    if type(model.model) not in (tasks.RTDETRDetectionModel, tasks.DetectionModel):
        rule = f"holds a {type(model.model).__name__} and no detector"
        raise checks.refuse("model", path, rule, "Use a checkpoint such as rtdetr-l.pt.")
    return model


def set_queries(model: RTDETR | YOLO, count: int) -> None:
    """Give RT-DETR's decoder another number of queries, also in the rows that a training builds it from.

    Queries are the encoder's best places, not weights, so a trained model takes any number.

    Raises:
        ValueError: The number is less than 1, or the model has no queries.
    """
    checks.positive("num_queries", count, "Use at least the largest number of objects in a picture.")
    decoder, row = model.model.model[-1], model.model.yaml["head"][-1]
    if not isinstance(decoder, RTDETRDecoder):
        rule = f"is for RT-DETR, and this model ends in {row[2]}"
        raise checks.refuse("num_queries", count, rule, "Leave it out.")
    decoder.num_queries = count
    # a row may leave out what stands at ultralytics' defaults: classes, channels, queries
    row[3] = [*row[3][:1], *(row[3][1:2] or [decoder.hidden_dim]), count, *row[3][3:]]


def content_of(name: str) -> dict[str, Any]:
    """Return what the model file of a name in `MODELS` says.

    Raises:
        ValueError: The name is not known.
    """
    return tasks.yaml_model_load(MODELS[checks.one_of("model", name, MODELS)])


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


@torch.no_grad()
def try_out() -> None:
    """Build two of our models with the installed ultralytics, let them answer a picture, and find their attention.

    Raises:
        RuntimeError: An answer or the attention is not what it should be. What ultralytics raises is raised as it is.
    """
    picture = torch.rand(1, 3, 96, 128)
    for name, expected in _TRIED.items():
        with quietly():
            network = tasks.RTDETRDetectionModel(str(MODELS[name]), nc=3, verbose=False).eval()
        answer = network(picture)[0]
        if answer.shape != (1, 30, 6) or not answer.isfinite().all():
            raise RuntimeError(f"{name} answers with {tuple(answer.shape)}, not with 30 finite detections")
        found = [view.kind for view in hooks.run(network, picture)]
        if found != expected:
            raise RuntimeError(f"{name} holds {found} and should hold {expected}")
