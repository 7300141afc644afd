"""The exercises and quizzes of notebook 2."""

from torch import Tensor

from mqa_lib import cost
from mqa_lib.exercises.core import Answer, Exercise, Quiz, normal

_DIM, _HEADS = 256, 8  # key_dim is then 32
_SIDES = (4, 8, 10, 16, 20, 32, 40, 64, 80)  # of the map, as the slider has them
_TOKENS, _CHANNELS, _KEYS, _VALUES = 17, 11, 7, 5


def _share_of_params() -> float:
    shared, own = (make(_DIM, 20, 20, _HEADS) for make in (cost.multi_query, cost.multi_head))
    return shared.params / own.params


SHARE = Exercise(
    task="Set `prediction` to the parameters of multi-query attention as a share of multi-head attention's, at 256"
    " channels and 8 heads of 32 channels: a number from 0 to 1.",
    hint="multi-head attention has four matrices of the same size: for the queries, keys, values and the output. Which"
    " of them shrink, and how far?",
    right=_share_of_params,
    mistakes={
        "only the key and the value matrix are divided by the number of heads; the query and the output matrix"
        " stay.": 1 / _HEADS,
        "half of it is what the query and the output matrix take; the shared key and value are still there.": 0.5,
        "the key and the value matrix shrink, so something is saved.": 1.0,
        "this is the share that is saved; asked is the share that is left.": lambda: 1 - _share_of_params(),
    },
    kind="predict",
    minutes=2,
    difficulty=1,
    tolerance=0.02,
)


def _head(scaled_by: int | None = 1, axis: int = -1, swapped: bool = False, read: str = "values") -> Answer:
    """Return one head, with a mistake if asked for: in the scale, the axis of the softmax, or what is read."""

    def answer(tokens: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Tensor:
        scores = (tokens @ w_q) @ (tokens @ w_k).T
        scores = scores.T if swapped else scores
        weights = (scores if scaled_by is None else scores / w_q.shape[scaled_by] ** 0.5).softmax(axis)
        return {"values": weights @ (tokens @ w_v), "nothing": weights, "tokens": weights @ tokens}[read]

    return answer


HEAD = Exercise(
    task="Write `head(tokens, w_q, w_k, w_v)`: for tokens (n, dim) and matrices (dim, key_dim), (dim, key_dim) and"
    " (dim, value_dim), return what one head reads, of shape (n, value_dim).",
    hint="q, k and v are three matrix products; the softmax of the scaled scores has a row for each query and adds up"
    " to 1 along the keys.",
    right=_head(),
    mistakes={
        "the scores are not scaled; divide them by the square root of key_dim.": _head(scaled_by=None),
        "the scores are divided by the square root of dim; the dot product has key_dim terms.": _head(
            scaled_by=0
        ),
        "the softmax runs along the queries; it must run along the keys.": _head(axis=0),
        "queries and keys have changed places; each row of scores belongs to a query.": _head(swapped=True),
        "these are the weights; they still have to be multiplied with the values.": _head(read="nothing"),
        "this is a mean of the tokens; what is read are the values, `tokens @ w_v`.": _head(read="tokens"),
    },
    inputs={
        "tokens": normal(_TOKENS, _CHANNELS),
        "w_q": normal(_CHANNELS, _KEYS) / 2,
        "w_k": normal(_CHANNELS, _KEYS).flip(0) / 2,  # the same numbers, in another order
        "w_v": normal(_CHANNELS, _VALUES),
    },
    kind="implement",
    minutes=6,
    difficulty=2,
)


def _crossing(kv_stride: int) -> int:
    for side in _SIDES:
        layer = cost.mobile_mqa(256, side, side, 4, 64, 64, kv_stride=kv_stride)
        if layer.score_macs + layer.value_macs > layer.projection_macs:
            return side
    raise AssertionError("no side is large enough")


CROSSING = Exercise(
    task="Set `answer` to the smallest map side (of 4, 8, 10, 16, 20, 32, 40, 64 and 80) at which scores and weighted"
    " values together take more MACs than the projections: 256 channels, 4 heads of 64, kv_stride 2.",
    hint="projections grow with the tokens, scores with their square. `labs.lab_costs` or `cost.mobile_mqa` gives the"
    " numbers.",
    right=lambda: _crossing(2),
    mistakes={
        "this is the side without down-sampling; at kv_stride 2 there are a quarter of the keys.": lambda: (
            _crossing(1)
        ),
        "at this side the projections still take more.": lambda: _SIDES[_SIDES.index(_crossing(2)) - 1],
    },
    kind="investigate",
    minutes=5,
    difficulty=2,
)

EXERCISES: dict[str, Exercise] = {"02-head": HEAD, "02-share": SHARE, "02-crossing": CROSSING}

_FREEZES = "Nearly all weight falls on one key, and hardly any gradient reaches the others."
SCALE = Quiz(
    question="A layer forgets to divide the scores by √key_dim. What happens at key_dim 256?",
    options={
        "It raises an error, because the weights do not sum to 1.": "They do: the softmax sums to 1 whatever goes in."
        " That is why nobody notices.",
        _FREEZES: "Yes. The scores' spread is 16 times as large, the softmax is close to 0 and 1, and where it is close"
        " to 0 its slope is, too.",
        "Nothing, the softmax does not depend on the size of the scores.": "It does not depend on what is added to"
        " all of them. A factor makes it sharper or flatter.",
        "All keys get the same weight.": "That happens when the scores are divided by too much.",
    },
    right=_FREEZES,
)

_BYTES = "What has to be read: the keys and values, and the matrices that make them."
SAVED = Quiz(
    question="Keys and values are shared by all heads, and nothing is down-sampled. What becomes less?",
    options={
        "The number of scores.": "Every head still compares every query with every key. Only down-sampling makes"
        " fewer scores.",
        "The number of different attention maps.": "Each head has queries of its own and so a map of its own. What they"
        " share is what they look things up in.",
        _BYTES: "Yes. They are divided by the number of heads. The projections that make them shrink as well.",
        "The channels of the output.": "The heads are put side by side and mixed as before.",
    },
    right=_BYTES,
)

_ADDED = "The time that three attention blocks add to a model without attention."
PERCENT = Quiz(
    question="What became 39 % less in the paper's comparison on the Pixel 8?",
    options={
        "The time of the whole model.": "That went down by a few percent, as the cell above computes from the same"
        " table.",
        "The MACs of attention.": "MACs have a column of their own, with another percentage.",
        _ADDED: "Yes. Both the 39 % and the percentages of MACs and parameters are of what attention adds.",
        "The time of Mobile MQA with down-sampling against Mobile MQA without.": "Down-sampling has its own table, on"
        " other devices. This one is about sharing.",
    },
    right=_ADDED,
)

QUIZZES: dict[str, Quiz] = {"02-scale": SCALE, "02-saved": SAVED, "02-percent": PERCENT}
