"""The one number that needs attention, counted while ultralytics validates: how many found locks have their colour."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_iou
from ultralytics.models.rtdetr import val as rtdetr_val
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import RANK

LOCK = "lock-"  # how the names of the lock classes begin
_OVERLAP = 0.5


@dataclass(frozen=True)
class LockColours:
    """Of the locks in a split: how many there are, how many were found, how many of those have the right colour."""

    locks: int = 0
    found: int = 0
    right: int = 0

    @property
    def share_right(self) -> float:
        """Share of the found locks whose class names the right colour; guessing gives 0.25. NaN if none was found."""
        return self.right / self.found if self.found else float("nan")

    def __add__(self, other: "LockColours") -> "LockColours":
        """Return the counts of both together."""
        return LockColours(self.locks + other.locks, self.found + other.found, self.right + other.right)


def lock_classes(names: dict[int, str]) -> list[int]:
    """Return which classes are locks; none, in any other data set than Keys & Locks."""
    return [index for index, name in names.items() if name.startswith(LOCK)]


def count(
    locks: Float[Tensor, "locks 4"],
    colours: Float[Tensor, " locks"],
    boxes: Float[Tensor, "boxes 4"],
    guesses: Float[Tensor, " boxes"],
    confidence: Float[Tensor, " boxes"],
) -> LockColours:
    """Return how many locks of one picture were found and coloured rightly.

    A lock counts by the most confident lock box that overlaps it by at least half, whatever the confidence.

    Args:
        locks: Corners of the true locks.
        colours: Their classes.
        boxes: Corners of the boxes that name a lock class.
        guesses: The class that each names.
        confidence: How sure it is of it.
    """
    close = box_iou(locks, boxes) >= _OVERLAP
    seen = close.any(1)
    if not seen.any():
        return LockColours(len(locks))
    best = confidence.expand(close.shape).masked_fill(~close, -1).argmax(1)
    return LockColours(len(locks), int(seen.sum()), int((guesses[best] == colours)[seen].sum()))


class _CountsColours(DetectionValidator):
    """Counts the colours of locks while ultralytics validates, where the data set has any."""

    def init_metrics(self, model: Any) -> None:
        """Begin a validation."""
        super().init_metrics(model)
        self.classes_of_locks = torch.tensor(lock_classes(self.names), device=self.device)
        self.colours = LockColours()

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: dict[str, Any]) -> None:
        """Take in the predictions of a batch."""
        super().update_metrics(preds, batch)
        if not len(self.classes_of_locks):
            return
        for index, found in enumerate(preds):
            truth = self._prepare_batch(index, batch)
            locks = torch.isin(truth["cls"], self.classes_of_locks)
            guesses = torch.isin(found["cls"], self.classes_of_locks)
            picked = (found[key][guesses].float() for key in ("bboxes", "cls", "conf"))
            self.colours += count(truth["bboxes"][locks].float(), truth["cls"][locks].float(), *picked)

    def gather_stats(self) -> None:
        """Bring what several processes counted together in the first one."""
        super().gather_stats()
        if RANK == -1:
            return
        counted: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(counted, self.colours)
        if RANK == 0:
            self.colours = sum(counted, LockColours())


class RTDETRValidator(_CountsColours, rtdetr_val.RTDETRValidator):
    """ultralytics' validator for RT-DETR, which counts the colours of locks on the way."""


class YOLOValidator(_CountsColours):
    """ultralytics' validator for YOLO, which counts the colours of locks on the way."""


def validator_for(network: Any) -> type[_CountsColours]:
    """Return the validator for a network of ultralytics."""
    return RTDETRValidator if isinstance(network, RTDETRDetectionModel) else YOLOValidator
