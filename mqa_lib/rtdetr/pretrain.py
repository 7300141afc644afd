"""Backbone pretraining on Keys & Locks: name every cell, before there are boxes to find.

RT-DETR's backbones usually start pretrained. On a small budget from scratch the detector finds shapes and names few of
the locks' colours or none. So a backbone first learns densely: each cell of its stride-8 and stride-16 maps says what
lies there: nothing, a key, or a lock of which colour. Every variant gets the same pictures, steps and schedule.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from ultralytics import RTDETR

from mqa_lib import checks, locking, published
from mqa_lib.datasets import keys_and_locks
from mqa_lib.datasets.keys_and_locks import CLASSES, Scene
from mqa_lib.rtdetr import article
from mqa_lib.rtdetr.build import MODELS, content_of, load
from mqa_lib.rtdetr.trainer import Diverged, Paused
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
        if not article.takes_channels_last(self):
            x = x.contiguous()  # pictures come with the channels of a pixel together
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


def _batches(seed: int, first: int, steps: int, batch_size: int) -> Iterator[tuple[Tensor, list[Scene]]]:
    for step in range(first, steps):
        numbers = range(step * batch_size, (step + 1) * batch_size)
        scenes = [keys_and_locks.draw_scene(seed, number) for number in numbers]
        yield _as_input([keys_and_locks.render(scene) for scene in scenes]), scenes


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


class _Session:
    """A pretraining that writes down ten times where it is, and goes on from there."""

    def __init__(self, detector: RTDETR, steps: int, peak: float, file: Path) -> None:
        self.network = DenseBackbone(_backbone(detector))
        if article.takes_channels_last(self.network):
            self.network.to(memory_format=torch.channels_last)  # a third less time a step
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=peak, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, peak, total_steps=steps, pct_start=0.2
        )
        self.file, self.step, self.history = file, 0, list[dict[str, Any]]()
        self.parts: dict[str, Any] = {
            "network": self.network,
            "optimiser": self.optimiser,
            "schedule": self.schedule,
        }
        if file.exists():
            there = torch.load(file)  # tensors and numbers alone, nothing that would be run
            self.step, self.history = there["step"], there["history"]
            for name, part in self.parts.items():
                part.load_state_dict(there[name])
        last = self.history[-1] if self.history else {"seconds": 0.0, "cpu_seconds": 0.0}
        self._began = perf_counter() - last["seconds"], process_time() - last["cpu_seconds"]

    def learn(self, x: Tensor, scenes: list[Scene], weight: Float[Tensor, " classes"]) -> None:
        """Take one step."""
        self.network.train()
        losses = [
            F.cross_entropy(scores, cells(scenes, stride), weight, ignore_index=_IGNORED)
            for scores, stride in zip(self.network(x), STRIDES, strict=True)
        ]
        loss = torch.stack(losses).sum()
        if not loss.isfinite():
            raise Diverged(
                f"The loss is {loss.item()} in step {self.step + 1} of the backbone's pretraining."
            )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.step += 1

    def measure(self, pictures: int) -> dict[int, float]:
        """Return how many locks are named rightly, after it and all that is needed to go on has been written down."""
        right = lock_accuracy(self.network)
        seconds, cpu_seconds = perf_counter() - self._began[0], process_time() - self._began[1]
        said = {"pictures": pictures, "seconds": seconds, "cpu_seconds": cpu_seconds, "lock accuracy": right}
        self.history.append(said)
        draft = self.file.with_suffix(".draft")
        states = {name: part.state_dict() for name, part in self.parts.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"step": self.step, "history": self.history, **states}, draft)
        draft.replace(self.file)
        return right


@published.in_blocks()
def pretrain(
    model: str,
    path: str | Path,
    seed: int = 0,
    pictures: int = 80_000,
    batch_size: int = 64,
    peak: float = 3e-3,
    pause: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train the backbone of a nano model densely, write it to `path` for ultralytics' `pretrained=`, return its record.

    If it is stopped, the same call goes on from the last tenth that was done.

    Args:
        model: A name in `MODELS`, of the nano size.
        path: Where to write the checkpoint (.pt), and its record beside it (.json).
        seed: Seed of weights and pictures.
        pictures: Pictures to train on, each new.
        batch_size: Pictures a step.
        peak: Highest learning rate of the one-cycle schedule.
        pause: Asked after every tenth; if it returns true, the training stops there.

    Raises:
        ValueError: `model` is not a nano model of ours, a number is smaller than 1, or there is not one step to do.
        Diverged: The loss is not finite; what the last whole tenth had reached is kept.
        Paused: `pause` returned true.
    """
    from tqdm.auto import tqdm

    nano = [name for name in MODELS if name.startswith("rtdetr-nano")]
    checks.one_of("model", model, nano)
    steps = checks.positive("pictures", pictures) // checks.positive("batch_size", batch_size)
    if not steps:
        rule = f"must be at least one step of `batch_size` (={batch_size})"
        raise checks.refuse("pictures", pictures, rule, f"Use {batch_size} or more.")
    path = Path(path)
    torch.manual_seed(seed)
    detector = load(model)
    torch.manual_seed(seed)  # so that nothing here depends on the detector's head, which drew numbers too
    session = _Session(detector, steps, peak, path.with_suffix(".part"))
    weight = torch.ones(1 + len(CLASSES))
    weight[_NOTHING] = 0.2  # most cells are empty
    shown = {"total": steps, "initial": session.step, "desc": f"pretrain {model}", "leave": False}
    with tqdm(_batches(seed + 1000, session.step, steps, batch_size), disable=None, **shown) as bar:
        for x, scenes in bar:
            session.learn(x, scenes, weight)
            if session.step % max(1, steps // 10) == 0:
                right = session.measure(session.step * batch_size)
                bar.set_postfix({f"stride {stride}": f"{share:.2f}" for stride, share in right.items()})
                if pause is not None and session.step < steps and pause():
                    raise Paused
    record = {"model": model, "seed": seed, "pictures": steps * batch_size, "batch_size": batch_size}
    record |= {"peak": peak, "history": session.history}
    path = as_checkpoint(detector, path)
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    session.file.unlink(missing_ok=True)
    return record


def pretrain_once(
    model: str,
    path: str | Path,
    folder: str | Path,
    seed: int = 0,
    pictures: int = 80_000,
    batch_size: int = 64,
    pause: Callable[[], bool] | None = None,
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
        pause: As `pretrain` takes it.
    """
    recipe = {"seed": seed, "pictures": pictures, "batch_size": batch_size}
    said = json.dumps([_METHOD, recipe, content_of(model)["backbone"]])
    kept = Path(folder) / f"{hashlib.sha256(said.encode()).hexdigest()[:12]}.pt"
    with locking.hold(kept.with_suffix(".lock"), wait=True):
        if not kept.with_suffix(".json").exists():
            pretrain(model, kept, **recipe, pause=pause)
    torch.manual_seed(seed)
    detector = load(model)
    there = torch.load(kept, weights_only=False)["model"]
    rows = len(content_of(model)["backbone"])
    _backbone(detector).load_state_dict(there.model[:rows].state_dict())
    path = as_checkpoint(detector, path)
    shutil.copy(kept.with_suffix(".json"), path.with_suffix(".json"))
    return json.loads(path.with_suffix(".json").read_text())


def with_new_head(model: RTDETR, name: str, seed: int = 0) -> RTDETR:
    """Return a detector with the backbone of `model` and everything behind it drawn anew, as after `pretrain`.

    Args:
        model: The detector whose backbone is taken; it is left as it is.
        name: The variant to build, a name in `MODELS`.
        seed: Seed of what is drawn.

    Raises:
        ValueError: The variant's backbone has other rows than the model's.
    """
    torch.manual_seed(seed)
    detector = load(name)
    if content_of(name)["backbone"] != model.model.yaml["backbone"]:
        rule = "must have the backbone of the model whose weights are taken"
        raise checks.refuse("name", name, rule, "Name the variant that the model is.")
    _backbone(detector).load_state_dict(_backbone(model).state_dict())
    return detector


def _backbone(detector: RTDETR) -> nn.Sequential:
    rows = len(detector.model.yaml["backbone"])
    return detector.model.model[:rows]
