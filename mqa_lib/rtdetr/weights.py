"""Trained weights as safetensors with a card beside them: nothing that has to be trusted before it is opened."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from ultralytics import RTDETR
from ultralytics.nn.tasks import RTDETRDetectionModel

from mqa_lib.rtdetr.build import MODELS, quietly


def save_weights(model: RTDETR, path: str | Path, card: dict[str, Any]) -> Path:
    """Write the weights in half precision to `path` and their card to the same name ending in .json; return `path`.

    Args:
        model: The trained model.
        path: Where to write, ending in .safetensors.
        card: What the reader has to know: at least `model` (a name in `MODELS`) and `weights_are` (one sentence).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for key, value in model.model.state_dict().items()
    }
    save_file(state, path)
    names = {str(index): name for index, name in model.names.items()}
    path.with_suffix(".json").write_text(json.dumps(card | {"classes": names}, indent=2) + "\n")
    return path


def load_weights(path: str | Path) -> RTDETR:
    """Return the model that `save_weights` wrote, in single precision, its card in `.card`.

    Raises:
        FileNotFoundError: The card is missing.
        ValueError: The file is cut off or broken, or does not fit the model its card names.
    """
    path = Path(path)
    card_file = path.with_suffix(".json")
    if not card_file.exists():
        raise FileNotFoundError(f"`path` (={path}) has no card. Put {card_file.name} beside it.")
    card = json.loads(card_file.read_text())
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
    with quietly():
        model = RTDETR(str(MODELS[card["model"]]))
        network = RTDETRDetectionModel(str(MODELS[card["model"]]), nc=len(names), verbose=False)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"`path` (={path}) must fit {card['model']}: {error}. Check its card.") from error
    network.names, network.task = names, "detect"
    network.args = (
        {**model.model.args, "task": "detect"} if hasattr(model.model, "args") else {"task": "detect"}
    )
    model.model = network.eval()
    model.card = card
    torch.nn.Module.requires_grad_(network, False)
    return model


def as_checkpoint(model: RTDETR, path: str | Path) -> Path:
    """Write the model where ultralytics can start a training from it (`pretrained=`), and return `path`.

    Such a file is a pickle: make it yourself, and hand on what `save_weights` writes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.model, "epoch": -1, "train_args": {}}, path)
    return path
