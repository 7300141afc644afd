"""Arrays in, Axes out: the only door to matplotlib and seaborn, a file for each subject."""

from mqa_lib.plots.costs import cost_bars, cost_curves, roofline, time_ratios
from mqa_lib.plots.style import HEAT, PALETTE, figure, png, show

__all__ = [
    "HEAT",
    "PALETTE",
    "cost_bars",
    "cost_curves",
    "figure",
    "png",
    "roofline",
    "show",
    "time_ratios",
]
