"""Ten layers with one mistake each, all of them made by somebody before, and the right layer that they descend from.

`Suspect` is MobileMQA written out step by step. Each mutant overrides one step; what it overrides is the mistake.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mqa_lib import MobileMQA


class Suspect(MobileMQA):
    """Mobile MQA step by step; without an override it computes what MobileMQA computes."""

    title = "nothing is wrong"
    seen_in = ""

    def tokens(self, x: Float[Tensor, "batch channels rows columns"], heads: int) -> Tensor:
        """Return a map as heads of tokens."""
        return x.reshape(len(x), heads, -1, x.shape[2] * x.shape[3]).mT  # b h n d

    def queries(self, x: Tensor) -> Tensor:
        """Return the query tokens of every head."""
        return self.tokens(self.query(x), self.num_heads)

    def values(self, x: Tensor) -> Tensor:
        """Return the value tokens that all heads share."""
        return self.tokens(self.value(x), 1)

    def scores(self, x: Tensor) -> Tensor:
        """Return every query's scores with every key."""
        return self.queries(x) @ self.tokens(self.key(x), 1).mT / self.key_dim**0.5

    def weigh(self, scores: Tensor) -> Tensor:
        """Return the weights that are made of scores."""
        return F.dropout(scores.softmax(-1), self.attn_drop, self.training)

    def lay(self, read: Tensor, rows: int, columns: int) -> Tensor:
        """Return what the tokens of all heads read, as a map."""
        return read.mT.reshape(len(read), -1, rows, columns)

    def forward(self, x: Tensor) -> Tensor:
        """Let every position of `x` read from `x`."""
        read = self.weigh(self.scores(x)) @ self.values(x)
        return self.output(self.lay(read, *x.shape[-2:]))


class NoScale(Suspect):
    """Forgets the scale."""

    title = "the scale is missing"
    seen_in = "an early version of timm's MultiQueryAttentionV2"

    def scores(self, x: Tensor) -> Tensor:
        """Return scores."""
        return self.queries(x) @ self.tokens(self.key(x), 1).mT


class ScaleByHeads(Suspect):
    """Divides a size by the heads that is one head's already."""

    title = "the scale divides key_dim by the heads once more"
    seen_in = "the article"

    def scores(self, x: Tensor) -> Tensor:
        """Return scores."""
        return self.queries(x) @ self.tokens(self.key(x), 1).mT / (self.key_dim // self.num_heads) ** 0.5


class SoftmaxOverQueries(Suspect):
    """Lets queries compete for a key, not keys for a query."""

    title = "the softmax runs over the queries"
    seen_in = "many a first try: dim=-2 and dim=-1 give the same shape"

    def weigh(self, scores: Tensor) -> Tensor:
        """Return weights."""
        return F.dropout(scores.softmax(-2), self.attn_drop, self.training)


class OwnValues(Suspect):
    """Shares the keys and forgets to share the values."""

    title = "keys are shared, but every head has values of its own"
    seen_in = "half-converted multi-head attention"

    def __init__(self, dim: int, **sizes: Any) -> None:
        super().__init__(dim, **sizes)
        self.value.proj = nn.Conv2d(dim, self.num_heads * self.value_dim, 1, bias=False)

    def values(self, x: Tensor) -> Tensor:
        """Return value tokens."""
        return self.tokens(self.value(x), self.num_heads)


class QueryView(Suspect):
    """Cuts the query map into pieces of rows."""

    title = "a view scrambles the queries"
    seen_in = "the article: a view meant for channels-last arrays"

    def queries(self, x: Tensor) -> Tensor:
        """Return query tokens."""
        return self.query(x).reshape(len(x), self.num_heads, -1, self.key_dim)


class OutputView(Suspect):
    """Lays tokens into the map without turning them back."""

    title = "a view scrambles the output"
    seen_in = "the article: a view where a transposition belongs"

    def lay(self, read: Tensor, rows: int, columns: int) -> Tensor:
        """Return the map."""
        return read.reshape(len(read), -1, rows, columns)


class EarlyDropout(Suspect):
    """Drops scores, so that a dropped key gets the weight of a score of 0."""

    title = "dropout comes before the softmax"
    seen_in = "the article"

    def weigh(self, scores: Tensor) -> Tensor:
        """Return weights."""
        return F.dropout(scores, self.attn_drop, self.training).softmax(-1)


class NormAfter(Suspect):
    """Normalises the keys and values instead of the reduced map."""

    title = "the norm comes after the projection, not before it"
    seen_in = "convolution blocks, where conv, norm is the usual order"

    def __init__(self, dim: int, **sizes: Any) -> None:
        super().__init__(dim, **sizes)
        for branch, size in ((self.key, self.key_dim), (self.value, self.value_dim)):
            if self.kv_stride > 1:
                del branch.norm
                branch.add_module("norm", nn.BatchNorm2d(size))  # added last, it runs last


class LatePadding(Suspect):
    """Pads a stride-2 convolution as TensorFlow does, with weights that were trained otherwise."""

    title = "the padding centres the keys one pixel on"
    seen_in = 'weights carried between TensorFlow ("same") and PyTorch (1 on both sides)'

    def __init__(self, dim: int, **sizes: Any) -> None:
        super().__init__(dim, **sizes, padding="same")


class SquareOnly(Suspect):
    """Takes the rows for the columns."""

    title = "rows are taken for columns too"
    seen_in = "the article, and TensorFlow's Model Garden"

    def lay(self, read: Tensor, rows: int, columns: int) -> Tensor:
        """Return the map."""
        return read.mT.reshape(len(read), -1, rows, rows)


MUTANTS: dict[str, type[Suspect]] = {
    "no-scale": NoScale,
    "scale-by-heads": ScaleByHeads,
    "softmax-axis": SoftmaxOverQueries,
    "own-values": OwnValues,
    "query-view": QueryView,
    "output-view": OutputView,
    "early-dropout": EarlyDropout,
    "norm-after": NormAfter,
    "padding": LatePadding,
    "square-only": SquareOnly,
}


def build(
    bug: str = "",
    dim: int = 32,
    num_heads: int = 4,
    key_dim: int = 8,
    kv_stride: int = 1,
    attn_drop: float = 0.0,
    seed: int = 0,
) -> Suspect:
    """Return a mutant, or the right layer, in evaluation mode; the same seed gives both the same weights.

    Weights are drawn so that queries, keys and values have a variance of 1 for a map that has. Norms have statistics
    as after a training, because a fresh one does nothing.

    Args:
        bug: A name in `MUTANTS`, or nothing.
        dim: Channels of the map.
        num_heads: Query heads.
        key_dim: Channels of each head, of the value head too.
        kv_stride: Down-sampling of keys and values.
        attn_drop: Dropout of the weights.
        seed: Seed of the weights.
    """
    kind = MUTANTS[bug] if bug else Suspect
    with torch.random.fork_rng(devices=[]):
        layer = kind(
            dim,
            num_heads=num_heads,
            key_dim=key_dim,
            value_dim=key_dim,
            kv_stride=kv_stride,
            attn_drop=attn_drop,
        )
    for name, tensor in layer.state_dict().items():
        # each from its own name, so that a mutant with one part more has all others alike
        own = torch.Generator().manual_seed(seed + sum(place * ord(x) for place, x in enumerate(name, 1)))
        if tensor.dim() == 4:
            tensor.copy_(torch.randn(tensor.shape, generator=own) / tensor[0].numel() ** 0.5)
        elif tensor.dim() == 1:
            drawn = torch.rand(tensor.shape, generator=own)
            tensor.copy_(drawn - 0.5 if name.endswith(("bias", "running_mean")) else drawn + 0.5)
    return layer.eval()
