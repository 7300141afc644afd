"""Everything that decides a training, and what it means in ultralytics' own arguments."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mqa_lib import checks

STRIDE = 32  # ultralytics rounds sizes up to it, and the record would name one that was not trained at

# Keys & Locks lives on colours and on pairs: mosaic would part keys from their locks, hue shifts would change classes.
KEEPS_PAIRS: dict[str, Any] = {
    "mosaic": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
    "translate": 0.0,
    "scale": 0.0,
}
KEEPS_PAIRS |= {"fliplr": 0.5, "flipud": 0.5, "erasing": 0.0, "auto_augment": None, "close_mosaic": 0}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, but for the machine.

    Args:
        model: A name in `MODELS`, or a model file.
        seed: Seed of weights and of the order of pictures.
        epochs: Passes over the training pictures.
        imgsz: Height and width in pixels that pictures are brought to.
        batch: Pictures a step.
        lr0: Learning rate after one epoch of warm-up; from there it falls along a cosine.
        keeps_pairs: Use only augmentation that leaves colours and pairs alone; otherwise ultralytics' default.
        lrf: Share of `lr0` at which that cosine ends; 1 keeps the rate constant.
        num_queries: Queries of RT-DETR's decoder, which can find no more objects than that in a picture; 0 for those of
            the model file.
        stop_at: Share of found locks with the right colour at which training stops, once two epochs in a row have it on
            the validation pictures; 0 trains all epochs. Only Keys & Locks has such colours.
    """

    model: str
    seed: int = 0
    epochs: int = 8
    imgsz: int = 128
    batch: int = 16
    lr0: float = 5e-4
    keeps_pairs: bool = True
    lrf: float = 0.05
    num_queries: int = 0
    stop_at: float = 0.0


def check_size(imgsz: int) -> int:
    """Return `imgsz` if a detector can be trained at just that size.

    Raises:
        ValueError: It is no whole number, or no multiple of the largest stride.
    """
    if checks.positive("imgsz", imgsz) % STRIDE:
        rule, up = f"must be a multiple of {STRIDE}", imgsz + -imgsz % STRIDE
        raise checks.refuse("imgsz", imgsz, rule, f"Use {up}, which it would be rounded up to.")
    return imgsz


def arguments(recipe: Recipe, data: Path, folder: Path) -> dict[str, Any]:
    """Return what a recipe means in ultralytics' own arguments."""
    return {
        **{"optimizer": "AdamW", "lr0": recipe.lr0, "lrf": recipe.lrf, "cos_lr": True, "warmup_epochs": 1.0},
        **{"weight_decay": 1e-4, "nbs": recipe.batch, "batch": recipe.batch, "epochs": recipe.epochs},
        **{"patience": recipe.epochs, "imgsz": recipe.imgsz, "seed": recipe.seed, "deterministic": False},
        **{"warmup_bias_lr": 0.0, "cache": "ram", "plots": False, "pretrained": False, "data": str(data)},
        **(KEEPS_PAIRS if recipe.keeps_pairs else {}),
        **{"project": str(folder.parent), "name": folder.name, "exist_ok": True},
        # Pictures come from memory in a fiftieth of a step's time, so processes of their own only cost a small machine.
        **({} if torch.cuda.is_available() else {"workers": 0}),
    }
