"""Pictures of a decoder's sampling points: where each layer read for one detection, and how much."""

from matplotlib.figure import Figure

from mqa_lib.decoder import SamplingRecord
from mqa_lib.plots.attention import outline
from mqa_lib.plots.style import BLACK, BLUE, GREEN, ORANGE, PALETTE, PURPLE, SKY, YELLOW, figure, image_axes

_COLOURS = (SKY, ORANGE, GREEN, PURPLE, YELLOW)
_MARKERS = "osD^v"
_LARGEST = 10.0  # area of the mark of the largest weight, in square points for a picture one inch wide


def sampling_figure(points: SamplingRecord, detection: int = 0) -> Figure:
    """Return a picture for every layer of the decoder: its points for one detection, their area being their weight.

    The scale is one for all layers. Shown is the part of the picture around the box and the points. The white box is
    the one that the layer starts from, the blue one the box that the decoder ends with.

    Args:
        points: What the decoder did.
        detection: Number of the detection; the best is the first.
    """
    layers = len(points.layers)
    largest = float(points.weights[:, detection].max())
    part = points.surroundings(detection)
    across = min(layers, 6)
    down = -(-layers // across)
    wide = 12.0 / max(across, 3)
    panel = 0.3 + wide * min((part.bottom - part.top) / (part.right - part.left), 1.2)
    fig, axes = figure(down, across, width=12.0, height=0.9 + panel * down, squeeze=False)
    for number, ax in enumerate(axes.ravel()):
        ax.set_visible(number < layers)
        if number >= layers:
            continue
        ax.imshow(points.image // 2 + 64, interpolation="nearest")
        outline(ax, points.reference(number, detection), "white")
        outline(ax, points.box(detection), BLUE)
        for level, (colour, marker) in enumerate(zip(_COLOURS, _MARKERS, strict=True)):
            if level < len(points.grids):
                places = points.points[number, detection, :, level].reshape(-1, 2) - 0.5
                areas = _LARGEST * wide**2 * points.weights[number, detection, :, level].ravel() / largest
                style = {"color": colour, "marker": marker, "edgecolor": BLACK, "linewidth": 0.5}
                ax.scatter(places[:, 1], places[:, 0], areas, **style)
        ax.set(xlim=(part.left - 0.5, part.right - 0.5), ylim=(part.bottom - 0.5, part.top - 0.5))
        image_axes(ax)
        ax.set_title(f"decoder layer {number}", fontsize=9)
    for level, (rows, columns) in enumerate(points.grids[: len(_COLOURS)]):
        style = {"color": _COLOURS[level], "marker": _MARKERS[level], "edgecolor": BLACK}
        axes[0, 0].scatter([], [], label=f"map of {rows}×{columns} cells", **style)
    said = f"{points.labels[detection]}, {points.scores[detection]:.0%}; largest weight {largest:.1%}"
    fig.legend(loc="outside upper center", ncols=len(PALETTE), fontsize=9, title=_plain(said))
    return fig


def sampling_alt(points: SamplingRecord, detection: int = 0) -> str:
    """Return what `sampling_figure` shows, as a sentence."""
    said = []
    for number in range(len(points.layers)):
        best = points.top(number, detection, 1)[0]
        within = points.share_within(number, detection, points.box(detection))
        said.append(
            f"layer {number} reads {within:.0%} from within the box, most at row {best.row:.0f}, column "
            f"{best.column:.0f} ({best.share:.1%} of head {best.head})"
        )
    label = points.labels[detection]
    return f"The decoder's points for {label} ({points.scores[detection]:.0%}): {'; '.join(said)}."


def _plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
