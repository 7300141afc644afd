"""Attention over feature maps: Mobile MQA, and the multi-head attention that it is measured against.

Both fold the heads into the query axis where keys are shared, and both take any height and width.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mqa_lib import checks, functional

NormLayer = Callable[[int], nn.Module]


class MobileMQA(nn.Module):
    """Attend over a feature map with many query heads and one shared, optionally down-sampled key/value head.

    The layer has no norm, no residual and no activation of its own: `MobileMQABlock` adds those. Parameter names are
    timm's, so a `state_dict` of `timm.layers.MultiQueryAttention2d` loads here and the other way round.

    Args:
        dim: Channels of the input map.
        dim_out: Channels of the output map; `dim` if not given.
        num_heads: Query heads. There is one key/value head, whatever this is.
        key_dim: Channels of each query head and of the key head; `dim // num_heads` if not given.
        value_dim: Channels of the value head; `dim // num_heads` if not given.
        query_strides: Average-pooling of the queries, one number or (vertical, horizontal). The output is enlarged
            back to the input's size, also where the stride leaves a remainder (timm shrinks the map there).
        kv_stride: Stride of the depthwise convolution before keys and values; 1 leaves it out.
        dw_kernel_size: Kernel of that convolution, odd, zero-padded on both sides.
        attn_drop: Dropout on the attention weights, after the softmax.
        proj_drop: Dropout on the output.
        norm_layer: Norm after each down-sampling.

    Raises:
        ValueError: A size is smaller than 1, `dw_kernel_size` is even, a dropout is outside [0, 1), or `key_dim` is
            left out and `num_heads` does not divide `dim`.

    Source: MobileNetV4, arXiv:2404.10518, section 4; argument names as in timm/layers/attention2d.py.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int | None = None,
        num_heads: int = 8,
        key_dim: int | None = None,
        value_dim: int | None = None,
        query_strides: int | Sequence[int] = 1,
        kv_stride: int = 1,
        dw_kernel_size: int = 3,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        norm_layer: NormLayer = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.dim = checks.positive("dim", dim, "Use the number of channels of the map.")
        self.dim_out = dim if dim_out is None else checks.positive("dim_out", dim_out)
        self.num_heads = checks.positive("num_heads", num_heads, "Use 1 for a single head.")
        self.key_dim = _head_dim("key_dim", key_dim, dim, num_heads)
        self.value_dim = _head_dim("value_dim", value_dim, dim, num_heads)
        self.query_strides = checks.pair("query_strides", query_strides)
        self.kv_stride = checks.positive("kv_stride", kv_stride, "Use 1 for no down-sampling.")
        self.attn_drop = checks.fraction("attn_drop", attn_drop)
        checks.odd("dw_kernel_size", dw_kernel_size)
        checks.fraction("proj_drop", proj_drop)

        self.query = nn.Sequential()
        if max(self.query_strides) > 1:
            self.query.add_module("down_pool", nn.AvgPool2d(self.query_strides, ceil_mode=True))
            self.query.add_module("norm", norm_layer(dim))
        self.query.add_module("proj", nn.Conv2d(dim, num_heads * self.key_dim, 1, bias=False))
        self.key = _reduced_projection(dim, self.key_dim, kv_stride, dw_kernel_size, norm_layer)
        self.value = _reduced_projection(dim, self.value_dim, kv_stride, dw_kernel_size, norm_layer)
        self.output = nn.Sequential()
        self.output.add_module("proj", nn.Conv2d(num_heads * self.value_dim, self.dim_out, 1, bias=False))
        self.output.add_module("drop", nn.Dropout(proj_drop))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every convolution's weight from Xavier's uniform distribution, as timm does for stability."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> Float[Tensor, "batch {self.dim_out} height width"]:
        """Let every position of `x` read from every (down-sampled) position of `x`.

        Raises:
            TypeError: `x` does not hold floating-point numbers.
            ValueError: `x` is not of shape batch × dim × height × width, or has no pixels.
        """
        checks.feature_map("x", x, self.dim)
        q_map, k, v = self.query(x), _as_tokens(self.key(x)), _as_tokens(self.value(x))
        batch, _, rows, columns = q_map.shape
        # All heads read the same keys, so heads are just more queries. In channels_last this reshape copies nothing.
        q = q_map.permute(0, 2, 3, 1).reshape(batch, 1, rows * columns * self.num_heads, self.key_dim)
        read = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop if self.training else 0.0)
        read = read.reshape(batch, rows, columns, self.num_heads * self.value_dim).permute(0, 3, 1, 2)
        if max(self.query_strides) > 1:
            down, across = self.query_strides
            read = F.interpolate(read, scale_factor=(float(down), float(across)), mode="bilinear")
            read = read[..., : x.shape[2], : x.shape[3]]
        return self.output(read)

    def queries_and_keys(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> tuple[Float[Tensor, "batch num_heads queries key_dim"], Float[Tensor, "batch 1 keys key_dim"]]:
        """Return the projected queries and the shared keys of `x`, in row-major order of their grids."""
        checks.feature_map("x", x, self.dim)
        q = self.query(x).unflatten(1, (self.num_heads, self.key_dim)).flatten(-2).mT
        return q, _as_tokens(self.key(x))

    def weights(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> Float[Tensor, "batch num_heads queries keys"]:
        """Return the attention weights that `forward` uses for `x`, before dropout; rows sum to 1.

        In training mode a BatchNorm in the key branch would normalise with this batch, as `forward` does, and update
        its statistics; call `eval()` first to look without touching.
        """
        return functional.attention_weights(*self.queries_and_keys(x))

    def extra_repr(self) -> str:
        """Return the sizes, for `print(layer)`."""
        sizes = (
            f"dim={self.dim}, num_heads={self.num_heads}, key_dim={self.key_dim}, value_dim={self.value_dim}"
        )
        return f"{sizes}, query_strides={self.query_strides}, kv_stride={self.kv_stride}"


class MultiHeadAttention2d(nn.Module):
    """Attend over a feature map with `num_heads` query heads, each with keys and values of its own.

    This is the layer that Mobile MQA is measured against: same projections, nothing shared, nothing down-sampled.

    Args:
        dim: Channels of the input and of the output map.
        num_heads: Heads.
        key_dim: Channels of each query and key head; `dim // num_heads` if not given.
        value_dim: Channels of each value head; `dim // num_heads` if not given.

    Raises:
        ValueError: A size is smaller than 1, or `key_dim` is left out and `num_heads` does not divide `dim`.

    Source: Attention Is All You Need, arXiv:1706.03762, section 3.2.2.
    """

    def __init__(
        self, dim: int, num_heads: int = 8, key_dim: int | None = None, value_dim: int | None = None
    ) -> None:
        super().__init__()
        self.dim = checks.positive("dim", dim, "Use the number of channels of the map.")
        self.num_heads = checks.positive("num_heads", num_heads, "Use 1 for a single head.")
        self.key_dim = _head_dim("key_dim", key_dim, dim, num_heads)
        self.value_dim = _head_dim("value_dim", value_dim, dim, num_heads)
        self.query = nn.Conv2d(dim, num_heads * self.key_dim, 1, bias=False)
        self.key = nn.Conv2d(dim, num_heads * self.key_dim, 1, bias=False)
        self.value = nn.Conv2d(dim, num_heads * self.value_dim, 1, bias=False)
        self.output = nn.Conv2d(num_heads * self.value_dim, dim, 1, bias=False)

    def forward(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> Float[Tensor, "batch {self.dim} height width"]:
        """Let every position of `x` read from every position of `x`, with keys and values of each head's own.

        Raises:
            TypeError: `x` does not hold floating-point numbers.
            ValueError: `x` is not of shape batch × dim × height × width, or has no pixels.
        """
        checks.feature_map("x", x, self.dim)
        q, k, v = (
            layer(x).permute(0, 2, 3, 1).flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # b h n k, b h n k, b h n v
        read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        return self.output(read.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2))


def _head_dim(name: str, size: int | None, dim: int, num_heads: int) -> int:
    return checks.divides("dim", dim, "num_heads", num_heads) if size is None else checks.positive(name, size)


def _reduced_projection(
    dim: int, size: int, stride: int, dw_kernel_size: int, norm_layer: NormLayer
) -> nn.Sequential:
    branch = nn.Sequential()
    if stride > 1:
        # timm's symmetric padding: (dw_kernel_size - 1) // 2 at stride 2, one more key per axis at some larger strides
        edge = (stride - 1 + dw_kernel_size - 1) // 2
        branch.add_module(
            "down_conv", nn.Conv2d(dim, dim, dw_kernel_size, stride, edge, groups=dim, bias=False)
        )
        branch.add_module("norm", norm_layer(dim))
    branch.add_module("proj", nn.Conv2d(dim, size, 1, bias=False))
    return branch


def _as_tokens(x: Float[Tensor, "batch size rows columns"]) -> Float[Tensor, "batch 1 tokens size"]:
    return x.permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1)
