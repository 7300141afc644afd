"""The explorer in a notebook: an anywidget that computes in the browser, so that looking around needs no kernel."""

import base64
import sys
from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets
from IPython.display import display
from torch import nn

from mqa_lib import plots
from mqa_lib.explorer import payload, words
from mqa_lib.explorer.faithful import mask_check
from mqa_lib.explorer.seen import Seen

AVERAGE = -1
NO_GUESS, ASKED = -2, -1  # of `guess`; from 0 on it is the number of the guessed key


class AttentionExplorer(anywidget.AnyWidget):
    """Point at a picture and see what every head reads there. All of the view's state is in the traits.

    Set `query`, `head`, `layer` and the like from Python, and every view follows; what the reader chooses comes back.

    Args:
        scenes: What was seen, picture by picture.
        query: Number of the first layer's query to start at; the one in the middle of the best detection, or of the
            picture, if not given.
        guess: Whether to hide the maps until the reader has guessed a key.
        model: The model that was looked at, if the reader may ask the kernel to mask keys.

    Source: the state lives in traits and the data in one of them, as anywidget's own guide advises.
    """

    _esm = payload.script()
    _css = payload.style()
    data = traitlets.Bytes(b"").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    scene = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    query = traitlets.Int(-1).tag(sync=True)
    key = traitlets.Int(-1).tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)
    head = traitlets.Int(AVERAGE).tag(sync=True)
    direction = traitlets.Enum(["from", "to"], "from").tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    scale = traitlets.Enum(["shared", "full", "own"], "shared").tag(sync=True)
    colours = traitlets.Enum(["cividis", "viridis", "grey"], "cividis").tag(sync=True)
    beside = traitlets.Int(-1).tag(sync=True)
    detection = traitlets.Int(-1).tag(sync=True)
    decoder_layer = traitlets.Int(-1).tag(sync=True)
    guess = traitlets.Int(NO_GUESS).tag(sync=True)
    checks = traitlets.Bool(False).tag(sync=True)
    checked: "traitlets.List[dict[str, Any]]" = traitlets.List().tag(sync=True)

    def __init__(
        self,
        scenes: Sequence[Seen],
        query: int | None = None,
        guess: bool = False,
        model: nn.Module | None = None,
    ) -> None:
        self.scenes = list(scenes)
        self._model = model
        first = self.scenes[0]
        packed = payload.pack(self.scenes)
        # Colab loses the bytes of a widget that is made there (googlecolab/colab-cdn-widget-manager, issue 33).
        on_colab = "google.colab" in sys.modules
        given: dict[str, Any] = {"text": base64.b64encode(packed).decode()} if on_colab else {"data": packed}
        if first.layers:
            record = first.layers[0]
            start = record.query_at(*first.middle) if query is None else query
            given |= {"query": start, "head": words.sharpest(record, start)}
        super().__init__(**given, guess=ASKED if guess else NO_GUESS, checks=model is not None)
        self.on_msg(self._answer)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the traits that travel, always all of them.

        The script is the default of its trait, and a page made from a state without defaults would have none.

        Args:
            key: Name or names of the traits to return; all if not given.
            drop_defaults: Not followed.
        """
        return dict(super().get_state(key))

    def sentence(self) -> str:
        """Return what the explorer shows, in words."""
        seen = self.scenes[self.scene]
        if not seen.layers:
            return plots.sampling_alt(seen.points) if seen.points else seen.name
        record = seen.layers[self.layer]
        if self.guess == ASKED:
            row, column = divmod(self.query, record.query_grid[1])
            return f"Query row {row}, column {column} of {words.layer_name(record)}. Which key will it read most?"
        if self.head == AVERAGE:
            said = plots.explorer_alt(record, self.query)
        else:
            said = words.sentence(record, self.query, self.head)
        return said + words.outlined(seen.right_key(record, self.query))

    def picture(self) -> bytes:
        """Return what the explorer shows, as a picture that needs no kernel, with the sentence beneath it.

        It shows every head, for the same query. The sentence is drawn, for a notebook shows one kind of what a cell
        gave: where that is the picture, nothing else would say what is read.
        """
        seen = self.scenes[self.scene]
        if seen.layers:
            record = seen.layers[self.layer]
            if self.guess == ASKED:
                figure = plots.query_figure(record, self.query)
            else:
                figure = plots.explorer_figure(record, self.query, target=seen.right_key(record, self.query))
        elif seen.points:
            figure = plots.sampling_figure(seen.points)
        else:
            return b""
        return plots.few_colours(plots.png(plots.with_caption(figure, self.sentence())))

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget, and the picture and the sentence for where there is none."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        said = self.sentence()
        data |= {"text/plain": said, "image/png": base64.b64encode(self.picture()).decode()}
        return data, {**metadata, "image/png": {"alt": said}}

    def _ipython_display_(self, **_kwargs: Any) -> None:
        """Display that bundle: the widgets of ipywidgets 7 would display their view alone."""
        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)

    def _answer(self, _: object, content: dict[str, Any], __: object) -> None:
        """Mask keys for the place that the reader asks about, and hand the result back in `checked`."""
        asked = content.get("check")
        if not isinstance(asked, dict) or self._model is None:
            return
        scene, layer, query = (int(asked[name]) for name in ("scene", "layer", "query"))
        seen = self.scenes[scene]
        found: dict[str, Any]
        try:
            found = mask_check(self._model, seen.image, seen.layers[layer].layer, query, seen.size).table()
        except Exception as error:
            # A notebook hides what a callback raises in a log; the reader has to see it where they asked.
            said = f"The check failed. {type(error).__name__}: {error}"
            self._keep({"queries": [query], "failed": said}, scene, layer)
            raise
        self._keep({**found, "queries": [*found["queries"]]}, scene, layer)

    def _keep(self, found: dict[str, Any], scene: int, layer: int) -> None:
        self.checked = [*self.checked, {**found, "scene": scene, "layer": layer}]
