"""What a stride loses: the same picture and the same lock through three trained layers, and all locks counted."""

import json
from functools import cache
from typing import Any

import torch

from mqa_lib import cost, plots, probe, record
from mqa_lib.datasets.keys_and_locks import COLOURS, Place
from mqa_lib.decoder import Rectangle
from mqa_lib.labs import base

PICTURES = 12
AS_TRAINED, EVERYWHERE = "where they lay in training", "on every cell, also between"
PLACES = {AS_TRAINED: probe.STEP, EVERYWHERE: probe.CELL}


class StrideLab(base.Lab):
    """A lock of a picture, seen by the bundled probe of a stride, beside what was counted over all locks.

    Args:
        kv_stride: One of `probe.STRIDES`.
        picture: Number of the picture.
        lock: Number of the lock in it.
        places: A name in `PLACES`: where shapes may lie.
    """

    def __init__(self, kv_stride: int = 2, picture: int = 0, lock: int = 0, places: str = AS_TRAINED) -> None:
        self.kv_stride = base.slider("kv_stride", probe.STRIDES, kv_stride)
        self.number = base.slider("picture", range(PICTURES), picture)
        self.lock = base.slider("lock", range(probe.PAIRS[0]), lock)
        self.places = base.dropdown("shapes lie", list(PLACES), places)
        heads = [("the most decided head", -1), *((f"head {head}", head) for head in range(4))]
        self.head = base.dropdown("head", heads, -1)
        super().__init__([self.kv_stride, self.number, self.lock, self.head, self.places])

    @property
    def step(self) -> int:
        """The grid of the shapes' centres, in pixels."""
        return PLACES[self.places.value]

    @property
    def seen(self) -> record.AttentionRecord:
        """What the layer looked at in the chosen picture."""
        return captured(self.kv_stride.value, self.step, self.number.value)

    @property
    def pair(self) -> Any:
        """The chosen lock and its key."""
        return drawn(self.step).scenes[self.number.value].pairs[self.lock.value]

    @property
    def query(self) -> int:
        """The number of the query in whose cell the lock's middle lies."""
        row, column = self.pair.lock.row // probe.CELL, self.pair.lock.column // probe.CELL
        return row * probe.GRID + column

    @property
    def chosen_head(self) -> int:
        """The head that is drawn: the chosen one, or the one with the lowest entropy there."""
        if self.head.value >= 0:
            return int(self.head.value)
        return int(record.entropy(self._weights()).argmin())

    def _weights(self) -> Any:
        """Return what every head reads at the lock, as heads × keys."""
        return self.seen.rows(self.query).reshape(self.seen.num_heads, -1)

    def counts(self) -> dict[str, dict[str, float]]:
        """Return what was counted over all locks, by stride."""
        return {
            f"stride {row['kv_stride']}": {
                "locks named right": row["right"],
                "strongest key on\nthe coloured key": row["found"],
                "entropy, of\nthe most possible": row["entropy"] / row["most_entropy"],
                "the map's cells in\nsome key": used_cells(row["kv_stride"]),
            }
            for row in counted()
            if row["step"] == self.step
        }

    def draw(self) -> tuple[plots.Figure, str]:
        """Return the key grid, the weights and the bars."""
        own = _box(self.pair.key)
        now = f"stride {self.kv_stride.value}"
        return plots.stride_figure(self.seen, self.query, self.chosen_head, own, self.counts(), now)

    def say(self) -> str:
        """Return what this lock's query read and was named, and what was counted."""
        named, right = self.named()
        best = self.seen.top(self.query, self.chosen_head, 1)[0]
        centre = self.seen.key_centres()[best.key]
        distance = max(abs(centre[0] - self.pair.key.row), abs(centre[1] - self.pair.key.column))
        bits = record.entropy(self._weights())[self.chosen_head]
        row = next(
            row for row in counted() if row["step"] == self.step and row["kv_stride"] == self.kv_stride.value
        )
        unseen = " In training shapes lay on every second cell only." if self.step != probe.STEP else ""
        verdict = "right" if named == right else f"wrong, it is {right}"
        return (
            f"This lock is a {self.pair.shape} and is named {named}: {verdict}. What head {self.chosen_head} reads most"
            f" ({best.share:.0%}) lies {distance:.0f} pixels from the lock's coloured key; its weights have {bits:.1f}"
            f" of {self.seen.uniform_entropy:.1f} bits. Counted over {row['locks']:,} locks at kv_stride"
            f" {row['kv_stride']}: {row['right']:.1%} named right; the best head's strongest key lies within"
            f" {probe.REACH} pixels of the coloured key for {row['found']:.1%} (blindly {row['chance']:.1%}). One"
            f" training a stride, so small differences are no finding.{unseen}"
        )

    def rows(self) -> str:
        """Return what was counted, in full."""
        titles = (
            "kv_stride",
            "shapes lie",
            "keys",
            "locks",
            "named right",
            "strongest key right",
            "in some head",
            "blindly",
            "entropy [bits]",
        )
        names = {step: name for name, step in PLACES.items()}
        lines = [
            (
                row["kv_stride"],
                names[row["step"]],
                row["keys"],
                f"{row['locks']:,}",
                *(f"{row[what]:.1%}" for what in ("right", "found", "found_by_any", "chance")),
                f"{row['entropy']:.2f} of {row['most_entropy']:.1f}",
            )
            for row in counted()
        ]
        said = f"A key is right if it is centred within {probe.REACH} pixels of the middle of the lock's coloured key."
        return base.html_table(titles, lines, said)

    def named(self) -> tuple[str, str]:
        """Return the colour that the probe names for the lock, and the right one."""
        picture = drawn(self.step).pictures[self.number.value : self.number.value + 1]
        with torch.no_grad():
            scores = _loaded(self.kv_stride.value)(picture / 255).flatten(2)[0, :, self.query]
        names = list(COLOURS)
        return names[int(scores.argmax())], names[self.pair.colour]


stride_lab = StrideLab  # as a cell asks for it: the lab, ready to be its last line


@cache
def counted() -> list[dict[str, Any]]:
    """Return what was counted with the bundled probes: a row for each stride and kind of places."""
    rows: list[dict[str, Any]] = json.loads((probe.WEIGHTS / "strides.json").read_text())["rows"]
    return rows


@cache
def drawn(step: int) -> probe.Batch:
    """Return the pictures to choose from: the first ones of those that were counted."""
    return probe.draw(PICTURES, seed=10_000, split="val", step=step)


@cache
def captured(kv_stride: int, step: int, picture: int) -> record.AttentionRecord:
    """Return what the bundled probe of a stride looked at in a picture."""
    image = drawn(step).pictures[picture].permute(1, 2, 0).numpy()
    card = json.loads((probe.WEIGHTS / f"stride-{kv_stride}.json").read_text())
    (seen,) = record.capture(_loaded(kv_stride), image, card["weights_are"])
    return seen


def used_cells(kv_stride: int, kernel: int = 3) -> float:
    """Return the share of the map's cells that some key is made from.

    Args:
        kv_stride: Distance of the keys.
        kernel: Cells that a key is made from, both ways, where it is not 1.
    """
    if kv_stride == 1:
        return 1.0
    count, half = cost.key_grid(probe.GRID, probe.GRID, kv_stride)[0], kernel // 2
    centres = [cost.key_centre(at, kv_stride) for at in range(count)]
    rows = {row for centre in centres for row in range(centre - half, centre + half + 1)}
    return (len(rows & set(range(probe.GRID))) / probe.GRID) ** 2


@cache
def _loaded(kv_stride: int) -> probe.Probe:
    return probe.load(kv_stride)


def _box(place: Place) -> Rectangle:
    return Rectangle(
        place.row - place.radius,
        place.column - place.radius,
        place.row + place.radius + 1,
        place.column + place.radius + 1,
    )
