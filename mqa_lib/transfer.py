"""Weights carried over from elsewhere: a layer of TensorFlow Model Garden, and every Mobile MQA in a model of timm.

Neither TensorFlow nor timm is imported. Arrays come from whatever read them, models are looked at by their class.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mqa_lib import checks
from mqa_lib.attention import MobileMQA

EPS = 1e-3  # Keras' BatchNormalization; PyTorch's is 1e-5

_PATHS = {
    "_query_proj/kernel": "query.proj.weight",
    "_key_proj/kernel": "key.proj.weight",
    "_value_proj/kernel": "value.proj.weight",
    "_output_proj/kernel": "output.proj.weight",
    "_key_dw_conv/depthwise_kernel": "key.down_conv.weight",
    "_value_dw_conv/depthwise_kernel": "value.down_conv.weight",
}
_NORMS = {"_query_downsampling_norm": "query", "_key_dw_norm": "key", "_value_dw_norm": "value"}
_NORM_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_PATHS |= {
    f"{theirs}/{part}": f"{ours}.norm.{name}"
    for theirs, ours in _NORMS.items()
    for part, name in _NORM_PARTS.items()
}
# The layer without strides holds plain arrays, with its heads on an axis of their own.
_PLAIN = {"_query_proj": "query", "_key_proj": "key", "_value_proj": "value", "_output_proj": "output"}


def from_tensorflow(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> dict[str, Tensor]:
    """Return the `state_dict` of a `MobileMQA` from the arrays of a Mobile MQA of TensorFlow Model Garden.

    The layer that takes them is
    `MobileMQA(..., padding="same", norm_layer=functools.partial(nn.BatchNorm2d, eps=transfer.EPS, momentum=0.01))`.

    Args:
        arrays: By their names in a checkpoint, with or without what comes before the layer and after the variable:
            `_query_proj/kernel`, `_key_dw_conv/depthwise_kernel`, `_key_dw_norm/gamma` and so on, of
            `OptimizedMultiQueryAttentionLayerWithDownSampling`; or `_query_proj`, `_key_proj`, `_value_proj` and
            `_output_proj` of `MultiQueryAttentionLayerV2`, which the Garden uses where no stride is above 1.

    Raises:
        ValueError: A name is not among these or comes twice, or one of the four projections is missing.

    Source: TensorFlow Model Garden, official/vision/modeling/layers/nn_blocks.py, Apache-2.0.
    """
    state: dict[str, Tensor] = {}
    for path, array in arrays.items():
        name = path.partition("/.ATTRIBUTES")[0].removesuffix(":0")
        known = next((end for end in _PATHS if f"/{name}".endswith(f"/{end}")), None)
        plain = next((end for end in _PLAIN if f"/{name}".endswith(f"/{end}")), None)
        tensor = torch.tensor(np.asarray(array))
        if known is not None:
            ours, tensor = _PATHS[known], _in_our_order(known, tensor)
        elif plain is not None:
            ours, tensor = f"{_PLAIN[plain]}.proj.weight", _with_heads_joined(_PLAIN[plain], tensor)
        else:
            way_out = (
                f"Give the arrays of one layer only: {', '.join(_PLAIN)}, and its convolutions and norms."
            )
            raise checks.refuse("arrays", path, "is no variable of a Mobile MQA", way_out)
        if ours in state:
            rule = f"is a second array for `{ours}`, of another layer"
            raise checks.refuse("arrays", path, rule, "Give the arrays of one layer at a time.")
        state[ours] = tensor
    missing = [path for path, ours in _PLAIN.items() if f"{ours}.proj.weight" not in state]
    if missing:
        rule = f"must hold all four projections ({', '.join(missing)} missing)"
        raise checks.refuse(
            "arrays", sorted(arrays), rule, "Read them from the same layer of the checkpoint."
        )
    for key in [key for key in state if key.endswith("running_mean")]:
        state[key.replace("running_mean", "num_batches_tracked")] = torch.zeros((), dtype=torch.long)
    return state


def replace_in(model: nn.Module) -> int:
    """Put a `MobileMQA` with the same weights for every `MultiQueryAttention2d` of timm; return how many there were.

    The model is changed in place: all of it keeps its mode, its number format, its device and its other weights, what
    is frozen stays frozen, and a layer used in two places stays one. The output is the same, but where a query stride
    leaves a remainder (timm shrinks the map there). `torch.jit.script` does not read our shape annotations (use
    `torch.jit.trace`), and torchvision's `create_feature_extractor` has to be told not to look inside:
    `tracer_kwargs={"leaf_modules": [MobileMQA]}`, since the layer's checks depend on the values of a shape.

    Raises:
        ValueError: The model has no such layer, or one that `MobileMQA` cannot be: with a bias, a dilation, or an even
            kernel. The model is left as it was.
    """
    everything = model.named_modules(remove_duplicate=False)
    found = [(name, layer) for name, layer in everything if _is_timms(layer)]
    if not found:
        rule = f"holds no Mobile MQA of timm ({sum(1 for _ in model.modules())} modules were looked at)"
        way_out = 'Use a hybrid, such as `timm.create_model("mobilenetv4_hybrid_medium")`.'
        raise checks.refuse("model", type(model).__name__, rule, way_out)
    if found[0][0] == "":
        way_out = "Use `transfer.from_timm(layer)`, which returns a new layer."
        raise checks.refuse("model", type(model).__name__, "is itself the layer to replace", way_out)
    ours = {layer: from_timm(layer) for _, layer in found}  # all of them, before the first is changed
    for name, layer in found:
        model.set_submodule(name, ours[layer])
    return len(ours)


def from_timm(layer: Any) -> MobileMQA:
    """Return a `MobileMQA` with the sizes, weights, norms, modes, number format and device of timm's layer.

    Parts that are frozen, or set to evaluation on their own, are so in the new layer too.

    Raises:
        ValueError: `layer` is another kind of module, or has a bias, a dilation, or an even kernel.
    """
    if not _is_timms(layer):
        way_out = "Give one of these, or the whole model to `transfer.replace_in`."
        raise checks.refuse("layer", type(layer).__name__, "must be timm's `MultiQueryAttention2d`", way_out)
    state = layer.state_dict()
    reduction, projection = getattr(layer.key, "down_conv", None), layer.query.proj
    for name, value in (
        ("use_bias", projection.bias is not None),
        ("dilation", False if reduction is None else max(reduction.dilation) > 1),
    ):
        if value:
            way_out = "Leave this layer as it is."
            raise checks.refuse(
                "layer", type(layer).__name__, f"has `{name}`, which Mobile MQA has not", way_out
            )
    pooled = max(layer.query_strides) > 1
    ours = MobileMQA(
        projection.in_channels,
        dim_out=layer.output.proj.out_channels,
        num_heads=layer.num_heads,
        key_dim=layer.key_dim,
        value_dim=layer.value_dim,
        query_strides=tuple(layer.query_strides),
        kv_stride=layer.kv_stride,
        dw_kernel_size=3 if reduction is None else reduction.kernel_size[0],
        attn_drop=layer.attn_drop.p,
        proj_drop=layer.output.drop.p,
        norm_layer=_norm_like(
            layer.key.norm if reduction is not None else layer.query.norm if pooled else None
        ),
        padding=_padding_of(layer),
    )
    ours.to(projection.weight)  # before the weights come, or float64 would lose digits
    ours.load_state_dict(state)
    own = dict(ours.named_modules())
    for name, parameter in layer.named_parameters():
        ours.get_parameter(name).requires_grad_(parameter.requires_grad)
    for name, part in layer.named_modules():  # outer ones first, because a mode goes down to all parts
        if name in own:
            ours.get_submodule(name).train(part.training)
    return ours


def _is_timms(layer: object) -> bool:
    return any(parent.__name__ == "MultiQueryAttention2d" for parent in type(layer).__mro__)


def _norm_like(norm: nn.Module | None) -> Callable[[int], nn.Module]:
    """Return a maker of norms with the class, the eps and the momentum of `norm`."""
    return nn.BatchNorm2d if norm is None else lambda dim: copy.deepcopy(norm)


def _padding_of(layer: Any) -> str:
    # timm pads as TensorFlow does in modules of their own, whose classes say so.
    parts = [getattr(layer.key, "down_conv", None), getattr(layer.query, "down_pool", None)]
    same = any(type(part).__name__ in ("Conv2dSame", "AvgPool2dSame") for part in parts)
    return "same" if same else ""


def _in_our_order(path: str, tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    if path.endswith("/depthwise_kernel"):
        return tensor.permute(2, 3, 0, 1).contiguous()  # height width dim 1 -> dim 1 height width
    return tensor.permute(3, 2, 0, 1).contiguous() if path.endswith("/kernel") else tensor


def _with_heads_joined(name: str, tensor: Float[Tensor, "..."]) -> Float[Tensor, "dim_out dim_in 1 1"]:
    if name == "output":
        return tensor.flatten(1)[:, :, None, None]  # d h v
    return (tensor.flatten(0, 1) if name == "query" else tensor.mT.contiguous())[
        :, :, None, None
    ]  # h k d, d k
