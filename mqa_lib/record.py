"""What a layer looked at, kept as queries and keys: everything that pictures of attention are drawn from.

A record holds q and k and not the weights, because they are smaller (400 queries and 100 keys of 4 heads: 218 kB
instead of 640 kB) and every weight can be had from them again.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, UInt8
from torch import Tensor, nn

from mqa_lib import checks, decoder, hooks, npz, pictures
from mqa_lib.decoder import Rectangle, SamplingRecord

_ARRAYS = ("q", "k", "image")
_DETECTORS = ("RTDETR", "RTDETRDetectionModel")  # told by name, so that ultralytics is not imported
Size = int | tuple[int, int] | None
_UNSAID = "Nobody said what these weights were trained on."


class Reading(NamedTuple):
    """One key as a query reads it: its number, its row and column in the key grid, and its share of the whole."""

    key: int
    row: int
    column: int
    share: float


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """One attention layer's queries and keys for one picture, with what is needed to draw them back on it.

    Positions are numbered row by row. Lengths are pixels of `image`, (vertical, horizontal).

    Args:
        q: Queries of every head.
        k: Keys: one set for every head, or a single set that all heads share.
        scale: What q·k is multiplied by before the softmax.
        query_grid: Rows and columns of the queries.
        key_grid: Rows and columns of the keys.
        query_cell: Size of the piece of the picture that one query stands for.
        key_step: Distance from one key to the next.
        key_size: Size of the piece of the picture whose cells one key is made from.
        key_origin: Where the piece of the first key begins; negative where a convolution's padding begins.
        image: The picture, RGB.
        layer: Name of the layer in its model.
        kind: What the layer is, for people.
        weights_are: A sentence: what the model's weights were trained on, or that they are random.
        query_origin: Where the piece of the first query begins; negative where a map's first cell is centred on the
            picture's first pixel, as a convolution of stride 2 with a padding of 1 makes it.

    Raises:
        ValueError: The arrays do not fit the grids or each other.
    """

    q: Float16[np.ndarray, "heads queries key_dim"]
    k: Float16[np.ndarray, "key_sets keys key_dim"]
    scale: float
    query_grid: tuple[int, int]
    key_grid: tuple[int, int]
    query_cell: tuple[float, float]
    key_step: tuple[float, float]
    key_size: tuple[float, float]
    key_origin: tuple[float, float]
    image: UInt8[np.ndarray, "height width 3"]
    layer: str
    kind: str
    weights_are: str
    query_origin: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        way_out = "Make the record with `record.capture`."
        for name, grid, array in (
            ("query_grid", self.query_grid, self.q),
            ("key_grid", self.key_grid, self.k),
        ):
            if math.prod(grid) != array.shape[1]:
                raise checks.refuse(name, grid, f"does not hold {array.shape[1]} positions", way_out)
        if self.k.shape[0] not in (1, self.q.shape[0]):
            rule = f"must have one set of keys, or one for each of {self.q.shape[0]} heads"
            raise checks.refuse("k", self.k.shape, rule, way_out)

    @property
    def num_heads(self) -> int:
        """Return the number of heads."""
        return self.q.shape[0]

    @property
    def shares_keys(self) -> bool:
        """Return whether all heads read one set of keys, as in multi-query attention."""
        return self.k.shape[0] == 1

    @property
    def uniform_entropy(self) -> float:
        """Return the entropy, in bits, of reading every key equally: the most that `entropy` can be."""
        return math.log2(self.k.shape[1])

    @property
    def key_bytes(self) -> int:
        """Return how many bytes the keys of all heads take in float16."""
        return self.k.nbytes

    def weights(self, head: int | None = None) -> Float32[np.ndarray, "heads queries keys"]:
        """Return the attention weights of one head, or of all; each query's sum to 1."""
        chosen = slice(None) if head is None else slice(self._head(head), head + 1)
        k = self.k if self.shares_keys else self.k[chosen]
        return _softmax(self.q[chosen].astype(np.float32) @ k.astype(np.float32).swapaxes(1, 2) * self.scale)

    def row(self, query: int, head: int) -> Float32[np.ndarray, " keys"]:
        """Return how much of each key one query reads in one head."""
        k = self.k[0 if self.shares_keys else self._head(head)].astype(np.float32)
        return _softmax(k @ self.q[self._head(head), self._query(query)].astype(np.float32) * self.scale)

    def rows(self, query: int) -> Float32[np.ndarray, "heads rows columns"]:
        """Return how much of each key one query reads in every head, as maps over the key grid."""
        return np.stack([self.row(query, head).reshape(self.key_grid) for head in range(self.num_heads)])

    def entropy(self) -> Float[np.ndarray, "heads queries"]:
        """Return the entropy of every query's weights in bits: 0 for one key, `uniform_entropy` for all alike."""
        return entropy(self.weights())

    def top(self, query: int, head: int, count: int = 5) -> list[Reading]:
        """Return the keys that one query reads most in one head, the strongest first."""
        shares = self.row(query, head)
        best = np.argsort(-shares, kind="stable")[: checks.positive("count", count)]
        return [Reading(int(key), *divmod(int(key), self.key_grid[1]), float(shares[key])) for key in best]

    def footprint(self, key: int) -> Rectangle:
        """Return the part of the picture whose cells one key is made from, cut at the picture's border.

        With more layers before it, a key knows of more than this: of all that those cells see.
        """
        place = divmod(checks.index("key", key, self.k.shape[1]), self.key_grid[1])
        return self._rectangle(
            [
                start + step * at
                for start, step, at in zip(self.key_origin, self.key_step, place, strict=True)
            ],
            self.key_size,
        )

    def key_centres(self) -> Float[np.ndarray, "keys 2"]:
        """Return the middle of every key's footprint, (row, column) of the picture, before the border cuts it."""
        places = np.indices(self.key_grid).reshape(2, -1).T
        return np.array(self.key_origin) + np.array(self.key_size) / 2 + places * np.array(self.key_step)

    def query_cell_of(self, query: int) -> Rectangle:
        """Return the part of the picture that one query stands for."""
        place = divmod(self._query(query), self.query_grid[1])
        return self._rectangle(
            [
                start + size * at
                for start, size, at in zip(self.query_origin, self.query_cell, place, strict=True)
            ],
            self.query_cell,
        )

    def query_at(self, row: int, column: int) -> int:
        """Return the number of the query whose cell holds the middle of a pixel, or else lies nearest to it.

        Raises:
            ValueError: The pixel is outside the picture.
        """
        height, width = self.image.shape[:2]
        if not (0 <= row < height and 0 <= column < width):
            way_out = "Use 0 ≤ row < height and 0 ≤ column < width."
            raise checks.refuse(
                "row, column", (row, column), f"is outside the picture of {height}×{width}", way_out
            )
        place = [
            int((at + 0.5 - start) // size)
            for at, start, size in zip((row, column), self.query_origin, self.query_cell, strict=True)
        ]
        down, across = (
            min(max(at, 0), extent - 1) for at, extent in zip(place, self.query_grid, strict=True)
        )
        return down * self.query_grid[1] + across

    def pixel_of(self, query: int) -> tuple[int, int]:
        """Return row and column of the pixel in the middle of what one query stands for."""
        top, left, bottom, right = self.query_cell_of(query)
        height, width = self.image.shape[:2]
        return min(int((top + bottom) / 2), height - 1), min(int((left + right) / 2), width - 1)

    def save(self, path: str | Path) -> Path:
        """Write the record to one `.npz` file, without pickle, and return its path."""
        rest = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _ARRAYS}
        return npz.write(path, {name: getattr(self, name) for name in _ARRAYS}, rest)

    @classmethod
    def load(cls, path: str | Path) -> "AttentionRecord":
        """Return the record that `save` wrote.

        Raises:
            ValueError: The file is missing, damaged, or not a record.
        """
        try:
            return cls(**npz.read(path, _ARRAYS))
        # numpy raises a different one for each way in which a file can be damaged
        except Exception as error:
            raise npz.refuse(path, "an attention record", error) from error

    def _head(self, head: int) -> int:
        return checks.index("head", head, self.num_heads)

    def _query(self, query: int) -> int:
        return checks.index("query", query, self.q.shape[1])

    def _rectangle(self, start: list[float], size: tuple[float, float]) -> Rectangle:
        limits = self.image.shape[:2]
        first = [min(max(at, 0.0), limit) for at, limit in zip(start, limits, strict=True)]
        last = [min(max(at + more, 0.0), limit) for at, more, limit in zip(start, size, limits, strict=True)]
        return Rectangle(*first, *last)


def entropy(weights: Float[np.ndarray, "*axes keys"]) -> Float[np.ndarray, "*axes"]:
    """Return the entropy of weights that sum to 1 over the last axis, in bits."""
    safe = np.where(weights > 0, weights, 1.0).astype(np.float64)
    return np.asarray(
        0.0 - (weights * np.log2(safe)).sum(axis=-1)
    )  # 0 - 0, because -0 would be printed as -0.00


def _softmax(scores: Float32[np.ndarray, "*axes keys"]) -> Float32[np.ndarray, "*axes keys"]:
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def capture(
    model: nn.Module, image: pictures.Picture, weights_are: str | None = None, size: Size = None
) -> list[AttentionRecord]:
    """Return a record of every attention layer that runs when `model` sees `image`, in the order in which they run.

    Found are `MobileMQA`, `MultiHeadAttention2d`, and the encoder layer (`AIFI`) of ultralytics' RT-DETR, anywhere in
    the model. The model runs once in evaluation mode, without gradients, and is left as it was. Of a layer that runs
    more than once, the last run is kept. The attention in RT-DETR's decoder does not read a grid but a few points of
    its own choice: `capture_decoder` returns it.

    Args:
        model: Any module that takes pictures with values from 0 to 1, or an RT-DETR of ultralytics.
        image: A path, a PIL picture, or an array of height × width × 3 in uint8.
        weights_are: A sentence on what the weights were trained on; if not given, what the model says in its `card`
            (as detectors of `mqa_lib.rtdetr` do) or in `weights_are`.
        size: Height and width that the picture is stretched to for the model: one number, or (height, width). If not
            given, the size that an RT-DETR was trained at (from its card or checkpoint, else 640), and the picture's
            own for other models. For an RT-DETR it is rounded up to a multiple of its stride, as when it predicts.

    Raises:
        ValueError: The picture cannot be read, the model holds no such layer, or none of them ran.
    """
    picture = pictures.read(image)
    core, batch = core_and_batch(model, picture, size)
    scale = (picture.shape[0] / batch.shape[2], picture.shape[1] / batch.shape[3])
    said = _said(model, weights_are)
    return [_record(view, picture, scale, said) for view in hooks.run(core, batch)]


def capture_decoder(
    model: nn.Module,
    image: pictures.Picture,
    weights_are: str | None = None,
    size: Size = None,
    count: int = 20,
    at_least: float = decoder.AT_LEAST,
) -> SamplingRecord:
    """Return where RT-DETR's decoder read the picture for each detection, layer by layer, and with what weights.

    The model runs as in `capture`. Detections are chosen by score, as when it predicts.

    Args:
        model: An RT-DETR of ultralytics, or any module that holds its decoder.
        image: As in `capture`.
        weights_are: As in `capture`.
        size: As in `capture`.
        count: Detections to keep at most, the best first.
        at_least: Score that a detection needs. If none has it, the best alone is kept.

    Raises:
        ValueError: The picture cannot be read, or the model holds no such decoder or did not run it.
    """
    picture = pictures.read(image)
    core, batch = core_and_batch(model, picture, size)
    found = decoder.run(core, batch, checks.positive("count", count), at_least)
    return decoder.record(found, picture, getattr(core, "names", {}), _said(model, weights_are))


def reach(model: nn.Module, image: pictures.Picture, layer: str, key: int, size: Size = None) -> Rectangle:
    """Return the part of the picture that one key of a layer knows of: where a changed pixel can change it.

    It is larger than the key's footprint, because the cells of the layer's map already see more than their own place.
    It is found from the key's gradient, and may miss pixels behind a unit that is switched off for this picture.

    Args:
        model: As in `capture`.
        image: As in `capture`.
        layer: Name of the layer, as in a record.
        key: Number of the key.
        size: As in `capture`.

    Raises:
        ValueError: The model has no such layer or the layer no such key, or as `capture`.
    """
    picture = pictures.read(image)
    core, batch = core_and_batch(model, picture, size)
    views = {view.name: view for view in hooks.run(core, batch.requires_grad_())}
    k = views[checks.one_of("layer", layer, views)].k
    chosen = k[:, checks.index("key", key, k.shape[1])].square().sum()
    touched = torch.autograd.grad(chosen, batch)[0][0].abs().sum(0).cpu().numpy() > 0
    edges = []
    for axis, extent in ((1, picture.shape[0]), (0, picture.shape[1])):
        pixels = np.flatnonzero(touched.any(axis))
        scale = extent / touched.shape[1 - axis]
        edges.append((float(pixels[0] * scale), float((pixels[-1] + 1) * scale)))
    return Rectangle(edges[0][0], edges[1][0], edges[0][1], edges[1][1])


def core_and_batch(
    model: nn.Module, picture: UInt8[np.ndarray, "height width 3"], size: Size
) -> tuple[nn.Module, Float[Tensor, "1 3 rows columns"]]:
    """Return the network itself inside a detector, and the picture as the network wants it.

    Args:
        model: As in `capture`.
        picture: The picture, RGB.
        size: As in `capture`.
    """
    names = [parent.__name__ for parent in type(model).__mro__]
    core: Any = model.model if _DETECTORS[0] in names else model
    target = None if size is None else checks.pair("size", size)
    if any(name in names for name in _DETECTORS):
        said = getattr(model, "card", {}).get("imgsz") or getattr(model, "overrides", {}).get("imgsz") or 640
        stride = int(max(getattr(core, "stride", [32])))
        rows, columns = (
            -(-extent // stride) * stride for extent in target or checks.pair("imgsz of the model", said)
        )
        target = rows, columns
    return core, pictures.tensor(picture, target).to(next(core.parameters(), torch.zeros(())))


def _said(model: nn.Module, weights_are: str | None) -> str:
    """Return what the weights are: as given, else as the model says, else that nobody said."""
    said = weights_are or getattr(model, "card", {}).get("weights_are") or getattr(model, "weights_are", None)
    return said or _UNSAID


def _record(
    view: hooks.View,
    picture: UInt8[np.ndarray, "height width 3"],
    scale: tuple[float, float],
    weights_are: str,
) -> AttentionRecord:
    down, across = (step * by for step, by in zip(view.lattice.step, scale, strict=True))
    top, left = ((first - step / 2) * by for first, step, by in zip(*view.lattice, scale, strict=True))
    q, q_by = hooks.in_half("q", view.q, view.name)
    k, k_by = hooks.in_half("k", view.k, view.name)
    query_step = down * view.query_strides[0], across * view.query_strides[1]
    return AttentionRecord(
        q=q,
        k=k,
        scale=view.q.shape[-1] ** -0.5 * q_by * k_by,
        query_grid=view.query_grid,
        key_grid=view.key_grid,
        query_cell=query_step,
        key_step=(down * view.kv_stride, across * view.kv_stride),
        key_size=(down * view.kernel, across * view.kernel),
        key_origin=(top - down * view.padding[0], left - across * view.padding[1]),
        image=picture,
        layer=view.name,
        kind=view.kind,
        weights_are=weights_are,
        query_origin=(top - down * view.query_padding[0], left - across * view.query_padding[1]),
    )
