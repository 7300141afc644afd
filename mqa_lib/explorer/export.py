"""Look at pictures with a model and write what it looked at to one file: a page that needs nothing else, or a PNG."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch import nn

from mqa_lib import checks, decoder, hooks, pictures, plots
from mqa_lib import record as records
from mqa_lib.decoder import SamplingRecord
from mqa_lib.explorer import page, words
from mqa_lib.explorer.style import style
from mqa_lib.record import AttentionRecord

_LOOKED_FOR = "no MobileMQA, no MultiHeadAttention2d, no AIFI, and no decoder with sampling points"


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model looked at in one picture.

    Args:
        name: What to call the picture.
        image: The picture, RGB.
        layers: Its attention over grids, in the order in which it ran.
        points: Its decoder's sampling points, if it has such a decoder.
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    layers: list[AttentionRecord]
    points: SamplingRecord | None = None

    @property
    def middle(self) -> tuple[int, int]:
        """Return row and column of the pixel in the middle of the best detection, or of the picture."""
        if self.points is not None:
            return self.points.middle(0)
        return self.image.shape[0] // 2, self.image.shape[1] // 2


def look(
    model: nn.Module,
    image: pictures.Picture,
    name: str = "picture",
    weights_are: str | None = None,
    size: records.Size = None,
    layer: str | None = None,
) -> Seen:
    """Return all that can be recorded of what `model` looks at in a picture.

    Args:
        model: As in `record.capture`; a model with only one of attention and decoder is welcome too.
        image: As in `record.capture`.
        name: What to call the picture.
        weights_are: As in `record.capture`.
        size: As in `record.capture`.
        layer: Name of the only attention layer to keep; all if not given.

    Raises:
        ValueError: The picture cannot be read, the model holds nothing that can be recorded, or no such layer.
    """
    picture = pictures.read(image)
    attends, decodes = any(map(hooks.kind, model.modules())), decoder.holds_decoder(model)
    if not (attends or decodes):
        network = type(getattr(model, "model", model)).__name__
        raise checks.refuse("model", network, f"holds no attention: {_LOOKED_FOR}", "Give an RT-DETR.")
    layers = records.capture(model, picture, weights_are, size) if attends else []
    if layer is not None:
        by_name = {entry.layer: entry for entry in layers}
        layers = [by_name[checks.one_of("layer", layer, by_name)]]
    points = records.capture_decoder(model, picture, weights_are, size) if decodes else None
    return Seen(name, picture, layers, points)


def export_html(
    seen: Seen | Sequence[Seen] | Sequence[AttentionRecord],
    path: str | Path,
    at: tuple[int, int] | None = None,
    model: str = "this model",
) -> Path:
    """Write a page that shows what a model looked at, in one file that asks for nothing else, and return its path.

    Args:
        seen: What `look` returns, for one picture or several, or the records of one picture.
        path: Where to write.
        at: Row and column of the pixel whose attention is shown; the middle of each picture's best detection if not
            given.
        model: What to call the model.

    Raises:
        ValueError: There is nothing to show, or `at` lies outside a picture.
    """
    scenes = _scenes(seen)
    for scene in scenes:
        _check(scene, at)
    title = html.escape(f"What {model} looks at")
    links = "".join(
        f"<li><a href='#picture-{number}'>{html.escape(scene.name)}</a></li>"
        for number, scene in enumerate(scenes)
    )
    body = "".join(_article(number, scene, at or scene.middle) for number, scene in enumerate(scenes))
    contents = f"<nav aria-label='Pictures'><ul>{links}</ul></nav>" if len(scenes) > 1 else ""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    text = (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<meta name='color-scheme' content='light dark'><style>{style()}</style></head>"
        f"<body><header><h1>{title}</h1><p class='real'>{html.escape(_what_is_real(scenes[0]))}</p></header>"
        f"{_caveat()}{contents}<main>{body}</main>"
        "<footer><p>Made by <code>python -m mqa_lib explore</code>. This page holds no script and asks for no other "
        "file.</p></footer></body></html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def export_png(seen: Seen, path: str | Path, at: tuple[int, int] | None = None) -> Path:
    """Write one picture that shows what a model looked at in one picture, and return its path.

    Args:
        seen: What `look` returns.
        path: Where to write.
        at: As in `export_html`.

    Raises:
        ValueError: `at` lies outside the picture.
    """
    from PIL import Image

    _check(seen, at)
    row, column = at or seen.middle
    real = f"{seen.name}, row {row}, column {column}. {_what_is_real(seen)}"
    figures = [plots.note_figure([real, words.CAVEAT, words.CAVEAT_POINTS])]
    if seen.layers:
        names = [f"{entry.layer}\n{entry.kind}" for entry in seen.layers]
        figures.append(plots.same_pixel_figure(seen.layers, names, row, column))
    if seen.points is not None:
        figures.append(plots.sampling_figure(seen.points))
    drawn = [Image.open(io.BytesIO(plots.png(figure))).convert("RGB") for figure in figures]
    whole = Image.new("RGB", (max(part.width for part in drawn), sum(part.height for part in drawn)), "white")
    top = 0
    for part in drawn:
        whole.paste(part, (0, top))
        top += part.height
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save(path, "PNG", optimize=True)
    return path


def _scenes(seen: Seen | Sequence[Seen] | Sequence[AttentionRecord]) -> list[Seen]:
    given = [seen] if isinstance(seen, Seen) else list(seen)
    layers = [entry for entry in given if isinstance(entry, AttentionRecord)]
    scenes = [entry for entry in given if isinstance(entry, Seen)]
    if layers:
        scenes.append(Seen("picture", layers[0].image, layers))
    if not scenes:
        raise checks.refuse("seen", [], "is empty", "Give what `look` or `record.capture` returns.")
    return scenes


def _check(scene: Seen, at: tuple[int, int] | None) -> None:
    height, width = scene.image.shape[:2]
    if at is not None and not (0 <= at[0] < height and 0 <= at[1] < width):
        rule = f"lies outside {scene.name}, which has {height} rows and {width} columns of pixels"
        raise checks.refuse("at", at, rule, f"Use a row below {height} and a column below {width}.")


def _article(number: int, scene: Seen, at: tuple[int, int]) -> str:
    photo = page.photo(scene.image)
    parts = [page.detections(scene.name, photo, scene.image, scene.points, at)]
    parts += [page.layer(entry, at) for entry in scene.layers]
    if not scene.layers:
        parts.append("<p>This model holds no attention over a grid but its decoder's.</p>")
    if scene.points is not None:
        parts.append(page.decoder(scene.points))
    variables = page.variables(photo, scene.image)
    name = html.escape(scene.name)
    return f"<article id='picture-{number}' style='{variables}'><h2>{name}</h2>{''.join(parts)}</article>"


def _what_is_real(scene: Seen) -> str:
    said = scene.layers[0].weights_are if scene.layers else scene.points.weights_are if scene.points else ""
    return f"What the weights are: {said.rstrip('. ')}."


def _caveat() -> str:
    said = "".join(f"<p>{html.escape(text)}</p>" for text in (words.CAVEAT, words.CAVEAT_POINTS))
    return (
        f"<aside class='caveat' aria-labelledby='caveat'><h2 id='caveat'>How to read this</h2>{said}</aside>"
    )
