"""Look at attention: move a query over a picture and see what every head reads there."""

from mqa_lib.explorer.evidence import Hits, Painted, at_the_key, painted_over
from mqa_lib.explorer.export import Seen, export_html, export_png, look
from mqa_lib.explorer.view import Explorer, show
from mqa_lib.explorer.words import layer_name

__all__ = [
    "Explorer",
    "Hits",
    "Painted",
    "Seen",
    "at_the_key",
    "export_html",
    "export_png",
    "layer_name",
    "look",
    "painted_over",
    "show",
]
