"""What an experiment showed: the right layer and a suspect side by side, as bars and as maps on one scale."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mqa_lib.plots.style import BLUE, HEAT, VERMILLION, figure, image_axes


def evidence(
    measures: Mapping[str, tuple[float, float]],
    maps: Mapping[str, Float[np.ndarray, "rows columns"]],
    scale: str = "",
) -> tuple[Figure, str]:
    """Return bars of what was measured, and maps beside them if there are any.

    Args:
        measures: By what was measured, the number of the right layer and of the suspect; NaN for none.
        maps: Values from 0 upwards, by title.
        scale: What the maps' colours mean.
    """
    widths = [2.0, *[1.0] * len(maps)]
    height = max(1.2 + 0.55 * len(measures), 2.8 if maps else 0)
    fig, axes = figure(1, len(widths), width=9.4, height=height, squeeze=False, width_ratios=widths)
    ax, rows = axes[0, 0], np.arange(len(measures))
    pairs = np.array(list(measures.values()))
    for values, offset, colour, hatch, name in (
        (pairs[:, 0], -0.2, BLUE, "", "right layer"),
        (pairs[:, 1], 0.2, VERMILLION, "//", "suspect"),
    ):
        ax.barh(
            rows + offset,
            np.nan_to_num(values),
            0.36,
            color=colour,
            hatch=hatch,
            label=name,
            edgecolor="white",
        )
        for row, value in zip(rows, values, strict=True):
            text = "does not run" if np.isnan(value) else number(value)
            place = (np.nan_to_num(value), row + offset)
            ax.annotate(text, place, (4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set(yticks=rows, yticklabels=list(measures), ylim=(len(measures) - 0.4, -0.6))
    ax.set(xlim=(0, max(float(np.nanmax(pairs)), 1e-9) * 1.35))
    ax.grid(False, axis="y")
    top = max((float(values.max()) for values in maps.values()), default=0.0)
    for panel, (title, values) in zip(axes[0, 1:], maps.items(), strict=True):
        image = panel.imshow(values, cmap=HEAT, vmin=0, vmax=max(top, 1e-6))
        image_axes(panel)
        panel.set_title(title, fontsize=10)
    if maps:
        fig.colorbar(image, ax=list(axes[0, 1:]), shrink=0.7, label=scale)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    told = "; ".join(
        f"{title}: right {number(right)}, suspect {number(wrong)}"
        for title, (right, wrong) in measures.items()
    )
    shown = (
        f" Maps of {scale}: " + ", ".join(f"{t} up to {v.max():.2f}" for t, v in maps.items()) + "."
        if maps
        else ""
    )
    return fig, f"Bars of the right layer and the suspect. {told}.{shown}"


def number(value: float) -> str:
    """Return a measure in words of few digits."""
    if np.isnan(value):
        return "does not run"
    return (
        f"{value:,.0f}"
        if float(value).is_integer()
        else f"{value:.2g}"
        if abs(value) < 0.1
        else f"{value:,.2f}"
    )
