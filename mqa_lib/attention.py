"""Attention over feature maps: Mobile MQA, and the multi-head attention that it is measured against.

Both fold the heads into the query axis where keys are shared, and both take any height and width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mqa_lib import checks, functional, kernels
from mqa_lib.sampling import SameAvgPool2d, SameConv2d, same_pads

NormLayer = Callable[[int], nn.Module]


class MobileMQA(nn.Module):
    """Attend over a feature map with many query heads and one shared, optionally down-sampled key/value head.

    The layer has no norm, no residual and no activation of its own: `MobileMQABlock` adds those. Parameter names are
    timm's, so a `state_dict` of `timm.layers.MultiQueryAttention2d` loads here and the other way round.

    The layer goes through `torch.compile(fullgraph=True)`, `torch.export` and `torch.onnx.export(dynamo=True)` with
    dynamic height and width, autocast, `torch.func`, `torch.jit.trace` and pickling. With `query_strides`,
    `torch.export` wants sizes declared as multiples of the stride (`2 * Dim("height")`); `torch.jit.script` does not
    read the shape annotations; derivatives of derivatives stop at PyTorch's fused kernel. A map in `channels_last`
    comes back so, and queries are not copied on the way. `transfer` brings weights from timm and TensorFlow.

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
        padding: How the down-sampling is padded: "" on both sides alike, as timm does; "same" as TensorFlow, for
            weights from there. At stride 2 maps of odd size are sampled alike, and on even sizes "same" centres keys
            one pixel on; at larger strides the two differ for most sizes.

    Raises:
        ValueError: A size is smaller than 1, `dw_kernel_size` is even, a dropout is outside [0, 1), `padding` is not
            known, or `key_dim` is left out and `num_heads` does not divide `dim`.

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
        padding: str = "",
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
        self.padding = checks.padding("padding", padding)

        self.query = nn.Sequential()
        if max(self.query_strides) > 1:
            pool = SameAvgPool2d if padding else nn.AvgPool2d
            self.query.add_module("down_pool", pool(self.query_strides, ceil_mode=True))
            self.query.add_module("norm", norm_layer(dim))
        self.query.add_module("proj", nn.Conv2d(dim, num_heads * self.key_dim, 1, bias=False))
        reduction = (kv_stride, dw_kernel_size, norm_layer, padding)
        self.key = _reduced_projection(dim, self.key_dim, *reduction)
        self.value = _reduced_projection(dim, self.value_dim, *reduction)
        self.output = nn.Sequential()
        self.output.add_module("proj", nn.Conv2d(num_heads * self.value_dim, self.dim_out, 1, bias=False))
        self.output.add_module("drop", nn.Dropout(proj_drop))
        self.merged: nn.Module | None = None  # the three projections as one, once `fold` made them so
        self.reset_parameters()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what was pickled, also by a version whose layer did not have all of today's attributes.

        A checkpoint of ultralytics is a pickle of the whole model, and nothing of `__init__` runs when it is opened.
        """
        super().__setstate__({"padding": "", **state})
        if "merged" not in self.__dict__ and "merged" not in self._modules:
            self.merged = None

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
            TypeError: `x` does not hold floating-point numbers, or other ones than the weights.
            ValueError: `x` is not of shape batch × dim × height × width, has no pixels, or lies on another device.
        """
        self._check(x)
        q_map, k_map, v_map = self._maps(x)
        rows, columns = q_map.shape[2:]
        # All heads read the same keys, so heads are just more queries. In channels_last this regrouping copies nothing.
        q = _as_rows(q_map).unflatten(-1, (self.num_heads, self.key_dim)).flatten(1, 2)
        dropout = self.attn_drop if self.training else 0.0
        read = kernels.read(q, _as_rows(k_map), _as_rows(v_map), dropout)
        read = read.reshape(x.shape[0], rows, columns, self.num_heads * self.value_dim).permute(0, 3, 1, 2)
        if max(self.query_strides) > 1:
            read = self._enlarged(read, (x.shape[2], x.shape[3]))
        return self.output(_in_the_format_of(x, read))

    def queries_and_keys(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> tuple[Float[Tensor, "batch num_heads queries key_dim"], Float[Tensor, "batch 1 keys key_dim"]]:
        """Return the projected queries and the shared keys of `x`, in row-major order of their grids."""
        self._check(x)
        q = self.query(x).unflatten(1, (self.num_heads, self.key_dim)).flatten(-2).mT
        return q, _as_rows(self.key(x)).unsqueeze(1)

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

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights as every module does; of another configuration's, name what differs and what would fit.

        Raises:
            RuntimeError: A key is missing or too many, or a shape differs.
        """
        if strict:
            checks.state_fits(self, state_dict)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _maps(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> tuple[
        Float[Tensor, "batch queries rows columns"],
        Float[Tensor, "batch {self.key_dim} key_rows key_columns"],
        Float[Tensor, "batch {self.value_dim} key_rows key_columns"],
    ]:
        if self.merged is None:
            return self.query(x), self.key(x), self.value(x)
        sizes = [self.num_heads * self.key_dim, self.key_dim, self.value_dim]
        q_map, k_map, v_map = self.merged(x).split(sizes, dim=1)
        return q_map, k_map, v_map

    def _check(self, x: Float[Tensor, "batch {self.dim} height width"]) -> None:
        checks.feature_map("x", x, self.dim)
        checks.same_dtype_and_device("x", x, next(self.output.parameters()))

    def _enlarged(
        self, read: Float[Tensor, "batch channels rows columns"], size: tuple[int, int]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the map enlarged by the query strides and cut to `size`, every pixel above its own window."""
        down, across = self.query_strides
        read = F.interpolate(read, scale_factor=(float(down), float(across)), mode="bilinear")
        pads = same_pads(size, self.query_strides, self.query_strides) if self.padding else (0, 0, 0, 0)
        left, top = pads[0], pads[2]
        return read[..., top : top + size[0], left : left + size[1]]


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
        # as in Mobile MQA, so that a comparison of the two starts alike
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)

    def forward(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> Float[Tensor, "batch {self.dim} height width"]:
        """Let every position of `x` read from every position of `x`, with keys and values of each head's own.

        Raises:
            TypeError: `x` does not hold floating-point numbers, or other ones than the weights.
            ValueError: `x` is not of shape batch × dim × height × width, has no pixels, or lies on another device.
        """
        checks.feature_map("x", x, self.dim)
        checks.same_dtype_and_device("x", x, self.query.weight)
        q, k, v = (
            _as_rows(layer(x)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # b h n k, b h n k, b h n v
        read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        read = read.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)
        return self.output(_in_the_format_of(x, read))


def _head_dim(name: str, size: int | None, dim: int, num_heads: int) -> int:
    return checks.divides("dim", dim, "num_heads", num_heads) if size is None else checks.positive(name, size)


def _reduced_projection(
    dim: int, size: int, stride: int, dw_kernel_size: int, norm_layer: NormLayer, padding: str
) -> nn.Sequential:
    branch = nn.Sequential()
    if stride > 1:
        # timm's symmetric padding: (dw_kernel_size - 1) // 2 at stride 2, one more key per axis at some larger strides
        edge = 0 if padding else (stride - 1 + dw_kernel_size - 1) // 2
        conv = SameConv2d if padding else nn.Conv2d
        branch.add_module("down_conv", conv(dim, dim, dw_kernel_size, stride, edge, groups=dim, bias=False))
        branch.add_module("norm", norm_layer(dim))
    branch.add_module("proj", nn.Conv2d(dim, size, 1, bias=False))
    return branch


def _as_rows(x: Float[Tensor, "batch size rows columns"]) -> Float[Tensor, "batch tokens size"]:
    """Return a token for every pixel, its channels side by side in memory, as fused kernels want them."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _in_the_format_of(
    x: Float[Tensor, "batch dim height width"], read: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch channels height width"]:
    """Return what was read in the memory format of `x`, so that a layer hands on what it was given."""
    if (
        torch.compiler.is_compiling() or x.stride(1) == 1
    ):  # channels_last, asked in a way that `vmap` can answer
        return read
    return read.contiguous()
