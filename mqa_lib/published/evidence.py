"""How far each mistake of the article's layer moves its output, and what shows it, by a number."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mqa_lib.attention import MobileMQA
from mqa_lib.published.layer import ALL, NONE, Defect, PublishedMQA, twin


@dataclass(frozen=True)
class Deviation:
    """How far the layer with `defects` is from the right one, for the same input and the same weights.

    Args:
        defects: The mistakes that were switched on.
        correlation: Of all output numbers with the right ones; 1 is right, 0 is unrelated, NaN if it did not
            run.
        largest: Largest difference of an output number, in standard deviations of the right output.
        error: What PyTorch said if the layer did not run, else nothing.
    """

    defects: Defect
    correlation: float
    largest: float
    error: str = ""


@torch.no_grad()
def deviation(
    right: MobileMQA, x: Float[Tensor, "batch dim height width"], defects: Defect = ALL
) -> Deviation:
    """Return how far the output for `x` moves from `right`'s when its weights are in a layer with `defects`.

    Both layers run in evaluation mode; `right` is left as it was.

    Raises:
        ValueError: As `twin`.
    """
    expected = copy.deepcopy(right).eval()(x)
    try:
        output = twin(right, defects)(x)
    except (RuntimeError, TypeError) as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return Deviation(defects, float("nan"), float("nan"), said)
    if output.shape != expected.shape:
        shapes = " × ".join(map(str, output.shape)), " × ".join(map(str, expected.shape))
        return Deviation(defects, float("nan"), float("nan"), f"{shapes[0]} instead of {shapes[1]}")
    both = torch.stack([output.flatten(), expected.flatten()])
    largest = (output - expected).abs().max() / expected.std()
    return Deviation(defects, torch.corrcoef(both)[0, 1].item(), largest.item())


@dataclass(frozen=True)
class Evidence:
    """What shows one defect, measured with it and without it on the same weights and the same map.

    Args:
        defect: The mistake.
        shown_by: What is measured, with its unit.
        wrong: The measure with the defect, NaN if the layer did not run.
        right: The measure without it.
        deviation: How far the output moves; its `error` holds PyTorch's words, or the shape that came out.
    """

    defect: Defect
    shown_by: str
    wrong: float
    right: float
    deviation: Deviation


@torch.no_grad()
def evidence(seed: int = 0) -> list[Evidence]:
    """Return a proof of every defect in the order of `Defect`, each alone in a layer that is right otherwise.

    The layer has 64 channels and 4 heads, with keys and values of 16, and reads a map of 16 × 16, or of 12 columns
    where squares hide the defect. Everything is drawn from `seed`: the same call gives the same numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _measured(seed) + _broken()


def _measured(seed: int) -> list[Evidence]:
    right, x = _layer_and_map()
    places = "error when the pixels change places [standard deviations]"
    measured = {
        defect: (places, [permutation_error(twin(right, each), x, seed) for each in (defect, NONE)])
        for defect in (Defect.QUERY_LAYOUT, Defect.VALUE_LAYOUT, Defect.OUTPUT_LAYOUT)
    }
    for defect, shown_by, measure in (
        (Defect.SCALE, "share of NaN with 4 heads and a key_dim of 3", _share_of_nan),
        (Defect.EARLY_DROPOUT, "mean in training away from evaluation [standard deviations]", _training_bias),
        (Defect.VALUE_DIM, "channels of a value head for which 8 are asked", _value_size),
    ):
        measured[defect] = (shown_by, [measure(right, x, each) for each in (defect, NONE)])
    return [
        Evidence(defect, shown_by, wrong, good, deviation(right, x, defect))
        for defect, (shown_by, (wrong, good)) in measured.items()
    ]


def _broken() -> list[Evidence]:
    right, x = _layer_and_map()
    strided, _ = _layer_and_map(query_strides=2)
    found = []
    for defect, layer, seen in (
        (Defect.QUERY_STRIDES, strided, x),
        (Defect.NO_UPSAMPLING, strided, x),
        (Defect.SQUARE_ONLY, right, x[..., :12]),
        (Defect.ROW_MAJOR_ONLY, right, x.to(memory_format=torch.channels_last)),
    ):
        wrong, good = (_pixels_out(layer, seen, each) for each in (defect, NONE))
        shown_by = f"pixels that come out for {seen.shape[2] * seen.shape[3]}"
        found.append(Evidence(defect, shown_by, wrong, good, deviation(layer, seen, defect)))
    return found


def _layer_and_map(query_strides: int = 1) -> tuple[MobileMQA, Float[Tensor, "1 64 16 16"]]:
    layer = MobileMQA(64, num_heads=4, key_dim=16, value_dim=16, query_strides=query_strides)
    return layer.eval(), torch.randn(1, 64, 16, 16)


def _share_of_nan(right: MobileMQA, x: Float[Tensor, "1 dim height width"], defects: Defect) -> float:
    output = PublishedMQA(right.dim, num_heads=4, key_dim=3, defects=defects)(x)
    return output.isnan().double().mean().item()


def _training_bias(right: MobileMQA, x: Float[Tensor, "1 dim height width"], defects: Defect) -> float:
    """Return how far the mean of many outputs in training, with half of all dropped, is from that in evaluation."""
    layer, x = twin(right, defects), x[..., :8, :8]
    layer.attn_drop = 0.5
    layer.state_dict()["key.proj.weight"].mul_(
        4
    )  # scores of untrained layers are too small for the order to matter
    expected = layer(x)[0]
    mean = layer.train()(x.expand(1024, -1, -1, -1)).mean(0)
    return ((mean - expected).square().mean().sqrt() / expected.std()).item()


def _value_size(right: MobileMQA, x: Float[Tensor, "1 dim height width"], defects: Defect) -> float:
    layer = PublishedMQA(right.dim, num_heads=4, key_dim=16, value_dim=8, defects=defects)
    return float(layer.state_dict()["value.proj.weight"].shape[0])


def _pixels_out(right: MobileMQA, x: Float[Tensor, "1 dim height width"], defects: Defect) -> float:
    try:
        output = twin(right, defects)(x)
    except (RuntimeError, TypeError):
        return float("nan")
    return float(output.shape[2] * output.shape[3])


@torch.no_grad()
def permutation_error(layer: MobileMQA, x: Float[Tensor, "batch dim height width"], seed: int = 0) -> float:
    """Return how far the output is from moving along when the pixels of `x` change places.

    Attention without a down-sampling or a position knows no places: whatever order the pixels come in, each must get
    what it got before. The result is the largest difference, in standard deviations of the output.
    """
    order = torch.randperm(x.shape[2] * x.shape[3], generator=torch.Generator().manual_seed(seed))
    moved = x.flatten(2)[..., order].reshape(x.shape)
    still = copy.deepcopy(layer).eval()
    expected = still(x).flatten(2)[..., order]
    return ((still(moved).flatten(2) - expected).abs().max() / expected.std()).item()
