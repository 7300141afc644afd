"""Pictures of attention: what a query of a picture reads, drawn back on the picture."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle as Patch

from mqa_lib import checks
from mqa_lib.plots.style import BLACK, HEAT, ORANGE, PALETTE, PURPLE, figure, image_axes
from mqa_lib.record import AttentionRecord, Rectangle, entropy

_DIM = 0.45  # brightness of the grey picture beneath the weights
_FAINT, _STRONG = 0.25, 0.8  # opacity of a key that is not read at all, and of the key read most

_SIDE_BY_SIDE = 5  # maps whose titles fit on one line


def explorer_figure(
    record: AttentionRecord, query: int, head: int | None = None, target: int | None = None
) -> Figure:
    """Return the picture with a query's cell outlined, beside it what every head, or one, reads there.

    The upper maps lie on the picture, each key on the middle of the part it is made from; the lower ones are the bare
    grid of keys. All share one scale, from 0 to the largest weight shown, or to four times what reading every key alike
    would give if that is more: so weights that choose nothing do not look as if they did.

    Args:
        record: The layer.
        query: Number of the query.
        head: The only head to draw; all if not given.
        target: Number of a key whose part of the picture is outlined too, as that of the right one where it is known.
    """
    maps = record.rows(query)
    heads = list(range(record.num_heads)) if head is None else [head]
    scale, entropies = weight_scale(maps[heads]), _entropies(record, query)
    fig, picture, upper, lower = _explorer_axes(len(heads))
    draw_picture(picture, record, query)
    for number, ax in zip(heads, upper, strict=True):
        draw_weights(ax, record, maps[number], query, scale)
        ax.set_title(
            f"head {number}: {entropies[number]:.1f} of {record.uniform_entropy:.1f} bits", fontsize=9
        )
    for number, ax in zip(heads, lower, strict=False):
        draw_grid(ax, maps[number], scale)
    if target is not None:
        for ax in (picture, *upper):
            outline(ax, record.footprint(target), ORANGE)
    colour_bar(fig, [*upper, *lower], scale, 1 / maps[0].size)
    return fig


def _explorer_axes(heads: int) -> tuple[Figure, Any, list[Any], list[Any]]:
    """Return a figure with Axes for the picture, for each head on the picture, and for the bare grids if they fit."""
    if heads == 1:
        fig, (picture, upper, lower) = figure(1, 3, width=10.0, height=3.4)
        return fig, picture, [upper], [lower]
    across = min(heads, 4)
    down = 2 if heads <= across else -(-heads // across)
    ratios = {"width_ratios": [2.1] + [1] * across}
    fig, axes = figure(
        down, across + 1, width=10.0, height=0.1 + 1.85 * down, squeeze=False, gridspec_kw=ratios
    )
    grid = axes[0, 0].get_gridspec()
    for ax in axes[:, 0]:
        ax.remove()
    maps = axes[:, 1:].ravel().tolist()
    lower = maps[across:] if heads <= across else []
    for ax in maps[heads + len(lower) :]:
        ax.remove()
    return fig, fig.add_subplot(grid[:, 0]), maps[:heads], lower


def explorer_alt(record: AttentionRecord, query: int, head: int | None = None) -> str:
    """Return what `explorer_figure` shows, as a sentence for those who cannot see it."""
    row, column = divmod(query, record.query_grid[1])
    heads = range(record.num_heads) if head is None else [head]
    said = [
        f"head {number} reads most, {best.share:.0%}, from row {best.row}, column {best.column}"
        for number in heads
        for best in record.top(query, number, 1)
    ]
    rows, columns = record.key_grid
    return (
        f"A picture with the query cell at row {row}, column {column} outlined, and its weights over {rows} by "
        f"{columns} keys: {'; '.join(said)}. Every key alike would be {1 / (rows * columns):.1%}."
    )


def same_pixel_figure(
    records: Sequence[AttentionRecord], names: Sequence[str], row: int, column: int
) -> Figure:
    """Return one row of maps for each record: what every head reads for the query whose cell holds one pixel.

    Each row has a scale of its own, because weights over few keys are larger than over many.

    Args:
        records: Layers that saw the same picture.
        names: What to call them.
        row: Row of the pixel, from the top.
        column: Column of the pixel, from the left.

    Raises:
        ValueError: There is no record, or not one name for each.
    """
    _one_name_each(records, names)
    most = max(record.num_heads for record in records)
    fig, axes = figure(
        len(records), most + 1, width=min(2.1 * (most + 1), 12.0), height=2.25 * len(records), squeeze=False
    )
    for line, record, name in zip(axes, records, names, strict=True):
        query = record.query_at(row, column)
        maps, entropies = record.rows(query), _entropies(record, query)
        scale = weight_scale(maps)
        draw_picture(line[0], record, query)
        line[0].set_title(name, fontsize=9)
        for head, ax in enumerate(line[1:]):
            ax.set_visible(head < record.num_heads)
            if head < record.num_heads:
                draw_weights(ax, record, maps[head], query, scale)
                between = ": " if most <= _SIDE_BY_SIDE else "\n"
                title = f"head {head}{between}{entropies[head]:.1f} of {record.uniform_entropy:.1f} bits"
                ax.set_title(title, fontsize=8)
        colour_bar(fig, list(line[1:]), scale, 1 / maps[0].size)
    return fig


def same_pixel_alt(records: Sequence[AttentionRecord], row: int, column: int) -> str:
    """Return what `same_pixel_figure` shows, as sentences."""
    return " ".join(explorer_alt(record, record.query_at(row, column)) for record in records)


def entropy_figure(records: Sequence[AttentionRecord], names: Sequence[str]) -> Figure:
    """Return how much each head chooses: the entropy of its queries beside that of reading every key alike.

    A bar reaches from the 10th to the 90th percentile of a head's queries, and a dot marks the median.

    Args:
        records: Layers to compare.
        names: What to call them.

    Raises:
        ValueError: There is no record, or not one name for each.
    """
    _one_name_each(records, names)
    bars = sum(record.num_heads for record in records)
    fig, ax = figure(width=8.0, height=0.9 + 0.27 * (bars + len(records)))
    line, ticks, labels = 0.0, [], []
    for record, name, colour in zip(records, names, PALETTE, strict=False):
        low, middle, high = np.percentile(record.entropy(), (10, 50, 90), axis=1)
        places = line + np.arange(record.num_heads)
        ax.hlines(places, low, high, color=colour, linewidth=6, alpha=0.45)
        ax.plot(middle, places, "o", color=colour, markeredgecolor=BLACK)
        ax.vlines(
            record.uniform_entropy,
            places[0] - 0.5,
            places[-1] + 0.5,
            color=BLACK,
            linestyle="--",
            linewidth=1.2,
        )
        keys = record.k.shape[1]
        ax.annotate(
            f" all {keys} keys alike", (record.uniform_entropy, float(places.mean())), fontsize=9, va="center"
        )
        ticks += places.tolist()
        labels += [f"{name}, head {head}" for head in range(record.num_heads)]
        line = float(places[-1]) + 2
    limit = max(record.uniform_entropy for record in records)
    ax.set(
        xlim=(0, limit * 1.25),
        ylim=(line - 1, -1),
        xlabel="entropy of a query's weights in bits (low: it chooses)",
    )
    ax.set_yticks(ticks, labels)
    ax.grid(False, axis="y")
    return fig


def weight_scale(maps: Float[np.ndarray, "heads rows columns"]) -> Normalize:
    """Return the scale that these weights share: from 0 to the largest, at least to four times 1 / keys."""
    return Normalize(0, max(float(maps.max()), 4 / maps[0].size))


def entropy_alt(records: Sequence[AttentionRecord], names: Sequence[str]) -> str:
    """Return what `entropy_figure` shows, as a sentence."""
    said = []
    for record, name in zip(records, names, strict=True):
        medians = ", ".join(f"{bits:.1f}" for bits in np.median(record.entropy(), axis=1))
        said.append(f"{name} {medians} of at most {record.uniform_entropy:.1f} bits")
    return f"Median entropies of the heads: {'; '.join(said)}."


def query_figure(record: AttentionRecord, query: int) -> Figure:
    """Return the picture with a query's cell outlined and nothing else, to guess on."""
    fig, ax = figure(width=3.8, height=4.0)
    draw_picture(ax, record, query)
    return fig


def reach_alt(record: AttentionRecord, key: int, reach: Rectangle) -> str:
    """Return what `reach_figure` shows, as a sentence."""
    row, column = divmod(key, record.key_grid[1])
    small, large = (
        f"{part.bottom - part.top:.0f} by {part.right - part.left:.0f}"
        for part in (record.footprint(key), reach)
    )
    return f"The key at row {row}, column {column} is made from cells of {small} pixels and knows of {large} pixels."


def reach_figure(record: AttentionRecord, key: int, reach: Rectangle) -> Figure:
    """Return the picture with one key on it: the cells it is made from, and all that it knows of.

    Args:
        record: The layer.
        key: Number of the key.
        reach: What `record.reach` found.
    """
    fig, ax = figure(width=6.4, height=3.8)
    ax.imshow(record.image, interpolation="nearest")
    image_axes(ax)
    for part, colour, name in (
        (record.footprint(key), PURPLE, "made from these cells"),
        (reach, ORANGE, "knows of these pixels"),
    ):
        outline(ax, part, colour)
        size = f"{part.bottom - part.top:.0f} × {part.right - part.left:.0f} px"
        ax.plot([], [], color=colour, linewidth=2.5, label=f"{name}: {size}")
    row, column = divmod(key, record.key_grid[1])
    ax.set_title(f"key at row {row}, column {column}", fontsize=10)
    fig.legend(loc="outside right center", fontsize=9)
    return fig


def draw_picture(ax: Any, record: AttentionRecord, query: int) -> None:
    """Draw the picture with the query's cell outlined."""
    ax.imshow(record.image, interpolation="nearest")
    image_axes(ax)
    outline(ax, record.query_cell_of(query))
    row, column = divmod(query, record.query_grid[1])
    ax.set_title(f"query at row {row}, column {column}", fontsize=10)


def draw_weights(
    ax: Any, record: AttentionRecord, weights: Float[np.ndarray, "rows columns"], query: int, scale: Normalize
) -> None:
    """Draw one head's weights over a dim grey copy of the picture, each key on the middle of its footprint."""
    height, width = record.image.shape[:2]
    ax.imshow(_grey(record.image) * _DIM, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    share = np.asarray(scale(weights))
    colours = mpl.colormaps[HEAT](share)
    colours[..., 3] = _FAINT + (_STRONG - _FAINT) * share
    rows, columns = weights.shape
    top, left = (
        start + size / 2 - step / 2 - 0.5  # imshow counts from the middle of the first pixel
        for start, size, step in zip(record.key_origin, record.key_size, record.key_step, strict=True)
    )
    extent = (left, left + columns * record.key_step[1], top + rows * record.key_step[0], top)
    ax.imshow(colours, extent=extent, interpolation="nearest")
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    image_axes(ax)
    outline(ax, record.query_cell_of(query))


def draw_grid(ax: Any, weights: Float[np.ndarray, "rows columns"], scale: Normalize) -> None:
    """Draw the bare grid of one head's weights."""
    ax.imshow(weights, cmap=HEAT, norm=scale, interpolation="nearest")
    image_axes(ax)
    ax.set_xlabel(f"{weights.shape[0]}×{weights.shape[1]} keys", fontsize=8)


def outline(ax: Any, part: Rectangle, colour: str = PURPLE) -> None:
    """Outline a part of the picture on black, so that it shows on any ground; purple is no colour of `HEAT`."""
    place = (part.left - 0.5, part.top - 0.5)
    for edge, width in ((BLACK, 4), (colour, 2)):
        ax.add_patch(
            Patch(
                place,
                part.right - part.left,
                part.bottom - part.top,
                fill=False,
                edgecolor=edge,
                linewidth=width,
            )
        )


def colour_bar(fig: Figure, axes: list[Any], scale: Normalize, uniform: float) -> None:
    """Draw the scale of the weights beside `axes`, with a mark where every key would be read alike."""
    bar = fig.colorbar(ScalarMappable(scale, HEAT), ax=axes, fraction=0.06, pad=0.02)
    bar.ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    bar.ax.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    bar.ax.axhline(uniform, color="white", linewidth=2.5)
    bar.ax.axhline(uniform, color=BLACK, linewidth=1, linestyle=":")
    bar.ax.tick_params(labelsize=8)
    bar.set_label(f"weight (dotted: all alike, {uniform:.1%})", fontsize=8)


def _entropies(record: AttentionRecord, query: int) -> list[float]:
    return [float(entropy(record.row(query, head))) for head in range(record.num_heads)]


def _grey(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    return image @ np.array([0.299, 0.587, 0.114])


def _one_name_each(records: Sequence[AttentionRecord], names: Sequence[str]) -> None:
    if not records or len(records) != len(names):
        raise checks.refuse(
            "names", list(names), f"must name each of {len(records)} records", "Give one name for each."
        )
