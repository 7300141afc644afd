"""Is the layer right? Pictures of memory layout, of scrambled outputs, of errors, of what the models cost.

The last picture shows how the layer gets into a model.

Each function returns the figure and the alternative text made from its data.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mqa_lib.plots.style import BLACK, BLUE, GREEN, HEAT, ORANGE, PALETTE, SKY, VERMILLION, figure, image_axes

_ON_DARK = {0, 2, 5, 7}  # entries of PALETTE on which white text is read better than black
_Number = int | float
_MARKS = ("o", "D", "s", "^")


def token_layout(tokens: Mapping[str, Int[np.ndarray, "channels pixels"]]) -> tuple[Figure, str]:
    """Return one grid of a map's memory for each way to cut it: the token that each number goes to.

    Args:
        tokens: By title, the number of the token for each channel (row) and pixel (column); at most 8 tokens.
    """
    fig, axes = figure(1, len(tokens), width=9.0, height=2.9, squeeze=False)
    told = []
    for ax, (title, grid) in zip(axes[0], tokens.items(), strict=True):
        ax.imshow(grid, cmap=ListedColormap(PALETTE), vmin=-0.5, vmax=len(PALETTE) - 0.5, aspect="auto")
        for (channel, pixel), token in np.ndenumerate(grid):
            colour = "white" if int(token) in _ON_DARK else "black"
            ax.text(pixel, channel, str(token), ha="center", va="center", color=colour, fontsize=10)
        channels, pixels = grid.shape
        ax.set(title=title, xlabel="pixel", ylabel="channel", xticks=range(pixels), yticks=range(channels))
        ax.set_xticks(np.arange(pixels + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(channels + 1) - 0.5, minor=True)
        ax.grid(False)
        ax.grid(which="minor", color="white", linewidth=2, alpha=1)
        ax.tick_params(which="both", length=0)
        pixels_of_first = sorted({int(pixel) for pixel in np.nonzero(grid == 0)[1]})
        named = ", ".join(map(str, pixels_of_first))
        told.append(f"{title}: token 0 is made of pixel{'s' * (len(pixels_of_first) > 1)} {named}")
    return (
        fig,
        f"Grids of channels by pixels, coloured by the token that a number goes to. {'; '.join(told)}.",
    )


def output_maps(
    maps: Mapping[str, Float[np.ndarray, "rows columns"]], label: str, per_row: int = 3
) -> tuple[Figure, str]:
    """Return maps side by side on one scale of colours, which `label` names.

    Args:
        maps: Values from 0 upwards, by title.
        label: What the values are, with their unit.
        per_row: Maps in a row.
    """
    rows = -(-len(maps) // per_row)
    fig, axes = figure(rows, per_row, width=8.4, height=2.7 * rows, squeeze=False)
    top = max(float(values.max()) for values in maps.values())
    for ax in axes.flat:
        image_axes(ax)
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=False):
        image = ax.imshow(values, cmap=HEAT, vmin=0, vmax=top)
        ax.set_title(title)
    for ax in axes.flat[len(maps) :]:
        ax.set_visible(False)
    fig.colorbar(image, ax=axes, shrink=0.85, label=label)
    told = "; ".join(
        f"{title}: {len(np.unique(values.round(6)))} different values to six digits"
        for title, values in maps.items()
    )
    return fig, f"Maps of the {label}, from 0 to {top:.2f}. {told}."


def oracle_errors(errors: Mapping[str, Mapping[str, float]], precision: float) -> tuple[Figure, str]:
    """Return dots on a logarithmic scale: how far each layer is from each oracle.

    Args:
        errors: For each layer, by name, its largest error against each oracle, by name; the oracles of all layers
            are the same.
        precision: The relative step of the numbers that were computed with, drawn as a line.
    """
    oracles = list(next(iter(errors.values())))
    fig, ax = figure(width=8.4, height=1.6 + 0.5 * len(oracles))
    shown_zero = precision / 8
    for (name, found), colour, mark in zip(errors.items(), (BLUE, VERMILLION, GREEN), _MARKS, strict=False):
        values = [max(found[oracle], shown_zero) for oracle in oracles]
        ax.plot(values, range(len(oracles)), mark, color=colour, markersize=9, label=name)
        for row, oracle in enumerate(oracles):
            text = f"{found[oracle]:.1f}" if found[oracle] >= 0.1 else f"{found[oracle]:.0e}"
            text = "0" if found[oracle] == 0 else text
            ax.annotate(text, (values[row], row), (0, 9), textcoords="offset points", ha="center", fontsize=8)
    ax.axvline(precision, color="black", linestyle=":", label=f"step of the number format, {precision:.0e}")
    ax.set(xscale="log", xlabel="largest error [standard deviations of the output]")
    ax.set(yticks=range(len(oracles)), yticklabels=oracles, ylim=(len(oracles) - 0.5, -0.6))
    ax.set_xlim(shown_zero / 3, 300)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    told = "; ".join(
        f"{name} against {oracle}: {value:.1e}"
        for name, found in errors.items()
        for oracle, value in found.items()
    )
    return fig, f"Largest errors on a logarithmic scale. {told}."


def model_costs(gflops: Mapping[str, Mapping[str, float]], params: Mapping[str, int]) -> tuple[Figure, str]:
    """Return bars of what whole models cost: GFLOPs, stacked by part, and parameters.

    Args:
        gflops: For each model, by name, GFLOPs by part; the parts of all models are the same, the first is what they
            have in common.
        params: Parameters of each model.
    """
    fig, axes = figure(1, 2, width=9.2, height=1.4 + 0.5 * len(gflops), sharey=True, width_ratios=(2.2, 1))
    names, rows = list(gflops), range(len(gflops))
    parts = list(next(iter(gflops.values())))
    left = np.zeros(len(names))
    hatches, edge = ("", "//", ".."), {"edgecolor": "white", "linewidth": 0}  # an edge would hide a thin bar
    for part, colour, hatch in zip(parts, (BLUE, SKY, ORANGE), hatches, strict=False):
        values = np.array([gflops[name][part] for name in names])
        axes[0].barh(rows, values, left=left, color=colour, hatch=hatch, label=part, **edge)
        left = left + values
    for row, (name, total) in enumerate(zip(names, left, strict=True)):
        base = gflops[name][parts[0]]
        text = f"{total:,.1f}" + (f" = {base:.1f} + {total - base:.1f}" if total > base else "")
        axes[0].annotate(text, (total, row), (4, 0), textcoords="offset points", va="center")
    millions = [params[name] / 1e6 for name in names]
    axes[1].barh(rows, millions, color=GREEN)
    for row, value in zip(rows, millions, strict=True):
        axes[1].annotate(f"{value:.2f}", (value, row), (4, 0), textcoords="offset points", va="center")
    axes[0].set(yticks=rows, yticklabels=names, xlabel="GFLOPs of one picture", xlim=(0, left.max() * 1.5))
    axes[1].set(xlabel="parameters [million]", xlim=(0, max(millions) * 1.3))
    for ax in axes:
        ax.grid(False, axis="y")
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    told = "; ".join(
        f"{name}: "
        + ", ".join(f"{part} {gflops[name][part]:.1f}" for part in parts)
        + f", in all {total:.1f}, and {params[name] / 1e6:.2f} million parameters"
        for name, total in zip(names, left, strict=True)
    )
    return fig, f"Bars of the GFLOPs and parameters of whole models. {told}."


def way_in(
    rows: Sequence[tuple[str, str, int, bool]], ours: str, home: str, size_px: int
) -> tuple[Figure, str]:
    """Return a diagram: rows of a model file, the name that two of them are looked up by, and the model that results.

    Args:
        rows: For each row of the backbone, its text, the class that it names, its stride, and whether the head reads
            its map.
        ours: The name of our class.
        home: The module in which our class lives.
        size_px: Side of the picture, for the sizes of the maps.
    """
    fig, ax = figure(width=10.0, height=5.6)
    image_axes(ax)
    ax.set(xlim=(-0.3, 100.3), ylim=(0, 57))
    marked = [index for index, (_, kind, _, _) in enumerate(rows) if kind == ours]
    _title(ax, 0, 56, "1  the model file: its backbone")
    _title(ax, 46, 56, "2  the name is looked up in memory")
    _title(ax, 77, 56, "3  and is our class")
    _title(ax, 0, 24, "4  the model that is built")
    memory = _box(ax, (46, 35, 23, 12), f"Python module\nultralytics.nn.tasks\n.{ours}", SKY)
    made = _box(ax, (77, 35, 23, 12), f"{home}\n.{ours}", ORANGE)
    _arrow(ax, (memory[2], 41), (made[0], 41))
    for index, (text, kind, _, _) in enumerate(rows):
        height = 50.5 - 22 * index / max(len(rows) - 1, 1)
        _line(ax, height, f"{index}  {text}", kind == ours)
        if kind == ours:
            _arrow(ax, (35, height), (memory[0], 41))
    _chain(ax, [row[1:] for row in rows], ours, size_px)
    for index in marked:
        middle = (index + 0.5) * 79 / len(rows) - 0.8
        ax.plot([88.5, 88.5, middle], [35, 26, 26], color=BLACK, linewidth=1.2)
        _arrow(ax, (middle, 26), (middle, 20))
    told = "; ".join(f"row {index}, {rows[index][0]}, a map at stride {rows[index][2]}" for index in marked)
    reads = ", ".join(str(index) for index, row in enumerate(rows) if row[3])
    return fig, (
        f"Diagram in four steps. The model file's backbone has {len(rows)} rows. {ours} is named in {told}. The name is"
        f" looked up in ultralytics.nn.tasks, in memory, and found to be {home}.{ours}. In the model that is built,"
        f" encoder and decoder follow the backbone, and the encoder reads the maps of rows {reads}."
    )


def _chain(ax: Any, rows: Sequence[tuple[str, int, bool]], ours: str, size_px: int) -> None:
    """Draw the model: a box for each row of the backbone, the encoder, the decoder, and what the encoder reads."""
    step = 79 / len(rows)
    head = _box(ax, (80, 0.5, 9, 19.5), "encoder\n(neck)", "#DDDDDD")
    decoder = _box(ax, (92, 0.5, 8, 19.5), "decoder", "#DDDDDD")
    _arrow(ax, (head[2], 10), (decoder[0], 10))
    for index, (kind, stride, read) in enumerate(rows):
        words = re.sub(r"(?<=[a-zA-Z])(?=[A-Z][a-z]+$)", "\n", kind)
        label = f"row {index}\n{words}\nstride {stride}\n{size_px // stride} × {size_px // stride}"
        left, foot, right = _box(
            ax, (index * step, 7.5, step - 1.6, 12.5), label, ORANGE if kind == ours else "white"
        )
        last = index == len(rows) - 1
        _arrow(ax, (right, 13.5), (head[0] if last else right + 1.6, 13.5))
        if read and not last:
            middle, depth = (left + right) / 2, 1 + 5 * index / len(rows)
            ax.plot([middle, middle], [foot, depth], color=BLACK, linewidth=1.2)
            _arrow(ax, (middle, depth), (head[0], depth))


def _box(
    ax: Any, place: tuple[_Number, _Number, _Number, _Number], text: str, colour: str
) -> tuple[_Number, _Number, _Number]:
    """Draw a box with a text; return its left side, its foot and its right side."""
    left, foot, width, height = place
    ax.add_patch(Rectangle((left, foot), width, height, facecolor=colour, edgecolor=BLACK, linewidth=1))
    ax.text(
        left + width / 2, foot + height / 2, text, ha="center", va="center", fontsize=8.5, linespacing=1.4
    )
    return left, foot, left + width


def _title(ax: Any, left: _Number, top: _Number, text: str) -> None:
    ax.text(left, top, text, fontsize=10, fontweight="bold", va="top")


def _line(ax: Any, height: _Number, text: str, marked: bool) -> None:
    box = {"facecolor": ORANGE if marked else "none", "edgecolor": "none", "pad": 2.5}
    ax.text(0.5, height, text, family="monospace", fontsize=8.5, va="center", bbox=box)


def _arrow(ax: Any, start: tuple[_Number, _Number], end: tuple[_Number, _Number]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": BLACK, "shrinkA": 0, "shrinkB": 0})
