"""What a layer really does: every operation of one run, in order, with shapes, parameters, MACs, bytes and layout."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]
NEW, VIEW, COPY, SAME = "new numbers", "a view, nothing moves", "a copy", "nothing to do"


@dataclass(frozen=True)
class Operation:
    """One call of PyTorch while the layer ran.

    Args:
        module: The part of the layer in which it ran, such as `key.down_conv`; empty for the layer itself.
        name: What was called, such as `conv2d` or `permute`.
        inputs: Shapes of the tensors that went in, without parameters.
        output: Shape of what came out.
        params: Learnt numbers that it used.
        macs: Multiply-accumulates, for the whole batch.
        moved: Numbers that were read and written, parameters included; none for a view.
        effect: `NEW` numbers, a `COPY` of old ones, a `VIEW` of them, or the `SAME` tensor.
        contiguous: Whether the output lies row-major without gaps.
        channels_last: Whether each pixel's channels lie side by side in the output.
        bytes_per_number: Of the output.
    """

    module: str
    name: str
    inputs: tuple[Shape, ...]
    output: Shape
    params: int
    macs: int
    moved: int
    effect: str
    contiguous: bool
    channels_last: bool
    bytes_per_number: int

    @property
    def bytes(self) -> int:
        """Bytes that it moves at least."""
        return self.moved * self.bytes_per_number


@torch.no_grad()
def operations(layer: nn.Module, x: Float[Tensor, "batch dim height width"]) -> list[Operation]:
    """Return what `layer` does with `x`, in order: every call of PyTorch that returns a tensor.

    The layer runs once, as it is, in the mode that it is in. MobileMQA takes PyTorch's fused attention while it is
    watched, so scores and weighted values are one operation, and no score is written.
    """
    seen: list[Operation] = []
    inside: list[str] = []
    names = {module: name for name, module in layer.named_modules()}
    hooks = []
    for module, name in names.items():
        hooks.append(module.register_forward_pre_hook(_entering(inside, name)))
        hooks.append(module.register_forward_hook(_leaving(inside)))
    try:
        with _Watch(seen, inside, {id(parameter) for parameter in layer.parameters()}):
            layer(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _entering(inside: list[str], name: str) -> Callable[..., None]:
    return lambda *_: inside.append(name)


def _leaving(inside: list[str]) -> Callable[..., None]:
    def leave(*_: object) -> None:
        inside.pop()

    return leave


class _Watch(TorchFunctionMode):
    """Notes every call of PyTorch's Python functions that returns a tensor."""

    def __init__(self, seen: list[Operation], inside: list[str], parameters: set[int]) -> None:
        super().__init__()
        self.seen, self.inside, self.parameters = seen, inside, parameters

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        before = [(each, each._version) for each in _tensors([*args, *kwargs.values()])]
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and before and getattr(func, "__name__", "") != "__get__":
            self.seen.append(self._noted(_name(func), [each for each, _ in before], result))
        return result

    def _noted(self, name: str, given: list[Tensor], result: Tensor) -> Operation:
        weights = [each for each in given if id(each) in self.parameters]
        inputs = [each for each in given if each.dim() > 1 and id(each) not in self.parameters]
        effect = _effect(name, given, result)
        params = sum(each.numel() for each in weights)
        moved = 0
        if effect in (NEW, COPY):
            moved = sum(each.numel() for each in inputs) + params + result.numel()
        wide = result.dim() == 4 and result.is_contiguous(memory_format=torch.channels_last)
        return Operation(
            self.inside[-1] if self.inside else "",
            name,
            tuple(tuple(each.shape) for each in inputs),
            tuple(result.shape),
            params,
            _macs(name, inputs, weights, result),
            moved,
            effect,
            result.is_contiguous(),
            wide,
            result.element_size(),
        )


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [each for each in values if isinstance(each, Tensor)]


def _name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__name__", str(func))
    return {"__getitem__": "index", "__get__": "mT", "interpolate": "interpolate (bilinear)"}.get(name, name)


def _effect(name: str, given: list[Tensor], result: Tensor) -> str:
    if any(result is each for each in given):
        return SAME
    if any(result.data_ptr() == each.data_ptr() and result.numel() for each in given):
        return VIEW
    views = ("index", "permute", "flatten", "unflatten", "reshape", "contiguous", "pad", "mT")
    shares = any(result.untyped_storage().data_ptr() == each.untyped_storage().data_ptr() for each in given)
    if shares:
        return VIEW
    return COPY if name in views else NEW


def _macs(name: str, inputs: list[Tensor], weights: list[Tensor], result: Tensor) -> int:
    if name == "conv2d":
        return result.numel() * math.prod(weights[0].shape[1:])
    if name == "scaled_dot_product_attention":
        q, k, v = inputs
        pairs = math.prod(q.shape[:-1]) * k.shape[-2]
        return pairs * (q.shape[-1] + v.shape[-1])
    return 0
