"""Backbone pretraining on Keys & Locks: name every cell, before there are boxes to find.

RT-DETR's backbones always start pretrained, and on a small budget from scratch the detector finds shapes and stays at
chance on the locks' colours. So a backbone first learns densely: each cell of its stride-8 and stride-16 maps says what
lies there: nothing, a key, or a lock of which colour. Every variant gets the same pictures, steps and schedule.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from ultralytics import RTDETR

from mqa_lib import checks, locking
from mqa_lib.datasets import keys_and_locks
from mqa_lib.datasets.keys_and_locks import CLASSES, Scene
from mqa_lib.rtdetr import article
from mqa_lib.rtdetr.build import MODELS, content_of, load
from mqa_lib.rtdetr.weights import as_checkpoint

STRIDES = (8, 16)
_IGNORED = -100
_METHOD = 1  # to be raised when a change here gives other backbones
_NOTHING = 0  # then key, then the locks: one more than the index in CLASSES


class DenseBackbone(nn.Module):
    """A detector's backbone with a 1×1 convolution on its last map of each stride in `STRIDES`.

    Args:
        layers: The detector's backbone layers, each fed by the one before; they are trained in place.
        size: Height and width of the pictures.
    """

    def __init__(self, layers: nn.Sequential, size: int = 128) -> None:
        super().__init__()
        self.layers = layers
        maps = {size // x.shape[-1]: x.shape[1] for x in self._maps(torch.zeros(1, 3, size, size))}
        self.heads = nn.ModuleList([nn.Conv2d(maps[stride], 1 + len(CLASSES), 1) for stride in STRIDES])

    def _maps(self, x: Tensor) -> list[Tensor]:
        last: dict[int, Tensor] = {}
        for layer in self.layers:
            x = layer(x)
            last[x.shape[-1]] = x
        return list(last.values())

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch classes rows columns"]]:
        """Return a score for every class and cell, one map for each stride."""
        maps = {x.shape[-1] // found.shape[-1]: found for found in self._maps(x)}
        return [head(maps[stride]) for head, stride in zip(self.heads, STRIDES, strict=True)]


def cells(scenes: list[Scene], stride: int) -> Int[Tensor, "batch rows columns"]:
    """Return what lies in every cell of `stride` pixels: 0 nothing, 1 + class, or -100 where a box only grazes it."""
    side = scenes[0].size // stride
    centres = (np.arange(side) + 0.5) * stride
    target = np.zeros((len(scenes), side, side), dtype=np.int64)
    for index, scene in enumerate(scenes):
        for box in keys_and_locks.boxes(scene):
            for margin, value in ((stride / 2, _IGNORED), (-0.2 * (box.bottom - box.top), box.label + 1)):
                rows = (centres > box.top - margin) & (centres < box.bottom + margin)
                columns = (centres > box.left - margin) & (centres < box.right + margin)
                target[index][np.ix_(rows, columns)] = value
            row, column = (box.top + box.bottom) // 2 // stride, (box.left + box.right) // 2 // stride
            target[index, row, column] = box.label + 1  # every shape has at least one cell
    return torch.from_numpy(target)


def _batches(seed: int, steps: int, batch_size: int) -> Iterator[tuple[Tensor, list[Scene]]]:
    source = keys_and_locks.stream(seed, steps * batch_size)
    for _ in range(steps):
        scenes, pictures = zip(*(next(source) for _ in range(batch_size)), strict=True)
        yield _as_input(pictures), list(scenes)


def _as_input(pictures: Sequence[UInt8[np.ndarray, "size size 3"]]) -> Float[Tensor, "batch 3 size size"]:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def lock_accuracy(network: DenseBackbone, pictures: int = 256, seed: int = 20_000) -> dict[int, float]:
    """Return for each stride the share of lock cells whose colour is named right; chance is 0.25."""
    network.eval()
    drawn = list(keys_and_locks.stream(seed, pictures, "val"))
    x = _as_input([picture for _, picture in drawn])
    shares = {}
    for scores, stride in zip(network(x), STRIDES, strict=True):
        target = cells([scene for scene, _ in drawn], stride)
        locks = target >= 2
        colour = scores[:, 2:].argmax(1) + 2
        shares[stride] = (colour == target)[locks].double().mean().item()
    return shares


def pretrain(
    model: str,
    path: str | Path,
    seed: int = 0,
    pictures: int = 80_000,
    batch_size: int = 64,
    peak: float = 3e-3,
) -> dict[str, Any]:
    """Train the backbone of a nano model densely, write it to `path` for ultralytics' `pretrained=`, return its record.

    Args:
        model: A name in `MODELS`, of the nano size.
        path: Where to write the checkpoint (.pt), and its record beside it (.json).
        seed: Seed of weights and pictures.
        pictures: Pictures to train on, each new.
        batch_size: Pictures a step.
        peak: Highest learning rate of the one-cycle schedule.

    Raises:
        ValueError: `model` is not a nano model of ours, or a number is smaller than 1.
    """
    from time import perf_counter, process_time

    from tqdm.auto import tqdm

    nano = [name for name in MODELS if name.startswith("rtdetr-nano")]
    checks.one_of("model", model, nano)
    steps = checks.positive("pictures", pictures) // checks.positive("batch_size", batch_size)
    torch.manual_seed(seed)
    detector = load(model)
    torch.manual_seed(seed)  # so that nothing here depends on the detector's head, which drew numbers too
    network = DenseBackbone(_backbone(detector))
    if article.takes_channels_last(network):
        network.to(memory_format=torch.channels_last)  # a third less time a step
    optimiser = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.2)
    weight = torch.ones(1 + len(CLASSES))
    weight[_NOTHING] = 0.2  # most cells are empty
    start, cpu_start, history = perf_counter(), process_time(), []
    shown = {"total": steps, "desc": f"pretrain {model}", "leave": False, "disable": None}
    with tqdm(_batches(seed + 1000, steps, batch_size), **shown) as bar:
        for step, (x, scenes) in enumerate(bar, start=1):
            network.train()
            losses = [
                F.cross_entropy(scores, cells(scenes, stride), weight, ignore_index=_IGNORED)
                for scores, stride in zip(network(x), STRIDES, strict=True)
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
            schedule.step()
            if step % max(1, steps // 10) == 0:
                right = lock_accuracy(network)
                history.append(
                    {
                        "pictures": step * batch_size,
                        "seconds": perf_counter() - start,
                        "cpu_seconds": process_time() - cpu_start,
                        "lock accuracy": right,
                    }
                )
                bar.set_postfix({f"stride {stride}": f"{share:.2f}" for stride, share in right.items()})
    record = {
        "model": model,
        "seed": seed,
        "pictures": steps * batch_size,
        "batch_size": batch_size,
        "peak": peak,
    }
    record["history"] = history
    path = as_checkpoint(detector, path)
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def pretrain_once(
    model: str,
    path: str | Path,
    folder: str | Path,
    seed: int = 0,
    pictures: int = 80_000,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Do what `pretrain` does, but train a backbone that other models have too only once; return its record.

    Two models whose backbones have the same rows get the same backbone, and each its own head: as `pretrain` would have
    made them, since it draws the weights of the backbone first.

    Args:
        model: A name in `MODELS`, of the nano size.
        path: Where to write the checkpoint (.pt), and its record beside it (.json).
        folder: Where backbones are kept, by a hash of everything that decides them.
        seed: Seed of weights and pictures.
        pictures: Pictures to train on, each new.
        batch_size: Pictures a step.
    """
    recipe = {"seed": seed, "pictures": pictures, "batch_size": batch_size}
    said = json.dumps([_METHOD, recipe, content_of(model)["backbone"]])
    kept = Path(folder) / f"{hashlib.sha256(said.encode()).hexdigest()[:12]}.pt"
    with locking.hold(kept.with_suffix(".lock"), wait=True):
        if not kept.with_suffix(".json").exists():
            pretrain(model, kept, **recipe)
    torch.manual_seed(seed)
    detector = load(model)
    there = torch.load(kept, weights_only=False)["model"]
    rows = len(content_of(model)["backbone"])
    _backbone(detector).load_state_dict(there.model[:rows].state_dict())
    path = as_checkpoint(detector, path)
    shutil.copy(kept.with_suffix(".json"), path.with_suffix(".json"))
    return json.loads(path.with_suffix(".json").read_text())


def _backbone(detector: RTDETR) -> nn.Sequential:
    rows = len(detector.model.yaml["backbone"])
    return detector.model.model[:rows]
