"""Trained weights carried into a model with attention: every tensor gets a place, or the model is refused.

From a checkpoint of ultralytics (COCO-trained rtdetr-l.pt, say) row by row, and from torchvision's ImageNet weights
into the ResNet rows. New blocks start with a layer scale of zero: then the model's answers are, to the bit, those of
the model that was carried, in any precision. A tiny scale such as 1e-5 is 0.14 % off after half precision, where it
is subnormal, and moves the answers; what zero costs is that the attention inside a block gets its first gradient in
the second step, after the scale's own first step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics import RTDETR
from ultralytics.nn.modules.block import ResNetLayer
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint, yaml_model_load

from mqa_lib import checks
from mqa_lib.blocks import MobileMQABlock
from mqa_lib.rtdetr import activation, build, fetch, fit
from mqa_lib.rtdetr.build import quietly
from mqa_lib.rtdetr.weights import (
    as_checkpoint,
    as_model,
    check_not_fused,
    listed,
    load_weights,
    misfits,
    save_weights,
    unplaced,
)

TORCHVISION_EPS = (
    1e-5  # of the BatchNorm in torchvision's ResNets; ultralytics sets its own in every model it builds
)
_BY_CLASS = ("score_head", "class_embed")  # the decoder's tensors with one row per class


@dataclass(frozen=True)
class Carried:
    """What became of the tensors, by name.

    Args:
        source: What they were carried from.
        target: The model that they were carried into.
        placed: Tensors of the source that the target has now.
        left: Tensors of the source without a place, because the classes are others or by `partly`.
        new: Tensors of the target that keep their own start.
        starts_equal: Whether the target answers as the source did: nothing is left, and all that is new stands in
            blocks whose layer scale is zero.
    """

    source: str
    target: str
    placed: tuple[str, ...]
    left: tuple[str, ...]
    new: tuple[str, ...]
    starts_equal: bool

    def __str__(self) -> str:
        """Return the report in a few sentences."""
        of = len(self.placed) + len(self.left)
        said = [
            f"{self.source} → {self.target}: {len(self.placed)} of {of} tensors placed, {len(self.new)} new."
        ]
        if self.left:
            said.append(f"Left behind: {', '.join(self.left)}.")
        if self.starts_equal:
            said.append("The model starts with the answers of the one it was carried from.")
        return " ".join(said)


def carry_over(
    source: str | Path | RTDETR | Mapping[str, Tensor],
    target: str | Path,
    classes: int | None = None,
    layer_scale: float | None = 0.0,
    partly: bool = False,
    fold_normalisation: bool = True,
) -> RTDETR:
    """Return the target with the weights of the source, ready to be trained, its report in `.carried`.

    ultralytics' `train` starts from these weights, and so does `mqa_lib.rtdetr.train` once they are saved.

    Args:
        source: A checkpoint of ultralytics (.pt, a pickle: only from where you trust), weights with a card
            (.safetensors), a model, or torchvision's weights of a ResNet (.pth, or the dictionary itself).
        target: A name in `MODELS`, or a model file.
        classes: Classes of the target; those of the source if not given, or the model file's for ImageNet weights.
        layer_scale: Start of the scale of new blocks; None keeps what the model file says.
        partly: Carry what has a place and leave the rest, such as AIFI's attention if the target has another one.
        fold_normalisation: For ImageNet weights: expect pictures from 0 to 1, as ultralytics gives them, and not with
            ImageNet's mean and deviation taken out. Away from the border, where padding is black instead of average
            grey, this changes nothing.

    Raises:
        ValueError: A tensor has no place in the target, the source is fused, or the target is not known.
        FileNotFoundError: The source does not exist.
    """
    file = build.source(target)
    if classes is not None:
        checks.positive("classes", classes, "Leave it out to keep those of the source.")
    if file.suffix != ".yaml":
        raise checks.refuse("target", target, "must be a model's name or file", "Use a name or a .yaml file.")
    fit.read("target", file)
    from_imagenet = isinstance(source, Mapping) or (
        not isinstance(source, RTDETR) and Path(source).suffix == ".pth"
    )
    if from_imagenet:
        state, name = _torchvision_state(source)  # type: ignore[arg-type]
        network = _built(file, classes, {activation.KEY: "ReLU"})
        placed = _into_backbone(network, state, fold_normalisation)
        left = tuple(key for key in state if key not in placed)
    else:
        origin, name = _origin(source)  # type: ignore[arg-type]
        kept = {key: origin.yaml[key] for key in ("activation", activation.KEY) if key in origin.yaml}
        network = _built(file, classes or len(origin.names), kept)
        placed, left = _into_rows(origin, network, partly, name)
        if len(network.names) == len(origin.names):
            network.names = dict(origin.names)
    new = tuple(key for key in network.state_dict() if key not in set(placed.values()))
    silent = _silence(network, new, layer_scale)
    equal = not from_imagenet and not left and silent
    model = as_model(network, str(file))
    model.carried = Carried(name, file.stem, tuple(placed), left, new, equal)
    return model


def to_file(source: str, target: str, path: str | Path, classes: int | None = None) -> list[str]:
    """Carry weights into a model, write it, and return what there is to say.

    Args:
        source: As `carry_over`'s; a checkpoint's name such as rtdetr-l.pt, or "imagenet", is fetched if it is not
            there.
        target: A name in `MODELS`, or a model file.
        path: Where to write: .pt to train from, .safetensors (with a card, in half precision) to hand on.
        classes: As `carry_over`'s.

    Raises:
        ValueError: As `carry_over`, or `path` ends otherwise.
        ConnectionError: The source had to be fetched and could not be.
    """
    path = Path(path)
    if path.suffix not in (".pt", ".safetensors"):
        raise checks.refuse("path", path, "must end in .pt or .safetensors", "Use .pt to train from it.")
    if path.is_dir():
        raise checks.refuse("path", path, "is a folder", "Use another name.")
    build.source(target)  # before anything is fetched
    said: list[str] = []
    if not Path(source).exists() and (source == "imagenet" or source in fetch.coco_names()):
        got = fetch.imagenet_resnet50(".") if source == "imagenet" else fetch.coco_checkpoint(".", source)
        source, said = str(got.path), [str(got)]
    model = carry_over(source, target, classes)
    if path.suffix == ".pt":
        as_checkpoint(model, path)
    else:
        save_weights(
            model, path, {"weights_are": f"carried over from {model.carried.source}, not trained since"}
        )
    return [*said, str(model.carried), str(path)]


def place_rows(
    source: nn.Module, target: nn.Module, partly: bool = False
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Copy the tensors of a network into another, row by row, and return (their new names by their old, those left).

    Rows of `MobileMQABlock` that the source does not have are passed over.

    Args:
        source: The trained network.
        target: The network that is changed.
        partly: Leave tensors that have no place; otherwise only those may stay whose rows are classes.

    Raises:
        ValueError: The rows do not pair up, or a tensor has no place.
    """
    theirs, ours = list(source.model), _shared_rows(source, target)  # type: ignore[arg-type]
    if len(theirs) != len(ours):
        rule = f"must have as many rows as the other without its blocks (={len(ours)})"
        raise checks.refuse("source", f"{len(theirs)} rows", rule, "Use two variants of the same size.")
    placed: dict[str, str] = {}
    left: list[str] = []
    wrong: list[str] = []
    for row, place in zip(theirs, ours, strict=True):
        old, new, state = f"model.{row.i}.", f"model.{place.i}.", row.state_dict()
        wanted = place.state_dict()
        fitting = {
            key: value for key, value in state.items() if key in wanted and wanted[key].shape == value.shape
        }
        placed |= {old + key: new + key for key in fitting}
        left += [old + key for key in state if key not in fitting]
        bound = {old + key: value for key, value in state.items() if not _counts_classes(row, key)}
        wrong += unplaced(bound, {old + key: value for key, value in wanted.items()})
        place.load_state_dict(fitting, strict=False)
    if wrong and not partly:
        rule = f"has {len(wrong)} tensors without a place in the other: {listed(wrong)}"
        way_out = "Use two variants of the same size, or `partly=True` to leave them."
        raise checks.refuse("source", f"{len(theirs)} rows", rule, way_out)
    return placed, tuple(left)


def _shared_rows(source: nn.Module, target: nn.Module) -> list[nn.Module]:
    rows = list(target.model)  # type: ignore[arg-type]
    if any(isinstance(row, MobileMQABlock) for row in source.model):  # type: ignore[union-attr]
        return rows
    return [row for row in rows if not isinstance(row, MobileMQABlock)]


def _counts_classes(row: nn.Module, key: str) -> bool:
    return isinstance(row, RTDETRDecoder) and any(part in key for part in _BY_CLASS)


def _built(file: Path, classes: int | None, more: dict[str, Any]) -> RTDETRDetectionModel:
    with quietly():
        return RTDETRDetectionModel({**yaml_model_load(file), **more}, nc=classes, verbose=False)


def _origin(source: str | Path | RTDETR) -> tuple[Any, str]:
    if isinstance(source, RTDETR):
        network, name = source.model, Path(str(source.model_name)).stem
    else:
        path = build.source(source)
        if path.suffix == ".yaml":
            way_out = "Use a .pt, .pth or .safetensors file."
            raise checks.refuse("source", source, "is a model file and has no weights", way_out)
        name = path.name
        network = load_weights(path).model if path.suffix == ".safetensors" else _checkpoint(path)
    if not isinstance(network, RTDETRDetectionModel):
        rule = f"must hold an RT-DETR of ultralytics, and holds a {type(network).__name__}"
        raise checks.refuse("source", name, rule, "Use a checkpoint such as rtdetr-l.pt.")
    check_not_fused("source", network)
    return network, name


def _checkpoint(path: Path) -> nn.Module:
    try:
        with quietly():
            return load_checkpoint(path)[0]
    except Exception as error:  # a pickle can be broken in as many ways as there are exceptions
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise checks.refuse(
            "source", path, f"is no whole checkpoint of ultralytics ({said})", "Fetch it again."
        ) from error


def _into_rows(
    origin: nn.Module, network: nn.Module, partly: bool, name: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    try:
        return place_rows(origin, network, partly)
    except ValueError as error:
        raise ValueError(f"{name} does not fit: {error}") from error


def _silence(network: nn.Module, new: Sequence[str], layer_scale: float | None) -> bool:
    """Set the layer scale of every new block and return whether all that is new is silent by it."""
    heard = set(new)
    for name, module in network.named_modules():
        if isinstance(module, MobileMQABlock) and f"{name}.layer_scale.gamma" in heard:
            if layer_scale is not None:
                nn.init.constant_(module.layer_scale.gamma, layer_scale)
            if not module.layer_scale.gamma.any():
                heard = {key for key in heard if not key.startswith(f"{name}.")}
    return not heard


def _torchvision_state(source: str | Path | Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    if isinstance(source, Mapping):
        return dict(source), "a ResNet's weights"
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"`source` (={source}) does not exist. Check the path.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        rule = f"is no whole file of weights ({type(error).__name__})"
        raise checks.refuse("source", source, rule, "Fetch it again.") from error
    if not isinstance(state, Mapping) or "conv1.weight" not in state:
        rule = "must be the state dictionary of one of torchvision's ResNets"
        raise checks.refuse("source", source, rule, "Use a file such as that of torchvision's resnet50.")
    return dict(state), path.name


def torchvision_names(network: nn.Module) -> dict[str, str]:
    """Return torchvision's name of every convolution and norm in the ResNet rows of a network, by torchvision's name.

    Raises:
        ValueError: The network has no ResNet rows.
    """
    stages = [row for row in network.model if isinstance(row, ResNetLayer)]  # type: ignore[union-attr]
    if not stages or not stages[0].is_first:
        way_out = "Use one of the resnet50 variants."
        raise checks.refuse("target", "the model", "must begin with ultralytics' ResNet rows", way_out)
    names = {"conv1": f"model.{stages[0].i}.layer.0.conv", "bn1": f"model.{stages[0].i}.layer.0.bn"}
    for number, stage in enumerate(stages[1:], start=1):
        for index, block in enumerate(stage.layer):
            theirs, own = f"layer{number}.{index}.", f"model.{stage.i}.layer.{index}."
            for which in (1, 2, 3):
                names[f"{theirs}conv{which}"] = f"{own}cv{which}.conv"
                names[f"{theirs}bn{which}"] = f"{own}cv{which}.bn"
            if not isinstance(block.shortcut, nn.Identity):
                names |= {f"{theirs}downsample.0": f"{own}shortcut.0.conv"}
                names |= {f"{theirs}downsample.1": f"{own}shortcut.0.bn"}
    return names


def _into_backbone(network: nn.Module, state: dict[str, Tensor], fold_normalisation: bool) -> dict[str, str]:
    """Copy torchvision's weights into the ResNet rows and return where each tensor went.

    ultralytics gives every BatchNorm another eps whenever it builds a model. Setting it back would be lost the next
    time, so the norm's weight makes up for it: at inference the two are equal, and in training nearly.
    """
    names = torchvision_names(network)
    modules = dict(network.named_modules())
    tensors = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    placed = {}
    carried: dict[str, Tensor] = {}
    for theirs, own in names.items():
        module = modules[own]
        for part in module.state_dict():
            if f"{theirs}.{part}" in tensors:
                carried[f"{own}.{part}"] = tensors[f"{theirs}.{part}"]
                placed[f"{theirs}.{part}"] = f"{own}.{part}"
        if isinstance(module, nn.BatchNorm2d) and f"{own}.running_var" in carried:
            variance = carried[f"{own}.running_var"]
            carried[f"{own}.weight"] = carried[f"{own}.weight"] * torch.sqrt(
                (variance + module.eps) / (variance + TORCHVISION_EPS)
            )
    if fold_normalisation:
        _fold_normalisation(carried, names["conv1"], names["bn1"])
    wanted = {
        key: value for key, value in network.state_dict().items() if key.rpartition(".")[0] in names.values()
    }
    wrong = misfits(carried, wanted)
    wrong += [f"`{key}` has no place" for key in state if key not in placed and not key.startswith("fc.")]
    if wrong:
        rule = f"does not fit the ResNet rows: {listed(wrong)}"
        raise checks.refuse("source", "weights", rule, "Use torchvision's weights of a ResNet as deep.")
    network.load_state_dict(carried, strict=False)
    return placed


def _fold_normalisation(carried: dict[str, Tensor], conv: str, norm: str) -> None:
    from torchvision.models import ResNet50_Weights

    given = ResNet50_Weights.IMAGENET1K_V1.transforms()
    mean, deviation = (torch.tensor(values, dtype=torch.float64) for values in (given.mean, given.std))
    weight = carried[f"{conv}.weight"] / deviation[:, None, None]
    carried[f"{conv}.weight"] = weight
    carried[f"{norm}.running_mean"] = carried[f"{norm}.running_mean"] + (weight * mean[:, None, None]).sum(
        (1, 2, 3)
    )
