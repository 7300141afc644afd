"""What a model looked at in a picture: its attention over grids, its decoder's points, and what is known besides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import nn

from mqa_lib import checks, decoder, hooks, pictures
from mqa_lib import record as records
from mqa_lib.decoder import SamplingRecord
from mqa_lib.explorer.faithful import Check
from mqa_lib.record import AttentionRecord

_GIVE = "Give a model and a picture, as in `show(model, 'photo.jpg')`, or what `look` or `record.capture` returns."
_LOOKED_FOR = "no MobileMQA, no MultiHeadAttention2d, no AIFI, and no decoder with sampling points"


@dataclass(frozen=True)
class Match:
    """A place whose right key is known: the pixels (row, column) in the middle of a lock and of its key.

    Args:
        name: What to call the lock.
        lock: Where the lock lies.
        key: Where its key lies.
        near: Keys of a layer count as right if their middles lie at most so many pixels from `key`, down and across;
            the nearest one alone if not given.
    """

    name: str
    lock: tuple[int, int]
    key: tuple[int, int]
    near: float | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model looked at in one picture.

    Args:
        name: What to call the picture.
        image: The picture, RGB.
        layers: Its attention over grids, in the order in which it ran.
        points: Its decoder's sampling points, if it has such a decoder.
        pairs: The places whose right key is known, as on Keys & Locks.
        checks: How the model's score moved when keys were masked.
        size: What the picture was stretched to for the model, as in `look`.
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    layers: list[AttentionRecord]
    points: SamplingRecord | None = None
    pairs: Sequence[Match] = ()
    checks: Sequence[Check] = ()
    size: records.Size = None

    @property
    def middle(self) -> tuple[int, int]:
        """Return row and column of the pixel in the middle of the best detection, or of the picture."""
        if self.points is not None:
            return self.points.middle(0)
        return self.image.shape[0] // 2, self.image.shape[1] // 2

    def right_key(self, record: AttentionRecord, query: int) -> int | None:
        """Return the key nearest to the right one, where it is known for the place that a query stands for."""
        match = next((match for match in self.pairs if record.query_at(*match.lock) == query), None)
        if match is None:
            return None
        return int(np.abs(record.key_centres() - (np.array(match.key) + 0.5)).max(axis=-1).argmin())

    @property
    def weights_are(self) -> str:
        """Return what the model's weights are, as its records say."""
        return self.layers[0].weights_are if self.layers else self.points.weights_are if self.points else ""


def look(
    model: nn.Module,
    image: pictures.Picture,
    name: str = "picture",
    weights_are: str | None = None,
    size: records.Size = None,
    layer: str | None = None,
) -> Seen:
    """Return all that can be recorded of what `model` looks at in a picture.

    Args:
        model: As in `record.capture`; a model with only one of attention and decoder is welcome too.
        image: As in `record.capture`.
        name: What to call the picture.
        weights_are: As in `record.capture`.
        size: As in `record.capture`.
        layer: Name of the only attention layer to keep; all if not given.

    Raises:
        ValueError: The picture cannot be read, the model holds nothing that can be recorded, or no such layer.
    """
    picture = pictures.read(image)
    attends, decodes = any(map(hooks.kind, model.modules())), decoder.holds_decoder(model)
    if not (attends or decodes):
        network = type(getattr(model, "model", model)).__name__
        raise checks.refuse("model", network, f"holds no attention: {_LOOKED_FOR}", "Give an RT-DETR.")
    layers = records.capture(model, picture, weights_are, size) if attends else []
    if layer is not None:
        by_name = {entry.layer: entry for entry in layers}
        layers = [by_name[checks.one_of("layer", layer, by_name)]]
    points = records.capture_decoder(model, picture, weights_are, size) if decodes else None
    return Seen(name, picture, layers, points, size=size)


def gather(given: Any, pairs: Sequence[Any] = ()) -> list[Seen]:
    """Return what was given, picture by picture: records of the same picture become one.

    Args:
        given: What `look` or `record.capture` returns, for one picture or several.
        pairs: The places of the first picture whose right key is known: each a `Match`, or a pair of a scene of Keys &
            Locks.

    Raises:
        ValueError: There is nothing, or something else.
    """
    several = isinstance(given, Iterable) and not isinstance(given, str | np.ndarray)
    entries: list[Any] = list(given) if several else [given]
    if not entries:
        raise checks.refuse("seen", [], "is empty", _GIVE)
    seen: list[Seen] = []
    by_picture: dict[tuple[tuple[int, ...], bytes], list[AttentionRecord]] = {}
    for entry in entries:
        if isinstance(entry, Seen):
            seen.append(entry)
        elif isinstance(entry, AttentionRecord):
            by_picture.setdefault((entry.image.shape, entry.image.tobytes()), []).append(entry)
        else:
            said = repr(entry) if isinstance(entry, str | Path) else type(entry).__name__
            raise checks.refuse("seen", said, "is not something that was seen", _GIVE)
    for number, layers in enumerate(by_picture.values(), start=1):
        name = "picture" if len(by_picture) == 1 else f"picture {number}"
        seen.append(Seen(name, layers[0].image, layers))
    if pairs:
        seen[0] = replace(seen[0], pairs=[_match(p) for p in pairs])
    return seen


def _match(pair: Any) -> Match:
    if isinstance(pair, Match):
        return pair
    return Match(pair.shape, (pair.lock.row, pair.lock.column), (pair.key.row, pair.key.column))
