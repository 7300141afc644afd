"""The probe: the smallest network in which attention can be seen to learn, on Keys & Locks, in seconds.

Three convolutions turn a picture of 96 pixels into a map of 16 × 16 cells that each see about 19 pixels, one residual
attention layer lets cells read each other, and one 1×1 convolution names a colour for every cell. It is trained and
judged only at the cells where locks lie: which colour has the key of the same shape?
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from mqa_lib import checks, cost, timing
from mqa_lib.attention import MobileMQA, MultiHeadAttention2d
from mqa_lib.datasets import keys_and_locks
from mqa_lib.datasets.keys_and_locks import Scene

SIZE = 96
CELL = 6
GRID = SIZE // CELL
PAIRS = (4, 4)
RADII = (5, 7)
STEP = (
    12  # centres lie on the grid of keys at kv_stride 2; anywhere else, so small a network learns far slower
)
CHANCE = 1 / len(keys_and_locks.COLOURS)
ATTENTION = ("none", "convolutions", "multi-head", "mobile-mqa", "article")
_CONTROL_DIM = 19
STRIDES = (1, 2, 4)  # of the keys and values of the probes that are bundled
WEIGHTS = Path(__file__).parents[1] / "data" / "probe"
_ENTRIES = ["steps", "batch_size", "pictures", "learning_rate", "step"]  # of `train` in an ablation's file
REACH = 9  # pixels from the middle of a shape within which a key's centre counts as lying on it


@dataclass(frozen=True)
class Progress:
    """Where a training stood: steps and pictures so far, seconds, loss, share of validation locks named right."""

    step: int
    pictures: int
    seconds: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Batch:
    """Pictures, and for every lock in them the picture it is in, its cell, and its colour."""

    pictures: UInt8[Tensor, "batch 3 height width"]
    lock_picture: Int[Tensor, " locks"]
    lock_cell: Int[Tensor, " locks"]
    key_cell: Int[Tensor, " locks"]
    colour: Int[Tensor, " locks"]
    scenes: list[Scene] = field(default_factory=list)

    def take(self, indices: Int[Tensor, " chosen"]) -> "Batch":
        """Return the chosen pictures with their locks; every picture holds equally many."""
        each = len(self.colour) // len(self.pictures)
        locks = (indices[:, None] * each + torch.arange(each)).flatten()
        owner = torch.arange(len(indices)).repeat_interleave(each)
        return Batch(
            self.pictures[indices], owner, self.lock_cell[locks], self.key_cell[locks], self.colour[locks]
        )


class Probe(nn.Module):
    """Name a colour for every 6×6-pixel cell of a picture; with attention, cells may read each other.

    Args:
        attention: What lets cells read each other: `none`, `convolutions` (two, with as many parameters as Mobile MQA),
            `multi-head`, `mobile-mqa`, or `article` (the layer as published, in the same place).
        kv_stride: Down-sampling of keys and values; only Mobile MQA has it. With 1 it is multi-query attention.
        dim: Channels of the map.
        num_heads: Query heads.
        key_dim: Channels of each head.
        defects: Of the article's layer, the names of those that it has, such as `["SCALE"]`; all if not given.

    Raises:
        ValueError: `attention` or a defect is not known, or a size is smaller than 1.
    """

    def __init__(
        self,
        attention: str = "mobile-mqa",
        kv_stride: int = 2,
        dim: int = 64,
        num_heads: int = 4,
        key_dim: int = 32,
        defects: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.attention = checks.one_of("attention", attention, ATTENTION)
        self.stem = nn.Sequential(
            *_convolution(3, dim // 2, stride=2),
            *_convolution(dim // 2, dim, stride=3),
            *_convolution(dim, dim, stride=1),
        )
        self.norm = nn.BatchNorm2d(dim)
        if attention == "mobile-mqa":
            self.attn: nn.Module | None = MobileMQA(
                dim, num_heads=num_heads, key_dim=key_dim, value_dim=key_dim, kv_stride=kv_stride
            )
        elif attention == "multi-head":
            self.attn = MultiHeadAttention2d(dim, num_heads, key_dim, key_dim)
        elif attention == "convolutions":
            # 19 channels make as many parameters as Mobile MQA has at kv_stride 2
            self.attn = nn.Sequential(
                *_convolution(dim, _CONTROL_DIM, 1), nn.Conv2d(_CONTROL_DIM, dim, 3, 1, 1)
            )
        elif attention == "article":
            from mqa_lib.published import ALL, NONE, Defect, PublishedMQA

            made = ALL if defects is None else NONE
            for name in defects or ():
                made |= Defect[checks.one_of("defects", name, Defect.__members__)]
            self.attn = PublishedMQA(dim, num_heads=num_heads, key_dim=key_dim, defects=made)
        else:
            self.attn = None
        self.head = nn.Conv2d(dim, len(keys_and_locks.COLOURS), 1)
        self.history: list[Progress] = []

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch colours rows columns"]:
        """Return a score for every colour and cell of pictures with values from 0 to 1."""
        # On a CPU convolutions are a quarter faster when the channels of a pixel lie together. The article's layer
        # regroups with view, which refuses such maps.
        layout = torch.contiguous_format if self.attention == "article" else torch.channels_last
        features = self.stem((x - 0.5).contiguous(memory_format=layout))
        if self.attn is not None:
            features = features + self.attn(self.norm(features))
        return self.head(features.relu())

    @torch.no_grad()
    def accuracy(self, batch: Batch) -> float:
        """Return the share of locks whose colour is named right; chance is 0.25."""
        self.eval()
        scores = self(batch.pictures / 255).flatten(2)[batch.lock_picture, :, batch.lock_cell]
        return (scores.argmax(1) == batch.colour).double().mean().item()

    @torch.no_grad()
    def key_hits(self, batch: Batch) -> Bool[Tensor, "heads locks"]:
        """Return for every head and lock whether the head's strongest key is the one nearest to the lock's own key.

        Raises:
            ValueError: The probe has no Mobile MQA.
        """
        if not isinstance(self.attn, MobileMQA):
            raise checks.refuse(
                "attention", self.attention, "has no shared keys to look at", "Train `mobile-mqa`."
            )
        self.eval()
        weights = self.attn.weights(self.norm(self.stem(batch.pictures / 255 - 0.5)))
        strongest = weights[batch.lock_picture, :, batch.lock_cell].argmax(-1).T
        side, _ = cost.key_grid(GRID, GRID, self.attn.kv_stride)
        centres = torch.tensor([cost.key_centre(index, self.attn.kv_stride) for index in range(side)])
        row, column = (
            (place[:, None] - centres).abs().argmin(1)
            for place in (batch.key_cell // GRID, batch.key_cell % GRID)
        )
        return strongest == row * side + column


def _convolution(dim: int, dim_out: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(dim, dim_out, 3, stride, 1, bias=False), nn.BatchNorm2d(dim_out), nn.ReLU()


def draw(count: int, seed: int = 0, split: str = "train", step: int = STEP) -> Batch:
    """Return `count` pictures with four pairs each, their centres on multiples of `step` pixels, and their locks."""
    scenes, pictures = zip(*keys_and_locks.stream(seed, count, split, SIZE, PAIRS, RADII, step), strict=True)
    pairs = [(index, pair) for index, scene in enumerate(scenes) for pair in scene.pairs]
    return Batch(
        torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([index for index, _ in pairs]),
        torch.tensor([pair.lock.row // CELL * GRID + pair.lock.column // CELL for _, pair in pairs]),
        torch.tensor([pair.key.row // CELL * GRID + pair.key.column // CELL for _, pair in pairs]),
        torch.tensor([pair.colour for _, pair in pairs]),
        list(scenes),
    )


def train(
    attention: str = "mobile-mqa",
    kv_stride: int = 2,
    seed: int = 0,
    steps: int = 200,
    batch_size: int = 64,
    pictures: int = 6400,
    learning_rate: float = 4e-3,
    every: int = 25,
    watch: Callable[[Progress], object] | None = None,
    step: int = STEP,
    **layer: Any,
) -> Probe:
    """Return a probe trained with AdamW and a one-cycle schedule, its progress in `history`.

    Args:
        attention: As in `Probe`.
        kv_stride: As in `Probe`.
        seed: Seed of the weights, of the pictures and of their order. Validation pictures are the same for all seeds.
        steps: Batches to train on.
        batch_size: Pictures a batch.
        pictures: Different pictures to draw from.
        learning_rate: Highest learning rate of the cycle.
        every: Steps between two measurements.
        watch: Called with every measurement, for a chart that grows.
        step: Grid of the shapes' centres in pixels, see `draw`; 1 puts them anywhere.
        **layer: Further arguments of `Probe`, such as `num_heads`.

    Raises:
        ValueError: `attention` is not known, or a number is smaller than 1.
    """
    from tqdm.auto import trange

    checks.positive("steps", steps)
    validation = draw(256, seed=10_000, split="val", step=step)
    pool = draw(checks.positive("pictures", pictures), seed, step=step)
    torch.manual_seed(seed)
    probe = Probe(attention, kv_stride, **layer)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps, pct_start=0.25
    )
    start = perf_counter()
    for count in trange(1, steps + 1, desc=f"{attention}, seed {seed}", leave=False, disable=None):
        probe.train()
        batch = pool.take(torch.randint(len(pool.pictures), (batch_size,)))
        scores = probe(batch.pictures / 255).flatten(2)[batch.lock_picture, :, batch.lock_cell]
        loss = F.cross_entropy(scores, batch.colour)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if count % every == 0 or count in (1, steps):
            seconds, accuracy = perf_counter() - start, probe.accuracy(validation)
            probe.history.append(Progress(count, count * batch_size, seconds, loss.item(), accuracy))
            if watch is not None:
                watch(probe.history[-1])
    return probe.eval()


def read_arms(grid: str | Path) -> dict[str, dict[str, Any]]:
    """Return the arguments of `train` for each arm of an ablation's file, seeds apart: `{"seeds": [0, 1], ...}`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It has other entries than `train`, `seeds` and `arms`, `train` or an arm has what it cannot, or an
            arm builds no probe.
    """
    import yaml

    content = yaml.safe_load(Path(grid).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.keys() != {"train", "seeds", "arms"}:
        raise checks.refuse(
            "grid", grid, "must have `train`, `seeds` and `arms`", "See data/experiments/probe.yaml."
        )
    _check_entries("train", content["train"], _ENTRIES)
    for name, arm in content["arms"].items():
        _check_entries(f"arms: {name}", arm, list(signature(Probe).parameters))
        Probe(**arm)
    return {
        name: {**content["train"], **arm, "seeds": content["seeds"]} for name, arm in content["arms"].items()
    }


def _check_entries(where: str, entries: dict[str, Any], known: Sequence[str]) -> None:
    for entry in entries:
        if entry not in known:
            raise checks.refuse(where, entry, "is not known there", f"Use some of: {', '.join(known)}.")


def ablation(grid: str | Path, done: Sequence[dict[str, Any]] = ()) -> Iterator[dict[str, Any]]:
    """Return an iterator over one row for each arm and seed of a grid that is not in `done`, seed by seed.

    A row has the arm's arguments, `accuracy` and `loss` at the end, `curve` (steps and accuracy on the way), the
    parameters of the layer and the seconds of computing.

    Raises:
        FileNotFoundError, ValueError: As `read_arms`.
    """
    arms = read_arms(grid)
    for seed in sorted({seed for arm in arms.values() for seed in arm["seeds"]}):
        for name, arm in arms.items():
            case = {"arm": name, "seed": seed, **{key: value for key, value in arm.items() if key != "seeds"}}
            if seed not in arm["seeds"] or any(case.items() <= row.items() for row in done):
                continue
            start = process_time()
            trained = train(every=50, **{key: value for key, value in case.items() if key != "arm"})
            last = trained.history[-1]
            yield case | {
                "accuracy": last.accuracy,
                "loss": round(last.loss, 5),
                "parameters": sum(p.numel() for p in trained.attn.parameters()) if trained.attn else 0,
                "cpu_seconds": round(process_time() - start, 1),
                "curve": [[each.step, round(each.accuracy, 4)] for each in trained.history],
            }


@torch.no_grad()
def counted(probe: Probe, batch: Batch) -> dict[str, int | float]:
    """Return what a probe's attention finds at all locks of many pictures, as shares and as bits.

    `right`: locks whose colour is named right. `found`: locks for which the best head's strongest key is centred within
    `REACH` pixels of the middle of the lock's own key, both ways; `found_by_any`: in some head; `chance`: where a key
    were picked blindly. `entropy`: of the weights, in bits, the mean over heads; at most `most_entropy`.

    Raises:
        ValueError: The probe has no Mobile MQA.
    """
    if not isinstance(probe.attn, MobileMQA):
        rule = "has no shared keys to look at"
        raise checks.refuse("attention", probe.attention, rule, "Train `mobile-mqa`.")
    probe.eval()
    stride = probe.attn.kv_stride
    rows, columns = cost.key_grid(GRID, GRID, stride)
    centres = [torch.tensor([cost.key_centre(at, stride) for at in range(side)]) for side in (rows, columns)]
    near, shares = [], []
    for start in range(0, len(batch.pictures), 32):  # at stride 1 the weights of all would take long and much
        part = batch.take(torch.arange(start, min(start + 32, len(batch.pictures))))
        weights = probe.attn.weights(probe.norm(probe.stem(part.pictures / 255 - 0.5)))
        shares.append(weights[part.lock_picture, :, part.lock_cell])
        places = part.key_cell // GRID, part.key_cell % GRID
        down, across = (
            (place[:, None] - centre).abs() * CELL <= REACH
            for place, centre in zip(places, centres, strict=True)
        )
        near.append((down[:, :, None] & across[:, None, :]).flatten(1))
    on_key, read = torch.cat(near), torch.cat(shares)
    hits = torch.stack([on_key.gather(1, head.argmax(-1, keepdim=True))[:, 0] for head in read.unbind(1)], 1)
    bits = -(read * read.clamp_min(1e-30).log2()).sum(-1)
    return {
        "locks": len(on_key),
        "keys": rows * columns,
        "right": probe.accuracy(batch),
        "found": hits.double().mean(0).max().item(),
        "found_by_any": hits.any(1).double().mean().item(),
        "chance": on_key.double().mean().item(),
        "entropy": bits.double().mean().item(),
        "most_entropy": float(np.log2(rows * columns)),
    }


def count_bundled(folder: str | Path = WEIGHTS, pictures: int = 256) -> Path:
    """Count what the bundled probes find, where shapes lay in training and on every cell; write it.

    Args:
        folder: Where the weights are, and where `strides.json` goes.
        pictures: Validation pictures of each kind.
    """
    rows = [
        {"kv_stride": stride, "step": step, "pictures": pictures}
        | counted(load(stride, folder), draw(pictures, seed=10_000, split="val", step=step))
        for step in (STEP, CELL)
        for stride in STRIDES
    ]
    made = {"made by": "python -m mqa_lib probe --weights", "commit": timing.commit()}
    path = Path(folder) / "strides.json"
    path.write_text(json.dumps({**made, "machine": timing.machine(), "rows": rows}, indent=1) + "\n")
    return path


def bundle(folder: str | Path = WEIGHTS, seed: int = 0, steps: int = 200) -> Iterator[Path]:
    """Return an iterator over the weights of a probe for each of `STRIDES`, trained and written as it is asked.

    A card beside each file says how it was made, so that it can be made again. Last comes what they find, counted.

    Args:
        folder: Where to write.
        seed: As in `train`.
        steps: As in `train`.
    """
    for stride in STRIDES:
        probe = train(kv_stride=stride, seed=seed, steps=steps)
        card = {
            "weights_are": f"trained on Keys & Locks of {SIZE} px, {steps} steps of 64 pictures, seed {seed}",
            "attention": "mobile-mqa",
            "kv_stride": stride,
            "seed": seed,
            "steps": steps,
            "step": STEP,
            "history": [asdict(each) for each in probe.history],
            "licence": "AGPL-3.0-only",
            "commit": timing.commit(),
            "machine": timing.machine(),
            "made by": "python -m mqa_lib probe --weights",
        }
        yield save(probe, Path(folder) / f"stride-{stride}.safetensors", card)
    yield count_bundled(folder)


def save(probe: Probe, path: str | Path, card: dict[str, Any]) -> Path:
    """Write the probe's weights to `path` and its card to the same name ending in .json; return `path`.

    Raises:
        ValueError: `path` does not end in .safetensors.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        way_out = f"Use {path.with_suffix('.safetensors')}."
        raise checks.refuse("path", path, "must end in .safetensors", way_out)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in probe.state_dict().items()}, path)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    return path


def load(kv_stride: int = 2, folder: str | Path = WEIGHTS) -> Probe:
    """Return the bundled probe of a stride in evaluation mode, its `history` as recorded.

    Raises:
        FileNotFoundError: The weights or their card are missing.
    """
    from safetensors.torch import load_file

    path = Path(folder) / f"stride-{kv_stride}.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"`kv_stride` (={kv_stride}) has no weights in {folder}. Train them with"
            " `python -m mqa_lib probe --weights`."
        )
    card = json.loads(path.with_suffix(".json").read_text())
    probe = Probe(card["attention"], card["kv_stride"])
    probe.load_state_dict(load_file(path))
    probe.history = [Progress(**each) for each in card["history"]]
    return probe.eval()
