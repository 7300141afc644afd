"""Fold for inference: norms and layer scales of trained Mobile MQA become part of the convolutions beside them.

What is folded keeps its class and its `forward`; a norm that went into a convolution is an `nn.Identity` afterwards.
Projections of one input are *not* merged into one, nor the two depthwise convolutions: on the CPU that takes as long
or longer.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mqa_lib.attention import MobileMQA
from mqa_lib.blocks import LayerScale2d, MobileMQABlock


def fold(model: nn.Module) -> nn.Module:
    """Return a copy of `model` for inference, every `MobileMQA` and `MobileMQABlock` in it folded.

    The copy gives the output of `model.eval()`, but for rounding. It is in evaluation mode, wants no gradients, and its
    weights have other names than `model`'s: train and save `model`, and fold what was loaded. Only BatchNorm can be
    folded; another norm stays where it is.

    Args:
        model: A layer, a block, or any network that holds some.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        if isinstance(module, MobileMQA):
            _fold_layer(module)
    for module in list(folded.modules()):
        if isinstance(module, MobileMQABlock):
            _fold_block(module)
    return folded


class BorderedConv2d(nn.Module):
    """A depthwise convolution into which the norm before it was folded, exact at the border too.

    The convolution pads what was normalised with zeros. Folded, the norm's shift reaches an output only from those taps
    of the kernel that lie inside the map, so it is added tap by tap.

    Args:
        conv: The depthwise convolution, its kernel scaled by the norm already.
        shift: What each tap adds where it lies inside.
    """

    def __init__(self, conv: nn.Conv2d, shift: Float[Tensor, "dim taps"]) -> None:
        super().__init__()
        self.conv = conv
        taps = shift.shape[1]
        self.inside = type(conv)(1, taps, conv.kernel_size, conv.stride, conv.padding, bias=False)  # type: ignore[arg-type]
        self.inside.weight = nn.Parameter(torch.eye(taps).view(taps, 1, *conv.kernel_size), False)
        self.inside.to(conv.weight)
        self.shift = nn.Parameter(shift.T.contiguous(), False)
        self.kernel_size, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """Return the convolution of the normalised `x`."""
        taps = self.inside(x.new_ones(1, 1, *x.shape[2:]))  # 1 where a tap lies inside the map
        return self.conv(x) + (taps.permute(0, 2, 3, 1) @ self.shift).permute(0, 3, 1, 2)


def _fold_layer(layer: MobileMQA) -> None:
    query: Any = layer.query
    if max(layer.query_strides) > 1 and _foldable(query.norm):
        _norm_before(query.proj, query.norm)
        query.norm = nn.Identity()
    branches: tuple[Any, ...] = (layer.key, layer.value) if layer.kv_stride > 1 else ()
    for branch in branches:
        if _foldable(branch.norm):
            branch.down_conv = fuse_conv_bn_eval(branch.down_conv, branch.norm)
            branch.norm = nn.Identity()


def _fold_block(block: Any) -> None:
    attn = block.attn
    if isinstance(block.layer_scale, LayerScale2d):
        proj = attn.output.proj
        proj.weight.data = proj.weight * block.layer_scale.gamma[:, None, None, None]
        block.layer_scale = nn.Identity()
    pooled = max(attn.query_strides) > 1
    if not _foldable(block.norm) or (pooled and not isinstance(attn.query.norm, nn.Identity)):
        return
    # Also across the pooling: the mean of what was scaled and shifted is the scaled and shifted mean.
    _norm_before(attn.query.proj, block.norm)
    for branch in (attn.key, attn.value):
        if attn.kv_stride > 1:
            branch.down_conv = _norm_before_depthwise(branch.down_conv, block.norm)
        else:
            _norm_before(branch.proj, block.norm)
    block.norm = nn.Identity()


def _foldable(norm: object) -> bool:
    return isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None


def _scale_and_shift(norm: Any) -> tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]:
    """Return what a trained norm multiplies every channel by, and what it adds."""
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _norm_before(proj: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Fold a norm into the 1×1 convolution after it."""
    scale, shift = _scale_and_shift(norm)
    added = (proj.weight * shift[:, None, None]).sum((1, 2, 3))
    proj.bias = nn.Parameter(added if proj.bias is None else proj.bias + added, False)
    proj.weight.data = proj.weight * scale[:, None, None]


def _norm_before_depthwise(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> BorderedConv2d:
    """Return a depthwise convolution with the norm before it in it."""
    scale, shift = _scale_and_shift(norm)
    folded = copy.deepcopy(conv)
    folded.weight.data = conv.weight * scale[:, None, None, None]
    return BorderedConv2d(folded, conv.weight.flatten(1) * shift[:, None])
