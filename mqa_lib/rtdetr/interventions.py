"""Take one way of reading away from a trained detector, and see what its answers lose."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics import RTDETR, YOLO
from ultralytics.nn.modules import transformer

from mqa_lib import checks
from mqa_lib.blocks import AttentionBlock

PARTS = ("backbone attention", "AIFI", "decoder self-attention", "far sampling points")


@contextlib.contextmanager
def without(model: RTDETR | YOLO, part: str) -> Iterator[int]:
    """Take a part's long-range reading out of a detector while the block runs, and yield how many layers had it.

    A block of the backbone is left out as a whole: it hands its map on as it came. In AIFI and in the decoder's
    self-attention each token attends to itself alone. The decoder's sampling points outside the box that a layer starts
    from are left out, and the weights of a head's others are scaled up to 1; a head without any inside reads nothing.
    What remains may still know of far places, since each cell of a map was made from a large part of the picture. And
    a part that can be left out alone may be needed as soon as another one is missing: parts can be nested.

    Args:
        model: The detector.
        part: One of `PARTS`.

    Raises:
        ValueError: The part is not known.
    """
    checks.one_of("part", part, PARTS)
    with contextlib.ExitStack() as stack:
        if part == "far sampling points":
            yield _near_points_only(model.model, stack)
            return
        layers = list(_layers(model.model, part))
        for layer in layers:
            stack.callback(layer().remove)
        yield len(layers)


def _layers(network: nn.Module, part: str) -> Iterator[Callable[[], Any]]:
    """Yield for each layer of a part what puts the hook there that takes its reading out."""
    for module in network.modules():
        if part == "backbone attention" and isinstance(module, AttentionBlock):
            yield lambda module=module: module.register_forward_hook(lambda _, inputs, output: inputs[0])
        elif part == "AIFI" and isinstance(module, transformer.AIFI):
            yield lambda module=module: _to_itself(module.ma)
        elif part == "decoder self-attention" and isinstance(
            module, transformer.DeformableTransformerDecoderLayer
        ):
            yield lambda module=module: _to_itself(module.self_attn)


def _to_itself(attention: nn.MultiheadAttention) -> Any:
    def mask(_: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> Any:
        tokens = inputs[0] if inputs else options["query"]
        count = tokens.shape[1] if attention.batch_first else tokens.shape[0]
        elsewhere = ~torch.eye(count, dtype=torch.bool, device=tokens.device)
        return inputs, {**options, "attn_mask": elsewhere}

    return attention.register_forward_pre_hook(mask, with_kwargs=True)


def _near_points_only(network: nn.Module, stack: contextlib.ExitStack) -> int:
    """Leave out the decoder's sampling points outside the box that its layer starts from; return how many layers."""
    layers = [module for module in network.modules() if isinstance(module, transformer.MSDeformAttn)]
    boxes: list[Tensor] = []
    for layer in layers:
        stack.callback(layer.register_forward_pre_hook(lambda _, inputs: boxes.append(inputs[1])).remove)
    read = transformer.multi_scale_deformable_attn_pytorch

    def near(value: Tensor, shapes: Any, places: Tensor, weights: Tensor) -> Tensor:
        # boxes: batch × queries × 1 × 4, as centre and size; places: batch × queries × heads × points × 2
        box = boxes.pop()[:, :, None]
        inside = ((places - box[..., :2]).abs() <= box[..., 2:] / 2).all(-1)
        kept = weights * inside
        return read(value, shapes, places, kept / kept.sum(-1, keepdim=True).clamp_min(1e-9))

    transformer.multi_scale_deformable_attn_pytorch = near
    stack.callback(setattr, transformer, "multi_scale_deformable_attn_pytorch", read)
    return len(layers)
