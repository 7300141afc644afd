"""The pictures of the derivation: maps of likeness and weight, the scale's effect, where down-sampled keys lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mqa_lib import cost
from mqa_lib.plots.style import BLUE, HEAT, ORANGE, VERMILLION, figure, image_axes


def heat_maps(
    maps: Mapping[str, Shaped[np.ndarray, "rows columns"]],
    mark: tuple[int, int],
    categories: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Figure, str]:
    """Return maps side by side, each with a scale of its own, and a square around one cell.

    Args:
        maps: Values by title.
        mark: Row and column of the cell.
        categories: For maps whose values 0, 1, … only tell kinds apart, the names of the kinds by title.
    """
    fig, axes = figure(1, len(maps), width=3.1 * len(maps), height=3.1, squeeze=False)
    told = []
    for ax, (title, values) in zip(axes[0], maps.items(), strict=True):
        if names := (categories or {}).get(title):
            told.append(f"{title}: {_draw_kinds(ax, values, names)}")
        else:
            ax.figure.colorbar(ax.imshow(values, cmap=HEAT), ax=ax, shrink=0.75)
            row, column = divmod(int(values.argmax()), values.shape[1])
            span = f"from {values.min():.2f} to {values.max():.2f}"
            told.append(f"{title}: {span}, highest at row {row}, column {column}")
        corner = (mark[1] - 0.5, mark[0] - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, facecolor="none", edgecolor=VERMILLION, linewidth=2.5))
        image_axes(ax)
        ax.set_title(title)
    return fig, f"Maps with the cell at row {mark[0]}, column {mark[1]} marked. {'; '.join(told)}."


def _draw_kinds(ax: Any, values: Shaped[np.ndarray, "rows columns"], names: Sequence[str]) -> str:
    count = len(names)
    image = ax.imshow(values, cmap=colormaps[HEAT].resampled(count), vmin=-0.5, vmax=count - 0.5)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.75, ticks=range(count))
    bar.ax.set_yticklabels(names)
    bar.ax.tick_params(length=0)
    return ", ".join(f"{int((values == kind).sum())} cells {name}" for kind, name in enumerate(names))


def scale_effect(
    key_dims: Sequence[int],
    variances: Mapping[str, Sequence[float]],
    entropies: Mapping[str, Sequence[float]],
) -> tuple[Figure, str]:
    """Return the variance of the scores and the entropy of the weights against key_dim, for each way to scale.

    Args:
        key_dims: The horizontal axis.
        variances: Variance of the scores by way to scale.
        entropies: Entropy of the weights, as a share of that of equal weights, by way to scale.
    """
    fig, axes = figure(1, 2, width=8.5, height=3.0)
    styles = ({"color": VERMILLION, "marker": "o"}, {"color": BLUE, "marker": "s", "linestyle": "--"})
    panels = (
        (axes[0], variances, "variance of the scores"),
        (axes[1], entropies, "entropy of the weights\n(1 = equal)"),
    )
    for ax, series, label in panels:
        for style, (name, values) in zip(styles, series.items(), strict=False):
            ax.plot(key_dims, values, label=name, **style)
        ax.set(xscale="log", xlabel="key_dim", ylabel=label)
        ax.set_xticks(key_dims, [str(size) for size in key_dims])
        ax.minorticks_off()
    axes[0].set(yscale="log")
    axes[1].set(ylim=(0, 1.05))
    axes[0].legend(frameon=False)
    last = "; ".join(
        f"{name}: variance {variances[name][-1]:.1f}, entropy {entropies[name][-1]:.2f}" for name in variances
    )
    return (
        fig,
        f"Effect of the scale, from key_dim {key_dims[0]} to {key_dims[-1]}. At {key_dims[-1]}: {last}.",
    )


def key_centres(height: int, width: int, strides: Sequence[int]) -> tuple[Figure, str]:
    """Return the query grid with the centres of the down-sampled keys on it, a panel for each stride."""
    fig, axes = figure(1, len(strides), width=3.0 * len(strides), height=3.3, squeeze=False, sharey=True)
    told = []
    for ax, stride in zip(axes[0], strides, strict=True):
        rows, columns = cost.key_grid(height, width, stride)
        ax.scatter(*_grid(height, width, 1), s=14, color=BLUE, label="query")
        keys = {"facecolors": "none", "edgecolors": ORANGE, "linewidths": 2}
        ax.scatter(*_grid(rows, columns, stride), s=90, label="centre of a key", **keys)
        ax.set(title=f"kv_stride {stride}: {rows} × {columns} keys", aspect="equal")
        image_axes(ax)
        told.append(f"kv_stride {stride}: {rows} by {columns} keys")
    axes[0, 0].invert_yaxis()
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return fig, f"A grid of {height} by {width} queries with the centres of the keys. {'; '.join(told)}."


def _grid(rows: int, columns: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    down, across = np.mgrid[0:rows, 0:columns]
    first = cost.key_centre(0, stride)
    return across.ravel() * stride + first, down.ravel() * stride + first
