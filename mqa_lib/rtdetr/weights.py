"""Trained weights as safetensors with a card beside them: nothing that has to be trusted before it is opened."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from ultralytics import RTDETR, YOLO
from ultralytics.nn import tasks
from ultralytics.nn.tasks import BaseModel, RTDETRDetectionModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT

from mqa_lib import checks
from mqa_lib.rtdetr import fit
from mqa_lib.rtdetr.build import MODELS, quietly

# What ultralytics writes into a model file's dictionary while it builds from it.
_BOOKKEEPING = {"nc", "ch", "channels", "scale", "yaml_file"}
_PLAIN_ACTIVATION = re.compile(r"(torch\.)?nn\.\w+\([\w=., -]*\)")  # ultralytics runs this text as Python
_NAMED = 3  # misfits told in full, before "and … more"


def save_weights(model: RTDETR | YOLO, path: str | Path, card: dict[str, Any]) -> Path:
    """Write the weights in half precision to `path` and their card to the same name ending in .json; return `path`.

    A model whose file is not one of ours has it written into the card, so that it comes back everywhere; the size of
    pictures that it was trained at is, too. A tensor that half precision cannot hold stays in single precision.

    Args:
        model: The trained model, an RT-DETR.
        path: Where to write, ending in .safetensors.
        card: What the reader has to know: `weights_are` (one sentence) and `model` (a name in `MODELS`; the name of
            the model's own file if it is left out).

    Raises:
        ValueError: `path` does not end in .safetensors, the model is a YOLO, its convolutions and norms are fused, or
            `model` names a variant with other rows than the model's.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise checks.refuse(
            "path", path, "must end in .safetensors", f"Use {path.with_suffix('.safetensors')}."
        )
    if not isinstance(model.model, RTDETRDetectionModel):
        rule = "is no RT-DETR, and `load_weights` builds nothing else"
        raise checks.refuse("model", type(model.model).__name__, rule, "Keep its checkpoint (.pt).")
    check_not_fused("model", model.model)
    size = getattr(model, "card", {}).get("imgsz") or model.overrides.get("imgsz")
    full_card = ({"imgsz": size} if size else {}) | _described(model.model, card)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: _halved(value).contiguous().clone() for key, value in model.model.state_dict().items()}, path
    )
    names = {str(index): name for index, name in model.names.items()}
    path.with_suffix(".json").write_text(json.dumps(full_card | {"classes": names}, indent=2) + "\n")
    return path


def load_weights(path: str | Path) -> RTDETR:
    """Return the model that `save_weights` wrote, in single precision, its card in `.card`.

    Nothing in the two files is run: the card's rows may only name layers. `.train()` starts from these weights.

    Raises:
        FileNotFoundError: The file or its card is missing.
        ValueError: One of the two is cut off or broken, or the weights do not fit the model their card names.
    """
    path = Path(path)
    card = read_card(path)
    names = {int(index): name for index, name in card["classes"].items()}
    try:
        state = {
            key: value.float() if value.is_floating_point() else value
            for key, value in load_file(path).items()
        }
    except SafetensorError as error:
        raise ValueError(
            f"`path` (={path}) must be a whole safetensors file ({error}). Fetch it again."
        ) from error
    own_file = f"{path.stem}.yaml"
    rows = (
        {**card["yaml"], "yaml_file": own_file} if "yaml" in card else yaml_model_load(MODELS[card["model"]])
    )
    with quietly():
        network = RTDETRDetectionModel(rows, nc=len(names), verbose=False)
    wrong = misfits(state, network.state_dict())
    if wrong:
        rule = f"must fit {card['model']}, which its card names: {listed(wrong)}"
        raise checks.refuse("path", path, rule, "Put the card that belongs to these weights beside them.")
    network.load_state_dict(state)
    network.names = names
    model = as_model(network, own_file if "yaml" in card else str(MODELS[card["model"]]))
    model.card = card
    if size := card.get("imgsz"):
        # ultralytics takes the size of `val`, `predict`, `train` and `export` from here
        model.overrides["imgsz"] = network.args["imgsz"] = size
    torch.nn.Module.requires_grad_(network, False)
    return model


def read_card(path: str | Path) -> dict[str, Any]:
    """Return the card beside a file of weights.

    Raises:
        FileNotFoundError: The weights or their card are missing.
        ValueError: The card is broken, lacks an entry, or names a model or a layer that is not known.
    """
    path = Path(path)
    card_file = path.with_suffix(".json")
    if not path.exists():
        raise FileNotFoundError(f"`path` (={path}) does not exist. Check the path.")
    if not card_file.exists():
        raise FileNotFoundError(f"`path` (={path}) has no card. Put {card_file.name} beside it.")
    way_out = f"Fetch {card_file.name} again, or write both files anew with `save_weights`."
    try:
        card = json.loads(card_file.read_text())
        lacking = [key for key in ("model", "classes") if not card[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise checks.refuse("path", path, f"has a broken card ({error!r})", way_out) from error
    if lacking or not isinstance(card["classes"], dict):
        raise checks.refuse("path", path, "has a card without `model` or `classes`", way_out)
    if "yaml" in card:
        _check_rows(card["yaml"], way_out)
    else:
        checks.one_of("model", card["model"], MODELS)
    return card


def as_model(network: RTDETRDetectionModel, file: str) -> RTDETR:
    """Return the `RTDETR` around a network that is already made; `.train()` starts from its weights.

    Args:
        network: The network, whose `names` are set.
        file: Its model file, which need not exist: ultralytics names exports and runs after it.
    """
    with quietly():
        model = RTDETR(str(MODELS["rtdetr-nano-stock"]))  # the smallest, for the shell around it
    network.task = "detect"
    network.args = {**DEFAULT_CFG_DICT, "model": file, "task": "detect"}
    model.model = network.eval()
    model.cfg = model.model_name = model.overrides["model"] = file
    # Without a checkpoint, ultralytics' `train` would build the file anew and forget the weights.
    model.ckpt = {"model": network}
    return model


def as_checkpoint(model: RTDETR | YOLO, path: str | Path) -> Path:
    """Write the model where ultralytics can start a training from it (`pretrained=`), and return `path`.

    Such a file is a pickle: make it yourself, and hand on what `save_weights` writes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = model.overrides.get("imgsz")
    torch.save({"model": model.model, "epoch": -1, "train_args": {"imgsz": size} if size else {}}, path)
    return path


def misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return what keeps the tensors of `given` from being exactly those of `wanted`, one sentence a tensor."""
    missing = [f"`{key}` ({_shape(value)}) is missing" for key, value in wanted.items() if key not in given]
    return unplaced(given, wanted) + missing


def unplaced(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return which tensors of `given` have no place of their shape in `wanted`, one sentence a tensor.

    Those of another shape come first, because they tell most.
    """
    ordered = sorted(
        given.items(), key=lambda item: [int(part) if part.isdigit() else -1 for part in item[0].split(".")]
    )
    others = [
        f"`{key}` is {_shape(value)} and must be {_shape(wanted[key])}"
        for key, value in ordered
        if key in wanted and value.shape != wanted[key].shape
    ]
    return others + [f"`{key}` ({_shape(value)}) has no place" for key, value in ordered if key not in wanted]


def listed(sentences: list[str]) -> str:
    """Return the first few of many sentences, and how many more there are."""
    more = len(sentences) - _NAMED
    return "; ".join(sentences[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def check_not_fused(name: str, network: nn.Module) -> None:
    """Refuse a network whose norms have been folded into its convolutions: no other network has those tensors.

    Raises:
        ValueError: The network is fused.
    """
    if network.is_fused():  # type: ignore[operator]
        rule = "has its norms folded into its convolutions, as predicting in place leaves it"
        raise checks.refuse(name, type(network).__name__, rule, "Load it anew, and use it before `fuse`.")


def _halved(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if bool(half.isfinite().all()) else value


def _described(network: nn.Module, card: dict[str, Any]) -> dict[str, Any]:
    file: dict[str, Any] = network.yaml  # type: ignore[assignment]
    name = card.get("model") or Path(file.get("yaml_file", "")).stem or "own"
    own = {key: value for key, value in file.items() if key not in _BOOKKEEPING}
    if name not in MODELS:
        return {**card, "model": name, "yaml": {"nc": file["nc"], **own}}
    ours = {key: value for key, value in yaml_model_load(MODELS[name]).items() if key not in _BOOKKEEPING}
    fit.check_variant(network, ours, name)
    return {**card, "model": name} | ({} if own == ours else {"yaml": {"nc": file["nc"], **own}})


def _check_rows(file: Any, way_out: str) -> None:
    """Refuse a card's model file that is none, or that names what is no layer: ultralytics would call it."""
    try:
        kinds = [row[2] for part in fit.PARTS for row in file[part]]
        activation = file.get("activation")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise checks.refuse("yaml", "in the card", f"is no model file ({error!r})", way_out) from error
    for kind in kinds:
        name = str(kind)
        home, _, short = name.rpartition(".")
        layer = getattr({"": tasks, "nn": nn}.get(home), short, None)
        # A whole model is a module too, and would build what the row's arguments say without this check.
        if not (isinstance(layer, type) and issubclass(layer, nn.Module)) or issubclass(layer, BaseModel):
            raise checks.refuse("yaml", name, "must name layers that ultralytics or mqa_lib has", way_out)
    if activation is not None and not _PLAIN_ACTIVATION.fullmatch(str(activation)):
        rule = "must be a layer of torch.nn, such as torch.nn.ReLU()"
        raise checks.refuse("activation", activation, rule, way_out)


def _shape(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "a number"
