"""What attention costs, as pictures: each function returns the figure and the alternative text made from its data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mqa_lib import cost
from mqa_lib.cost import Cost
from mqa_lib.plots.style import BLACK, BLUE, GREEN, ORANGE, PALETTE, PURPLE, SKY, VERMILLION, figure
from mqa_lib.timing import Spread

KIND_COLOURS = dict(zip(cost.KINDS, (BLUE, GREEN, ORANGE, SKY), strict=True))
TICKS = (0.25, 0.5, 0.7, 1, 1.5, 2, 3, 5, 8)
LAYER_STYLES = (  # told apart without colour too
    {"color": VERMILLION, "linestyle": "-"},
    {"color": BLUE, "linestyle": "--"},
    {"color": GREEN, "linestyle": "-."},
    {"color": PURPLE, "linestyle": ":"},
)


def cost_bars(costs: Mapping[str, Cost]) -> tuple[Figure, str]:
    """Return bars that set layers side by side: MACs by kind of step, bytes of keys and values, of the scores."""
    fig, axes = figure(1, 3, width=9.5, height=1.5 + 0.45 * len(costs), sharey=True, width_ratios=(2.2, 1, 1))
    names, rows = list(costs), range(len(costs))
    per, unit = _unit([each.macs for each in costs.values()], {1e9: "billion", 1e6: "million"})
    left = [0.0] * len(costs)
    for kind in cost.KINDS:
        values = [each.macs_of(kind) / per for each in costs.values()]
        axes[0].barh(rows, values, left=left, color=KIND_COLOURS[kind], label=kind)
        left = [start + value for start, value in zip(left, values, strict=True)]
    panels = [
        (f"multiply-accumulates [{unit}]", left, [cost.in_thousands(each.macs) for each in costs.values()]),
        _memory_panel("keys and values", [each.key_value_bytes for each in costs.values()]),
        _memory_panel("score matrices", [each.score_bytes for each in costs.values()]),
    ]
    for ax, (label, values, texts) in zip(axes, panels, strict=True):
        if ax is not axes[0]:
            ax.barh(rows, values, color=PALETTE[3])
        for row, value, text in zip(rows, values, texts, strict=True):
            ax.annotate(text, (value, row), (3, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set(xlabel=label, xlim=(0, max(values) * (1.3 if ax is axes[0] else 1.5)))
        ax.grid(False, axis="y")
        ax.locator_params(axis="x", nbins=4)
    axes[0].set(yticks=rows, yticklabels=names)
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    told = "; ".join(
        f"{name}: {cost.in_thousands(each.macs)} MACs, keys and values {cost.in_bytes(each.key_value_bytes)}, "
        f"score matrices {cost.in_bytes(each.score_bytes)}"
        for name, each in costs.items()
    )
    return fig, f"Bars of what each layer costs. {told}."


def _memory_panel(label: str, counts: Sequence[int]) -> tuple[str, list[float], list[str]]:
    per, unit = _unit(counts, {2**30: "GiB", 2**20: "MiB", 2**10: "KiB"})
    return f"{label} [{unit}]", [count / per for count in counts], [cost.in_bytes(count) for count in counts]


def _unit(counts: Sequence[int], units: Mapping[Any, str]) -> tuple[Any, str]:
    fitting = [(per, unit) for per, unit in units.items() if max(counts) >= per]
    return fitting[0] if fitting else list(units.items())[-1]


def roofline(costs: Mapping[str, Mapping[str, Cost]], machines: Mapping[str, float]) -> tuple[Figure, str]:
    """Return the roofline's time of layers, as a share of the first layer's, against a machine's ridge point.

    Args:
        costs: For each panel (by title) the layers by name; the first is what the others are compared with.
        machines: Ridge points in MACs per byte by name, drawn as vertical lines.
    """
    ridge_points = [1000 ** (step / 60) for step in range(61)]
    fig, axes = figure(1, len(costs), width=9.0, height=4.0, sharey=True, squeeze=False)
    told = []
    for ax, (title, layers) in zip(axes[0], costs.items(), strict=True):
        (first, reference), *others = layers.items()
        for style, (name, each) in zip(LAYER_STYLES[1:], others, strict=False):
            share = [cost.seconds(each, r, 1.0) / cost.seconds(reference, r, 1.0) for r in ridge_points]
            ax.plot(ridge_points, share, label=name, **style)
            told.append(f"{title}, {name}: {share[0]:.0%} at 1 MAC per byte, {share[-1]:.0%} at 1000")
        ax.axhline(1.0, color=LAYER_STYLES[0]["color"], label=first)
        points = sorted(machines.values())
        for name, ridge in machines.items():
            ax.axvline(ridge, color=BLACK, linewidth=0.8, alpha=0.5)
            nearest = min((math.log(each / ridge) for each in points if each != ridge), key=abs, default=1)
            where = "right" if nearest > 0 else "left"  # a name stands away from its nearest neighbour
            ax.text(ridge, 0.03, f" {name} ", rotation=90, fontsize=8, ha=where, va="bottom")
        ax.set(xscale="log", title=title, xlabel="ridge point of the machine [MACs per byte]", ylim=(0, 1.1))
    axes[0, 0].set(ylabel=f"estimated time, share of\n{first}")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return fig, f"Estimated time as a share of {first}, against the ridge point. {'; '.join(told)}."


def time_ratios(ratios: Mapping[str, Mapping[str, Spread]], reference: str) -> tuple[Figure, str]:
    """Return how many times as long each candidate takes as the reference, with quartiles, on a logarithmic axis.

    Args:
        ratios: For each case (a row) the candidates by name.
        reference: What 1 stands for.
    """
    fig, ax = figure(width=8.5, height=1.4 + 0.5 * len(ratios))
    markers, names = "osD^v", list(dict.fromkeys(name for row in ratios.values() for name in row))
    for index, name in enumerate(names):
        rows = [(place, row[name]) for place, row in enumerate(ratios.values()) if name in row]
        middle = [spread.median for _, spread in rows]
        errors = [[s.median - s.low for _, s in rows], [s.high - s.median for _, s in rows]]
        offset = (index - (len(names) - 1) / 2) * 0.18
        ax.errorbar(
            middle,
            [place + offset for place, _ in rows],
            xerr=errors,
            fmt=markers[index % 5],
            capsize=3,
            label=name,
        )
    ax.axvline(1.0, color=BLACK, linewidth=1)
    ax.set(xscale="log", yticks=range(len(ratios)), yticklabels=list(ratios))
    every = [value for row in ratios.values() for s in row.values() for value in (s.low, s.high)]
    ax.set(xlabel=f"times as long as {reference} (median, quartiles)")
    ax.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    ax.minorticks_off()
    ax.set(xlim=(min(0.7, *every) * 0.9, max(1.5, *every) * 1.1))
    ax.set(ylim=(len(ratios) - 0.5, -0.5))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    told = "; ".join(
        f"{case}: " + ", ".join(f"{name} {spread.median:.2f}" for name, spread in row.items())
        for case, row in ratios.items()
    )
    return fig, f"Time relative to {reference}. {told}."
