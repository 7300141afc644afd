"""What the explorer shows, as pictures that need no script: every layer's heads at one place, with their sentence."""

import base64
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mqa_lib import plots
from mqa_lib.explorer import words
from mqa_lib.explorer.seen import Seen

_MOST, _LONGEST = 60_000, 1500  # bytes and pixels of a figure in a page


class Still(NamedTuple):
    """One layer of a picture, or its decoder: what to call it, the figure, what that shows, and its table if any."""

    title: str
    figure: plots.Figure
    said: str
    table: str

    def captioned(self) -> plots.Figure:
        """Return the figure with title and sentence beneath, for where it stands alone."""
        return plots.with_caption(self.figure, f"{self.title}. {self.said}")


def stills(scene: Seen, at: tuple[int, int]) -> Iterator[Still]:
    """Yield what every layer reads at one place of the picture, then the decoder's points for the best detection.

    Args:
        scene: What was seen in the picture.
        at: Row and column of the pixel that asks.
    """
    for record in scene.layers:
        query = record.query_at(*at)
        target = scene.right_key(record, query)
        said = plots.explorer_alt(record, query) + words.outlined(target)
        figure = plots.explorer_figure(record, query, target=target)
        yield Still(words.layer_name(record), figure, said, words.readout(record, query))
    if scene.points is not None:
        yield Still("The decoder", plots.sampling_figure(scene.points), plots.sampling_alt(scene.points), "")


def address(figure: plots.Figure) -> str:
    """Return a figure as an address that holds it, for a page."""
    from PIL import Image

    png = plots.quick_png(figure)
    kind, data = "image/png", plots.few_colours(png)
    if len(data) > _MOST:
        kind, data = plots.photo(np.asarray(Image.open(io.BytesIO(png))), _MOST, _LONGEST)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
