"""Pictures of a comparison over seeds: every seed is seen, and no number stands alone."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from statistics import mean, median

from matplotlib.figure import Figure

from mqa_lib.plots.style import BLACK, PALETTE, YELLOW, figure, whole_ticks

Line = Sequence[tuple[float, float]]
Interval = tuple[float, float]
_COLOURS = tuple(colour for colour in PALETTE if colour != YELLOW)  # whose thin lines are not seen on white
_STYLES = ("-", "--", "-.", ":")


def seed_curves(
    lines: Mapping[str, Sequence[Line]], x_label: str, y_label: str, level: tuple[str, float] | None = None
) -> Figure:
    """Return for each name a thin line for every seed, and a thick one of their medians.

    What stands before the first comma of a name, the variant, has one colour; what stands behind it, the arm, one dash.

    Args:
        lines: By name, for every seed a line of (x, y), y from 0 to 1.
        x_label: What x is.
        y_label: What y is.
        level: A named level to compare with, such as chance.
    """
    fig, ax = figure(width=8.0, height=3.8)
    for (name, seeds), (colour, style) in zip(lines.items(), _looks(lines), strict=True):
        for line in seeds:
            ax.plot(*zip(*line, strict=True), color=colour, linewidth=0.8, alpha=0.45, linestyle=style)
        said = f"{name} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"
        ax.plot(*zip(*medians(seeds), strict=True), color=colour, linewidth=2.4, linestyle=style, label=said)
    if level is not None:
        ax.axhline(level[1], color=BLACK, linestyle=":", linewidth=1)
        ax.annotate(
            level[0], (0, level[1]), (4, -12), xycoords=("axes fraction", "data"), textcoords="offset points"
        )
    ax.set(xlabel=x_label, ylabel=y_label, ylim=(0, 1.03))
    whole_ticks(ax, [x for seeds in lines.values() for line in seeds for x, _ in line])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8.5)
    return fig


def _looks(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return colour and dash for each name."""
    parts = [name.partition(", ")[::2] for name in names]
    variants, arms = (list(dict.fromkeys(each)) for each in zip(*parts, strict=True))
    looks = []
    for variant, arm in parts:
        round_, colour = divmod(variants.index(variant), len(_COLOURS))
        looks.append((_COLOURS[colour], _STYLES[(round_ + arms.index(arm)) % len(_STYLES)]))
    return looks


def medians(seeds: Sequence[Line]) -> list[tuple[float, float]]:
    """Return point by point the medians over seeds, of x as of y, as far as the shortest line goes."""
    shortest = min(len(line) for line in seeds)
    return [
        (median(line[at][0] for line in seeds), median(line[at][1] for line in seeds))
        for at in range(shortest)
    ]


def seed_curves_alt(lines: Mapping[str, Sequence[Line]], x_label: str, y_label: str) -> str:
    """Return the sentence that goes with `seed_curves`: where the seeds of each name end."""
    ends = {name: sorted(line[-1][1] for line in seeds) for name, seeds in lines.items()}
    said = "; ".join(
        f"{name} {median(last):.2f} ({last[0]:.2f} to {last[-1]:.2f}, {len(last)} seed{'s' * (len(last) > 1)})"
        for name, last in ends.items()
    )
    lead = f"{y_label} against {x_label}, a thin line a seed and a thick one of medians."
    return f"{lead} At the end, median and range: {said}."


def seed_dots(
    found: Mapping[str, Mapping[int, float]], metric: str, level: tuple[str, float] | None = None
) -> Figure:
    """Return for each name a dot for every seed and a stroke at their median.

    Args:
        found: The metric by name and seed.
        metric: What it is.
        level: Name and height of what it may be compared with.
    """
    fig, ax = figure(width=7.5, height=1.0 + 0.3 * len(found))
    for row, by_seed in enumerate(found.values()):
        values = list(by_seed.values())
        ax.plot(values, [row] * len(values), "o", color=PALETTE[0], markersize=5)
        ax.plot(median(values), row, "|", color=BLACK, markersize=14)
    if level is not None:
        ax.axvline(level[1], color=BLACK, linewidth=1, linestyle=":")
        above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
        ax.annotate(level[0], (level[1], 1), (0, 3), **above)
    ax.set(yticks=range(len(found)), yticklabels=list(found), ylim=(len(found) - 0.5, -0.5), xlim=(0, 1.03))
    ax.set_xlabel(f"{metric}\n(a dot is a seed, a stroke the median)")
    return fig


def seed_dots_alt(found: Mapping[str, Mapping[int, float]], metric: str) -> str:
    """Return the sentence that goes with `seed_dots`: the values of every seed."""
    said = "; ".join(f"{name} {', '.join(f'{v:.2f}' for v in by.values())}" for name, by in found.items())
    return f"{metric}, a dot a seed: {said}."


def until_dots(
    reached: Mapping[str, Sequence[float | int | None]],
    trained: Mapping[str, Sequence[float | int]],
    x_label: str,
) -> Figure:
    """Return for each name a dot where each seed reached the goal, and an open triangle where one stopped without.

    Args:
        reached: By name, for every seed where it got there, or None.
        trained: By name, for every seed where its run ended.
        x_label: What is counted until then.
    """
    fig, ax = figure(width=7.5, height=1.2 + 0.33 * len(reached))
    for row, (name, places) in enumerate(reached.items()):
        # seeds lie a little apart, or equal ones would look like one
        heights = [row + 0.14 * (at - (len(places) - 1) / 2) for at in range(len(places))]
        seeds = list(zip(places, trained[name], heights, strict=True))
        there = [(place, height) for place, _, height in seeds if place is not None]
        without = [(end, height) for place, end, height in seeds if place is None]
        if there:
            ax.plot(
                *zip(*there, strict=True),
                "o",
                color=PALETTE[0],
                markersize=6,
                label="a seed reaches the goal",
            )
        if without:
            looks = {"color": BLACK, "fillstyle": "none", "markersize": 8, "linestyle": ""}
            ax.plot(*zip(*without, strict=True), marker=">", label="a seed ends without it", **looks)
        if len(there) > len(without):
            ordered = sorted(place if place is not None else float("inf") for place in places)
            ax.plot(median(ordered), row, "|", color=BLACK, markersize=15, label="median")
    marks = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    fig.legend(marks.values(), marks, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    ends = [end for each in trained.values() for end in each]
    ax.set(yticks=range(len(reached)), yticklabels=list(reached), ylim=(len(reached) - 0.5, -0.5))
    ax.set(xlabel=x_label, xlim=(0, 1.05 * max(ends)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    return fig


def until_dots_alt(reached: Mapping[str, Sequence[float | int | None]], x_label: str) -> str:
    """Return the sentence that goes with `until_dots`: where each seed got there."""
    said = "; ".join(
        f"{name} {', '.join('not reached' if place is None else f'{place:,.0f}' for place in places)}"
        for name, places in reached.items()
    )
    return f"{x_label}, a dot a seed: {said}."


def paired_dots(
    differences: Mapping[str, Mapping[int, float]],
    intervals: Mapping[str, Interval],
    metric: str,
    base: str,
) -> Figure:
    """Return for each name a dot for every seed, its metric minus `base`'s with the same seed, and their mean.

    Args:
        differences: By name and seed.
        intervals: By name the bootstrap interval of the mean, of those that have seeds enough for one.
        metric: What differs.
        base: What it is compared with.
    """
    fig, ax = figure(width=7.0, height=1.5 + 0.37 * len(differences))
    looks = _looks(differences)
    for row, (name, by_seed) in enumerate(differences.items()):
        colour = looks[row][0]
        if name in intervals:
            wide = {"linewidth": 6, "alpha": 0.3, "solid_capstyle": "butt"}
            ax.plot(intervals[name], (row, row), color=colour, label="bootstrap of the mean", **wide)
        values = list(by_seed.values())
        ax.plot(values, [row] * len(values), "o", color=colour, markersize=5, label="a seed")
        ax.plot(mean(values), row, "|", color=BLACK, markersize=14, label="mean")
    ax.axvline(0, color=BLACK, linewidth=1, linestyle=":")
    marks = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    marks = {said: copy(mark) for said, mark in marks.items()}
    for mark in marks.values():  # they stand for all rows, whichever colour those have
        mark.set_color(BLACK)
    fig.legend(marks.values(), marks, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    ax.set(yticks=range(len(differences)), yticklabels=list(differences), ylim=(len(differences) - 0.5, -0.5))
    ax.set_xlabel(f"{metric},\nminus the same seed's of: {base}")
    return fig


def paired_dots_alt(
    differences: Mapping[str, Mapping[int, float]],
    intervals: Mapping[str, Interval],
    metric: str,
    base: str,
) -> str:
    """Return the sentence that goes with `paired_dots`: the differences of every seed, and the intervals."""
    said = "; ".join(
        f"{name} {', '.join(f'{value:+.3f}' for value in by_seed.values())}"
        + (f" (interval {intervals[name][0]:+.3f} to {intervals[name][1]:+.3f})" if name in intervals else "")
        for name, by_seed in differences.items()
    )
    return f"{metric} minus that of {base}, a dot a seed: {said}."
