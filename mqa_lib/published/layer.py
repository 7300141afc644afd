"""The layer as the article publishes it, with every mistake of it on a switch of its own.

With `ALL` defects `PublishedMQA` computes what the article's layer computes, mistake for mistake; with `NONE`
it is `MobileMQA`. In between, one defect can be switched on alone and measured: same weights, same input, one
difference.
"""

import contextlib
import copy
from collections.abc import Iterator
from enum import Flag, auto

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mqa_lib import checks, kernels
from mqa_lib.attention import MobileMQA


class Defect(Flag):
    """What the article's layer does that Mobile MQA does not; `WRONG` says each in a sentence."""

    QUERY_LAYOUT = auto()
    VALUE_LAYOUT = auto()
    OUTPUT_LAYOUT = auto()
    SCALE = auto()
    EARLY_DROPOUT = auto()
    VALUE_DIM = auto()
    QUERY_STRIDES = auto()
    NO_UPSAMPLING = auto()
    SQUARE_ONLY = auto()
    ROW_MAJOR_ONLY = auto()


NONE = Defect(0)
ALL = ~NONE

WRONG = {
    Defect.QUERY_LAYOUT: "cuts the query map into pieces of rows and takes each for a pixel's channels",
    Defect.VALUE_LAYOUT: "cuts the value map into pieces of rows and takes each for a pixel's channels",
    Defect.OUTPUT_LAYOUT: "lays the tokens that were read into the map without turning them back",
    Defect.SCALE: "divides scores by sqrt(key_dim // num_heads), though key_dim is one head's already",
    Defect.EARLY_DROPOUT: "drops scores before the softmax instead of weights after it",
    Defect.VALUE_DIM: "takes value_dim and makes the values key_dim wide all the same",
    Defect.QUERY_STRIDES: "calls the pooling of strided queries without the map to pool",
    Defect.NO_UPSAMPLING: "leaves the output of strided queries at the smaller size",
    Defect.SQUARE_ONLY: "takes the number of rows for the number of columns too",
    Defect.ROW_MAJOR_ONLY: "regroups with view, which refuses maps in channels_last memory format",
}


class PublishedMQA(MobileMQA):
    """Compute what the article's layer computes, as far as `defects` says.

    Sizes and parameter names are `MobileMQA`'s, so the weights of either load into the other (unless the
    article ignores `value_dim`). Weights start from PyTorch's default, as the article's do. A kernel at
    `kv_stride` 3 or more is padded as `MobileMQA` pads it; the article speaks of 1 and 2 only, where the two
    agree.

    Args:
        dim: Channels of the input and of the output map.
        num_heads: Query heads.
        key_dim: Channels of each query head and of the key head.
        value_dim: Channels of the value head; `key_dim` if not given, and always with `Defect.VALUE_DIM`.
        query_strides: Pooling of the queries, one number or (vertical, horizontal).
        kv_stride: Stride of the depthwise convolution before keys and values; 1 leaves it out.
        dw_kernel_size: Kernel of that convolution, odd.
        dropout: Dropout on the attention weights, or on the scores with `Defect.EARLY_DROPOUT`.
        defects: The mistakes to make.
        padding: As `MobileMQA`'s; the article's is "".

    Raises:
        ValueError: As `MobileMQA`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        query_strides: int | tuple[int, int] = 1,
        kv_stride: int = 1,
        dw_kernel_size: int = 3,
        dropout: float = 0.0,
        defects: Defect = ALL,
        padding: str = "",
    ) -> None:
        super().__init__(
            dim,
            num_heads=num_heads,
            key_dim=key_dim,
            value_dim=key_dim if value_dim is None or Defect.VALUE_DIM in defects else value_dim,
            query_strides=query_strides,
            kv_stride=kv_stride,
            dw_kernel_size=dw_kernel_size,
            attn_drop=dropout,
            padding=padding,
        )
        self.defects = defects

    in_blocks = False  # see `in_blocks`

    def reset_parameters(self) -> None:
        """Draw every convolution's weight as PyTorch does by default."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()

    @property
    def scale(self) -> float:
        """What the scores are divided by; with `Defect.SCALE` and more heads than `key_dim` it is 0."""
        head_dim = self.key_dim // self.num_heads if Defect.SCALE in self.defects else self.key_dim
        return float(head_dim**0.5)

    def forward(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> Float[Tensor, "batch {self.dim} rows columns"]:
        """Let every position of `x` read from `x`, as far as the defects allow.

        Raises:
            RuntimeError: `x` is not square (`Defect.SQUARE_ONLY`) or not row-major (`Defect.ROW_MAJOR_ONLY`);
                the words are PyTorch's, as they are with the article's layer.
            TypeError: Queries are strided (`Defect.QUERY_STRIDES`), or `x` holds no floating-point numbers.
            ValueError: `x` is not of shape batch × dim × height × width, or has no pixels.
        """
        checks.feature_map("x", x, self.dim)
        q_map, (k_map, v_map) = self._query_map(x), (self.key(x), self.value(x))
        rows, columns = q_map.shape[2], q_map.shape[2 if Defect.SQUARE_ONLY in self.defects else 3]
        q = self._tokens(q_map, self.num_heads, self.key_dim, Defect.QUERY_LAYOUT)
        k = self._tokens(k_map, 1, self.key_dim)
        v = self._tokens(v_map, 1, self.value_dim, Defect.VALUE_LAYOUT)

        read = self._read(q, k, v)
        if Defect.OUTPUT_LAYOUT not in self.defects:
            read = read.mT  # b h v n
        read = read.reshape(len(x), self.num_heads * self.value_dim, rows, columns)
        if max(self.query_strides) > 1 and Defect.NO_UPSAMPLING not in self.defects:
            read = self._enlarged(read, (x.shape[2], x.shape[3]))
        return self.output(read)

    def _read(
        self,
        q: Float[Tensor, "batch num_heads queries key_dim"],
        k: Float[Tensor, "batch 1 keys key_dim"],
        v: Float[Tensor, "batch 1 keys value_dim"],
    ) -> Float[Tensor, "batch num_heads queries value_dim"]:
        if PublishedMQA.in_blocks and self.scale > 0 and not (self.training and self.attn_drop):
            rescaled = q.flatten(1, 2) * (self.key_dim**0.5 / self.scale)
            # The fused kernel takes no keys whose channels lie apart, and falls back to writing scores down.
            read = kernels.read(rescaled.contiguous(), k[:, 0].contiguous(), v[:, 0].contiguous())
            return read.unflatten(1, q.shape[1:3])
        scores = q @ k.mT / self.scale
        if Defect.EARLY_DROPOUT in self.defects:
            return F.dropout(scores, self.attn_drop, self.training).softmax(-1) @ v
        return F.dropout(scores.softmax(-1), self.attn_drop, self.training) @ v

    def queries_and_keys(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> tuple[Float[Tensor, "batch num_heads queries key_dim"], Float[Tensor, "batch 1 keys key_dim"]]:
        """Return what the layer takes for its queries, and its keys.

        The queries carry the layer's own scale, so that softmax(q·k / sqrt(key_dim)) are the weights that it uses
        (without dropout), as for every layer of the library.
        """
        checks.feature_map("x", x, self.dim)
        q = self._tokens(self._query_map(x), self.num_heads, self.key_dim, Defect.QUERY_LAYOUT)
        if self.scale == 0:
            return q * float("inf"), self._tokens(self.key(x), 1, self.key_dim)
        return q * (self.key_dim**0.5 / self.scale), self._tokens(self.key(x), 1, self.key_dim)

    def extra_repr(self) -> str:
        """Return the sizes and the defects, for `print(layer)`."""
        return f"{super().extra_repr()}, defects={names(self.defects)}"

    def _query_map(
        self, x: Float[Tensor, "batch {self.dim} height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        if max(self.query_strides) > 1 and Defect.QUERY_STRIDES in self.defects:
            # The article's own call: the map is missing, PyTorch takes a stride for it and raises TypeError.
            return F.avg_pool2d(*self.query_strides)  # type: ignore[arg-type]
        return self.query(x)

    def _tokens(
        self,
        x: Float[Tensor, "batch channels rows columns"],
        heads: int,
        size: int,
        scrambled_by: Defect = NONE,
    ) -> Float[Tensor, "batch {heads} tokens {size}"]:
        row_major_only = Defect.ROW_MAJOR_ONLY in self.defects
        numbers = x.view(len(x), -1) if row_major_only else x.reshape(len(x), -1)
        if scrambled_by & self.defects:
            return numbers.view(len(x), heads, -1, size)  # a token of neighbouring pixels, not of channels
        return numbers.view(len(x), heads, size, -1).mT


@contextlib.contextmanager
def in_blocks() -> Iterator[None]:
    """Let every `PublishedMQA` compute the same numbers without writing all scores down, which is several times faster.

    For long trainings that ask what the article's layer learns. What it costs is measured without this.
    """
    before, PublishedMQA.in_blocks = PublishedMQA.in_blocks, True
    try:
        yield
    finally:
        PublishedMQA.in_blocks = before


def names(defects: Defect) -> str:
    """Return the names of the defects, or "none", or "all"."""
    if defects in (NONE, ALL):
        return "none" if defects == NONE else "all"
    return " and ".join(str(defect.name).lower().replace("_", " ") for defect in each(defects))


def each(defects: Defect = ALL) -> Iterator[Defect]:
    """Return the single defects in `defects`, in the order in which the layer makes them."""
    return iter(defects)


def twin(right: MobileMQA, defects: Defect = ALL) -> PublishedMQA:
    """Return a layer with the sizes, the weights, the norms and the number format of `right`, and with `defects`.

    It is in evaluation mode and owns its weights; `right` is left as it was.

    Raises:
        ValueError: `right` has another `dim_out` than `dim`, which the article's layer cannot have, or `defects`
            has `Defect.VALUE_DIM` and `right` has a value head of another size, so that its weights do not fit.
    """
    if right.dim_out != right.dim:
        way_out = f"Use `dim_out={right.dim}`."
        rule = f"must be `dim` (={right.dim}), as in the article"
        raise checks.refuse("dim_out", right.dim_out, rule, way_out)
    if Defect.VALUE_DIM in defects and right.value_dim != right.key_dim:
        rule = f"must be `key_dim` (={right.key_dim}), because the defect VALUE_DIM makes it so"
        way_out = f"Use `value_dim={right.key_dim}`, or leave that defect out."
        raise checks.refuse("value_dim", right.value_dim, rule, way_out)
    state = right.state_dict()
    layer = PublishedMQA(
        right.dim,
        right.num_heads,
        right.key_dim,
        right.value_dim,
        (right.query_strides[0], right.query_strides[1]),
        right.kv_stride,
        state["key.down_conv.weight"].shape[-1] if right.kv_stride > 1 else 3,
        right.attn_drop,
        defects,
        right.padding,
    )
    for name in ("query", "key", "value"):
        if hasattr(getattr(right, name), "norm"):
            getattr(layer, name).norm = copy.deepcopy(getattr(right, name).norm)
    layer.to(state["query.proj.weight"])  # before the weights come, or float64 would lose digits
    layer.load_state_dict(state)
    return layer.eval()
