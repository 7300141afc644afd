"""Where RT-DETR's decoder reads the picture for each detection: a few points of its own choice, each with a weight.

A query of the decoder does not read a grid. In every layer, every head places some points around the query's box on
every map of the encoder, reads the maps there, and mixes what it read by weights that sum to 1 over all its points.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from mqa_lib import checks, hooks, npz

_ARRAYS = ("points", "weights", "references", "boxes", "scores", "image")
AT_LEAST = 0.25  # score of a detection that ultralytics shows
_ROOM = 0.08  # around the surroundings of a detection, as a share of their longer side
_SMALLEST = 8  # pixels that the longer side of a detection's surroundings has at least


class Rectangle(NamedTuple):
    """A part of the picture in its pixels; the pixels run from `top` up to, not including, `bottom`."""

    top: float
    left: float
    bottom: float
    right: float


class Point(NamedTuple):
    """One sampling point: who placed it, where it lies in the picture's pixels, and its share of its head's reading."""

    head: int
    level: int
    row: float
    column: float
    share: float


@dataclass(frozen=True, eq=False)
class SamplingRecord:
    """The decoder's sampling points for some detections of one picture, the best detection first.

    Lengths and places are pixels of `image`, (vertical, horizontal), and the first pixel reaches from 0 to 1. The place
    is where the decoder itself takes a point to be: in the frame of its boxes. A point may lie outside the picture; the
    decoder then reads zeros.

    Args:
        points: Row and column of every point.
        weights: What each point's reading is multiplied by; they sum to 1 over levels and points.
        references: The box (top, left, bottom, right) that a layer places its points around.
        boxes: The box that the decoder ends with.
        scores: The detections' scores, from 0 to 1.
        queries: Numbers of the decoder's queries; a query that scores in two classes makes two detections.
        classes: Numbers of the classes.
        labels: Names of the classes.
        grids: Rows and columns of the map of each level.
        image: The picture, RGB.
        layers: Names of the layers in the model.
        weights_are: A sentence: what the model's weights were trained on, or that they are random.

    Raises:
        ValueError: There is not one query, class and label for each detection, or not one name for each layer.
    """

    points: Float32[np.ndarray, "layers detections heads levels points 2"]
    weights: Float32[np.ndarray, "layers detections heads levels points"]
    references: Float32[np.ndarray, "layers detections 4"]
    boxes: Float32[np.ndarray, "detections 4"]
    scores: Float32[np.ndarray, " detections"]
    queries: tuple[int, ...]
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    grids: tuple[tuple[int, int], ...]
    image: UInt8[np.ndarray, "height width 3"]
    layers: tuple[str, ...]
    weights_are: str

    def __post_init__(self) -> None:
        layers, detections, _, levels, _ = self.weights.shape
        for name, needed in (
            ("queries", detections),
            ("classes", detections),
            ("labels", detections),
            ("layers", layers),
            ("grids", levels),
        ):
            given = getattr(self, name)
            if len(given) != needed:
                way_out = "Make the record with `record.capture_decoder`."
                raise checks.refuse(name, given, f"must hold {needed}", way_out)

    def box(self, detection: int) -> Rectangle:
        """Return the box that the decoder ends with."""
        return Rectangle(*map(float, self.boxes[self._detection(detection)]))

    def reference(self, layer: int, detection: int) -> Rectangle:
        """Return the box that a layer places its points around: where the layer before it thought the object is."""
        return Rectangle(*map(float, self.references[self._layer(layer), self._detection(detection)]))

    def middle(self, detection: int) -> tuple[int, int]:
        """Return row and column of the pixel in the middle of a detection's box, kept within the picture."""
        top, left, bottom, right = self.box(detection)
        row, column = (
            int(min(max((first + last) / 2, 0), extent - 1))
            for first, last, extent in zip((top, left), (bottom, right), self.image.shape, strict=False)
        )
        return row, column

    def share_within(self, layer: int, detection: int, part: Rectangle) -> float:
        """Return how much of a layer's reading comes from points in a part of the picture, all heads together."""
        rows, columns = np.moveaxis(self.points[self._layer(layer), self._detection(detection)], -1, 0)
        within = (rows >= part.top) & (rows < part.bottom) & (columns >= part.left) & (columns < part.right)
        weights = self.weights[layer, detection]
        return float((weights * within).sum() / len(weights))

    def surroundings(self, detection: int) -> Rectangle:
        """Return the part of the picture with a detection's box and all of its points that lie in the picture.

        There is some room around them, and neither side is shorter than half of the other where the picture allows.
        """
        limits = self.image.shape[:2]
        places = self.points[:, self._detection(detection)].reshape(-1, 2)
        inside = places[((places >= 0) & (places < limits)).all(-1)]
        held = np.concatenate([inside, self.boxes[detection].reshape(2, 2).clip(0, limits)])
        first, last = held.min(0), held.max(0)
        longest = float(max((last - first).max(), _SMALLEST))
        needed = (last - first) + 2 * _ROOM * longest
        needed = np.maximum(needed, needed.max() / 2)
        first = (first + last - needed) / 2
        first = np.maximum(first - np.maximum(first + needed - limits, 0), 0)  # moved in where it stood out
        last = np.minimum(first + needed, limits)
        return Rectangle(float(first[0]), float(first[1]), float(last[0]), float(last[1]))

    def top(self, layer: int, detection: int, count: int = 5) -> list[Point]:
        """Return the points with the largest weights in a layer, over all heads, the largest first."""
        weights = self.weights[self._layer(layer), self._detection(detection)]
        best = np.argsort(-weights, axis=None, kind="stable")[: checks.positive("count", count)]
        found = []
        for place in zip(*np.unravel_index(best, weights.shape), strict=True):
            row, column = self.points[(layer, detection, *place)]
            found.append(
                Point(int(place[0]), int(place[1]), float(row), float(column), float(weights[place]))
            )
        return found

    def save(self, path: str | Path) -> Path:
        """Write the record to one `.npz` file, without pickle, and return its path."""
        rest = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in _ARRAYS}
        return npz.write(path, {name: getattr(self, name) for name in _ARRAYS}, rest)

    @classmethod
    def load(cls, path: str | Path) -> "SamplingRecord":
        """Return the record that `save` wrote.

        Raises:
            ValueError: The file is missing, damaged, or not such a record.
        """
        try:
            return cls(**npz.read(path, _ARRAYS))
        # numpy raises a different one for each way in which a file can be damaged
        except Exception as error:
            raise npz.refuse(path, "a record of sampling points", error) from error

    def _layer(self, layer: int) -> int:
        return checks.index("layer", layer, self.weights.shape[0])

    def _detection(self, detection: int) -> int:
        return checks.index("detection", detection, self.weights.shape[1])


@dataclass
class Read:
    """What one layer of the decoder made its points from, for every query."""

    reference: Tensor | None = None
    offsets: Tensor | None = None
    scores: Tensor | None = None
    grids: tuple[tuple[int, int], ...] = ()
    heads: int = 0


@dataclass
class Found:
    """What a decoder did with a picture, for the queries of its detections, places as shares of the picture.

    Boxes and references are (middle across, middle down, width, height), points are (across, down), as ultralytics
    keeps them.
    """

    points: Float[Tensor, "layers detections heads levels points 2"]
    weights: Float[Tensor, "layers detections heads levels points"]
    references: Float[Tensor, "layers detections 4"]
    boxes: Float[Tensor, "detections 4"]
    scores: Float[Tensor, " detections"]
    queries: list[int]
    classes: list[int]
    grids: tuple[tuple[int, int], ...]
    layers: tuple[str, ...] = field(default=())


def holds_decoder(model: nn.Module) -> bool:
    """Return whether the model holds a decoder whose points can be recorded."""
    return any(_is(module, "DeformableTransformerDecoder") for module in model.modules())


def run(model: nn.Module, batch: Float[Tensor, "1 3 rows columns"], count: int, at_least: float) -> Found:
    """Return what the decoder of `model` read for its best detections in `batch`; the model is left as it was.

    Raises:
        ValueError: The model holds no decoder with deformable attention, or does not run it.
    """
    decoders = {name: m for name, m in model.named_modules() if _is(m, "DeformableTransformerDecoder")}
    if not decoders:
        rule = "holds no decoder with sampling points: no DeformableTransformerDecoder"
        looked = sum(1 for _ in model.modules())
        way_out = f"Give an RT-DETR of ultralytics ({looked} modules were looked at)."
        raise checks.refuse("model", type(model).__name__, rule, way_out)
    name, decoder = list(decoders.items())[-1]
    layers = {f"{name}.{inner}": m for inner, m in decoder.named_modules() if _is(m, "MSDeformAttn")}
    reads: dict[str, Read] = {}
    answers: list[tuple[Tensor, Tensor]] = []
    watching = [hook for inner, layer in layers.items() for hook in _watch(layer, reads, inner)]
    watching.append(decoder.register_forward_hook(lambda _, inputs, output: answers.append(output)))
    try:
        with hooks.evaluated(model, batch):
            model(batch)
    finally:
        for hook in watching:
            hook.remove()
    if not answers or not reads:
        way_out = "Give a model whose forward pass uses its decoder."
        raise checks.refuse("model", type(model).__name__, f"did not run its decoder ({name})", way_out)
    boxes, scores = (part[-1, 0].float() for part in answers[-1])
    best, queries, classes = _best(scores.sigmoid(), count, at_least)
    seen = {
        inner: reads[inner] for inner in layers if inner in reads
    }  # the layers up to the one that answers
    points, weights, references = zip(*(_points(read, queries) for read in seen.values()), strict=True)
    return Found(
        torch.stack(points),
        torch.stack(weights),
        torch.stack(references),
        boxes[queries],
        best,
        queries,
        classes,
        next(iter(seen.values())).grids,
        tuple(seen),
    )


def record(
    found: Found,
    picture: UInt8[np.ndarray, "height width 3"],
    names: Mapping[int, str] | Sequence[str],
    weights_are: str,
) -> SamplingRecord:
    """Return what was found as a record in the picture's own pixels."""
    frame = np.array(picture.shape[:2] * 2, np.float32)
    known = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
    return SamplingRecord(
        points=_array(found.points.flip(-1)) * frame[:2],
        weights=_array(found.weights),
        references=corners(found.references) * frame,
        boxes=corners(found.boxes) * frame,
        scores=_array(found.scores),
        queries=tuple(found.queries),
        classes=tuple(found.classes),
        labels=tuple(_named(known.get(number, number)) for number in found.classes),
        grids=found.grids,
        image=picture,
        layers=found.layers,
        weights_are=weights_are,
    )


def _named(label: object) -> str:
    """Return a class's name; a new model's are but numbers."""
    return f"class {label}" if str(label).isdigit() else str(label)


def _watch(layer: Any, reads: dict[str, Read], name: str) -> list[Any]:
    """Return hooks on one layer that let `reads` hold what its last run made its points from."""

    def begin(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = inspect.signature(type(module).forward).bind(module, *inputs, **named).arguments
        grids = tuple((int(rows), int(columns)) for rows, columns in given["value_shapes"])
        reads[name] = Read(given["refer_bbox"].detach(), grids=grids, heads=module.n_heads)

    def keep(part: str) -> Callable[..., None]:
        return lambda _, inputs, output: setattr(reads[name], part, output.detach())

    return [
        layer.register_forward_pre_hook(begin, with_kwargs=True),
        layer.sampling_offsets.register_forward_hook(keep("offsets")),
        layer.attention_weights.register_forward_hook(keep("scores")),
    ]


def _best(
    scores: Float[Tensor, "queries classes"], count: int, at_least: float
) -> tuple[Float[Tensor, " detections"], list[int], list[int]]:
    """Return scores, queries and classes of the detections, the best first, and at least one."""
    best, places = scores.flatten().topk(min(count, scores.numel()))
    enough = max(int((best >= at_least).sum()), 1)
    queries, classes = places[:enough] // scores.shape[1], places[:enough] % scores.shape[1]
    return best[:enough], queries.tolist(), classes.tolist()


def _points(read: Read, queries: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return points, weights and reference boxes of some queries, as deformable attention makes them."""
    if read.reference is None or read.offsets is None or read.scores is None:
        raise RuntimeError("a layer of the decoder ran without placing its points")
    levels = len(read.grids)
    shape = (len(queries), read.heads, levels, -1)
    scores = read.scores[0, queries].float().unflatten(-1, (read.heads, -1))
    offsets = read.offsets[0, queries].float().view(*shape, 2)
    reference = read.reference[0, queries, 0].float()  # detections, 4: one for all levels
    middle, size = reference[:, None, None, None, :2], reference[:, None, None, None, 2:]
    # Offsets count in half boxes, shared out over the points of a level.
    points = middle + offsets / offsets.shape[-2] * size / 2
    return points, scores.softmax(-1).view(shape), reference


def corners(boxes: Float[Tensor, "*axes 4"]) -> Float32[np.ndarray, "*axes 4"]:
    """Return boxes given by middle and size, across first, as top, left, bottom and right."""
    middle, size = boxes[..., :2].flip(-1), boxes[..., 2:].flip(-1)
    return _array(torch.cat([middle - size / 2, middle + size / 2], dim=-1))


def _array(tensor: Float[Tensor, "*axes"]) -> Float32[np.ndarray, "*axes"]:
    return tensor.detach().float().cpu().numpy()


def _is(module: nn.Module, name: str) -> bool:
    return any(parent.__name__ == name for parent in type(module).__mro__)
