"""The shape tracer: the real layer runs once for the chosen sizes, and everything that it does is listed."""

from functools import cache

import torch

from mqa_lib import MobileMQA, cost, plots, trace
from mqa_lib.labs import base
from mqa_lib.plots.flow import Box

FORMATS = {"row-major (NCHW)": torch.contiguous_format, "channels_last (NHWC)": torch.channels_last}


class ShapeTracer(base.Lab):
    """The operations of a MobileMQA in the order in which they ran, as a flow of boxes and as a table.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        dim: Channels of the map.
        num_heads: Query heads.
        key_dim: Channels of each head, of the value head too.
        query_strides: Pooling of the queries, both ways alike.
        kv_stride: Down-sampling of keys and values.
        memory_format: A name in `FORMATS`.
    """

    def __init__(
        self,
        height: int = 25,
        width: int = 20,
        dim: int = 64,
        num_heads: int = 4,
        key_dim: int = 16,
        query_strides: int = 1,
        kv_stride: int = 2,
        memory_format: str = "row-major (NCHW)",
    ) -> None:
        sides = (7, 8, 13, 16, 20, 25, 32, 40)
        self.sliders = {
            "height": base.slider("height", sides, height),
            "width": base.slider("width", sides, width),
            "dim": base.slider("channels", (32, 64, 128, 160, 256, 512), dim),
            "num_heads": base.slider("heads", (1, 2, 4, 8), num_heads),
            "key_dim": base.slider("key_dim", (8, 16, 32, 64), key_dim),
            "query_strides": base.slider("query_strides", (1, 2, 3), query_strides),
            "kv_stride": base.slider("kv_stride", (1, 2, 3, 4), kv_stride),
        }
        self.memory_format = base.dropdown("memory format", list(FORMATS), memory_format)
        self.every = base.checkbox("list views too, which move nothing")
        super().__init__([*self.sliders.values(), self.memory_format, self.every])

    @property
    def chosen(self) -> dict[str, int]:
        """What the sliders say now."""
        return {name: slider.value for name, slider in self.sliders.items()}

    @property
    def operations(self) -> list[trace.Operation]:
        """What the layer did for what the controls say."""
        return traced(**self.chosen, memory_format=self.memory_format.value)

    def draw(self) -> tuple[plots.Figure, str]:
        """Return the flow and its words."""
        return plots.layer_flow(boxes(self.operations, self.chosen["num_heads"]))

    def say(self) -> str:
        """Return the sums, and why odd sizes come out as they do."""
        done = self.operations
        copies = [each for each in done if each.effect == trace.COPY]
        said = (
            f"One run: {len(done)} calls, of which {sum(each.effect == trace.NEW for each in done)} compute,"
            f" {len(copies)} copy, and the others only look at the same numbers in another shape."
            f" {sum(each.params for each in done):,} parameters,"
            f" {cost.in_thousands(sum(each.macs for each in done))} MACs,"
            f" {cost.in_bytes(sum(each.bytes for each in done))} moved."
        )
        return " ".join([said, *why(**self.chosen)])

    def rows(self) -> str:
        """Return every operation as a row."""
        done = [each for each in self.operations if self.every.value or each.moved]
        priced = formula(**self.chosen)
        return table(
            done,
            "What ran, in this order, for one picture in float32. The formulas of mqa_lib.cost, which run nothing, say"
            f" {priced.params:,} parameters and {priced.macs:,} MACs.",
        )


shape_tracer = ShapeTracer  # as a cell asks for it: the lab, ready to be its last line


def formula(
    height: int, width: int, dim: int, num_heads: int, key_dim: int, query_strides: int, kv_stride: int
) -> cost.Cost:
    """Return what the closed form says of a layer of these sizes; the arguments are `traced`'s."""
    return cost.mobile_mqa(dim, height, width, num_heads, key_dim, key_dim, query_strides, kv_stride)


@cache
def traced(
    height: int,
    width: int,
    dim: int,
    num_heads: int,
    key_dim: int,
    query_strides: int,
    kv_stride: int,
    memory_format: str = "row-major (NCHW)",
) -> list[trace.Operation]:
    """Return what a layer of these sizes does with one random map.

    Args:
        height: As in `ShapeTracer`, and so are the others.
        width: Columns of the map.
        dim: Channels of the map.
        num_heads: Query heads.
        key_dim: Channels of each head.
        query_strides: Pooling of the queries.
        kv_stride: Down-sampling of keys and values.
        memory_format: A name in `FORMATS`.
    """
    with torch.random.fork_rng(devices=[]):
        layer = MobileMQA(
            dim,
            num_heads=num_heads,
            key_dim=key_dim,
            value_dim=key_dim,
            query_strides=query_strides,
            kv_stride=kv_stride,
        ).eval()
        x = torch.randn(1, dim, height, width).contiguous(memory_format=FORMATS[memory_format])
    return trace.operations(layer, x)


def boxes(done: list[trace.Operation], num_heads: int) -> list[Box]:
    """Return the arrays between the operations as boxes of a flow, with the shapes that the run had."""
    last = {each.module: each for each in done if each.module}
    first = done[0].inputs[0]
    flow = [Box("map", first[1:], 0, 1, "map")]
    attention = next(each for each in done if each.name == "scaled_dot_product_attention")
    (_, _, rows, size), (_, _, keys, _) = attention.inputs[:2]
    projected = []
    for row, branch in enumerate(("query", "key", "value")):
        before = 0
        reduced = last.get(f"{branch}.norm")
        if reduced is not None:
            flow.append(Box(f"reduced for {branch}", reduced.output[1:], 1, row, "map", (0,)))
            before = len(flow) - 1
        tokens = last[f"{branch}.proj"].output
        shape = (num_heads, rows // num_heads, size) if branch == "query" else (1, keys, tokens[1])
        names = {"query": "queries", "key": "key head", "value": "value head"}
        flow.append(Box(names[branch], shape, 2, row, branch, (before,)))
        projected.append(len(flow) - 1)
    flow.append(
        Box("scores", (num_heads, rows // num_heads, keys), 3, 0.5, "scores", tuple(projected[:2]), False)
    )
    read = (num_heads, rows // num_heads, attention.output[-1])
    flow.append(Box("read", read, 4, 1, "query", (len(flow) - 1, projected[2])))
    enlarged = [each for each in done if each.name.startswith("interpolate")]
    if enlarged:
        flow.append(Box("enlarged", enlarged[0].output[1:], 5, 1, "query", (len(flow) - 1,)))
    output = last["output.proj"].output[1:]
    flow.append(Box("output", output, flow[-1].column + 1, 1, "map", (len(flow) - 1,)))
    return flow


def why(
    height: int, width: int, dim: int, num_heads: int, key_dim: int, query_strides: int, kv_stride: int
) -> list[str]:
    """Return a sentence for every axis that a stride does not divide: how many keys or queries it gives, and why."""
    said = []
    for axis, extent in (("rows", height), ("columns", width)):
        if kv_stride > 1 and extent % kv_stride:
            count = cost.key_grid(extent, extent, kv_stride)[0]
            first, final = (cost.key_centre(at, kv_stride) for at in (0, count - 1))
            edge = 1 - first
            said.append(
                f"{extent} {axis} at stride {kv_stride} give {count} of keys, centred on {first} to {final}:"
                f" ({extent} - 3 + {2 * edge} of padding) // {kv_stride} + 1."
            )
        if query_strides > 1 and extent % query_strides:
            count, rest = -(-extent // query_strides), extent % query_strides
            wide = count * query_strides
            said.append(
                f"{extent} {axis} pooled by {query_strides} give {count} of queries: the last window is cut off by the"
                f" border and averages the {rest} of {query_strides} that it has. Enlarging makes {wide} of them, and"
                f" what is beyond {extent} is cut away."
            )
    return said


def table(done: list[trace.Operation], caption: str) -> str:
    """Return operations as an HTML table."""
    titles = ("where", "operation", "in", "out", "parameters", "MACs", "moved", "what it does", "lies")
    lines = [
        (
            each.module or "the layer itself",
            each.name,
            "; ".join(map(_shape, each.inputs)),
            _shape(each.output),
            f"{each.params:,}",
            f"{each.macs:,}",
            cost.in_bytes(each.bytes),
            each.effect,
            lies(each),
        )
        for each in done
    ]
    lines.append(
        (
            "all",
            "",
            "",
            "",
            f"{sum(each.params for each in done):,}",
            f"{sum(each.macs for each in done):,}",
            cost.in_bytes(sum(each.bytes for each in done)),
            "",
            "",
        )
    )
    return base.html_table(titles, lines, caption)


def lies(operation: trace.Operation) -> str:
    """Return how an operation's output lies in memory."""
    names = (("contiguous", operation.contiguous), ("channels_last", operation.channels_last))
    return " and ".join(name for name, holds in names if holds) or "neither contiguous nor channels_last"


def _shape(shape: trace.Shape) -> str:
    return " × ".join(map(str, shape))
