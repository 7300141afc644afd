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
def style(name: str = "explorer.css") -> str:
    """Return a style sheet: the explorer's, or that of the page around it."""
    return _read(name)


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

    def array(self, values: np.ndarray) -> dict[str, Any]:
        return {"at": self.add(values.astype("<f2").tobytes()), "shape": list(values.shape)}


def pack(scenes: Sequence[Seen], at: tuple[int, int] | None = None) -> bytes:
    """Return what was seen as the bytes that the script unpacks: a length, a JSON text, and arrays.

    Args:
        scenes: What was seen, picture by picture.
        at: Row and column of the pixel to start at; the middle of each picture's best detection if not given.
    """
    packed = _Packed()
    entries = []
    for number, scene in enumerate(scenes):
        entries.append(
            {
                "at": number,
                "name": scene.name,
                "height": scene.image.shape[0],
                "width": scene.image.shape[1],
                "photo": _photo(packed, scene),
                "layers": _layers(packed, scene, at or scene.middle),
                "points": _points(packed, scene.points) if scene.points else None,
                "pairs": [vars(pair) for pair in scene.pairs],
                "checks": [check.table() for check in scene.checks],
            }
        )
    meta = {"scenes": entries, "caveat": [words.CAVEAT, words.CAVEAT_POINTS, words.COUNTED]}
    text = json.dumps(meta, separators=(",", ":")).encode()
    text += b" " * (-len(text) % NUMBER)
    return struct.pack("<I", len(text)) + text + b"".join(packed.parts)


def _photo(packed: _Packed, scene: Seen) -> dict[str, Any]:
    kind, data = plots.photo(scene.image)
    return {"type": kind, "at": packed.add(data), "bytes": len(data)}


def _layers(packed: _Packed, scene: Seen, at: tuple[int, int]) -> list[dict[str, Any]]:
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
                "real": words.what_is_real(record),
                "start": record.query_at(*at),
                "q": packed.array(record.q),
                "k": packed.array(record.k),
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
