"""Run a model once and bring back the queries and keys of every attention layer in it."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16
from torch import Tensor, nn

from mqa_lib import checks, functional
from mqa_lib.attention import MobileMQA, MultiHeadAttention2d
from mqa_lib.sampling import SameConv2d, same_pads

_STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
# What RT-DETR's head keeps from one picture to the next of the same size, whatever the type of the numbers was.
_ANCHORS = ("shapes", "anchors", "valid_mask")
# The largest of a layer's numbers lies between 2^-8 and 2^15: half precision holds those well.
_MOST, _LEAST = 15, 8


class Lattice(NamedTuple):
    """Where the cells of a map lie in the batch: middle of the first, and distance to the next, in pixels.

    Both are (vertical, horizontal), and the first pixel reaches from 0 to 1, so its middle is at 0.5.
    """

    first: tuple[float, float]
    step: tuple[float, float]


@dataclass(frozen=True)
class View:
    """One layer's queries and keys for one picture, and how its keys were made from its map.

    Args:
        name: Name of the layer in the model.
        kind: What the layer is, for people.
        q: Queries of every head.
        k: Keys: one set for every head, or one that all share.
        grid: Rows and columns of the map that went in.
        lattice: Where the cells of that map are centred in the batch.
        query_strides: Cells of the map that were averaged to one query, (vertical, horizontal).
        kv_stride: Cells of the map from one key to the next.
        kernel: Cells of the map, per axis, that one key was made from.
        padding: Cells added above and to the left of the map before that.
        keys: Rows and columns of the keys; those of the map if not given.
        query_padding: Cells by which the first query's window begins above and to the left of the map.
    """

    name: str
    kind: str
    q: Float[Tensor, "heads queries key_dim"]
    k: Float[Tensor, "key_sets keys key_dim"]
    grid: tuple[int, int]
    lattice: Lattice
    query_strides: tuple[int, int] = (1, 1)
    kv_stride: int = 1
    kernel: int = 1
    padding: tuple[int, int] = (0, 0)
    keys: tuple[int, int] | None = None
    query_padding: tuple[int, int] = (0, 0)

    @property
    def query_grid(self) -> tuple[int, int]:
        """Return rows and columns of the queries; a window cut off by the border is a query too."""
        return -(-self.grid[0] // self.query_strides[0]), -(-self.grid[1] // self.query_strides[1])

    @property
    def key_grid(self) -> tuple[int, int]:
        """Return rows and columns of the keys."""
        return self.keys or self.grid


def run(model: nn.Module, batch: Float[Tensor, "1 3 rows columns"]) -> list[View]:
    """Return what every attention layer of `model` saw in `batch`, in the order in which they ran.

    The model runs in evaluation mode, and every module's mode is put back. Of a layer that runs more than once, the
    last run is kept. Gradients flow back to `batch` if it asks for them, and are not computed otherwise.

    Raises:
        ValueError: The model holds no attention over a grid, or runs none of it.
    """
    layers = {name: layer for name, layer in model.named_modules() if kind(layer)}
    if not layers:
        rule = "holds no attention over a grid: no MobileMQA, no MultiHeadAttention2d, no AIFI"
        way_out = (
            f"Give a model with one of these ({sum(1 for _ in model.modules())} modules were looked at)."
        )
        raise checks.refuse("model", type(model).__name__, rule, way_out)
    with evaluated(model, batch):
        views = _run_hooked(model, layers, batch)
    if not views:
        way_out = "Give a model whose forward pass uses its attention."
        rule = f"did not run its attention ({', '.join(layers)})"
        raise checks.refuse("model", type(model).__name__, rule, way_out)
    return views


@contextlib.contextmanager
def evaluated(model: nn.Module, batch: Float[Tensor, "1 3 rows columns"]) -> Iterator[None]:
    """Put the model into evaluation mode while the block runs, with gradients only if `batch` asks for them.

    Every module's mode is put back. So are the anchors that RT-DETR's head keeps for the next picture of this size:
    those of a prediction take no gradients, and those of single precision do not fit a model turned to half.
    """
    modes = {module: module.training for module in model.modules()}
    heads: list[Any] = [module for module in modes if all(hasattr(module, name) for name in _ANCHORS)]
    anchors = [{name: getattr(head, name) for name in _ANCHORS} for head in heads]
    try:
        model.eval()
        for head in heads:
            head.shapes = []  # makes it make anchors anew
        with torch.set_grad_enabled(batch.requires_grad):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for head, before in zip(heads, anchors, strict=True):
            for name, value in before.items():
                setattr(head, name, value)


def kind(layer: nn.Module) -> str:
    """Return what an attention layer is, for people, and nothing for any other module."""
    if isinstance(layer, MobileMQA):
        return "Mobile MQA"
    if isinstance(layer, MultiHeadAttention2d):
        return "multi-head attention"
    named = any(parent.__name__ == "AIFI" for parent in type(layer).__mro__)
    # An AIFI whose attention someone replaced is not read as if it were its own; another library's may keep none there.
    whole = getattr(getattr(layer, "ma", None), "in_proj_weight", None) is not None
    return "AIFI" if named and whole else ""


def _run_hooked(
    model: nn.Module, layers: dict[str, nn.Module], batch: Float[Tensor, "1 3 rows columns"]
) -> list[View]:
    maps: dict[str, Tensor] = {}
    tokens: dict[str, tuple[Tensor, ...]] = {}
    lattices = {(batch.shape[2], batch.shape[3]): Lattice((0.5, 0.5), (1.0, 1.0))}
    hooks = []
    for name, layer in layers.items():
        hooks.append(layer.register_forward_pre_hook(_keep_map(maps, name)))
        if kind(layer) == "AIFI":
            # What AIFI hands on already holds the embedding of the positions, and the norm where that comes first.
            attention: Any = layer.ma
            hooks.append(attention.register_forward_pre_hook(_keep_tokens(tokens, name), with_kwargs=True))
    for name, module in model.named_modules():
        within = any(name.startswith(f"{layer}.") for layer in layers)
        if isinstance(module, _STRIDED) and not within:
            hooks.append(module.register_forward_hook(_keep_lattice(lattices)))
    try:
        model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    views = []
    for name, x in maps.items():
        q, k, how = _READERS[kind(layers[name])](layers[name], x, tokens.get(name, ()))
        grid, lattice = (x.shape[2], x.shape[3]), _lattice(lattices, batch, x)
        views.append(View(name, kind(layers[name]), q[0], k[0], grid, lattice, **how))
    return views


def _keep_map(maps: dict[str, Tensor], name: str) -> Callable[..., None]:
    return lambda _, inputs: maps.update({name: inputs[0]})


def _keep_tokens(tokens: dict[str, tuple[Tensor, ...]], name: str) -> Callable[..., None]:
    return lambda _, inputs, named: tokens.update({name: (*inputs, named.get("query"), named.get("key"))[:2]})


def _mobile_mqa(
    layer: Any, x: Float[Tensor, "1 dim height width"], _: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return queries, keys and how their grids lie on the map."""
    q, k = layer.queries_and_keys(x)
    how: dict[str, Any] = {"query_strides": layer.query_strides, "kv_stride": layer.kv_stride}
    reduction = getattr(layer.key, "down_conv", None)
    if isinstance(reduction, nn.Conv2d):
        size = int(reduction.kernel_size[0])
        rows, columns = (
            functional.windows(extent, size, layer.kv_stride, layer.padding) for extent in x.shape[2:]
        )
        how |= {"kernel": size, "keys": (rows[0], columns[0]), "padding": (rows[1], columns[1])}
    if layer.padding:
        rows, columns = (
            functional.windows(extent, stride, stride, layer.padding)
            for extent, stride in zip(x.shape[2:], layer.query_strides, strict=True)
        )
        how["query_padding"] = (rows[1], columns[1])
    return q, k, how


def _multi_head(
    layer: Any, x: Float[Tensor, "1 dim height width"], _: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    q, k = (part(x).unflatten(1, (layer.num_heads, -1)).flatten(-2).mT for part in (layer.query, layer.key))
    return q, k, {}


def _aifi(
    layer: Any, _: Float[Tensor, "1 dim height width"], tokens: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    attention = layer.ma
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k = (
        F.linear(tokens[part], weights[part], biases[part])
        .unflatten(-1, (attention.num_heads, -1))
        .transpose(1, 2)
        for part in (0, 1)
    )
    return q, k, {}


# How a layer's queries and keys are had, by its kind: from the map that went in, or from the tokens of its attention.
_READERS = {"Mobile MQA": _mobile_mqa, "multi-head attention": _multi_head, "AIFI": _aifi}


def _keep_lattice(lattices: dict[tuple[int, int], Lattice]) -> Callable[..., None]:
    """Return a hook that notes where the cells of a map lie when a convolution or pooling first makes its size.

    Maps are told apart by their size. That is exact for a chain of strided layers, and for the branches of common
    backbones, which keep to one lattice for each size.
    """

    def keep(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        before, after = tuple(inputs[0].shape[-2:]), tuple(output.shape[-2:])
        if before not in lattices or after in lattices:
            return
        kernel, stride, padding, dilation = (
            (0, 0) if isinstance(said, str) else (said, said) if isinstance(said, int) else said
            for said in (
                module.kernel_size,
                module.stride,
                module.padding,  # a word only where it is "valid": a stride excludes "same"
                getattr(module, "dilation", 1),
            )
        )
        if isinstance(module, SameConv2d):  # which pads by itself, as much as the map needs
            left, _, top, _ = same_pads((before[0], before[1]), kernel, stride)
            padding = top, left
        first, step = lattices[before]
        # The middle of the first window, counted in cells from the middle of the first cell.
        middle = [d * (k - 1) / 2 - p for k, p, d in zip(kernel, padding, dilation, strict=True)]
        lattices[after] = Lattice(
            (first[0] + step[0] * middle[0], first[1] + step[1] * middle[1]),
            (step[0] * stride[0], step[1] * stride[1]),
        )

    return keep


def _lattice(
    lattices: dict[tuple[int, int], Lattice],
    batch: Float[Tensor, "1 3 rows columns"],
    x: Float[Tensor, "1 dim height width"],
) -> Lattice:
    """Return where the cells of a map lie: as noted, or side by side over the whole batch if nothing was."""
    grid = (x.shape[2], x.shape[3])
    down, across = batch.shape[2] / grid[0], batch.shape[3] / grid[1]
    return lattices.get(grid, Lattice((down / 2, across / 2), (down, across)))


def in_half(
    name: str, values: Float[Tensor, "sets positions key_dim"], layer: str
) -> tuple[Float16[np.ndarray, "sets positions key_dim"], float]:
    """Return queries or keys in half precision and what they have to be multiplied by to be the layer's own.

    That is 1, but for activations that half precision cannot hold: these are divided by a power of two, exactly.

    Raises:
        ValueError: Some are not finite: there are no weights to show.
    """
    exact = values.detach().float().cpu().numpy()
    largest = float(np.abs(exact).max(initial=0.0))
    if not math.isfinite(largest):
        rule = (
            f"holds numbers that are not finite in the layer {layer or 'itself'}, so that it has no weights"
        )
        way_out = (
            "The network's activations explode: look at its weights and at the picture's values (0 to 1)."
        )
        raise checks.refuse(name, largest, rule, way_out)
    exponent = math.frexp(largest)[1] if largest else 0
    by = 2.0 ** (max(exponent - _MOST, 0) + min(exponent + _LEAST, 0))
    return (exact / np.float32(by)).astype(np.float16), by
