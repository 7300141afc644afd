"""The parts of a page that shows what a model looked at: HTML without scripts, and everything from outside escaped."""

import base64
import html
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from mqa_lib import plots
from mqa_lib.decoder import AT_LEAST, SamplingRecord
from mqa_lib.explorer import words
from mqa_lib.record import AttentionRecord, Rectangle, entropy

_LEVEL_COLOURS = (
    "#56b4e9",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#f0e442",
)  # Okabe and Ito's; shapes tell them too
_LEVEL_NAMES = ("circle", "square", "diamond", "triangle", "bar")
_LARGEST_MARK = 0.055  # radius of the point of the largest weight, as a share of the part that is shown


def variables(photo: str, image: UInt8[np.ndarray, "height width 3"]) -> str:
    """Return the picture as CSS variables, so that many maps share one copy of it."""
    height, width = image.shape[:2]
    rendering = "pixelated" if max(height, width) <= 400 else "auto"
    return f"--photo:url({photo});--ratio:{width}/{height};--rendering:{rendering}"


def photo(image: UInt8[np.ndarray, "height width 3"]) -> str:
    """Return the picture as an address that holds it."""
    return _data(*plots.photo(image))


def detections(
    name: str,
    image: UInt8[np.ndarray, "height width 3"],
    points: SamplingRecord | None,
    at: tuple[int, int],
) -> str:
    """Return the picture with its detections and the place that is asked about, and a table of the detections."""
    height, width = image.shape[:2]
    numbers: dict[
        Rectangle, list[str]
    ] = {}  # a query that scores in two classes makes two detections of one box
    for number, box in enumerate([*map(points.box, range(len(points.scores)))] if points else [], start=1):
        numbers.setdefault(box, []).append(str(number))
    drawn = "".join(_rectangle(box, "shadow") + _rectangle(box, "box") for box in numbers)
    badges = "".join(
        f"<span class='badge' style='{_place(_clipped(box, height, width), height, width, corner=True)}'>"
        f"{', '.join(several)}</span>"
        for box, several in numbers.items()
    )
    found = f"{len(points.scores)} numbered detections" if points else "no detections of its own"
    said = f"{name} with {found}, and row {at[0]}, column {at[1]} marked."
    marker = Rectangle(
        at[0] - 0.02 * height, at[1] - 0.02 * width, at[0] + 0.02 * height, at[1] + 0.02 * width
    )
    return (
        f"<div class='top'><figure class='photo'><div class='map clear' role='img' aria-label='{html.escape(said)}'>"
        f"<svg viewBox='0 0 {width} {height}' preserveAspectRatio='none' aria-hidden='true'>{drawn}</svg>{badges}"
        f"<span class='query' style='{_place(marker, height, width)}'></span></div>"
        f"<figcaption>The small square in black and white marks the pixel at row {at[0]}, column {at[1]}, whose "
        f"attention is shown below.</figcaption></figure>{_detection_table(points) if points else ''}</div>"
    )


def _detection_table(points: SamplingRecord) -> str:
    lines = []
    for number, (label, score) in enumerate(zip(points.labels, points.scores, strict=True)):
        edges = "".join(f"<td>{edge:.0f}</td>" for edge in points.box(number))
        lines.append(
            f"<tr><th scope='row'>{number + 1}</th><td>{html.escape(label)}</td><td>{score:.0%}</td>{edges}</tr>"
        )
    head = "".join(
        f"<th scope='col'>{name}</th>" for name in ("class", "score", "top", "left", "bottom", "right")
    )
    said = "Detections, the best first; boxes in pixels of the picture"
    if points.scores[0] < AT_LEAST:
        said = f"No detection scores {AT_LEAST:.0%}; this is the best that there is"
    caption = f"<caption>{said}</caption>"
    return scrolling(
        f"<table>{caption}<tr><th scope='col'>number</th>{head}</tr>{''.join(lines)}</table>", "Detections"
    )


def layer(record: AttentionRecord, at: tuple[int, int]) -> str:
    """Return the section on one attention layer: a map for every head, their scale, and the keys read most."""
    query = record.query_at(*at)
    maps = record.rows(query)
    uniform = 1 / maps[0].size
    largest = max(float(maps.max()), 4 * uniform)
    figures = "".join(_head(record, query, head, maps[head], largest) for head in range(record.num_heads))
    row, column = divmod(query, record.query_grid[1])
    title = html.escape(words.layer_name(record))
    return (
        f"<section><h3>{title}</h3><p>The query cell at row {row}, column {column} is outlined in black and white. "
        f"Each square is a key, drawn on the middle of the part of the picture that it is made from.</p>"
        f"<div class='heads'>{figures}</div>{_colour_bar(largest, uniform)}"
        f"{scrolling(words.strongest(record, query), f'Keys read most in {record.layer}')}"
        f"<p>Every key alike would be {uniform:.2%} each and {record.uniform_entropy:.2f} bits. {words.COUNTED}</p>"
        f"<p class='real'>{html.escape(words.what_is_real(record))}</p></section>"
    )


def _head(record: AttentionRecord, query: int, head: int, weights: np.ndarray, largest: float) -> str:
    height, width = record.image.shape[:2]
    top, left = (
        start + size / 2 - step / 2
        for start, size, step in zip(record.key_origin, record.key_size, record.key_step, strict=True)
    )
    rows, columns = record.key_grid
    over = Rectangle(top, left, top + rows * record.key_step[0], left + columns * record.key_step[1])
    said = words.sentence(record, query, head)
    best, bits = record.top(query, head, 1)[0], float(entropy(weights.ravel()))
    return (
        f"<figure><div class='map'><img class='heat' src='{_data('image/png', plots.heat_png(weights, largest))}' "
        f"style='{_place(over, height, width)}' alt='{html.escape(said)}'>"
        f"<span class='query' style='{_place(record.query_cell_of(query), height, width)}'></span></div>"
        f"<figcaption><b>Head {head}</b>: at most {words.percent(best.share)}; {bits:.1f} of "
        f"{record.uniform_entropy:.1f} bits</figcaption></figure>"
    )


def _colour_bar(largest: float, uniform: float) -> str:
    place = 100 * uniform / largest
    return (
        "<div class='scale'><span>0%</span><span class='colours' role='img' "
        f"aria-label='Colours from a weight of 0 to {largest:.1%}; every key alike would be {uniform:.2%}'>"
        f"<span class='alike' style='left:{place:.1f}%'></span></span><span>{largest:.1%}</span></div>"
        f"<p class='small'>Weight of a key, on one absolute scale for all heads of this layer. The mark at "
        f"{uniform:.2%} is every key alike.</p>"
    )


def decoder(points: SamplingRecord, detection: int = 0) -> str:
    """Return the section on the decoder: where every layer read the picture for one detection, and how much."""
    height, width = points.image.shape[:2]
    part = points.surroundings(detection)
    largest = float(points.weights[:, detection].max())
    numbers = range(len(points.layers))
    figures = "".join(_decoder_layer(points, number, detection, part, largest) for number in numbers)
    legend = "".join(
        f"<li><svg class='glyph' viewBox='-1 -1 2 2' aria-hidden='true'>{_mark(level, 0, 0, 0.8)}</svg>"
        f"{_LEVEL_NAMES[level % len(_LEVEL_NAMES)]}: map of {rows}×{columns} cells</li>"
        for level, (rows, columns) in enumerate(points.grids)
    )
    per_head = points.weights.shape[3] * points.weights.shape[4]
    label, score = html.escape(points.labels[detection]), float(points.scores[detection])
    return (
        f"<section><h3>Decoder: where it read for detection {detection + 1} ({label}, {score:.0%})</h3>"
        f"<p>In every layer each of {points.weights.shape[2]} heads reads {per_head} points, whose weights sum to 100% "
        f"per head; all alike would be {1 / per_head:.1%}. The area of a mark is its weight, the largest being "
        f"{largest:.1%}, on one scale for all layers. The dashed box is where the layer starts from, the solid one "
        f"where the decoder ends. Shown are rows {part.top:.0f} to {part.bottom:.0f} of {height}, columns "
        f"{part.left:.0f} to {part.right:.0f} of {width}.</p>"
        f"<ul class='legend'>{legend}</ul><div class='heads'>{figures}</div>"
        f"{scrolling(_decoder_table(points, detection), 'Points read most by each decoder layer')}"
        f"<p class='real'>What is real here: {html.escape(points.weights_are.rstrip('. '))}. Places and weights are "
        "the decoder's own.</p></section>"
    )


def _decoder_layer(
    points: SamplingRecord, number: int, detection: int, part: Rectangle, largest: float
) -> str:
    extent = max(part.bottom - part.top, part.right - part.left)
    weights, places = points.weights[number, detection], points.points[number, detection]
    order = sorted(np.ndindex(weights.shape), key=lambda place: -weights[place])  # small ones lie on top
    marks = "".join(
        _mark(
            place[1],
            places[place][1],
            places[place][0],
            _LARGEST_MARK * extent * float(np.sqrt(weights[place] / largest)),
        )
        for place in order
    )
    boxes = "".join(
        _rectangle(box, "shadow") + _rectangle(box, kind)
        for box, kind in ((points.reference(number, detection), "from"), (points.box(detection), "box"))
    )
    shares = points.level_shares(number, detection)
    by_level = ", ".join(
        f"{rows}×{columns} {share:.0%}" for (rows, columns), share in zip(points.grids, shares, strict=True)
    )
    within = points.share_within(number, detection, points.box(detection))
    said = f"Decoder layer {number}: {by_level}; {within:.0%} from within the box."
    height, width = points.image.shape[:2]
    size = (part.right - part.left, part.bottom - part.top)
    return (
        f"<figure><div class='map plain' role='img' aria-label='{html.escape(said)}' style='--ratio:"
        f"{size[0]:.1f}/{size[1]:.1f};{_cropped(part, height, width)}'>"
        f"<svg viewBox='{part.left:.1f} {part.top:.1f} {size[0]:.1f} {size[1]:.1f}' preserveAspectRatio='none' "
        f"aria-hidden='true'>{boxes}{marks}</svg></div>"
        f"<figcaption><b>Layer {number}</b>: {by_level}; {within:.0%} from within the box</figcaption></figure>"
    )


def _decoder_table(points: SamplingRecord, detection: int) -> str:
    columns = [points.top(number, detection) for number in range(len(points.layers))]
    head = "".join(f"<th scope='col'>layer {number}</th>" for number in range(len(columns)))
    lines = "".join(
        f"<tr><th scope='row'>{place + 1}</th>"
        + "".join(
            f"<td>row {point.row:.0f}, column {point.column:.0f}: <b>{point.share:.1%}</b> of head {point.head}, "
            f"{_LEVEL_NAMES[point.level % len(_LEVEL_NAMES)]}</td>"
            for point in line
        )
        + "</tr>"
        for place, line in enumerate(zip(*columns, strict=True))
    )
    caption = (
        "<caption>The points with the largest weights; rows and columns in pixels of the picture</caption>"
    )
    return f"<table>{caption}<tr><td></td>{head}</tr>{lines}</table>"


def _clipped(part: Rectangle, height: int, width: int) -> Rectangle:
    top, bottom = (min(max(float(edge), 0.0), height) for edge in (part.top, part.bottom))
    left, right = (min(max(float(edge), 0.0), width) for edge in (part.left, part.right))
    return Rectangle(top, left, bottom, right)


def _cropped(part: Rectangle, height: int, width: int) -> str:
    """Return the style that lets a map show a part of the photo."""
    places = []
    for first, last, extent in ((part.left, part.right, width), (part.top, part.bottom, height)):
        hidden = extent - (last - first)
        places.append((100 * extent / (last - first), 100 * first / hidden if hidden > 1e-6 else 0.0))
    (across, left), (down, top) = places
    return f"--size:{across:.3f}% {down:.3f}%;--position:{left:.3f}% {top:.3f}%"


def _place(part: Rectangle, height: int, width: int, corner: bool = False) -> str:
    """Return the style that puts something over a part of a map, or at the part's upper left corner."""
    at = f"left:{100 * part.left / width:.3f}%;top:{100 * part.top / height:.3f}%"
    if corner:
        return at
    return (
        f"{at};width:{100 * (part.right - part.left) / width:.3f}%;"
        f"height:{100 * (part.bottom - part.top) / height:.3f}%"
    )


def _rectangle(part: Rectangle, kind: str) -> str:
    return (
        f"<rect class='{kind}' x='{part.left:.1f}' y='{part.top:.1f}' width='{part.right - part.left:.1f}' "
        f"height='{part.bottom - part.top:.1f}'/>"
    )


def _mark(level: int, x: float, y: float, r: float) -> str:
    """Return a mark of the same area for every level, of its own shape and colour."""
    colour, shape = _LEVEL_COLOURS[level % len(_LEVEL_COLOURS)], level % len(_LEVEL_NAMES)
    if shape == 0:
        return f"<circle cx='{x:.2f}' cy='{y:.2f}' r='{r:.2f}' fill='{colour}'/>"
    outlines: Sequence[Sequence[tuple[float, float]]] = (
        ((-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)),
        ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
        ((0, -1.56), (1.35, 0.78), (-1.35, 0.78)),
        ((-1.8, -0.44), (1.8, -0.44), (1.8, 0.44), (-1.8, 0.44)),
    )
    corners = " ".join(f"{x + r * across:.2f},{y + r * down:.2f}" for across, down in outlines[shape - 1])
    return f"<polygon points='{corners}' fill='{colour}'/>"


def scrolling(table: str, name: str) -> str:
    """Return a table that can be scrolled where the page is narrow, by keyboard too."""
    return f"<div class='scroll' role='region' tabindex='0' aria-label='{html.escape(name)}'>{table}</div>"


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
