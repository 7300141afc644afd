"""The formulas as einsum: slow, obvious, and the specification that everything else is held to.

Letters: b batch, d dim, n query positions, m key positions, h heads, k key_dim, v value_dim, y and x rows and columns.
No function here calls a fused kernel, and none owns parameters.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def attention_weights(
    q: Float[Tensor, "batch num_heads queries key_dim"],
    k: Float[Tensor, "batch kv_heads keys key_dim"],
) -> Float[Tensor, "batch num_heads queries keys"]:
    """Return softmax(q·k / sqrt(key_dim)): how much of each key every query reads.

    `kv_heads` is `num_heads` (multi-head attention) or 1 (multi-query attention: all heads read the same keys).

    Source: MobileNetV4, arXiv:2404.10518, equation 2.
    """
    k = k.expand(-1, q.shape[1], -1, -1)
    scores = torch.einsum("bhnk,bhmk->bhnm", q, k) / q.shape[-1] ** 0.5
    return scores.softmax(dim=-1)


def attend(
    q: Float[Tensor, "batch num_heads queries key_dim"],
    k: Float[Tensor, "batch kv_heads keys key_dim"],
    v: Float[Tensor, "batch kv_heads keys value_dim"],
) -> Float[Tensor, "batch num_heads queries value_dim"]:
    """Return the values, averaged for each query and head with its attention weights."""
    return torch.einsum("bhnm,bhmv->bhnv", attention_weights(q, k), v.expand(-1, q.shape[1], -1, -1))


def project(
    x: Float[Tensor, "batch dim height width"], weight: Float[Tensor, "dim_out dim 1 1"]
) -> Float[Tensor, "batch dim_out height width"]:
    """Return a 1x1 convolution: the same matrix applied to every pixel's channels."""
    return torch.einsum("bdyx,od->boyx", x, weight[:, :, 0, 0])


def windows(extent: int, size: int, stride: int, padding: str = "") -> tuple[int, int]:
    """Return how many windows of `size` fit an axis of `extent`, and how many zeros stand before the axis.

    With padding "" both sides get (stride - 1 + size - 1) // 2 zeros, as timm does. With "same" there are
    ceil(extent / stride) windows and as few zeros as they need, the odd one after the axis, as in TensorFlow: a 3x3
    kernel of stride 2 pads (1, 1) where the extent is odd, and (0, 1) where it is even.
    """
    if padding == "same":
        count = -(-extent // stride)
        return count, max((count - 1) * stride + size - extent, 0) // 2
    edge = (stride - 1 + size - 1) // 2
    return (extent + 2 * edge - size) // stride + 1, edge


def spatial_reduction(
    x: Float[Tensor, "batch dim height width"],
    kernel: Float[Tensor, "dim 1 size size"],
    stride: int,
    padding: str = "",
) -> Float[Tensor, "batch dim rows columns"]:
    """Return SR(x), a depthwise convolution with `stride`, as a sum over shifted copies of the padded map.

    With a 3x3 kernel of stride 2 a map of `height` rows gives ceil(height / 2) rows. Key j is centred on row 2j, but
    on row 2j + 1 where `padding` is "same" and `height` is even.

    Source: MobileNetV4, arXiv:2404.10518, equation 2, where SR is a 3x3 depthwise convolution of stride 2.
    """
    size = kernel.shape[-1]
    (rows, top), (columns, left) = (windows(extent, size, stride, padding) for extent in x.shape[-2:])
    after = size + stride  # more than any window needs
    padded = F.pad(x, (left, after, top, after))
    out = x.new_zeros(*x.shape[:2], rows, columns)
    for dy in range(size):
        for dx in range(size):
            shifted = padded[..., dy : dy + rows * stride : stride, dx : dx + columns * stride : stride]
            out = out + shifted * kernel[:, 0, dy, dx, None, None]
    return out


def normalise(
    x: Float[Tensor, "batch dim height width"],
    state: Mapping[str, Tensor],
    name: str,
    eps: float,
    training: bool = False,
) -> Float[Tensor, "batch dim height width"]:
    """Return a BatchNorm's output, channel by channel: less the mean, over the deviation, times weight, plus bias.

    Mean and variance are the running ones of a trained layer, or those of `x` itself while training.
    """
    mean, variance, weight, bias = (
        state[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    if training:
        mean = x.mean((0, 2, 3))[:, None, None]
        variance = (x - mean).square().mean((0, 2, 3))[:, None, None]
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def pool_queries(
    x: Float[Tensor, "batch dim height width"], strides: tuple[int, int], padding: str = ""
) -> Float[Tensor, "batch dim rows columns"]:
    """Return the mean of every window of `strides` pixels; a window cut off by the border averages what it has.

    The first window begins at the first pixel; with padding "same" the windows lie in the middle, so that the first
    may be cut off as well.
    """
    (rows, top), (columns, left) = (
        windows(extent, stride, stride, "same") for extent, stride in zip(x.shape[-2:], strides, strict=True)
    )
    if padding != "same":
        top = left = 0
    spans = [
        [slice(max(at * stride - before, 0), (at + 1) * stride - before) for at in range(count)]
        for count, before, stride in ((rows, top, strides[0]), (columns, left, strides[1]))
    ]
    return torch.stack(
        [
            torch.stack([x[..., down, across].mean((2, 3)) for across in spans[1]], dim=-1)
            for down in spans[0]
        ],
        dim=-2,
    )


def upsample_queries(
    x: Float[Tensor, "batch dim rows columns"],
    strides: tuple[int, int],
    height: int,
    width: int,
    padding: str = "",
) -> Float[Tensor, "batch dim {height} {width}"]:
    """Return the map enlarged by `strides` (bilinear, half-pixel centres), cut to `height` × `width`.

    Enlarging by the stride and cutting keeps every output pixel above the window that it was pooled from, which
    stretching to the target size would not do for a size that the stride does not divide.
    """
    matrices = []
    for extent, stride, target in zip(x.shape[-2:], strides, (height, width), strict=True):
        before = (extent * stride - target) // 2 if padding == "same" else 0
        centre = ((torch.arange(target, dtype=x.dtype) + before + 0.5) / stride - 0.5).clamp(0, extent - 1)
        near = centre.floor().long()
        far = (near + 1).clamp(max=extent - 1)
        share = centre - near
        matrix = torch.zeros(target, extent, dtype=x.dtype)
        matrix[torch.arange(target), near] += 1 - share
        matrix[torch.arange(target), far] += share
        matrices.append(matrix.to(x.device))
    return torch.einsum("bdij,yi,xj->bdyx", x, *matrices)


def mobile_mqa(
    x: Float[Tensor, "batch dim height width"],
    state: Mapping[str, Tensor],
    num_heads: int,
    query_strides: tuple[int, int] = (1, 1),
    kv_stride: int = 1,
    eps: float = 1e-5,
    padding: str = "",
    training: bool = False,
) -> Float[Tensor, "batch dim_out height width"]:
    """Return Mobile MQA of `x`, without dropout, from the tensors of a layer's `state_dict()`.

    The keys of `state` are timm's, so the layer of either library can be checked against this.

    Source: MobileNetV4, arXiv:2404.10518, equation 2; TensorFlow Model Garden, nn_blocks.py.
    """
    height, width = x.shape[-2:]
    pooled = x
    if max(query_strides) > 1:
        pooled = normalise(pool_queries(x, query_strides, padding), state, "query.norm", eps, training)
    q = project(pooled, state["query.proj.weight"])
    rows, columns = q.shape[-2:]
    q = q.unflatten(1, (num_heads, -1)).flatten(-2).mT  # b h n k

    shared = {}
    for name in ("key", "value"):
        reduced = x
        if kv_stride > 1:
            reduced = spatial_reduction(x, state[f"{name}.down_conv.weight"], kv_stride, padding)
            reduced = normalise(reduced, state, f"{name}.norm", eps, training)
        shared[name] = project(reduced, state[f"{name}.proj.weight"]).flatten(-2).mT.unsqueeze(1)  # b 1 m k|v

    read = attend(q, shared["key"], shared["value"]).mT  # b h v n
    read = read.flatten(1, 2).unflatten(-1, (rows, columns))
    if max(query_strides) > 1:
        read = upsample_queries(read, query_strides, height, width, padding)
    return project(read, state["output.proj.weight"])
