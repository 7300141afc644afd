"""What attention over a feature map costs, in closed form: parameters, multiply-accumulates (MACs) and bytes.

One MAC is one multiplication and the addition after it. Convolutions and matrix products are counted; norms,
the softmax, pooling and enlarging are not, because they multiply no two large arrays (their memory traffic is
counted where they cannot be folded into a neighbour). Nothing here runs a layer, so any size can be asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mqa_lib import checks

KINDS = ("projections", "down-sampling", "scores", "weighted values")
MULTI_HEAD, MULTI_QUERY, MOBILE = "multi-head", "multi-query", "Mobile MQA"


@dataclass(frozen=True)
class Step:
    """One operation of a layer.

    Args:
        name: What it is called in the formula.
        kind: The group it is counted in, one of `KINDS`, or "resampling" for pooled queries (no MACs).
        params: Learnt numbers that it owns.
        macs: Multiply-accumulates for one picture.
        activation_bytes: What it reads and writes besides parameters, once each.
        score_bytes: What it would write or read of the score matrix if no fused kernel kept it in its cache.
    """

    name: str
    kind: str
    params: int = 0
    macs: int = 0
    activation_bytes: int = 0
    score_bytes: int = 0


@dataclass(frozen=True)
class Cost:
    """The price of one layer, or of several added together, for one picture.

    Args:
        steps: The operations in the order in which they run.
        score_bytes: The score matrices of all heads, if they are written to memory.
        key_value_bytes: The keys and values that the heads read.
        bytes_per_number: 4 for float32, 2 for half precision, 1 for int8.
    """

    steps: tuple[Step, ...]
    score_bytes: int
    key_value_bytes: int
    bytes_per_number: int = 4

    @property
    def params(self) -> int:
        """Learnt numbers; equal to the count of the module's parameters."""
        return sum(step.params for step in self.steps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all steps."""
        return sum(step.macs for step in self.steps)

    @property
    def projection_macs(self) -> int:
        """MACs of the 1x1 convolutions that make queries, keys, values and the output."""
        return self.macs_of("projections")

    @property
    def reduction_macs(self) -> int:
        """MACs of the depthwise convolutions that down-sample keys and values."""
        return self.macs_of("down-sampling")

    @property
    def score_macs(self) -> int:
        """MACs of every query times every key."""
        return self.macs_of("scores")

    @property
    def value_macs(self) -> int:
        """MACs of every weight times every value."""
        return self.macs_of("weighted values")

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters; BatchNorm's running statistics fold away at inference and are left out."""
        return self.params * self.bytes_per_number

    @property
    def activation_bytes(self) -> int:
        """Bytes of maps and tokens that the steps read and write while a fused kernel keeps the scores."""
        return sum(step.activation_bytes for step in self.steps)

    @property
    def macs_per_byte(self) -> float:
        """Arithmetic intensity: MACs for each byte of parameters and activations that moves."""
        return self.macs / (self.weight_bytes + self.activation_bytes)

    def macs_of(self, kind: str) -> int:
        """Return the MACs of one kind of step.

        Raises:
            ValueError: `kind` is not one of `KINDS`.
        """
        checks.one_of("kind", kind, KINDS)
        return sum(step.macs for step in self.steps if step.kind == kind)

    def by_kind(self) -> dict[str, int]:
        """Return the MACs of every kind of step, in the order of `KINDS`."""
        return {kind: self.macs_of(kind) for kind in KINDS}

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of running both, one after the other.

        Raises:
            ValueError: The two were counted with different `bytes_per_number`.
        """
        if self.bytes_per_number != other.bytes_per_number:
            way_out = f"Count both with {self.bytes_per_number} bytes."
            rule = f"must be equal in costs that are added (other: {other.bytes_per_number})"
            raise checks.refuse("bytes_per_number", self.bytes_per_number, rule, way_out)
        return Cost(
            self.steps + other.steps,
            self.score_bytes + other.score_bytes,
            self.key_value_bytes + other.key_value_bytes,
            self.bytes_per_number,
        )


def key_grid(height: int, width: int, kv_stride: int = 1, dw_kernel_size: int = 3) -> tuple[int, int]:
    """Return the rows and columns of the keys of a map, as the layer's padded convolution leaves them.

    Raises:
        ValueError: A size is smaller than 1 or the kernel is even.
    """
    checks.positive("height", height)
    checks.positive("width", width)
    if checks.positive("kv_stride", kv_stride, "Use 1 for no down-sampling.") == 1:
        return height, width
    size = checks.odd("dw_kernel_size", dw_kernel_size)
    edge = (kv_stride - 1 + size - 1) // 2
    rows, columns = ((extent + 2 * edge - size) // kv_stride + 1 for extent in (height, width))
    return rows, columns


def key_centre(index: int, kv_stride: int = 1, dw_kernel_size: int = 3) -> int:
    """Return the row (or column) of the map on which a key's filter is centred.

    At strides 1 and 2 that is `index` · `kv_stride`. At larger strides the padding shifts it to the left, and the
    first key may be centred outside the map, on row -1.

    Raises:
        ValueError: The stride is smaller than 1 or the kernel is even.
    """
    if checks.positive("kv_stride", kv_stride, "Use 1 for no down-sampling.") == 1:
        return index
    size = checks.odd("dw_kernel_size", dw_kernel_size)
    return index * kv_stride - (kv_stride - 1 + size - 1) // 2 + size // 2


def query_grid(height: int, width: int, query_strides: int | Sequence[int] = 1) -> tuple[int, int]:
    """Return the rows and columns of the pooled queries; a window cut off by the border still counts.

    Raises:
        ValueError: A size or a stride is smaller than 1.
    """
    down, across = checks.pair("query_strides", query_strides)
    return -(-checks.positive("height", height) // down), -(-checks.positive("width", width) // across)


def mobile_mqa(
    dim: int,
    height: int,
    width: int,
    num_heads: int = 8,
    key_dim: int | None = None,
    value_dim: int | None = None,
    query_strides: int | Sequence[int] = 1,
    kv_stride: int = 1,
    dw_kernel_size: int = 3,
    dim_out: int | None = None,
    bytes_per_number: int = 4,
) -> Cost:
    """Return the cost of `MobileMQA` on a map of `height` × `width` pixels; the arguments are the layer's.

    Raises:
        ValueError: As the layer.
    """
    queries = query_grid(height, width, query_strides)
    keys = key_grid(height, width, kv_stride, dw_kernel_size)
    count = _Counter(dim, height * width, bytes_per_number)
    n, m = queries[0] * queries[1], keys[0] * keys[1]
    k, v = _head_dim("key_dim", key_dim, dim, num_heads), _head_dim("value_dim", value_dim, dim, num_heads)
    pooled = max(checks.pair("query_strides", query_strides)) > 1
    kernel = dw_kernel_size**2 if kv_stride > 1 else 0

    steps = [count.resample("pool queries", n, dim, 2 * dim)] if pooled else []
    steps += [count.project("query", n, dim, num_heads * k)]
    for name, size in (("key", k), ("value", v)):
        steps += [count.reduce(f"reduce {name}s", m, kernel)] if kernel else []
        steps += [count.project(name, m, dim, size)]
    steps += count.attend(n, m, num_heads, 1, k, v)
    steps += [count.resample("enlarge", n, num_heads * v, 0)] if pooled else []
    steps += [count.project("output", height * width, num_heads * v, dim if dim_out is None else dim_out)]
    return Cost(
        tuple(steps), num_heads * n * m * bytes_per_number, m * (k + v) * bytes_per_number, bytes_per_number
    )


def multi_query(
    dim: int,
    height: int,
    width: int,
    num_heads: int = 8,
    key_dim: int | None = None,
    value_dim: int | None = None,
    bytes_per_number: int = 4,
) -> Cost:
    """Return the cost of multi-query attention: one shared key and value head, nothing down-sampled.

    Raises:
        ValueError: As the layer.
    """
    return mobile_mqa(dim, height, width, num_heads, key_dim, value_dim, bytes_per_number=bytes_per_number)


def multi_head(
    dim: int,
    height: int,
    width: int,
    num_heads: int = 8,
    key_dim: int | None = None,
    value_dim: int | None = None,
    bytes_per_number: int = 4,
) -> Cost:
    """Return the cost of `MultiHeadAttention2d`: keys and values of each head's own.

    Raises:
        ValueError: As the layer.
    """
    n = checks.positive("height", height) * checks.positive("width", width)
    k, v = _head_dim("key_dim", key_dim, dim, num_heads), _head_dim("value_dim", value_dim, dim, num_heads)
    count = _Counter(dim, n, bytes_per_number)
    steps = [count.project("query", n, dim, num_heads * k)]
    steps += [count.project("key", n, dim, num_heads * k), count.project("value", n, dim, num_heads * v)]
    steps += count.attend(n, n, num_heads, num_heads, k, v)
    steps += [count.project("output", n, num_heads * v, dim)]
    score_bytes = num_heads * n * n * bytes_per_number
    return Cost(tuple(steps), score_bytes, num_heads * n * (k + v) * bytes_per_number, bytes_per_number)


def side_by_side(
    dim: int,
    height: int,
    width: int,
    num_heads: int = 8,
    key_dim: int | None = None,
    kv_stride: int = 2,
    bytes_per_number: int = 4,
) -> dict[str, Cost]:
    """Return the way from multi-head attention over shared keys and values to those down-sampled too, by name.

    Raises:
        ValueError: As the layers.
    """
    layer = (dim, height, width, num_heads, key_dim, key_dim)
    return {
        MULTI_HEAD: multi_head(*layer, bytes_per_number=bytes_per_number),
        MULTI_QUERY: multi_query(*layer, bytes_per_number=bytes_per_number),
        MOBILE: mobile_mqa(*layer, kv_stride=kv_stride, bytes_per_number=bytes_per_number),
    }


def ridge_point(peak_macs_per_second: float, bytes_per_second: float) -> float:
    """Return the MACs per byte at which a machine's arithmetic and its memory take equally long.

    Raises:
        ValueError: A rate is not above 0.

    Source: MobileNetV4, arXiv:2404.10518, section 3, after Williams, Waterman and Patterson.
    """
    return _rate("peak_macs_per_second", peak_macs_per_second) / _rate("bytes_per_second", bytes_per_second)


def seconds(
    cost: Cost, peak_macs_per_second: float, bytes_per_second: float, scores_in_memory: bool = False
) -> float:
    """Return the roofline's estimate: each step takes the longer of its arithmetic and its memory traffic.

    Every number of a step's input and output is taken to move once. With `scores_in_memory` the score matrix
    is written by one step and read by the next, as without a fused kernel.

    Raises:
        ValueError: A rate is not above 0.

    Source: MobileNetV4, arXiv:2404.10518, section 3.
    """
    peak, bandwidth = (
        _rate("peak_macs_per_second", peak_macs_per_second),
        _rate("bytes_per_second", bytes_per_second),
    )
    total = 0.0
    for step in cost.steps:
        moved = step.params * cost.bytes_per_number + step.activation_bytes
        moved += step.score_bytes if scores_in_memory else 0
        total += max(step.macs / peak, moved / bandwidth)
    return total


def in_thousands(count: int | float) -> str:
    """Return a count with a decimal unit, such as "30.9 M"."""
    return _with_unit(count, 1000, ("", "k", "M", "G", "T"))


def in_bytes(count: int | float) -> str:
    """Return a number of bytes with a binary unit, such as "4.9 GiB"."""
    return _with_unit(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _with_unit(count: int | float, base: int, units: Sequence[str]) -> str:
    power = 0
    while count >= base and power < len(units) - 1:
        count, power = count / base, power + 1
    digits = 0 if power == 0 or count >= 100 else 1
    return f"{count:.{digits}f} {units[power]}".rstrip()


def _rate(name: str, value: float) -> float:
    if not value > 0:
        raise checks.refuse(name, value, "must be above 0", "Use the machine's rate per second.")
    return float(value)


def _head_dim(name: str, size: int | None, dim: int, num_heads: int) -> int:
    checks.positive("num_heads", num_heads, "Use 1 for a single head.")
    return checks.divides("dim", dim, "num_heads", num_heads) if size is None else checks.positive(name, size)


@dataclass(frozen=True)
class _Counter:
    """Makes the steps of a layer over a map of `pixels` pixels and `dim` channels."""

    dim: int
    pixels: int
    size: int  # bytes per number

    def __post_init__(self) -> None:
        checks.positive("dim", self.dim, "Use the number of channels of the map.")
        checks.positive("bytes_per_number", self.size, "Use 4 for float32.")

    def project(self, name: str, tokens: int, dim_in: int, dim_out: int) -> Step:
        weights = dim_in * checks.positive("dim_out", dim_out)
        return Step(name, "projections", weights, tokens * weights, tokens * (dim_in + dim_out) * self.size)

    def reduce(self, name: str, tokens: int, kernel: int) -> Step:
        # The norm's weight and bias belong here: they fold into the convolution.
        moved = (self.pixels + tokens) * self.dim * self.size
        return Step(name, "down-sampling", (kernel + 2) * self.dim, tokens * kernel * self.dim, moved)

    def resample(self, name: str, tokens: int, dim: int, params: int) -> Step:
        return Step(name, "resampling", params, 0, (self.pixels + tokens) * dim * self.size)

    def attend(
        self, queries: int, keys: int, heads: int, kv_heads: int, key_dim: int, value_dim: int
    ) -> list[Step]:
        pairs = heads * queries * keys
        read, mixed = queries * heads * key_dim, queries * heads * value_dim
        key_numbers, value_numbers = keys * kv_heads * key_dim, keys * kv_heads * value_dim
        return [
            Step("scores", "scores", 0, pairs * key_dim, (read + key_numbers) * self.size, pairs * self.size),
            Step(
                "weighted values",
                "weighted values",
                0,
                pairs * value_dim,
                (mixed + value_numbers) * self.size,
                pairs * self.size,
            ),
        ]
