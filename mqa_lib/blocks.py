"""The block around the attention, as MobileNetV4 places it: norm, attention, layer scale, drop path, residual."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mqa_lib import checks
from mqa_lib.attention import MobileMQA, MultiHeadAttention2d


class LayerScale2d(nn.Module):
    """Multiply every channel by a learnt number that starts small, so that a new block starts as almost nothing.

    Args:
        dim: Channels.
        init_values: Start of every number. 1e-5 suits hundreds of epochs; short runs learn faster from 0.1 or 1.
    """

    def __init__(self, dim: int, init_values: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init_values)))

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """Return `x` with every channel scaled."""
        return x * self.gamma[:, None, None]


class DropPath(nn.Module):
    """Leave out the whole branch for a random share of the samples while training (stochastic depth).

    Args:
        drop_prob: Share of the samples that skip the branch. The rest are scaled up to keep the mean.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = checks.fraction("drop_path", drop_prob)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        """Return `x` with some samples set to zero while training, and `x` itself otherwise."""
        if not self.training or self.drop_prob == 0.0:
            return x
        keep = 1.0 - self.drop_prob
        return x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep).div_(keep)


class AttentionBlock(nn.Module):
    """The wiring that both blocks share; a subclass says which attention reads the normalised map."""

    def __init__(self, dim: int, attn: nn.Module, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.BatchNorm2d(dim)
        self.attn = attn
        self.layer_scale = LayerScale2d(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> Float[Tensor, "batch {self.dim} height width"]:
        """Return `x` plus what every position read from the whole map.

        Raises:
            TypeError: `x` does not hold floating-point numbers, or other ones than the weights.
            ValueError: `x` is not of shape batch × dim × height × width, has no pixels, or lies on another device.
        """
        checks.feature_map("x", x, self.dim)
        checks.same_dtype_and_device("x", x, next(self.attn.output.parameters()))
        read = self.attn(self.norm(x))
        dropping = self.drop_path.training and self.drop_path.drop_prob > 0
        if isinstance(self.layer_scale, LayerScale2d) and not dropping:
            # one pass over the map, not two
            return torch.addcmul(x, read, self.layer_scale.gamma[:, None, None])
        return x + self.drop_path(self.layer_scale(read))


class MobileMQABlock(AttentionBlock):
    """Add to a feature map what Mobile MQA reads from its normalised self; channels and size stay as they are.

    All arguments can be given by position, so that a row of a model's YAML file can say them.

    Args:
        dim: Channels of the map.
        num_heads: Query heads.
        key_dim: Channels of each query head, of the key head and of the value head.
        kv_stride: Down-sampling of keys and values.
        layer_scale: Start of the layer scale, see `LayerScale2d`.
        drop_path: Share of the samples that skip the attention while training.
        value_dim: Channels of the value head; `key_dim` if not given.
        query_strides: Pooling of the queries, one number or (vertical, horizontal).
        dw_kernel_size: Kernel of the down-sampling convolution.

    Raises:
        ValueError: As `MobileMQA`, or `drop_path` is outside [0, 1).

    Source: MobileNetV4, arXiv:2404.10518, section 4; MultiHeadSelfAttentionBlock in TensorFlow Model Garden.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 4,
        key_dim: int = 64,
        kv_stride: int = 1,
        layer_scale: float = 1e-5,
        drop_path: float = 0.0,
        value_dim: int | None = None,
        query_strides: int | tuple[int, int] = 1,
        dw_kernel_size: int = 3,
    ) -> None:
        attn = MobileMQA(
            checks.positive("dim", dim, "Use the number of channels of the map."),
            num_heads=num_heads,
            key_dim=key_dim,
            value_dim=key_dim if value_dim is None else value_dim,
            query_strides=query_strides,
            kv_stride=kv_stride,
            dw_kernel_size=dw_kernel_size,
        )
        super().__init__(dim, attn, layer_scale, drop_path)


class MultiHeadBlock(AttentionBlock):
    """Add to a feature map what multi-head attention reads from its normalised self: the control of `MobileMQABlock`.

    Args:
        dim: Channels of the map.
        num_heads: Heads, each with keys and values of its own.
        key_dim: Channels of each head's queries, keys and values.
        layer_scale: Start of the layer scale, see `LayerScale2d`.
        drop_path: Share of the samples that skip the attention while training.

    Raises:
        ValueError: A size is smaller than 1, or `drop_path` is outside [0, 1).

    Source: Attention Is All You Need, arXiv:1706.03762, section 3.2.2, in the block of MobileNetV4.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 4,
        key_dim: int = 64,
        layer_scale: float = 1e-5,
        drop_path: float = 0.0,
    ) -> None:
        attn = MultiHeadAttention2d(
            checks.positive("dim", dim, "Use the number of channels of the map."), num_heads, key_dim, key_dim
        )
        super().__init__(dim, attn, layer_scale, drop_path)
