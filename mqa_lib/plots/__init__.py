"""Arrays in, Axes out: the only door to matplotlib and seaborn, a file for each subject."""

from mqa_lib.plots.style import HEAT, PALETTE, figure, png, show

__all__ = ["HEAT", "PALETTE", "figure", "png", "show"]
