"""What the interactive explorer is made of: its script, its style sheet, and records packed for it."""

import json
import re
import struct
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from mqa_lib import plots
from mqa_lib.decoder import SamplingRecord
from mqa_lib.explorer import words
from mqa_lib.explorer.seen import Seen
from mqa_lib.record import AttentionRecord

# In this order each file uses only names of those before it.
SCRIPTS = ("core.mjs", "parts.mjs", "panels.mjs", "explorer.mjs")
NUMBER = 2  # bytes of one in half precision


@cache
def script() -> str:
    """Return the explorer as one ES module: its files, without what joins them, comments and indentation.

    A host such as anywidget takes one module, and a page without a network has nothing to import it from.
    """
    joined = "\n".join(_read(name) for name in SCRIPTS)
    joined = re.sub(r"^import\s[^;]*;\n", "", joined, flags=re.MULTILINE)
    joined = re.sub(r"^export (?!default)", "", joined, flags=re.MULTILINE)
    lines = (re.sub(r"(^|\s)// .*", "", line).strip() for line in joined.splitlines())
    return re.sub(r"(?<=[{(\[,;])\n", "", "\n".join(filter(None, lines))) + "\n"


@cache
def style() -> str:
    """Return the explorer's style sheet."""
    return _read("explorer.css")


def _read(name: str) -> str:
    return resources.files("mqa_lib.explorer").joinpath(name).read_text(encoding="utf-8")


class _Packed:
    """Arrays and files one after the other, each at an even address, and where each begins."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, data: bytes) -> int:
        at = self.length
        self.parts.append(data + b"\0" * (-len(data) % NUMBER))
        self.length += len(self.parts[-1])
        return at

    def array(self, values: np.ndarray, bits: int = 16) -> dict[str, Any]:
        if bits == 16:
            return {"at": self.add(values.astype("<f2").tobytes()), "shape": list(values.shape)}
        whole, steps = coarse(values)
        one, two = np.resize(whole.ravel() + 2048, (whole.size + 1) // 2 * 2).reshape(-1, 2).T
        three = np.stack([one & 255, one >> 8 | (two & 15) << 4, two >> 4], axis=1).astype(np.uint8)
        at = self.add(three.tobytes())
        return {"at": at, "shape": list(values.shape), "steps": self.add(steps.astype("<f2").tobytes())}


def coarse(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers as whole ones from -2047 to 2047, and the step that every vector of the last axis counts in."""
    exact = values.astype(np.float64)
    steps = np.maximum(np.abs(exact).max(axis=-1, keepdims=True) / 2047, 2.0**-24)
    half = steps.astype(np.float16)
    half = np.where(half < steps, np.nextafter(half, np.float16(np.inf)), half)  # rounded up, so that all fit
    return np.round(exact / half.astype(np.float64)).astype(np.int32), half


def rounding(record: AttentionRecord) -> float:
    """Return by how much a weight differs at most if queries and keys are kept in 12 bits."""
    q, k = (whole * steps.astype(np.float64) for whole, steps in map(coarse, (record.q, record.k)))
    scores = q @ k.swapaxes(1, 2) * record.scale
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return float(np.abs(shares / shares.sum(axis=-1, keepdims=True) - record.weights()).max())


def pack(
    scenes: Sequence[Seen], at: tuple[int, int] | None = None, photos: Sequence[str] = (), bits: int = 16
) -> bytes:
    """Return what was seen as the bytes that the script unpacks: a length, a JSON text, and arrays.

    Args:
        scenes: What was seen, picture by picture.
        at: Row and column of the pixel to start at; the middle of each picture's best detection if not given.
        photos: Identifiers of the page's elements that hold the pictures already; packed with the rest if not given.
        bits: Bits of a number of queries and keys: 16 as in the record, or 12.
    """
    packed = _Packed()
    entries = []
    for number, scene in enumerate(scenes):
        entry: dict[str, Any] = {
            "at": number,
            "name": scene.name,
            "height": scene.image.shape[0],
            "width": scene.image.shape[1],
        }
        entry["photo"] = {"on": photos[number]} if photos else _photo(packed, scene)
        entry["layers"] = _layers(packed, scene, at or scene.middle, bits)
        entry["points"] = _points(packed, scene.points) if scene.points else None
        entry["pairs"] = [vars(pair) for pair in scene.pairs]
        entry["checks"] = [check.table() for check in scene.checks]
        entries.append(entry)
    meta = {"scenes": entries, "caveat": [words.CAVEAT, words.CAVEAT_POINTS, words.COUNTED]}
    text = json.dumps(meta, separators=(",", ":")).encode()
    text += b" " * (-len(text) % NUMBER)
    return struct.pack("<I", len(text)) + text + b"".join(packed.parts)


def _photo(packed: _Packed, scene: Seen) -> dict[str, Any]:
    kind, data = plots.photo(scene.image)
    return {"type": kind, "at": packed.add(data), "bytes": len(data)}


def _layers(packed: _Packed, scene: Seen, at: tuple[int, int], bits: int) -> list[dict[str, Any]]:
    """Return what the script wants to know of each layer; strides of one layer get one `group`."""
    groups: dict[tuple[str, str, tuple[int, int]], list[float]] = {}
    entries = []
    for number, record in enumerate(scene.layers):
        title = f"{record.layer or 'the model itself'} ({record.kind})"
        stride, copy = round(record.key_step[0] / record.query_cell[0], 2), 1
        while stride in groups.setdefault((title, str(copy), record.query_grid), []):
            copy += 1  # the same layer of another model: a layer of its own
        groups[title, str(copy), record.query_grid].append(stride)
        entries.append(
            {
                "at": number,
                "id": f"{scene.name} {number}",
                "title": title if copy == 1 else f"{title}, number {copy}",
                "group": f"{title} {copy} {record.query_grid}",
                "stride": f"{stride:g}",
                "said": words.layer_name(record),
                "real": words.what_is_real(record, bits),
                "start": record.query_at(*at),
                "q": packed.array(record.q, bits),
                "k": packed.array(record.k, bits),
                **_geometry(record),
            }
        )
    return entries


def _geometry(record: AttentionRecord) -> dict[str, Any]:
    return {
        "scale": record.scale,
        "queryGrid": record.query_grid,
        "keyGrid": record.key_grid,
        "queryOrigin": record.query_origin,
        "queryCell": record.query_cell,
        "keyOrigin": record.key_origin,
        "keyStep": record.key_step,
        "keySize": record.key_size,
    }


def _points(packed: _Packed, points: SamplingRecord) -> dict[str, Any]:
    """Return the decoder's points; their places count from the middle of the box that they are placed around.

    So they are small numbers, which half precision holds to a fraction of a pixel.
    """
    edges = points.references.reshape(*points.references.shape[:2], 2, 2)
    middles = edges.mean(axis=2)[:, :, None, None, None, :]
    return {
        "labels": points.labels,
        "scores": [round(float(score), 4) for score in points.scores],
        "boxes": np.round(points.boxes.astype(float), 2).tolist(),
        "references": np.round(points.references.astype(float), 2).tolist(),
        "layers": points.layers,
        "grids": points.grids,
        "offsets": packed.array(points.points - middles),
        "weights": packed.array(points.weights),
        "real": f"What is real here: {points.weights_are.rstrip('. ')}.",
    }
