"""Fold for inference: norms and layer scales of trained Mobile MQA become part of the convolutions beside them.

What is folded keeps its class and its `forward`; a norm that went into a convolution is an `nn.Identity` afterwards.
Queries, keys and values of one map come from one convolution. The two depthwise convolutions stay apart: as one with
two filters a channel they take longer on the CPU (`data/benchmarks/layer.json` has both, under "parts").
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mqa_lib import checks
from mqa_lib.attention import MobileMQA
from mqa_lib.blocks import LayerScale2d, MobileMQABlock


def fold(model: nn.Module) -> nn.Module:
    """Return a copy of `model` for inference, every `MobileMQA` and `MobileMQABlock` in it folded.

    The copy gives the output of `model.eval()`, but for rounding. It is in evaluation mode, wants no gradients, and its
    weights have other names than `model`'s, and none is shared any more: train and save `model`, and fold what was
    loaded. Only BatchNorm can be folded; another norm, and a subclass that computes otherwise, stays where it is.

    Args:
        model: A layer, a block, or any network that holds some.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    _untie(folded)
    for module in list(folded.modules()):
        if isinstance(module, MobileMQA):
            _fold_layer(module)
    for module in list(folded.modules()):
        if isinstance(module, MobileMQABlock):
            _fold_block(module)
    for module in list(folded.modules()):
        if type(module) is MobileMQA:  # a subclass may compute its queries otherwise
            _merge_projections(module)
    return folded


def _untie(model: nn.Module) -> None:
    """Give every layer and block weights of its own: what two of them share would be folded twice."""
    for kind in (MobileMQABlock, MobileMQA):
        for module in list(model.modules()):
            if isinstance(module, kind):
                for name, part in list(module._modules.items()):  # `children` names a shared one once
                    setattr(module, name, copy.deepcopy(part))


class BorderedBranch(nn.Module):
    """Keys or values from a down-sampled map, with the norm before the map folded in, exact at the border too.

    The convolution pads with zeros what was normalised. Folded, the norm's shift reaches a key only from those taps of
    the kernel that lie inside the map, so what each tap adds is kept, and added where the tap lies inside.

    Args:
        branch: Depthwise convolution, norm and projection.
        norm: The norm before them.
    """

    def __init__(self, branch: Any, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.down_conv, self.norm, self.proj = branch.down_conv, branch.norm, branch.proj
        scale, shift = _scale_and_shift(norm)
        conv, proj = branch.down_conv, branch.proj
        taps = conv.weight.flatten(1) * shift[:, None]
        self.shift = nn.Parameter((proj.weight.flatten(1) @ taps)[..., None, None], False)
        conv.weight.data = conv.weight * scale[:, None, None, None]
        count = conv.weight[0].numel()
        self.ones = type(conv)(1, count, conv.kernel_size, conv.stride, conv.padding, bias=False)
        self.ones.weight = nn.Parameter(torch.eye(count).view(count, 1, *conv.kernel_size), False)
        self.ones.to(conv.weight)
        self._known: tuple[Any, Tensor] | None = None

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch out rows columns"]:
        """Return keys or values of the normalised `x`."""
        return self.proj(self.norm(self.down_conv(x))) + self._added(x)

    def _load_from_state_dict(self, *given: Any, **options: Any) -> None:
        self._known = None  # it was made from the weights that are replaced now
        super()._load_from_state_dict(*given, **options)

    def _added(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "1 out rows columns"]:
        """Return what the norm's shift adds on a map of this size; the last size is remembered."""
        known, now = self._known, (x.shape[2:], x.dtype, x.device)  # read once: another thread may write it
        lasting = _lasts(x, self.shift)
        if lasting and known is not None and known[0] == now:
            return known[1]
        inside = self.ones(x.new_ones(1, 1, *x.shape[2:]))  # 1 where a tap lies inside the map
        added = F.conv2d(inside, self.shift)
        if lasting:
            self._known = (now, added)
        return added


def _lasts(x: Float[Tensor, "batch dim height width"], shift: Float[Tensor, "out taps 1 1"]) -> bool:
    """Return whether a number made now may be used in a later call: made in full precision, and by no tracer."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or checks.autocasts(x):
        return False
    return not (shift.requires_grad or torch._C._are_functorch_transforms_active())


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
    between = [getattr(part, "norm", nn.Identity()) for part in (attn.query, attn.key, attn.value)]
    if not _foldable(block.norm) or not all(isinstance(norm, nn.Identity) for norm in between):
        return  # a norm that could not be folded stands between this one and a projection
    # Also across the pooling: the mean of what was scaled and shifted is the scaled and shifted mean.
    _norm_before(attn.query.proj, block.norm)
    if attn.kv_stride == 1:
        _norm_before(attn.key.proj, block.norm)
        _norm_before(attn.value.proj, block.norm)
    else:
        attn.key, attn.value = (BorderedBranch(branch, block.norm) for branch in (attn.key, attn.value))
    block.norm = nn.Identity()


def _merge_projections(layer: MobileMQA) -> None:
    """Make queries, keys and values with one convolution where they come from the same pixels; those apart stay."""
    if layer.kv_stride > 1 or max(layer.query_strides) > 1:
        return
    parts: list[Any] = [layer.query.proj, layer.key.proj, layer.value.proj]
    merged = nn.Conv2d(layer.dim, sum(len(part.weight) for part in parts), 1, bias=parts[0].bias is not None)
    merged.weight.data = torch.cat([part.weight for part in parts])
    if merged.bias is not None:
        merged.bias.data = torch.cat([part.bias for part in parts])
    layer.merged = merged.eval().requires_grad_(False)


def _foldable(norm: object) -> bool:
    # A subclass may do more than normalise, as timm's BatchNormAct2d does.
    if not isinstance(norm, nn.BatchNorm2d) or type(norm).forward is not nn.BatchNorm2d.forward:
        return False
    return norm.running_mean is not None


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
