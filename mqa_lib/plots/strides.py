"""What down-sampling loses: the grid of keys on a picture, one query's weights, and what was counted over many."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mqa_lib.plots.attention import colour_bar, draw_picture, draw_weights, outline, weight_scale
from mqa_lib.plots.style import BLACK, BLUE, GREEN, ORANGE, SKY, figure
from mqa_lib.record import AttentionRecord, Rectangle

_PLACES = ((0.01, 0.05, 0.28, 0.83), (0.3, 0.05, 0.31, 0.83), (0.82, 0.1, 0.165, 0.76))


def stride_figure(
    record: AttentionRecord,
    query: int,
    head: int,
    own_key: Rectangle,
    counts: Mapping[str, Mapping[str, float]],
    now: str,
) -> tuple[Figure, str]:
    """Return the key grid on the picture, a head's weights for a query, and shares counted for every stride.

    Args:
        record: The layer.
        query: Number of the query.
        head: Number of the head.
        own_key: Where the thing lies that the query should find.
        counts: For each stride, by name, shares from 0 to 1 by what was counted; the same for all.
        now: The stride that is drawn.
    """
    fig, axes = figure(1, 3, width=10.6, height=3.6)
    fig.set_layout_engine("none")  # finding the places anew for each picture takes a third of the time
    for ax, place in zip(axes, _PLACES, strict=True):
        ax.set_position(place)
    draw_picture(axes[0], record, query)
    _cover(axes[0], record)
    rows, columns = record.key_grid
    axes[0].set_title(f"dots: {rows} × {columns} keys; grey: in no key", fontsize=10)
    maps = record.rows(query)
    scale = weight_scale(maps[head : head + 1])
    draw_weights(axes[1], record, maps[head], query, scale)
    for ax in axes[:2]:
        outline(ax, own_key, GREEN)
    axes[1].set_title(f"what head {head} reads there", fontsize=10)
    colour_bar(fig, [axes[1]], scale, 1 / maps[0].size)
    _bars(axes[2], counts, now)
    best = record.top(query, head, 1)[0]
    told = "; ".join(
        f"{stride}: " + ", ".join(f"{' '.join(what.split())} {share:.0%}" for what, share in shares.items())
        for stride, shares in counts.items()
    )
    return fig, (
        f"A picture with {rows} by {columns} keys on it, the lock's cell outlined in purple and its key in green. Head"
        f" {head} reads most, {best.share:.0%}, at key row {best.row}, column {best.column}. Bars, counted: {told}."
    )


def _cover(ax: Any, record: AttentionRecord) -> None:
    """Draw the keys' centres, and grey over cells that no key is made from."""
    height, width = record.image.shape[:2]
    used = np.zeros((height, width), bool)
    for key in range(record.key_grid[0] * record.key_grid[1]):
        part = record.footprint(key)
        used[round(part.top) : round(part.bottom), round(part.left) : round(part.right)] = True
    veil = np.zeros((height, width, 4))
    veil[~used] = (0.75, 0.75, 0.75, 0.6)
    ax.imshow(veil, interpolation="nearest")
    centres = record.key_centres() - 0.5
    ax.scatter(centres[:, 1], centres[:, 0], s=9, color=ORANGE, edgecolors=BLACK, linewidths=0.4)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _bars(ax: Any, counts: Mapping[str, Mapping[str, float]], now: str) -> None:
    kinds: Sequence[str] = list(next(iter(counts.values())))
    places = np.arange(len(kinds))
    each = 0.8 / len(counts)
    for index, ((stride, shares), colour) in enumerate(
        zip(counts.items(), (BLUE, ORANGE, SKY), strict=False)
    ):
        offset = (index - (len(counts) - 1) / 2) * each
        line = 2.0 if stride == now else 0.0
        values = [shares[kind] for kind in kinds]
        ax.barh(
            places + offset, values, each * 0.9, color=colour, label=stride, edgecolor=BLACK, linewidth=line
        )
        for place, value in zip(places, values, strict=True):
            mark = (value, place + offset)
            ax.annotate(f"{value:.0%}", mark, (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    ax.set(yticks=places, yticklabels=kinds, xlim=(0, 1.3), ylim=(len(kinds) - 0.5, -0.5), xticks=(0, 0.5, 1))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.grid(False, axis="y")
    ax.legend(loc="upper center", bbox_to_anchor=(0.25, 1.2), ncols=3, fontsize=8.5, handlelength=1)
