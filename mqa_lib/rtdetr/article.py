"""The article's backbone layers, and their corrected twins in the same places.

The article puts its attention in series into every bottleneck of a ResNet, between the 3×3 convolution and
the last 1×1 convolution, with no norm, no residual and no scale around it. The bottleneck itself is
ultralytics', imported where the article copies it, so that ultralytics still recognises and fuses its
convolutions (the article's copy it does not). That is the one way in which these classes are better than what
was published: what they compute is the same.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from ultralytics.nn.modules.block import C3, Bottleneck, ResNetBlock, ResNetLayer

from mqa_lib import checks
from mqa_lib.blocks import MobileMQABlock
from mqa_lib.published import ALL, Defect, PublishedMQA

NUM_HEADS = 2
KEY_DIM = 48
SHORT_RUN_LAYER_SCALE = 0.1  # larger than MobileNetV4's 1e-5, because our runs are short


def takes_channels_last(network: nn.Module) -> bool:
    """Return whether a network computes in channels_last, which the article's layer cannot: it regroups with view."""
    return not any(
        isinstance(layer, PublishedMQA) and Defect.ROW_MAJOR_ONLY in layer.defects
        for layer in network.modules()
    )


def check_square(network: nn.Module, size: Sequence[int] | None) -> None:
    """Refuse a picture size that the article's layer cannot take: it uses the number of rows for that of columns, too.

    Args:
        network: Any model; one without the article's layer takes every size.
        size: Height and width in pixels, or one number for both; None is square.

    Raises:
        ValueError: The model has the article's layer, and height and width differ.
    """
    layers = (layer for layer in network.modules() if isinstance(layer, PublishedMQA))
    if (
        size is not None
        and len(set(size)) > 1
        and any(Defect.SQUARE_ONLY in layer.defects for layer in layers)
    ):
        rule = "must be square for a model with the article's layer"
        way_out = f"Use {max(size)}, or the corrected model of the same name with -corrected."
        raise checks.refuse("imgsz", ",".join(map(str, size)), rule, way_out)


class ArticleBottleneck(ResNetBlock):
    """A bottleneck whose 3×3 convolution hands its map to the article's layer before it is expanded.

    Args:
        c1: Channels of the input.
        c2: Channels inside; the attention works on these.
        s: Stride of the 3×3 convolution.
        e: The output has `e * c2` channels.
        defects: The mistakes of the attention, see `mqa_lib.published`.
    """

    def __init__(self, c1: int, c2: int, s: int = 1, e: int = 4, defects: Defect = ALL) -> None:
        super().__init__(c1, c2, s, e)
        self.cv4: nn.Module = PublishedMQA(c2, NUM_HEADS, KEY_DIM, KEY_DIM, defects=defects)

    def forward(self, x: Float[Tensor, "batch c1 height width"]) -> Float[Tensor, "batch c3 rows columns"]:
        """Return the bottleneck of `x`, whose signal all passes through the attention, plus the shortcut."""
        return F.relu(self.cv3(self.cv4(self.cv2(self.cv1(x)))) + self.shortcut(x))


class CorrectedBottleneck(ArticleBottleneck):
    """The same bottleneck with the right layer in the same place: norm, attention, layer scale and residual.

    Args:
        c1: Channels of the input.
        c2: Channels inside; the attention works on these.
        s: Stride of the 3×3 convolution.
        e: The output has `e * c2` channels.
        kv_stride: Down-sampling of keys and values; the article has none.
        layer_scale: Start of the layer scale.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        s: int = 1,
        e: int = 4,
        kv_stride: int = 1,
        layer_scale: float = SHORT_RUN_LAYER_SCALE,
    ) -> None:
        super().__init__(c1, c2, s, e)
        self.cv4 = MobileMQABlock(c2, NUM_HEADS, KEY_DIM, kv_stride, layer_scale)


class ResNetLayer_MQA(ResNetLayer):
    """A stage of the article's backbone: the stem if `is_first`, else `n` bottlenecks with its attention.

    Args:
        c1: Channels of the input.
        c2: Channels of the stem's output, or inside the bottlenecks.
        s: Stride of the first bottleneck.
        is_first: Whether this is the stem.
        n: Bottlenecks.
        e: The output of a stage has `e * c2` channels.
    """

    def __init__(self, c1: int, c2: int, s: int = 1, is_first: bool = False, n: int = 1, e: int = 4) -> None:
        super().__init__(c1, c2, s, is_first, n, e)
        if not is_first:
            self.layer = _stage(ArticleBottleneck, c1, c2, s, n, e)


class ResNetLayer_MQA_Corrected(ResNetLayer):
    """A stage like `ResNetLayer_MQA` with the right layer in the same places.

    Args:
        c1: Channels of the input.
        c2: Channels of the stem's output, or inside the bottlenecks.
        s: Stride of the first bottleneck.
        is_first: Whether this is the stem.
        n: Bottlenecks.
        e: The output of a stage has `e * c2` channels.
        kv_stride: Down-sampling of keys and values.
        layer_scale: Start of the layer scale.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        s: int = 1,
        is_first: bool = False,
        n: int = 1,
        e: int = 4,
        kv_stride: int = 1,
        layer_scale: float = SHORT_RUN_LAYER_SCALE,
    ) -> None:
        super().__init__(c1, c2, s, is_first, n, e)
        if not is_first:

            def block(c1: int, c2: int, s: int, e: int) -> CorrectedBottleneck:
                return CorrectedBottleneck(c1, c2, s, e, kv_stride, layer_scale)

            self.layer = _stage(block, c1, c2, s, n, e)


def _stage(
    block: Callable[[int, int, int, int], nn.Module], c1: int, c2: int, s: int, n: int, e: int
) -> nn.Sequential:
    return nn.Sequential(block(c1, c2, s, e), *(block(e * c2, c2, 1, e) for _ in range(n - 1)))


class _AttendingBottleneck(Bottleneck):
    """A bottleneck of two convolutions whose second one hands its map to an attention."""

    def __init__(self, c: int, shortcut: bool, attention: nn.Module) -> None:
        super().__init__(c, c, shortcut, k=((1, 1), (3, 3)), e=1.0)
        self.cv4 = attention

    def forward(self, x: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch c height width"]:
        """Return the bottleneck of `x`, whose signal all passes through the attention; a shortcut adds `x`."""
        read = self.cv4(self.cv2(self.cv1(x)))
        return x + read if self.add else read


class C3_MQA(C3):
    """The article's way with a small backbone: its attention in series in every bottleneck of a C3, after the 3×3.

    The article changes a ResNet alone. Here the same attention stands in the same place of the bottlenecks that
    `rtdetr-nano-stock` has, so that the two differ by it and by nothing else.

    Args:
        c1: Channels of the input.
        c2: Channels of the output; the attention works on half of them.
        n: Bottlenecks.
        shortcut: Whether a bottleneck adds its input to its output.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__(c1, c2, n, shortcut)
        inner = c2 // 2
        self.m = nn.Sequential(
            *(_AttendingBottleneck(inner, shortcut, self._attention(inner)) for _ in range(n))
        )

    def _attention(self, dim: int) -> nn.Module:
        return PublishedMQA(dim, NUM_HEADS, KEY_DIM, KEY_DIM)


class C3_MQA_Corrected(C3_MQA):
    """A `C3_MQA` with the right layer in the same places: norm, attention, layer scale and residual."""

    def _attention(self, dim: int) -> nn.Module:
        return MobileMQABlock(dim, NUM_HEADS, KEY_DIM, 1, SHORT_RUN_LAYER_SCALE)
