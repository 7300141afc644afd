"""The only place where a refused argument is worded.

Every function returns the value it accepted, so that a check can stand where the value is used. A refusal is a
`ValueError` (`TypeError` for a thing of the wrong kind) that names the argument, its value, the rule and a way out.
"""

import operator
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from pathlib import Path

import torch
from torch import Tensor, nn

PADDINGS = ("", "same")


def refuse(name: str, value: object, rule: str, way_out: str) -> ValueError:
    """Return the error that all refusals share: name, value, rule, way out."""
    return ValueError(f"`{name}` (={value}) {rule}. {way_out}")


def unused(name: str, path: Path, force: bool = False) -> Path:
    """Return `path` if nothing is there, or if it may be written over.

    Raises:
        FileExistsError: A file is there and `force` is not set.
    """
    if path.exists() and not force:
        raise FileExistsError(f"`{name}` (={path}) exists. Use another name, or --force to write over it.")
    return path


def positive(name: str, value: int, way_out: str = "Use 1 or more.") -> int:
    """Return `value` if it is a whole number of at least 1.

    Raises:
        ValueError: `value` is smaller than 1 or not a whole number.
    """
    try:
        whole = 0 if isinstance(value, bool) else operator.index(value)  # numpy's whole numbers are welcome
    except TypeError:
        whole = 0
    if whole < 1:
        raise refuse(name, value, "must be a whole number of at least 1", way_out)
    return whole


def odd(name: str, value: int) -> int:
    """Return `value` if it is a positive odd number.

    Raises:
        ValueError: `value` is even or smaller than 1.
    """
    if positive(name, value) % 2 == 0:
        raise refuse(
            name, value, "must be odd, so that a kernel has a centre", f"Use {value - 1} or {value + 1}."
        )
    return value


def fraction(name: str, value: float) -> float:
    """Return `value` if it is a probability below 1.

    Raises:
        ValueError: `value` is outside [0, 1).
    """
    if not isinstance(value, Real) or not 0.0 <= value < 1.0:  # NumPy's numbers are welcome
        raise refuse(name, value, "must be at least 0 and below 1", "Use 0.0 to switch it off.")
    return float(value)


def divides(name: str, value: int, divisor_name: str, divisor: int) -> int:
    """Return `value` // `divisor` if the division leaves nothing.

    Raises:
        ValueError: `value` is not a multiple of `divisor`.
    """
    if positive(name, value) % positive(divisor_name, divisor):
        rule = f"must be divisible by `{divisor_name}` (={divisor})"
        near = max(divisor, round(value / divisor) * divisor)
        raise refuse(name, value, rule, f"Use {near}, or state the size per head yourself.")
    return value // divisor


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Return `value` as (vertical, horizontal), one number standing for both.

    Raises:
        ValueError: `value` is not one or two whole numbers of at least 1.
    """
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2:
        raise refuse(
            name, value, "must be one number or (vertical, horizontal)", f"Use `{name}=2` or `{name}=(2, 1)`."
        )
    return positive(name, both[0]), positive(name, both[1])


def index(name: str, value: int, count: int, way_out: str = "") -> int:
    """Return `value` if it numbers one of `count` things, counted from 0.

    Raises:
        ValueError: `value` is below 0, or `count` or more.
    """
    if not 0 <= value < count:
        raise refuse(name, value, f"must be from 0 to {count - 1}", way_out or f"There are {count}.")
    return value


def one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """Return `value` if it is among `allowed`.

    Raises:
        ValueError: `value` is not among `allowed`.
    """
    if value not in allowed:
        known = ", ".join(sorted(map(str, allowed)))
        raise refuse(name, repr(value), "is not known", f"Use one of: {known}.")
    return value


def padding(name: str, value: str) -> str:
    """Return `value` if it names a way to pad: "" on both sides alike, "same" as TensorFlow does.

    Raises:
        ValueError: `value` is neither.
    """
    if value not in PADDINGS:
        way_out = 'Use "" (both sides alike) or "same" (as TensorFlow pads).'
        raise refuse(name, repr(value), "is not a way to pad that the layer knows", way_out)
    return value


def feature_map(name: str, x: Tensor, dim: int) -> Tensor:
    """Return `x` if it is a floating-point map of shape batch × dim × height × width with at least one pixel.

    Raises:
        TypeError: `x` is no tensor, or does not hold floating-point numbers.
        ValueError: `x` has another number of axes or of channels, or no pixels.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"`{name}` (={type(x).__name__}) must be a tensor. Use `torch.as_tensor({name})`.")
    shape = tuple(x.shape)
    if x.dim() != 4:
        hint = "Add the batch axis with `x.unsqueeze(0)`." if x.dim() == 3 else "Reshape it to four axes."
        raise ValueError(f"`{name}` (shape {shape}) must have the axes (batch, {dim}, height, width). {hint}")
    if x.shape[1] != dim:
        hint = "Build the layer with that `dim`, or project the map with a 1x1 convolution first."
        if x.shape[3] == dim:
            hint = f"Its last axis is {dim}: move the channels with `{name}.permute(0, 3, 1, 2)`."
        raise ValueError(f"`{name}` (shape {shape}) has {x.shape[1]} channels and must have {dim}. {hint}")
    if not x.is_floating_point():
        raise TypeError(f"`{name}` (dtype {x.dtype}) must hold floating-point numbers. Use `{name}.float()`.")
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(
            f"`{name}` (shape {shape}) has no pixels. Give it a height and a width of at least 1."
        )
    return x


def same_dtype_and_device(name: str, x: Tensor, weight: Tensor) -> Tensor:
    """Return `x` if it has the number format of a layer's `weight` and lies on its device.

    Under autocast the formats may differ, because it converts both.

    Raises:
        TypeError: The number formats differ.
        ValueError: The devices differ.
    """
    if x.device != weight.device:
        way_out = f"Use `{name}.to({str(weight.device)!r})` or `layer.to({str(x.device)!r})`."
        raise ValueError(
            f"`{name}` (on {x.device}) must lie on the device of the layer's weights, {weight.device}. {way_out}"
        )
    if x.dtype != weight.dtype and not autocasts(x):
        way_out = f"Use `{name}.to({weight.dtype})` or `layer.to({x.dtype})`, or run under `torch.autocast`."
        raise TypeError(
            f"`{name}` (dtype {x.dtype}) must have the dtype of the layer's weights, {weight.dtype}. {way_out}"
        )
    return x


def autocasts(x: Tensor) -> bool:
    """Return whether autocast is at work on the device of `x`; on "meta" there is none, and PyTorch refuses to say."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def state_fits(layer: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Accept a state dict that has just the keys and the shapes of `layer`, a Mobile MQA.

    Raises:
        RuntimeError: A key is missing or too many, or a shape differs; of the same class as PyTorch's own. It names
            all of them, and the arguments with which a layer would fit.
    """
    own = layer.state_dict()
    said = [
        f"`{key}` (shape {tuple(state[key].shape)}) must have the shape {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    for rule, keys in (
        ("is missing from it", own.keys() - state.keys()),
        ("has no place in the layer", state.keys() - own.keys()),
    ):
        said += [f"`{key}` {rule}" for key in sorted(keys) if not key.endswith("num_batches_tracked")]
    if said:
        listed = "".join(f"\n\t{line}." for line in said)
        raise RuntimeError(
            f"The state dict is of a layer of another configuration.{listed}{_way_to_fit(own, state)}"
        )


def _way_to_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    ours, theirs = _sizes_of(own), _sizes_of(state)
    needed = {name: value for name, value in theirs.items() if ours.get(name) != value}
    if not needed:
        return ""
    wanted, present = (
        ", ".join(f"{name}={sizes[name]}" for name in needed if name in sizes) for sizes in (theirs, ours)
    )
    return f"\nBuild the layer with {wanted} (it has {present})."


def _sizes_of(state: Mapping[str, Tensor]) -> dict[str, object]:
    """Return the arguments that the shapes of a Mobile MQA's state dict tell, a stride as far as it shows."""
    try:
        query, key, value, output = (
            state[f"{name}.proj.weight"].shape for name in ("query", "key", "value", "output")
        )
    except KeyError:
        return {}
    kernel = state["key.down_conv.weight"].shape[-1] if "key.down_conv.weight" in state else None
    sizes: dict[str, object] = {
        "dim": query[1],
        "dim_out": output[0],
        "num_heads": query[0] // key[0],
        "key_dim": key[0],
        "value_dim": value[0],
        "kv_stride": "1" if kernel is None else "2 or more",
        "query_strides": "2 or more" if "query.norm.weight" in state else "1",
    }
    return sizes if kernel is None else {**sizes, "dw_kernel_size": kernel}
