"""Who reads from whom: the heads of three layers and the keys and values they share, drawn from the configuration."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mqa_lib import cost
from mqa_lib.plots.style import BLUE, GREEN, ORANGE, figure, image_axes

_MAP, _OWN, _READ, _OUT = 0.0, 1.3, 2.9, 4.2  # rows from top to bottom
_TALLEST, _WIDTH, _LINE = 0.72, 0.3, "#777777"


def wiring(
    dim: int, height: int, width: int, num_heads: int, key_dim: int, kv_stride: int
) -> tuple[Figure, str]:
    """Return multi-head, multi-query and Mobile MQA as diagrams: queries above, keys and values beneath, lines between.

    A head is a box as high as its number of tokens; a line says which query head reads from which key and value head.
    The arguments are the layer's.
    """
    rows, columns = cost.key_grid(height, width, kv_stride)
    n, m = height * width, rows * columns
    layers = {cost.MULTI_HEAD: (num_heads, n), cost.MULTI_QUERY: (1, n), cost.MOBILE: (1, m)}
    fig, axes = figure(1, 3, width=10.5, height=5.2)
    told = []
    for ax, (name, (kv_heads, tokens)) in zip(axes, layers.items(), strict=True):
        image_axes(ax)
        ax.set(xlim=(-0.6, num_heads - 0.4), ylim=(-_OUT - 0.35, 0.35), title=name)
        middle = (num_heads - 1) / 2
        places = [middle] if kv_heads == 1 else [float(head) for head in range(num_heads)]
        reduced = f"SR(X), {m:,} × {dim}" if tokens < n else ""
        _words(ax, middle, _MAP, f"X   {n:,} × {dim}")
        for head in map(float, range(num_heads)):
            _arrow(ax, (middle, _MAP - 0.12), (head, -_OWN + _TALLEST / 2))
            _arrow(
                ax,
                (head, -_OWN - _TALLEST / 2),
                (places[int(head) % kv_heads], -_READ + _TALLEST * tokens / n / 2),
            )
            _box(ax, head, -_OWN, _WIDTH, _TALLEST, BLUE)
        for place in places:
            for side, colour in ((-1, ORANGE), (1, GREEN)):
                _box(ax, place + side * _WIDTH / 2, -_READ, _WIDTH * 0.94, _TALLEST * tokens / n, colour)
        own = "each head its own" if kv_heads > 1 else "one for all heads"
        text = f"k, v   {kv_heads} × {tokens:,} × {key_dim}, {own}" + (
            f"\nmade from {reduced}" if reduced else ""
        )
        _words(ax, middle, _READ + _TALLEST / 2 + 0.22, text)
        _words(
            ax, middle, _OUT - 0.05, f"heads side by side, {n:,} × {num_heads * key_dim}\nWᴼ → {n:,} × {dim}"
        )
        beside = {"ha": "left", "color": BLUE}  # left of the arrows that come down from the map
        _words(ax, -0.6, _MAP + 0.32, f"q   {num_heads} × {n:,} × {key_dim}", **beside)
        told.append(
            f"{name}: {num_heads} heads of q with {n} tokens read from {kv_heads} of k and v with {tokens} tokens"
        )
    return (
        fig,
        f"Diagrams of three layers; lines join each query head to its keys and values. {'; '.join(told)}.",
    )


def _box(ax: Any, x: float, y: float, width: float, height: float, colour: str) -> None:
    ax.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, facecolor=colour, zorder=3))


def _arrow(ax: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": _LINE, "linewidth": 1})


def _words(ax: Any, x: float, row: float, text: str, **look: str) -> None:
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    style = {"ha": "center", "va": "center", "fontsize": 9.5, "bbox": ground, "zorder": 4}
    ax.text(x, -row, text, **(style | look))
