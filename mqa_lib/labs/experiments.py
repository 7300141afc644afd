"""What can be done to a suspect to learn what is wrong with it: each experiment measures it beside the right layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mqa_lib import cost
from mqa_lib.labs.mutants import build

Pair = tuple[float, float]


@dataclass(frozen=True)
class Finding:
    """What an experiment showed.

    Args:
        measures: By what was measured, the number of the right layer and of the suspect; NaN where one did not run.
        maps: Pictures of the two, by title, if there are any.
        scale: What the maps' colours mean.
        error: What PyTorch said if the suspect did not run.
        chance: How far apart two numbers may be by chance.
    """

    measures: dict[str, Pair]
    maps: dict[str, Float[np.ndarray, "rows columns"]] = field(default_factory=dict)
    scale: str = ""
    error: str = ""
    chance: float = 1e-3

    @property
    def symptoms(self) -> dict[str, Pair]:
        """The measures in which the suspect differs from the right layer, or did not run."""
        return {
            title: pair
            for title, pair in self.measures.items()
            # not, because a NaN differs too
            if not abs(pair[1] - pair[0]) <= 0.05 * abs(pair[0]) + self.chance
        }


def _map(
    rows: int = 12, columns: int = 12, dim: int = 32, seed: int = 1
) -> Float[Tensor, "1 dim rows columns"]:
    return torch.randn(1, dim, rows, columns, generator=torch.Generator().manual_seed(seed))


def _shapes(bug: str) -> Finding:
    square, oblong = "pixels out for 12 × 12", "pixels out for 9 × 16"
    measures, error = {}, ""
    for title, size in ((square, (12, 12)), (oblong, (9, 16))):
        found = []
        for name in ("", bug):
            try:
                found.append(float(build(name)(_map(*size)).shape[2:].numel()))
            except RuntimeError as problem:
                found.append(float("nan"))
                error = str(problem).splitlines()[0]
        measures[title] = (found[0], found[1])
    return Finding(measures, error=error)


def _rows(bug: str) -> Finding:
    x = _map()
    right, wrong = (layer.weigh(layer.scores(x))[0] for layer in (build(), build(bug)))
    sums = [weights.sum(-1) for weights in (right, wrong)]
    measures = {
        "smallest sum of a query's weights": (sums[0].min().item(), sums[1].min().item()),
        "largest sum of a query's weights": (sums[0].max().item(), sums[1].max().item()),
        "largest difference to a right weight": (0.0, (wrong - right).abs().max().item()),
    }
    maps = {
        name: sums[place][0].view(12, 12).numpy() for place, name in enumerate(("right", "suspect"))
    }  # of head 0
    return Finding(measures, maps, "sum of a query's weights")


def _permute(bug: str) -> Finding:
    x = _map()
    order = torch.randperm(144, generator=torch.Generator().manual_seed(2))
    errors, maps = [], {}
    for name, layer in (("right", build()), ("suspect", build(bug))):
        expected = layer(x).flatten(2)[..., order].reshape(x.shape)
        moved = layer(x.flatten(2)[..., order].reshape(x.shape))
        error = (moved - expected).abs().amax(1)[0] / expected.std()
        errors.append(error.max().item())
        maps[name] = error.numpy()
    said = "error when pixels change places"
    return Finding({f"{said} [std]": (errors[0], errors[1])}, maps, said)


def _key_dim(bug: str) -> Finding:
    measures = {}
    for key_dim in (8, 16, 64):
        stds = [build(name, key_dim=key_dim).scores(_map()).std().item() for name in ("", bug)]
        measures[f"spread of the scores, key_dim {key_dim}"] = (stds[0], stds[1])
    return Finding(measures)


def _one_head(bug: str) -> Finding:
    measures, maps = {}, {}
    for heads in (4, 1):
        right, wrong = (build(name, num_heads=heads)(_map()) for name in ("", bug))
        error = (wrong - right).abs().amax(1)[0] / right.std()
        measures[f"largest error with {heads} head{'s' * (heads > 1)} [std]"] = (0.0, error.max().item())
        maps[f"{heads} head{'s' * (heads > 1)}"] = error.numpy()
    return Finding(measures, maps, "error of the suspect")


def _train(bug: str) -> Finding:
    found, maps = [], {}
    x = 2 * _map(4, 4)  # wide scores, or the order of dropout and softmax hardly matters
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for name, layer in (("right", build(attn_drop=0.5)), ("suspect", build(bug, attn_drop=0.5))):
            expected = layer(x)
            mean = layer.train()(x.expand(500, -1, -1, -1)).mean(0, keepdim=True)
            error = (mean - expected).square().mean(1).sqrt()[0] / expected.std()
            found.append(error.square().mean().sqrt().item())
            maps[name] = error.numpy()
    said = "mean of 500 training outputs away from evaluation"
    return Finding({f"{said} [std]": (found[0], found[1])}, maps, "distance", chance=0.1)


def _odd(bug: str) -> Finding:
    measures, maps = {}, {}
    for rows in (12, 13):
        right, wrong = (build(name, kv_stride=2)(_map(rows, rows)) for name in ("", bug))
        error = (wrong - right).abs().amax(1)[0] / right.std()
        measures[f"largest error at {rows} × {rows}, kv_stride 2 [std]"] = (0.0, error.max().item())
        maps[f"{rows} × {rows}"] = error.numpy()
    return Finding(measures, maps, "error of the suspect")


def _parameters(bug: str) -> Finding:
    layers = build(kv_stride=2), build(bug, kv_stride=2)
    measures = {}
    for part in ("query", "key", "value", "output"):
        counts = [sum(p.numel() for p in getattr(layer, part).parameters()) for layer in layers]
        measures[f"parameters of {part}"] = (float(counts[0]), float(counts[1]))
    total = float(sum(p.numel() for p in layers[1].parameters()))
    measures["all; right: by formula"] = (
        float(cost.mobile_mqa(32, 12, 12, 4, 8, 8, kv_stride=2).params),
        total,
    )
    return Finding(measures)


def _places(bug: str) -> Finding:
    found, maps = [], {}
    for name, layer in (("right", build(kv_stride=2)), ("suspect", build(bug, kv_stride=2))):
        with torch.enable_grad():
            x = _map().requires_grad_()
            (touched,) = torch.autograd.grad(layer.key(x)[0, :, 2, 2].square().sum(), x)
        seen = touched[0].abs().sum(0)
        rows = seen.sum(1).nonzero().flatten()
        found.append((rows.min() + rows.max()).item() / 2)
        maps[name] = (seen / seen.max()).numpy()
    return Finding({"row on which key 2 is centred": (found[0], found[1])}, maps, "what key (2, 2) knows of")


EXPERIMENTS: dict[str, Callable[[str], Finding]] = {
    "shapes": _shapes,
    "sum the rows": _rows,
    "permute the pixels": _permute,
    "raise key_dim": _key_dim,
    "one head": _one_head,
    "train against eval": _train,
    "even and odd size": _odd,
    "count parameters": _parameters,
    "where a key looks": _places,
}


@cache
@torch.no_grad()
def run(experiment: str, bug: str) -> Finding:
    """Return what an experiment shows of a mutant.

    Args:
        experiment: A name in `EXPERIMENTS`.
        bug: A name in `mutants.MUTANTS`, or nothing for the right layer.
    """
    return EXPERIMENTS[experiment](bug)
