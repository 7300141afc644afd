"""Arrays in, Axes out: the only door to matplotlib and seaborn, a file for each subject."""

from mqa_lib.plots.attention import (
    entropy_alt,
    entropy_figure,
    explorer_alt,
    explorer_figure,
    query_figure,
    reach_alt,
    reach_figure,
    same_pixel_alt,
    same_pixel_figure,
)
from mqa_lib.plots.comparison import (
    paired_dots,
    paired_dots_alt,
    seed_curves,
    seed_curves_alt,
    seed_dots,
    seed_dots_alt,
    until_dots,
    until_dots_alt,
)
from mqa_lib.plots.costs import cost_bars, roofline, time_ratios
from mqa_lib.plots.decoder import sampling_alt, sampling_figure
from mqa_lib.plots.derivation import heat_maps, key_centres, scale_effect
from mqa_lib.plots.evidence import evidence
from mqa_lib.plots.flow import layer_flow
from mqa_lib.plots.inline import note_figure, photo
from mqa_lib.plots.layers import model_costs, oracle_errors, output_maps, token_layout, way_in
from mqa_lib.plots.roof import roof
from mqa_lib.plots.strides import stride_figure
from mqa_lib.plots.style import (
    HEAT,
    PALETTE,
    Figure,
    LivePicture,
    drawn_without_a_pause,
    few_colours,
    figure,
    png,
    quick_png,
    show,
    with_caption,
)
from mqa_lib.plots.training import curves, scenes
from mqa_lib.plots.wiring import wiring

__all__ = [
    "HEAT",
    "PALETTE",
    "Figure",
    "LivePicture",
    "cost_bars",
    "curves",
    "drawn_without_a_pause",
    "entropy_alt",
    "entropy_figure",
    "evidence",
    "explorer_alt",
    "explorer_figure",
    "few_colours",
    "figure",
    "heat_maps",
    "key_centres",
    "layer_flow",
    "model_costs",
    "note_figure",
    "oracle_errors",
    "output_maps",
    "paired_dots",
    "paired_dots_alt",
    "photo",
    "png",
    "query_figure",
    "quick_png",
    "reach_alt",
    "reach_figure",
    "roof",
    "roofline",
    "same_pixel_alt",
    "same_pixel_figure",
    "sampling_alt",
    "sampling_figure",
    "scale_effect",
    "scenes",
    "seed_curves",
    "seed_curves_alt",
    "seed_dots",
    "seed_dots_alt",
    "show",
    "stride_figure",
    "time_ratios",
    "token_layout",
    "until_dots",
    "until_dots_alt",
    "way_in",
    "wiring",
    "with_caption",
]
