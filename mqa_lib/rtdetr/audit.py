"""What the article prints about its model, and what its model is: parameters row by row, GFLOPs with the attention."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn.modules import AIFI
from ultralytics.nn.tasks import RTDETRDetectionModel, yaml_model_load
from ultralytics.utils.torch_utils import get_flops

from mqa_lib import checks, cost
from mqa_lib.attention import MobileMQA
from mqa_lib.cost import Cost
from mqa_lib.rtdetr import build, fit
from mqa_lib.rtdetr.article import KEY_DIM, NUM_HEADS
from mqa_lib.rtdetr.carry import place_rows

# The article's log: parameters of rows 0 to 23 of its model with one class, their sum, and its GFLOPs at 640 px.
PRINTED_ROWS = (
    *(9_536, 271_104, 1_367_040, 7_540_736, 15_407_104),
    *(524_800, 789_760, 66_048, 0, 262_656, 0, 2_232_320, 66_048, 0, 131_584, 0, 2_232_320),
    *(590_336, 0, 2_232_320, 590_336, 0, 2_232_320, 7_303_907),
)
PRINTED_PARAMS = 43_850_275
PRINTED_GFLOPS = 137.0
FLOPS_PER_MAC = 2  # ultralytics counts a multiplication and an addition as two


@dataclass(frozen=True)
class Stage:
    """One stage of the ResNet-50 in which the article puts its attention.

    Args:
        stride: Pixels of the picture for one pixel of the map.
        dim: Channels that the attention works on.
        blocks: Bottlenecks, each with an attention of its own.
    """

    stride: int
    dim: int
    blocks: int

    def block_cost(self, size_px: int) -> Cost:
        """Return the cost of one block's attention for a square picture of `size_px`.

        The article's layer multiplies the same matrices as multi-query attention; only what is in them is wrong.

        Raises:
            ValueError: `size_px` is not a multiple of 32, the stride of the last stage.
        """
        checks.divides("size_px", size_px, "stride", 32)
        side = size_px // self.stride
        return cost.multi_query(self.dim, side, side, NUM_HEADS, KEY_DIM, KEY_DIM)

    def gflops(self, size_px: int, *kinds: str) -> float:
        """Return the GFLOPs of all blocks' attention, of some kinds of step in `cost.KINDS` or of all."""
        block = self.block_cost(size_px)
        macs = sum(block.macs_of(kind) for kind in kinds or cost.KINDS)
        return self.blocks * macs * FLOPS_PER_MAC / 1e9


STAGES = (Stage(4, 64, 3), Stage(8, 128, 4), Stage(16, 256, 6), Stage(32, 512, 3))
PROJECTIONS = ("projections",)
MATRIX_PRODUCTS = ("scores", "weighted values")


def article_gflops(size_px: int, *kinds: str) -> float:
    """Return the GFLOPs of the article's attention in all stages, of some kinds of step or of all."""
    return sum(stage.gflops(size_px, *kinds) for stage in STAGES)


def one_class(name: str) -> RTDETRDetectionModel:
    """Return the untrained network of a model in `MODELS` for one class, as in the article's log.

    Raises:
        ValueError: The name is not known.
    """
    file = build.MODELS[checks.one_of("name", name, build.MODELS)]
    return RTDETRDetectionModel({**yaml_model_load(file), "nc": 1}, verbose=False)


def row_params(network: nn.Module) -> list[int]:
    """Return the parameters of every row of a network's model file, in order."""
    return [params(row) for row in network.model]  # type: ignore[union-attr]


def params(module: nn.Module) -> int:
    """Return how many parameters a module owns."""
    return sum(parameter.numel() for parameter in module.parameters())


def counted_gflops(network: nn.Module, size_px: int = 640) -> float:
    """Return the GFLOPs that ultralytics counts for a square picture.

    Do not ask it for the article's network at 640 px: its counter would run the network at full size, with score
    matrices of several GiB. `article_gflops` says what that network adds to the stock one.

    Raises:
        RuntimeError: The counter failed, which it tells by a count of 0.
    """
    counted = float(get_flops(network, size_px))
    if counted == 0:
        raise RuntimeError(f"ultralytics could not count the operations of {type(network).__name__}.")
    return counted


@torch.no_grad()
def torch_gflops(network: nn.Module, size_px: int) -> float:
    """Return the GFLOPs that PyTorch counts while the network runs on a square picture; fused attention is left out.

    The article's layer fuses nothing, so all of it is counted. Keep `size_px` small for it.
    """
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size_px, size_px))
    return counter.get_total_flops() / 1e9


@torch.no_grad()
def module_gflops(network: nn.Module, size_px: int) -> float:
    """Return the GFLOPs that a counter sees which watches modules only: convolutions and linear layers."""
    macs = 0

    def count(module: nn.Conv2d | nn.Linear, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    watched = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [module.register_forward_hook(count) for module in watched]
    try:
        network(torch.zeros(1, 3, size_px, size_px))
    finally:
        for handle in handles:
            handle.remove()
    return macs * FLOPS_PER_MAC / 1e9


@torch.no_grad()
def answer(network: nn.Module, x: Float[Tensor, "batch 3 height width"]) -> str:
    """Return the shape of what the network answers to `x`, or what PyTorch said when it stopped."""
    try:
        return " × ".join(map(str, network(x)[0].shape))
    except RuntimeError as error:
        return f"stops: {str(error).splitlines()[0][:48]}…"


@torch.no_grad()
def decoder_maps(network: nn.Module, x: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
    """Return the maps that the last row of the network, its decoder, receives for `x`."""
    received: list[Tensor] = []
    decoder = network.model[-1]  # type: ignore[index]
    handle = decoder.register_forward_pre_hook(lambda _, inputs: received.extend(inputs[0]))  # type: ignore[union-attr]
    try:
        network(x)
    finally:
        handle.remove()
    return received


def carry_over(stock: nn.Module, other: nn.Module) -> None:
    """Copy the weights of the stock network into one with attention, row by row; what is new keeps its own weights.

    Raises:
        ValueError: The rows do not pair up, or a weight of the stock network has no place.
    """
    place_rows(stock, other)


@dataclass(frozen=True)
class BackboneRow:
    """One row of a model file's backbone, and what became of it.

    Args:
        text: The row as the file has it.
        kind: Name of the class that it names.
        home: Module in which that class lives.
        stride: Pixels of the picture for one pixel of the row's map.
        read: Whether the head of the model file reads the map.
    """

    text: str
    kind: str
    home: str
    stride: int
    read: bool


@torch.no_grad()
def backbone_rows(network: nn.Module, size_px: int = 64) -> list[BackboneRow]:
    """Return the rows of a network's backbone, found by running them, one after the other, on a square picture."""
    written: list[list[Any]] = network.yaml["backbone"]  # type: ignore[assignment, index]
    rows = list(network.model)[: len(written)]  # type: ignore[arg-type]
    head = list(network.model)[len(written) :]  # type: ignore[arg-type]
    sources = {
        row.i + f if f < 0 else f for row in head for f in ([row.f] if isinstance(row.f, int) else row.f)
    }
    x, found = torch.zeros(1, 3, size_px, size_px), []
    training = network.training
    network.eval()
    for row, (source, repeats, kind, arguments) in zip(rows, written, strict=True):
        x = row(x)
        text = f"[{source}, {repeats}, {kind}, {arguments}]"
        found.append(BackboneRow(text, kind, type(row).__module__, size_px // x.shape[-1], row.i in sources))
    network.train(training)
    return found


def places(network: RTDETRDetectionModel, size_px: int = 160) -> dict[int | str, str]:
    """Return what attention a network has at each stride of its backbone and in its encoder, found by running it.

    Args:
        network: An RT-DETR whose rows can run one by one.
        size_px: Side of the square picture that it is run on.
    """
    found: dict[int | str, str] = {}
    for index, _, made in fit.steps(network.model, torch.zeros(1, 3, size_px, size_px)):
        layers = [each for each in network.model[index].modules() if isinstance(each, MobileMQA | AIFI)]
        if layers and isinstance(made, Tensor):
            behind = index >= len(network.yaml["backbone"])
            halved = ", keys halved" if getattr(layers[0], "kv_stride", 1) == 2 else ""
            place = "encoder" if behind else size_px // made.shape[-1]
            found[place] = f"{len(layers)} × {type(layers[0]).__name__}{halved}"
    return found


def table(header: str, rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; `header` names the columns between bars, whole numbers get their thousands parted."""
    columns = [name.strip() for name in header.split("|")]
    lines = [columns, ["---"] * len(columns)]
    lines += [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
