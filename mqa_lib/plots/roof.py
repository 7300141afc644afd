"""The roofline of one machine, with layers as points on it and their steps as smaller ones."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from mqa_lib import cost
from mqa_lib.plots.style import BLACK, BLUE, GREEN, VERMILLION, figure

_STYLES = ((VERMILLION, "o"), (BLUE, "s"), (GREEN, "D"))


def roof(
    layers: Mapping[str, float],
    steps: Mapping[str, Mapping[str, float]],
    ridge: float,
    machine: str,
    peak: float | None = None,
) -> tuple[Figure, str]:
    """Return what a machine can attain against the MACs that a layer does for each byte that it moves.

    Args:
        layers: MACs per byte of whole layers, by name.
        steps: MACs per byte of each layer's steps, by the names of both.
        ridge: The machine's ridge point.
        machine: The machine's name.
        peak: Its MACs per second at most; without it shares of the peak are drawn.
    """
    fig, ax = figure(width=8.4, height=4.0)
    top = 1.0 if peak is None else peak
    every = [
        each for each in (*layers.values(), *(at for of in steps.values() for at in of.values())) if each > 0
    ]
    low, high = min(*every, ridge) / 2, max(*every, ridge) * 2
    ax.plot([low, ridge, high], [top * low / ridge, top, top], color=BLACK, linewidth=1.5)
    ax.axvline(ridge, color=BLACK, linewidth=0.8, linestyle=":")
    ax.annotate(
        f"ridge point {ridge:.1f}", (ridge, top), (4, 6), textcoords="offset points", fontsize=9, va="bottom"
    )
    told = []
    for (name, at), (colour, mark) in zip(layers.items(), _STYLES, strict=False):
        reached = top * min(1.0, at / ridge)
        small = [each for each in steps[name].values() if each > 0]
        ax.plot(small, [top * min(1.0, each / ridge) for each in small], mark, color=colour, ms=4, alpha=0.45)
        ax.plot(at, reached, mark, color=colour, markersize=11, markeredgecolor=BLACK, label=name)
        slowest = min((each, step) for step, each in steps[name].items() if each > 0)
        if slowest[0] < min(ridge, at):
            _name(ax, slowest[1], slowest[0], top * slowest[0] / ridge, colour)
        told.append(
            f"{name} at {at:.1f} MACs per byte attains {min(1.0, at / ridge):.0%} of the peak, its least intense step"
            f" is {slowest[1]} at {slowest[0]:.1f}"
        )
    label = "attainable share of the peak" if peak is None else "attainable MACs per second"
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(top * min(low / ridge, 0.5), top * 2))
    ax.set(xlabel="MACs per byte moved (operational intensity)", ylabel=label)
    ax.set_title(f"{machine}: left of the ridge point a layer waits for memory")
    ax.legend(loc="upper left", title="large: the layer, small: its steps", title_fontsize=8)
    rate = "" if peak is None else f", {cost.in_thousands(peak)} MACs per second at most"
    return fig, f"Roofline of {machine}{rate}, ridge point {ridge:.1f} MACs per byte. {'; '.join(told)}."


def _name(ax: Any, step: str, at: float, height: float, colour: str) -> None:
    place = {"xytext": (7, -3), "textcoords": "offset points", "va": "top"}
    ax.annotate(step, (at, height), fontsize=8.5, color=colour, **place)
