"""Count what attention does over many pictures of Keys & Locks, instead of picking one that looks well."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import nn

from mqa_lib import pictures
from mqa_lib.datasets.keys_and_locks import Place, Scene
from mqa_lib.record import Rectangle, capture


@dataclass(frozen=True, eq=False)
class Hits:
    """For every lock and head, whether the key that the lock reads most lies at the lock's own key.

    Args:
        found: True where it does.
        blindly: The share of all keys that lie there: how often a key drawn blindly would.
    """

    found: Bool[np.ndarray, "locks heads"]
    blindly: float

    @property
    def heads(self) -> Float[np.ndarray, " heads"]:
        """Return the share of locks for which each head finds the key."""
        return self.found.mean(axis=0)

    @property
    def best_head(self) -> int:
        """Return the head that finds the key most often."""
        return int(self.heads.argmax())

    @property
    def best(self) -> float:
        """Return the share of locks for which the best head finds the key."""
        return float(self.heads.max())

    @property
    def any_head(self) -> float:
        """Return the share of locks for which at least one head finds the key."""
        return float(self.found.any(axis=1).mean())


def at_the_key(
    model: nn.Module,
    scenes: Sequence[Scene],
    images: Sequence[UInt8[np.ndarray, "size size 3"]],
    near: int,
    layer: int = 0,
) -> Hits:
    """Return how often a layer's heads read the lock's own key most.

    Args:
        model: As in `record.capture`.
        scenes: What the pictures show.
        images: The pictures.
        near: A key of the layer lies at a key of the picture if the middles of both are at most so many pixels apart,
            down and across.
        layer: Which of the model's attention layers, in the order in which they run.
    """
    found, blindly = [], []
    for scene, image in zip(scenes, images, strict=True):
        seen = capture(model, image, size=scene.size)[layer]
        strongest, middles = seen.weights().argmax(axis=-1), seen.key_centres()
        for pair in scene.pairs:
            close = np.abs(middles - _middle(pair.key)).max(axis=-1) <= near
            found.append(close[strongest[:, seen.query_at(pair.lock.row, pair.lock.column)]])
            blindly.append(close.mean())
    return Hits(np.array(found), float(np.mean(blindly)))


@dataclass(frozen=True)
class Painted:
    """How often a network was still right after a part of the picture was painted over.

    Args:
        strongest: Of the locks whose strongest key was painted over, the share still named right.
        control: The same after painting over a key drawn blindly.
        locks: How many locks each share is made from.
    """

    strongest: float
    control: float
    locks: tuple[int, int]


def painted_over(
    model: nn.Module,
    scenes: Sequence[Scene],
    images: Sequence[UInt8[np.ndarray, "size size 3"]],
    head: int,
    seed: int = 0,
) -> Painted:
    """Return whether a probe's answers hang on the key that a head reads most.

    Only locks that are named right in the first place count. A part that comes near the lock itself is passed over:
    painting over the question proves nothing.

    Args:
        model: A probe: it gives a score for every colour and cell.
        scenes: What the pictures show.
        images: The pictures.
        head: Which head's strongest key to paint over.
        seed: Seed of the control's keys.
    """
    random = np.random.RandomState(seed)
    right: tuple[list[bool], list[bool]] = ([], [])
    for scene, image in zip(scenes, images, strict=True):
        seen = capture(model, image)[0]
        before = _answers(model, image)
        for pair in scene.pairs:
            lock = seen.query_at(pair.lock.row, pair.lock.column)
            for kept, key in zip(
                right, (seen.top(lock, head, 1)[0].key, random.randint(seen.k.shape[1])), strict=True
            ):
                away = np.abs(seen.key_centres()[key] - _middle(pair.lock))
                if before[lock] == pair.colour and (away > seen.key_size).any():
                    kept.append(bool(_answers(model, paint(image, seen.footprint(key)))[lock] == pair.colour))
    shares = [float(np.mean(kept)) if kept else float("nan") for kept in right]
    return Painted(shares[0], shares[1], (len(right[0]), len(right[1])))


def paint(image: UInt8[np.ndarray, "height width 3"], part: Rectangle) -> UInt8[np.ndarray, "height width 3"]:
    """Return the picture with a part of it in the picture's mean colour."""
    top, left, bottom, right = (round(edge) for edge in part)
    changed = image.copy()
    changed[top:bottom, left:right] = image.mean(axis=(0, 1)).round()
    return changed


def _middle(place: Place) -> Float[np.ndarray, "2"]:
    """Return the middle of a shape as records count it, where the first pixel reaches from 0 to 1."""
    return np.array((place.row, place.column)) + 0.5


def _answers(model: nn.Module, image: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
    return model(pictures.tensor(image))[0].flatten(1).argmax(dim=0).numpy()
