"""Sliders over a layer's sizes, with its shapes and costs as bars and as a table."""

from mqa_lib import cost, plots
from mqa_lib.cost import Cost
from mqa_lib.labs import base

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


class CostLab(base.Lab):
    """Four sliders over a layer's sizes, with its shapes and costs as bars and as a table.

    Args:
        key_dim: Channels of each head, the same for queries, keys and values.
    """

    def __init__(self, key_dim: int = 64) -> None:
        self.key_dim = key_dim
        self.sliders = {
            "num_heads": base.slider("heads", (1, 2, 4, 8, 16), 4),
            "size": base.slider("map side", (4, 8, 12, 16, 20, 24, 32, 40, 64, 80), 16),
            "dim": base.slider("channels", (64, 128, 160, 256, 512, 1024, 2048), 160),
            "kv_stride": base.slider("kv_stride", (1, 2, 3, 4), 2),
        }
        super().__init__(list(self.sliders.values()))

    @property
    def chosen(self) -> dict[str, int]:
        """What the sliders say now."""
        return {name: slider.value for name, slider in self.sliders.items()}

    @property
    def costs(self) -> dict[str, Cost]:
        """What the sliders ask for now."""
        return lab_costs(**self.chosen, key_dim=self.key_dim)

    def draw(self) -> tuple[plots.Figure, str]:
        """Return the bars and their words."""
        return plots.cost_bars(self.costs)

    def say(self) -> str:
        """Return what sharing and down-sampling save."""
        first, shared, reduced = (each.macs for each in self.costs.values())
        projections = self.costs[MOBILE].projection_macs / reduced
        return (
            f"Sharing keys and values leaves {shared / first:.0%} of multi-head attention's MACs, down-sampling them"
            f" {reduced / first:.0%}. {projections:.0%} of what is left are the four projections."
        )

    def rows(self) -> str:
        """Return the shapes and the numbers."""
        return shape_table(self.costs, **self.chosen, key_dim=self.key_dim)


cost_lab = CostLab  # as a cell asks for it: the lab, ready to be its last line


def shape_table(
    costs: dict[str, Cost], num_heads: int, size: int, dim: int, kv_stride: int, key_dim: int
) -> str:
    """Return an HTML table with the shapes of q, k, v and the scores and the price of each layer of `lab_costs`."""
    grid = cost.key_grid(size, size, kv_stride)
    lines = []
    for name, each in costs.items():
        kv_heads = num_heads if name == MULTI_HEAD else 1
        keys = grid[0] * grid[1] if name == MOBILE else size * size
        shapes = (
            (num_heads, size * size, key_dim),
            (kv_heads, keys, key_dim),
            (kv_heads, keys, key_dim),
            (num_heads, size * size, keys),
        )
        cells = [" × ".join(f"{extent:,}" for extent in shape) for shape in shapes]
        share = f"{each.macs / costs[MULTI_HEAD].macs:.0%}"
        lines.append([name, *cells, f"{each.params:,}", f"{each.macs:,}", share])
    titles = ("layer", "q", "k", "v", "scores", "parameters", "MACs", "of multi-head")
    caption = f"Map of {dim} channels × {size} × {size}; shapes are heads × tokens × channels."
    return base.html_table(titles, lines, caption)
