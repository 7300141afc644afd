"""Does what is read matter? Hide a layer's strongest keys from some queries, or as many random ones, and compare.

A large weight says that a key is read. Whether the answer hangs on it is another question, and this one can fail.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mqa_lib import checks, decoder, functional, hooks, pictures
from mqa_lib import record as records
from mqa_lib.attention import MobileMQA, MultiHeadAttention2d
from mqa_lib.record import AttentionRecord

COUNTS = (1, 3, 5, 10)
# Overlap from which a detection counts as the same one as before.
_SAME = 0.5
# Detections to choose from, and those among which the same one is looked for when keys are hidden.
_SHOWN, _ALL = 20, 300


@dataclass(frozen=True)
class Check:
    """How a model's score moved when keys of a layer were hidden from some of its queries.

    Args:
        name: What was asked about.
        layer: Number of the layer, in the order in which they run.
        queries: Numbers of the queries that the keys were hidden from.
        score: What the score is.
        before: The score with nothing hidden.
        counts: How many keys were hidden.
        strongest: The score with so many of the keys hidden that these queries read most, all heads on average.
        random: The score with so many keys drawn blindly hidden, averaged over `draws` draws.
        draws: Draws of the random keys.
    """

    name: str
    layer: int
    queries: tuple[int, ...]
    score: str
    before: float
    counts: tuple[int, ...]
    strongest: tuple[float, ...]
    random: tuple[float, ...]
    draws: int

    def table(self) -> dict[str, Any]:
        """Return the check as the explorer's script wants it."""
        rows = [
            {"count": count, "top": top, "random": random}
            for count, top, random in zip(self.counts, self.strongest, self.random, strict=True)
        ]
        asked = "this one query" if len(self.queries) == 1 else f"{len(self.queries)} queries"
        said = f"Keys were hidden from {asked}, at the layer's own temperature; random: the mean of {self.draws} draws."
        kept = {name: getattr(self, name) for name in ("name", "layer", "queries", "score", "before")}
        return {**kept, "rows": rows, "said": said}


def mask_check(
    model: nn.Module,
    image: pictures.Picture,
    layer: int | str = 0,
    query: int | None = None,
    size: records.Size = None,
    counts: Sequence[int] = COUNTS,
    draws: int = 5,
    seed: int = 0,
) -> Check:
    """Return how the model's score for one place moves when the keys that the place reads most are hidden from it.

    The score is the model's own: of an RT-DETR, that of the detection around the query (else the best one), and the
    keys are hidden from all queries in its box; of a model that answers with a map of classes, the probability of the
    class that it names at the query; of a classifier, that of the class it names, hidden from all queries.

    Args:
        model: As in `record.capture`.
        image: As in `record.capture`.
        layer: Number of the layer, in the order in which they run, or its name.
        query: Number of the query; the one in the middle of the best detection, or of the picture, if not given.
        size: As in `record.capture`.
        counts: How many keys to hide; more than the layer has but one are left out.
        draws: Draws of as many random keys for each.
        seed: Seed of the draws.

    Raises:
        ValueError: The picture cannot be read, or the model has no such layer or gives no score that is known.
    """
    picture = pictures.read(image)
    seen = records.capture(model, picture, size=size)
    if isinstance(layer, str):
        names = [entry.layer for entry in seen]
        layer = names.index(checks.one_of("layer", layer, names))
    checks.index("layer", layer, len(seen), "Layers are counted in running order.")
    core, batch = records.core_and_batch(model, picture, size)
    record = seen[layer]
    ask = _about_a_detection if decoder.holds_decoder(core) else _about_a_class
    question = ask(core, batch, record, query)
    weights = record.weights()[:, list(question.queries)].mean(axis=(0, 1))
    order = np.argsort(-weights, kind="stable")
    random = np.random.RandomState(checks.positive("seed", seed + 1))

    def score(keys: np.ndarray) -> float:
        with hidden(core, record.layer, question.queries, keys.tolist()):
            return question.score()

    hide = tuple(count for count in counts if 0 < count < len(order))
    blind = [np.mean([score(random.permutation(len(order))[:n]) for _ in range(draws)]) for n in hide]
    strongest = tuple(score(order[:n]) for n in hide)
    return Check(
        question.name,
        layer,
        question.queries,
        question.says,
        question.score(),
        hide,
        strongest,
        tuple(map(float, blind)),
        draws,
    )


@contextlib.contextmanager
def hidden(model: nn.Module, layer: str, queries: Sequence[int], keys: Sequence[int]) -> Iterator[None]:
    """Hide some keys of a layer from some of its queries while the block runs: their weights are 0, the rest sum to 1.

    Args:
        model: The network.
        layer: Name of the layer in it.
        queries: Numbers of the queries.
        keys: Numbers of the keys; not all of them.

    Raises:
        ValueError: The model has no such layer of attention over a grid.
    """
    named = {name: module for name, module in model.named_modules() if hooks.kind(module)}
    module: Any = named[checks.one_of("layer", layer, named)]
    if isinstance(module, MobileMQA | MultiHeadAttention2d):
        hook = module.register_forward_hook(
            lambda own, inputs, _: _read_without(own, inputs[0], queries, keys)
        )
    else:
        hook = module.ma.register_forward_pre_hook(_with_mask(queries, keys), with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _mask(
    rows: int, columns: int, queries: Sequence[int], keys: Sequence[int]
) -> Bool[Tensor, "queries keys"]:
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[torch.tensor(queries)[:, None], torch.tensor(keys, dtype=torch.long)] = True
    return mask


def _with_mask(queries: Sequence[int], keys: Sequence[int]) -> Callable[..., Any]:
    def masked(
        _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tokens = inputs[0] if inputs else named["query"]
        count = tokens.shape[1]
        return inputs, {**named, "attn_mask": _mask(count, count, queries, keys).to(tokens.device)}

    return masked


def _read_without(
    layer: Any, x: Float[Tensor, "batch dim height width"], queries: Sequence[int], keys: Sequence[int]
) -> Float[Tensor, "batch dim_out height width"]:
    """Return what the layer would give with some keys hidden from some queries."""
    if isinstance(layer, MobileMQA):
        q, k = layer.queries_and_keys(x)
        v = layer.value(x).flatten(2).mT.unsqueeze(1)
    else:
        q, k, v = (
            part(x).unflatten(1, (layer.num_heads, -1)).flatten(-2).mT
            for part in (layer.query, layer.key, layer.value)
        )
    scores = q @ k.mT * q.shape[-1] ** -0.5
    mask = _mask(scores.shape[-2], scores.shape[-1], queries, keys).to(scores.device)
    read = (scores.masked_fill(mask, float("-inf")).softmax(-1) @ v).transpose(1, 2).flatten(2).mT
    strides = getattr(layer, "query_strides", (1, 1))
    grid = (-(-x.shape[2] // strides[0]), -(-x.shape[3] // strides[1]))
    read = read.unflatten(-1, grid)
    if max(strides) > 1:
        read = functional.upsample_queries(read, strides, x.shape[2], x.shape[3], layer.padding)
    return layer.output(read)


@dataclass(frozen=True)
class _Question:
    """What is asked of a model about one place.

    Args:
        name: What it is asked about.
        says: What the score is.
        queries: Numbers of the queries that keys are hidden from.
        score: Runs the model and returns the score.
    """

    name: str
    says: str
    queries: tuple[int, ...]
    score: Callable[[], float]


def _about_a_class(
    core: nn.Module, batch: Float[Tensor, "1 3 rows columns"], record: AttentionRecord, query: int | None
) -> _Question:
    """Ask for the probability of the class that a network names at a query, or for the whole picture."""

    def scores() -> Float[Tensor, "1 classes *grid"]:
        with hooks.evaluated(core, batch):
            answer = core(batch)
        if not isinstance(answer, Tensor):
            raise _no_scores(core, f"answers with {type(answer).__name__}, not with scores")
        return answer.float()

    rows, columns = record.query_grid
    first = scores()
    shape = tuple(first.shape)
    if len(shape) == 2:
        name, queries, at = "the whole picture", tuple(range(rows * columns)), 0
    elif shape[2:] == record.query_grid:
        at = rows // 2 * columns + columns // 2 if query is None else query
        name, queries = "row {}, column {}".format(*divmod(at, columns)), (at,)
    else:
        rule = f"answers with {shape}: neither a score per class nor a map of them on the queries"
        raise _no_scores(core, rule)
    chosen = int(first.reshape(*shape[:2], -1)[0, :, at].argmax())

    def score() -> float:
        return float(scores().reshape(*shape[:2], -1)[0, :, at].softmax(0)[chosen])

    return _Question(name, f"Probability of class {chosen} (counted from 0)", queries, score)


def _no_scores(core: nn.Module, rule: str) -> ValueError:
    return checks.refuse("model", type(core).__name__, rule, "Use `hidden` and a score of your own.")


def _about_a_detection(
    core: nn.Module, batch: Float[Tensor, "1 3 rows columns"], record: AttentionRecord, query: int | None
) -> _Question:
    """Ask for the score of the detection around a query, else of the best one.

    With keys hidden it is the best score of its class that still lies over the same box, and 0 if none does.
    """
    found = decoder.run(core, batch, _SHOWN, decoder.AT_LEAST)
    boxes = decoder.corners(found.boxes)
    cells = np.array([record.query_cell_of(at) for at in range(record.q.shape[1])])
    # middles of the queries' cells, as shares of the picture like the boxes
    middles = (cells[:, :2] + cells[:, 2:]) / 2 / record.image.shape[:2]
    number = 0
    if query is not None:
        around = [at for at, box in enumerate(boxes) if _within(middles[query], box)]
        number = around[0] if around else 0
    box, label = boxes[number], found.classes[number]
    queries = np.flatnonzero(_within(middles, box)).tolist()
    if query is not None and query not in queries:
        queries = sorted([*queries, query])
    if not queries:
        # the box lies between the middles of all cells
        queries = [int(np.abs(middles - (box[:2] + box[2:]) / 2).sum(axis=1).argmin())]

    def score() -> float:
        now = decoder.run(core, batch, _ALL, 0.0)
        overlaps = [_overlap(box, other) for other in decoder.corners(now.boxes)]
        same = [
            float(score)
            for score, of, overlap in zip(now.scores, now.classes, overlaps, strict=True)
            if of == label and overlap >= _SAME
        ]
        return max(same, default=0.0)

    names = getattr(core, "names", {})
    known = names.get(label) if isinstance(names, dict) else None
    name = f"detection {number + 1}"
    return _Question(name, f"Score of {name} ({known or f'class {label}'})", tuple(queries), score)


def _within(points: Float[np.ndarray, "*axes 2"], box: Float[np.ndarray, "4"]) -> Bool[np.ndarray, "*axes"]:
    return np.asarray(((points >= box[:2]) & (points <= box[2:])).all(axis=-1))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the shared area of two boxes as a share of what they cover together."""
    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    shared = sides.prod()
    return float(shared / max(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared, 1e-12))
