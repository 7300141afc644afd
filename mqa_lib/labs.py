"""The sliders of the course. A lab redraws one picture and one table; what it draws, a plot function draws too."""

import ipywidgets as widgets

from mqa_lib import cost, plots
from mqa_lib.cost import Cost

MULTI_HEAD, MULTI_QUERY, MOBILE = cost.MULTI_HEAD, cost.MULTI_QUERY, cost.MOBILE


def lab_costs(
    num_heads: int = 4, size: int = 16, dim: int = 160, kv_stride: int = 2, key_dim: int = 64
) -> dict[str, Cost]:
    """Return the costs that the lab shows: multi-head, shared keys and values, and those down-sampled too.

    Args:
        num_heads: Query heads.
        size: Rows and columns of the map.
        dim: Channels of the map.
        kv_stride: Down-sampling of keys and values in Mobile MQA.
        key_dim: Channels of each head.
    """
    return cost.side_by_side(dim, size, size, num_heads, key_dim, kv_stride)


class CostLab(widgets.VBox):
    """Four sliders over a layer's sizes, with its shapes and costs as bars and as a table.

    Args:
        key_dim: Channels of each head, the same for queries, keys and values.
    """

    def __init__(self, key_dim: int = 64) -> None:
        self.key_dim = key_dim
        self.sliders = {
            "num_heads": _slider("heads", (1, 2, 4, 8, 16), 4),
            "size": _slider("map side", (4, 8, 12, 16, 20, 24, 32, 40, 64, 80), 16),
            "dim": _slider("channels", (64, 128, 160, 256, 512, 1024, 2048), 160),
            "kv_stride": _slider("kv_stride", (1, 2, 3, 4), 2),
        }
        self.picture = widgets.Image(format="png", layout=widgets.Layout(width="100%", max_width="950px"))
        self.table = widgets.HTML()
        for slider in self.sliders.values():
            slider.observe(self._redraw, names="value")
        self._redraw()
        rows = list(self.sliders.values())
        super().__init__([widgets.HBox(rows[:2]), widgets.HBox(rows[2:]), self.picture, self.table])

    @property
    def costs(self) -> dict[str, Cost]:
        """What the sliders ask for now."""
        return lab_costs(
            **{name: slider.value for name, slider in self.sliders.items()}, key_dim=self.key_dim
        )

    def _redraw(self, _change: object = None) -> None:
        asked = self.costs
        fig, _ = plots.cost_bars(asked)
        self.picture.value = plots.png(fig)
        chosen = {name: slider.value for name, slider in self.sliders.items()}
        self.table.value = shape_table(asked, **chosen, key_dim=self.key_dim)


def cost_lab(key_dim: int = 64) -> CostLab:
    """Return the lab, ready to be the last line of a cell."""
    return CostLab(key_dim)


def shape_table(
    costs: dict[str, Cost], num_heads: int, size: int, dim: int, kv_stride: int, key_dim: int
) -> str:
    """Return an HTML table with the shapes of q, k, v and the scores and the price of each layer of `lab_costs`."""
    rows, columns = cost.key_grid(size, size, kv_stride)
    lines = []
    for name, each in costs.items():
        kv_heads = num_heads if name == MULTI_HEAD else 1
        keys = rows * columns if name == MOBILE else size * size
        shapes = (
            (num_heads, size * size, key_dim),
            (kv_heads, keys, key_dim),
            (kv_heads, keys, key_dim),
            (num_heads, size * size, keys),
        )
        share = f"{each.macs / costs[MULTI_HEAD].macs:.0%}"
        cells = [" × ".join(f"{extent:,}" for extent in shape) for shape in shapes]
        cells += [f"{each.params:,}", f"{each.macs:,}", share]
        lines.append(
            f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        )
    titles = ("layer", "q", "k", "v", "scores", "parameters", "MACs", "of multi-head")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    caption = f"Map of {dim} channels × {size} × {size}; shapes are heads × tokens × channels."
    return (
        f'<table class="mqa-costs" border="1" cellpadding="4"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _slider(name: str, options: tuple[int, ...], value: int) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(
        options=options,
        value=value,
        description=name,
        continuous_update=False,
        layout=widgets.Layout(width="360px"),
    )
