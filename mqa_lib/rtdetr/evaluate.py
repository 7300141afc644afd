"""How well a trained detector does: ultralytics' mAP, and the one number that needs attention, the locks' colours."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_iou, nms
from ultralytics import RTDETR, YOLO

from mqa_lib.datasets import yolo
from mqa_lib.rtdetr import article
from mqa_lib.rtdetr.build import quietly
from mqa_lib.rtdetr.colours import LockColours, count, validator_for
from mqa_lib.rtdetr.train import measured


def evaluate(
    model: RTDETR | YOLO, data: str | Path, split: str = "val", imgsz: int | None = None
) -> dict[str, Any]:
    """Return mAP50, mAP50-95 and both for each class, on one split of a data set; of Keys & Locks the colours, too.

    Args:
        model: The detector.
        data: The data set, by its file.
        split: "train", "val" or "test".
        imgsz: Pixels that pictures are brought to; the size that the model was trained at if not given.

    Raises:
        DataError: The data set is not fit to be evaluated on.
    """
    report = yolo.checked(data)
    seen: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="mqa_lib-") as scratch, quietly():
        resolved = yolo.write_resolved(report, Path(scratch) / "data.yaml")
        quiet = {"verbose": False, "plots": False, "save": False, "workers": 0, **_layout(model)}
        where = {"project": scratch, "name": "val", "exist_ok": True}
        model.add_callback("on_val_end", seen.append)
        try:
            options = {
                "data": str(resolved),
                "split": split,
                "imgsz": imgsz or size_of(model),
                "batch": 32,
                **quiet,
                **where,
            }
            model.val(validator_for(model.model), **options)
        finally:
            model.callbacks["on_val_end"].remove(seen.append)
    return measured(seen[-1])


def size_of(model: RTDETR | YOLO) -> int:
    """Return the pixels that a model was trained at: 128 where it does not know, as for Keys & Locks."""
    return model.overrides.get("imgsz", 128)


def lock_colours(model: RTDETR | YOLO, data: str | Path, split: str = "val", imgsz: int = 128) -> LockColours:
    """Return how many locks a detector finds (an overlap of at least 0.5, any lock class) and colours rightly.

    A lock counts by the most confident lock box that overlaps it, whatever the confidence.
    """
    counted = LockColours()
    for picture in sorted((Path(data).parent / "images" / split).glob("*.png")):
        truth = _truth(picture)
        truth = truth[truth[:, 0] > 0]
        quiet = {"verbose": False, "save": False, **_layout(model)}
        result = model.predict(str(picture), imgsz=imgsz, conf=0.001, **quiet)[0].boxes
        result = result[result.cls > 0]
        boxes = _corners(result.xywhn.double())
        counted += count(
            _corners(truth[:, 1:]), truth[:, 0], boxes, result.cls.double(), result.conf.double()
        )
    return counted


def _layout(model: RTDETR | YOLO) -> dict[str, Any]:
    """Return what ultralytics has to be told, which predicts in channels_last on an x86 CPU unless told otherwise."""
    return {} if article.takes_channels_last(model.model) else {"channels_last": False}


def lock_boxes(
    model: RTDETR | YOLO, picture: str | Path, imgsz: int = 128, confidence: float = 0.3
) -> list[tuple[float, float, float, float, str, bool]]:
    """Return the locks that a detector finds in one labelled picture, for drawing.

    Each is left, top, right, bottom in pixels, the colour it names, and whether a lock of that class lies there (an
    overlap of at least 0.5). Where several boxes lie on one place, the most confident speaks for it: RT-DETR may name
    more than one class there.
    """
    truth = _truth(Path(picture))
    quiet = {"verbose": False, "save": False, **_layout(model)}
    result = model.predict(str(picture), imgsz=imgsz, conf=confidence, **quiet)[0].boxes
    result = result[result.cls > 0]
    result = result[nms(result.xyxy, result.conf, iou_threshold=0.5)]
    overlap = box_iou(_corners(result.xywhn.double()), _corners(truth[:, 1:]))
    found = []
    for corners, label, row in zip(result.xyxy.tolist(), result.cls.tolist(), overlap, strict=True):
        good = bool(((row >= 0.5) & (truth[:, 0] == label)).any())
        found.append((*corners, model.names[int(label)].removeprefix("lock-"), good))
    return found


def count_locks(picture: str | Path) -> int:
    """Return how many locks a labelled picture has."""
    return int((_truth(Path(picture))[:, 0] > 0).sum())


def _truth(picture: Path) -> Float[Tensor, "objects 5"]:
    label = picture.parents[2] / "labels" / picture.parent.name / f"{picture.stem}.txt"
    return torch.from_numpy(np.loadtxt(label, ndmin=2))


def _corners(boxes: Float[Tensor, "boxes 4"]) -> Float[Tensor, "boxes 4"]:
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)
