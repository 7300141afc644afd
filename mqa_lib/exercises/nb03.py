"""The exercises and quizzes of notebook 3."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mqa_lib import functional
from mqa_lib.exercises.core import Answer, Exercise, Quiz, normal
from mqa_lib.published import ALL, Defect, PublishedMQA


def _softmax_of(scores: Callable[[Tensor, Tensor], Tensor], axis: int = -1) -> Answer:
    return lambda q, k: scores(q, k).softmax(axis)


_MATRICES = {
    name: normal(*shape, 1, 1) / shape[1] ** 0.5
    for name, shape in {"query": (39, 11), "key": (13, 11), "value": (13, 11), "output": (11, 39)}.items()
}
_MATRICES["value"] = _MATRICES["value"].flip(0)  # two shapes alike give numbers alike


def _published(defects: Defect) -> Answer:
    """Return what the article's layer gives when it makes just these mistakes."""

    def answer(x: Tensor, matrices: Mapping[str, Tensor], num_heads: int) -> Tensor:
        key_dim, dim = matrices["key"].shape[:2]
        layer = PublishedMQA(dim, num_heads, key_dim, defects=defects).double().eval()
        layer.load_state_dict({f"{name}.proj.weight": weight for name, weight in matrices.items()})
        return layer(x).detach()

    return answer


def _mobile_mqa(x: Tensor, matrices: Mapping[str, Tensor], num_heads: int) -> Tensor:
    named = {f"{name}.proj.weight": weight for name, weight in matrices.items()}
    return functional.mobile_mqa(x, named, num_heads)


SCALE = Exercise(
    task="Write `weights(q, k)`: for q (batch, heads, queries, key_dim) and k (batch, 1, keys, key_dim), return the"
    " softmax of the scaled scores, of shape (batch, heads, queries, keys).",
    hint="one query's score with one key is their dot product over the square root of the number of terms in it.",
    right=functional.attention_weights,
    mistakes={
        "the scores are not scaled; divide them by sqrt(key_dim) before the softmax.": _softmax_of(
            lambda q, k: q @ k.mT
        ),
        "the scores are divided by key_dim; its square root is needed.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[-1]
        ),
        "the scores are multiplied by sqrt(key_dim); divide by it.": _softmax_of(
            lambda q, k: q @ k.mT * q.shape[-1] ** 0.5
        ),
        "this is the scale of the layer in section 8, sqrt(key_dim // num_heads); key_dim is one head's size"
        " already.": _softmax_of(lambda q, k: q @ k.mT / (q.shape[-1] // q.shape[1]) ** 0.5),
        "the scale is sqrt(num_heads); it must be sqrt(key_dim), the number of terms in a score.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[1] ** 0.5
        ),
        "the softmax runs over the queries; a query's weights over the keys must add up to 1.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[-1] ** 0.5, axis=-2
        ),
        "the softmax runs over the heads; a query's weights over the keys must add up to 1.": _softmax_of(
            lambda q, k: q @ k.mT / q.shape[-1] ** 0.5, axis=1
        ),
        "these are the scores; the softmax over the keys is missing.": lambda q, k: (
            q @ k.mT / q.shape[-1] ** 0.5
        ),
    },
    inputs={"q": normal(2, 3, 11, 13), "k": normal(2, 1, 7, 13)},
    kind="implement",
    minutes=4,
    difficulty=1,
)

SPLIT = Exercise(
    task="Write `split(q_map, num_heads)`: cut a map (batch, heads * key_dim, height, width) into tokens of shape"
    " (batch, heads, height * width, key_dim), one token a pixel and head.",
    hint="cut the channels first, then flatten the pixels, then swap the last two axes.",
    right=lambda q_map, num_heads: torch.stack(
        [head.flatten(-2).mT for head in q_map.chunk(num_heads, dim=1)], dim=1
    ),
    mistakes={
        "this is the mistake of the layer in section 8: view cuts along the memory, so a token holds"
        " key_dim neighbouring pixels of one channel and not one pixel's channels."
        " Cut, then transpose.": lambda q_map, num_heads: q_map.reshape(
            len(q_map), num_heads, -1, q_map.shape[1] // num_heads
        ),
        "the last two axes are still (key_dim, pixels); swap them with `.mT`.": lambda q_map, num_heads: (
            q_map.unflatten(1, (num_heads, -1)).flatten(-2)
        ),
        "the channels are cut as (key_dim, heads); a head owns neighbouring channels, so cut them as"
        " (heads, key_dim).": lambda q_map, num_heads: (
            q_map.unflatten(1, (-1, num_heads)).transpose(1, 2).flatten(-2).mT
        ),
        "the pixels run down the columns; number them along the rows, as `flatten` does.": lambda q_map, num_heads: (
            q_map.mT.unflatten(1, (num_heads, -1)).flatten(-2).mT
        ),
        "heads and pixels are the wrong way round; the heads come before the tokens.": lambda q_map, num_heads: (
            q_map.unflatten(1, (num_heads, -1)).flatten(-2).permute(0, 3, 1, 2)
        ),
    },
    inputs={"q_map": normal(2, 15, 7, 11), "num_heads": 3},
    kind="implement",
    minutes=3,
    difficulty=2,
)

MERGE = Exercise(
    task="Write `merge(read, height, width)`: lay tokens of shape (batch, heads, height * width, value_dim) back into"
    " a map (batch, heads * value_dim, height, width).",
    hint="undo what `split` did, in the opposite order: swap, join heads and channels, cut the pixels.",
    right=lambda read, height, width: torch.cat([head.mT for head in read.unbind(1)], dim=1).unflatten(
        -1, (height, width)
    ),
    mistakes={
        "this is the mistake of the layer in section 8: the tokens are laid into the map as they stand. Swap the"
        " last two axes first.": lambda read, height, width: read.reshape(len(read), -1, height, width),
        "height and width are swapped.": lambda read, height, width: read.mT.reshape(
            len(read), -1, width, height
        ),
        "heads and channels are joined as (value_dim, heads); the head comes first.": lambda read, height, width: (
            read.permute(0, 3, 1, 2).flatten(1, 2).unflatten(-1, (height, width))
        ),
    },
    inputs={"read": normal(2, 3, 77, 5), "height": 7, "width": 11},
    kind="implement",
    minutes=3,
    difficulty=1,
)

LAYER = Exercise(
    task="Write `mobile_mqa(x, matrices, num_heads)`: let every pixel of the map x read from all pixels, with the 1×1"
    " convolutions `matrices` by name (query, key, value, output), and return a map of the size of x.",
    hint="project, split (keys and values have one head), weigh, read, merge, project.",
    right=_mobile_mqa,
    mistakes={
        "keys and values have changed places.": lambda x, matrices, num_heads: _mobile_mqa(
            x, {**matrices, "key": matrices["value"], "value": matrices["key"]}, num_heads
        ),
        "the map x is added to the result; the layer alone returns what was read and mixed.": (
            lambda x, matrices, num_heads: x + _mobile_mqa(x, matrices, num_heads)
        ),
        "the query map is cut by `view` or `reshape`, so a query is a piece of a row; see section 3.": _published(
            Defect.QUERY_LAYOUT
        ),
        "the value map is cut by `view` or `reshape`, so a value is a piece of a row; see section 3.": _published(
            Defect.VALUE_LAYOUT
        ),
        "the tokens that were read are laid into the map as they stand; swap the last two axes first.": _published(
            Defect.OUTPUT_LAYOUT
        ),
        "queries and values are both cut by `view`, so their tokens are pieces of rows.": _published(
            Defect.QUERY_LAYOUT | Defect.VALUE_LAYOUT
        ),
        "this is the layer of section 8, with all three layouts wrong and the scores scaled by the wrong"
        " root.": _published(ALL & ~Defect.SQUARE_ONLY),
        "the three layouts of section 8 are wrong; your scale is right.": _published(
            Defect.QUERY_LAYOUT | Defect.VALUE_LAYOUT | Defect.OUTPUT_LAYOUT
        ),
        "the scores are divided by sqrt(key_dim // num_heads); key_dim is one head's size already.": _published(
            Defect.SCALE
        ),
    },
    inputs={"x": normal(2, 11, 5, 7), "matrices": _MATRICES, "num_heads": 3},
    kind="implement",
    minutes=6,
    difficulty=3,
)

KEYS = Exercise(
    task="How many keys does a map of 15 × 21 pixels have with kv_stride 2?",
    hint="the convolution is padded by one pixel, so the first key is centred on row 0; where is the last?",
    right=88,
    mistakes={
        "this is the number without down-sampling.": 315,
        "both sides are rounded down; the last odd row and column are looked at too.": 70,
        "only the height is halved.": 168,
        "only the width is halved.": 165,
        "the pixels are divided by four and rounded; each side is halved and rounded up.": 79,
        "this is the size of one side; multiply the two.": 11,
    },
    kind="predict",
    minutes=2,
    difficulty=1,
)


def _first_nan(key_dim: int) -> int:
    """Return the smallest number of heads with which the article's scale leaves a NaN."""
    x = normal(1, 11, 5, 7).float()
    layers = (
        (heads, PublishedMQA(11, heads, key_dim, defects=Defect.SCALE)) for heads in range(1, 3 * key_dim)
    )
    return next(heads for heads, layer in layers if layer(x).isnan().any())


NAN = Exercise(
    task="With how many heads of 6 channels does the layer whose scale alone is wrong first give a NaN?",
    hint="it divides by sqrt(key_dim // num_heads); when is the whole-number division 0?",
    right=_first_nan,
    mistakes={
        "6 // 6 is 1, and dividing by 1 does no harm; one head more.": 6,
        "only powers of two were tried; a smaller number breaks it too.": 8,
        "6 // 4 is 1: the scores are too large, but they are numbers.": 4,
        "this is twice the size of a head; the division gives 0 much earlier.": 12,
        "6 // 3 is 2, which is too small a divisor but not 0.": 3,
    },
    inputs={"key_dim": 6},
    kind="investigate",
    minutes=5,
    difficulty=2,
)

EXERCISES: dict[str, Exercise] = {
    "03-split": SPLIT,
    "03-scale": SCALE,
    "03-merge": MERGE,
    "03-layer": LAYER,
    "03-keys": KEYS,
    "03-nan": NAN,
}

_BOTH = "That the two agree. Both may share one misunderstanding."
AGREE = Quiz(
    question="Your lines and the library's layer agree to fourteen digits. What follows?",
    options={
        "That the layer is right.": "Only if the library is. Whoever wrote both may have misread the formula the same"
        " way twice; the suspect's code was copied many times, and all copies agree.",
        _BOTH: "Yes. What is needed is a source that does not share the author, the code or the idea: an oracle.",
        "Nothing, for floating-point numbers agree by chance.": "Two arrays of many numbers do not agree to fourteen"
        " digits by chance. They do compute the same thing; whether it is the right thing is open.",
    },
    right=_BOTH,
)

_MOVED = "Pixels change places: does the output follow?"
TELLS = Quiz(
    question="In one layer only the value layout is wrong. Which test sees it?",
    options={
        "The output has the shape of the input.": "It has. A wrong layout keeps every shape, which is why nobody"
        " notices.",
        "The weights of every query sum to 1.": "They do: values have no part in the weights, and queries and keys are"
        " right.",
        "The disc stays where it was.": "It does. Equal pixels still read equal things; the things are wrong.",
        _MOVED: "Yes. A value made of four neighbours of one channel becomes another value when the neighbours do; the"
        " table above has the error.",
    },
    right=_MOVED,
)

_ALL = "All pixels."
BORDER = Quiz(
    question="Without the correction only the keys at the border are wrong beside the others."
    " Which pixels of the output change?",
    options={
        "Those at the border.": "So it would be after a convolution. Here every query reads every key, the wrong ones"
        " too.",
        "Those within one cell of the border.": "That is as far as a 3×3 convolution would carry it. Attention has no"
        " such limit.",
        _ALL: "Yes. Every query gives a share to every key, and the shares of all others change with it. A convolution"
        " would have kept the mistake where one might have seen it.",
        "None, because the softmax evens it out.": "The softmax makes weights sum to 1. It does not make wrong scores"
        " right.",
    },
    right=_ALL,
)

QUIZZES: dict[str, Quiz] = {"03-agree": AGREE, "03-tells": TELLS, "03-border": BORDER}
