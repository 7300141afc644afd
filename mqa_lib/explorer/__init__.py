"""Look at attention: move a query over a picture and see what every head reads there."""

from mqa_lib.explorer.evidence import Hits, Painted, at_the_key, painted_over
from mqa_lib.explorer.export import export_html, export_png
from mqa_lib.explorer.faithful import Check, mask_check
from mqa_lib.explorer.seen import Match, Seen, gather, look
from mqa_lib.explorer.view import show
from mqa_lib.explorer.words import layer_name

__all__ = [
    "Check",
    "Hits",
    "Match",
    "Painted",
    "Seen",
    "at_the_key",
    "export_html",
    "export_png",
    "gather",
    "layer_name",
    "look",
    "mask_check",
    "painted_over",
    "show",
]
