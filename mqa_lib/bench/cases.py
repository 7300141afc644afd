"""What is measured: the shapes, and the layers on each of them, with the same weights, input and gradient."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mqa_lib import checks, cost, fold, published
from mqa_lib.attention import MobileMQA, MultiHeadAttention2d
from mqa_lib.blocks import MobileMQABlock

MODES = ("inference", "training")
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
CLOSE = 1e-3  # float32 sums of some thousand terms in another order; a wrong layer is off by far more
LARGEST = 2**26  # scores; whoever writes more of them to memory is left out, and the record says so
Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Shape:
    """A layer and the map that it reads.

    Args:
        name: Where it stands.
        dim: Channels of the map.
        height: Rows of the map.
        width: Columns of the map.
        num_heads: Query heads.
        key_dim: Channels of each head, of queries, keys and values.
        kv_stride: Down-sampling of keys and values.
        batch: Pictures at a time.
    """

    name: str
    dim: int
    height: int
    width: int
    num_heads: int = 4
    key_dim: int = 64
    kv_stride: int = 1
    batch: int = 1

    @property
    def queries(self) -> int:
        """Pixels of the map, each of which asks once in every head."""
        return self.height * self.width

    @property
    def keys(self) -> int:
        """Keys of the map after down-sampling with a 3×3 kernel."""
        return math.prod(cost.key_grid(self.height, self.width, self.kv_stride))

    @property
    def label(self) -> str:
        """Name, stride and batch in one line."""
        many = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.name}, kv_stride {self.kv_stride}{many}"


MEDIUM, LARGE, DETECTOR = (
    "MobileNetV4-hybrid-medium, 256 px",
    "MobileNetV4-hybrid-large, 384 px",
    "RT-DETR, 640 px",
)
SHAPES = (
    *(
        replace(shape, batch=batch)
        for batch in (1, 16)
        for shape in (
            Shape(f"{MEDIUM}, stride 16", 160, 16, 16, kv_stride=2),
            Shape(f"{MEDIUM}, stride 32", 256, 8, 8),
            Shape(f"{LARGE}, stride 16", 192, 24, 24, 8, 48, kv_stride=2),
            Shape(f"{LARGE}, stride 32", 512, 12, 12, 8),
        )
    ),
    *(
        Shape(f"{DETECTOR}, stride {stride}", dim, 640 // stride, 640 // stride, kv_stride=kv_stride)
        for stride, dim in ((8, 512), (16, 1024), (32, 2048))
        for kv_stride in (1, 2, 4)
    ),
)


class TokenAttention(nn.Module):
    """PyTorch's own module for multi-head attention, over the pixels of a map.

    Its heads have dim / num_heads channels, so it is not the size of the others: it is what one would take instead.

    Args:
        dim: Channels of the map.
        num_heads: Heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, bias=False, batch_first=True)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """Let every position read from every position."""
        tokens = x.flatten(2).mT
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mT.unflatten(2, x.shape[2:])


def layers(shape: Shape, seed: int = 0) -> dict[str, nn.Module]:
    """Return our layer, timm's with the same weights, and multi-head attention of the same sizes."""
    from timm.layers import MultiQueryAttention2d  # in the extra "lab"; the layers themselves need torch only

    torch.manual_seed(seed)
    sizes = _sizes(shape)
    ours = MobileMQA(shape.dim, kv_stride=shape.kv_stride, **sizes)
    theirs = MultiQueryAttention2d(shape.dim, kv_stride=shape.kv_stride, **sizes)
    theirs.load_state_dict(ours.state_dict())
    return {"ours": ours, "timm": theirs, "multi-head": MultiHeadAttention2d(shape.dim, **sizes)}


def further_layers(shape: Shape, mode: str, seed: int = 0) -> dict[str, nn.Module]:
    """Return what only the whole benchmark measures, with the weights of `layers`, as far as it can run.

    timm's layer without its fused kernel, PyTorch's own module, the article's layer, and the blocks around ours and
    timm's; for inference also ours folded. A layer that would write more than `LARGEST` scores is left out, and the
    article's where the map is not square.
    """
    from timm.models._efficientnet_blocks import MobileAttention

    given = layers(shape, seed)
    torch.manual_seed(seed)
    block = MobileMQABlock(shape.dim, shape.num_heads, shape.key_dim, shape.kv_stride, 1.0)
    block.attn.load_state_dict(given["ours"].state_dict())
    options = {"use_multi_query": True, "kv_stride": shape.kv_stride, **_sizes(shape)}
    theirs = MobileAttention(shape.dim, shape.dim, layer_scale_init_value=1.0, **options)
    theirs.load_state_dict(block.state_dict())
    found: dict[str, nn.Module] = {
        "nn.MultiheadAttention": TokenAttention(shape.dim, shape.num_heads),
        "our block": block,
        "timm's block": theirs,
    }
    if mode == "inference":
        found |= {"ours folded": fold.fold(given["ours"]), "our block folded": fold.fold(block)}
    if shape.batch * shape.num_heads * shape.queries * shape.keys <= LARGEST:
        unfused: Any = copy.deepcopy(given["timm"])
        unfused.fused_attn = False
        found["timm unfused"] = unfused
        if shape.height == shape.width:
            sizes = (shape.dim, shape.num_heads, shape.key_dim)
            article = published.PublishedMQA(*sizes, kv_stride=shape.kv_stride)
            article.load_state_dict(given["ours"].state_dict())
            found["article"] = article
    return found


def candidates(shape: Shape, mode: str = "inference", seed: int = 0) -> dict[str, Run]:
    """Return what `timing.compare` takes: all of `layers` in both memory formats, same weights and input.

    Raises:
        ValueError: `mode` is not one of `MODES`, or our layer and timm's do not agree on the input.
    """
    checks.one_of("mode", mode, MODES)
    return _agreeing(_runs(layers(shape, seed), shape, mode, seed), shape)


def everything(shape: Shape, mode: str = "inference", seed: int = 0, **where: Any) -> dict[str, Run]:
    """Return `candidates` and all of `further_layers`, for the record.

    Args:
        shape: The layer and its map.
        mode: One of `MODES`.
        seed: Seed of weights and input.
        **where: `device` and `dtype`, as `Tensor.to` takes them.

    Raises:
        ValueError: As `candidates`.
    """
    checks.one_of("mode", mode, MODES)
    built = {**layers(shape, seed), **further_layers(shape, mode, seed)}
    return _agreeing(_runs(built, shape, mode, seed, **where), shape, **where)


def stride_candidates(
    shape: Shape, kv_strides: Sequence[int] = (1, 2, 4), mode: str = "inference", seed: int = 0
) -> dict[str, Run]:
    """Return multi-head attention and Mobile MQA at several strides, in both memory formats, for one map.

    Raises:
        ValueError: `mode` is not one of `MODES`.
    """
    checks.one_of("mode", mode, MODES)
    built = {"multi-head": layers(shape, seed)["multi-head"]}
    for stride in kv_strides:
        built[f"kv_stride {stride}"] = layers(replace(shape, kv_stride=stride), seed)["ours"]
    return _runs(built, shape, mode, seed)


def convolutions(shape: Shape, seed: int = 0) -> dict[str, tuple[Run, int]]:
    """Return, in channels_last at inference, Mobile MQA and what a backbone would have instead; each with its MACs.

    A plain 3×3 convolution, and MobileNetV4's inverted bottleneck: four times as many channels, a 3×3 depthwise
    convolution, and back.
    """
    torch.manual_seed(seed)
    dim, wide = shape.dim, 4 * shape.dim
    depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
    ends = nn.Conv2d(dim, wide, 1, bias=False), nn.Conv2d(wide, dim, 1, bias=False)
    built: dict[str, nn.Module] = {
        "Mobile MQA": MobileMQA(dim, kv_stride=shape.kv_stride, **_sizes(shape)),
        "3×3 convolution": nn.Conv2d(dim, dim, 3, padding=1, bias=False),
        "inverted bottleneck": nn.Sequential(ends[0], nn.ReLU(), depthwise, nn.ReLU(), ends[1]),
    }
    runs = _runs(built, shape, "inference", seed)
    priced = cost.mobile_mqa(dim, shape.height, shape.width, kv_stride=shape.kv_stride, **_sizes(shape)).macs
    macs = (priced, 9 * dim * dim * shape.queries, (2 * dim + 9) * wide * shape.queries)
    return {name: (runs[f"{name}, NHWC"], count) for name, count in zip(built, macs, strict=True)}


def _sizes(shape: Shape) -> dict[str, Any]:
    return {"num_heads": shape.num_heads, "key_dim": shape.key_dim, "value_dim": shape.key_dim}


def _agreeing(
    runs: dict[str, Run], shape: Shape, dtype: torch.dtype = torch.float32, **_: Any
) -> dict[str, Run]:
    """Return the runs, once every one that must give our result was seen to give it."""
    close = CLOSE if dtype == torch.float32 else 0.1
    for ours, others in (
        ("ours", ("timm", "timm unfused", "ours folded")),
        ("our block", ("timm's block", "our block folded")),
    ):
        for other in others:
            if f"{other}, NHWC" not in runs:
                continue
            difference = (runs[f"{ours}, NHWC"]() - runs[f"{other}, NHWC"]()).abs().max().item()
            if not difference <= close:
                rule = f"must be at most {close}: {ours} and {other} differ on {shape.label}"
                raise checks.refuse(
                    "difference", difference, rule, "Compare their versions before their speed."
                )
    return runs


def _runs(built: Mapping[str, nn.Module], shape: Shape, mode: str, seed: int, **where: Any) -> dict[str, Run]:
    generator = torch.Generator().manual_seed(seed)
    size = (shape.batch, shape.dim, shape.height, shape.width)
    x, signal = (torch.randn(size, generator=generator).to(**where) for _ in range(2))
    runs = {}
    for label, memory_format in FORMATS.items():
        for name, layer in built.items():
            if name == "article" and label != "NCHW":
                continue  # it stops there with an error
            moved = copy.deepcopy(layer).to(**where).to(memory_format=memory_format)  # type: ignore[call-overload]
            moved.train(mode == "training")
            source, arriving = (each.contiguous(memory_format=memory_format) for each in (x, signal))
            runs[f"{name}, {label}"] = _run(moved, source, arriving, mode)
    return runs


def _run(layer: nn.Module, x: Tensor, signal: Tensor, mode: str) -> Run:
    def infer() -> Tensor:
        with torch.inference_mode():
            return layer(x)

    def train() -> Tensor:
        out = layer(source)
        out.backward(signal)  # given, so that no loss is measured along
        layer.zero_grad()  # at the end, or a GPU would count those of the last call as there before
        source.grad = None
        return out.detach()

    # A layer inside a network also hands a gradient to what comes before it.
    source = x.detach().requires_grad_(mode == "training")
    return train if mode == "training" else infer
