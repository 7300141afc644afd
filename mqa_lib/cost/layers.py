"""The layers, step by step, and the grids of their queries and keys."""

from collections.abc import Sequence

from mqa_lib import checks
from mqa_lib.cost.steps import Cost, Counter

MULTI_HEAD, MULTI_QUERY, MOBILE = "multi-head", "multi-query", "Mobile MQA"


def key_grid(
    height: int, width: int, kv_stride: int = 1, dw_kernel_size: int = 3, padding: str = ""
) -> tuple[int, int]:
    """Return the rows and columns of the keys of a map, as the layer's padded convolution leaves them.

    Raises:
        ValueError: A size is smaller than 1, the kernel is even, or the padding is unknown.
    """
    rows, columns = (
        _windows(checks.positive(name, extent), kv_stride, dw_kernel_size, padding)[0]
        for name, extent in (("height", height), ("width", width))
    )
    return rows, columns


def key_centre(
    index: int, kv_stride: int = 1, dw_kernel_size: int = 3, padding: str = "", extent: int | None = None
) -> int:
    """Return the row (or column) of the map on which a key's filter is centred.

    At strides 1 and 2 that is `index` · `kv_stride`. At larger strides the padding shifts it to the left, and the
    first key may be centred outside the map, on row -1. With padding "same" it depends on `extent`, the number of
    rows (or columns): at stride 2 with a 3x3 kernel it is one more where that is even.

    Raises:
        ValueError: The stride is smaller than 1, the kernel is even, or padding "same" is asked without `extent`.
    """
    if extent is None and padding == "same":
        way_out = "Give the number of rows or columns of the map."
        raise checks.refuse("extent", extent, 'must be known where padding is "same"', way_out)
    before = _windows(1 if extent is None else extent, kv_stride, dw_kernel_size, padding)[1]
    return index if kv_stride == 1 else index * kv_stride - before + dw_kernel_size // 2


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
    padding: str = "",
) -> Cost:
    """Return the cost of `MobileMQA` on a map of `height` × `width` pixels; the arguments are the layer's.

    Raises:
        ValueError: As the layer.
    """
    queries = query_grid(height, width, query_strides)
    keys = key_grid(height, width, kv_stride, dw_kernel_size, padding)
    count = Counter(dim, height * width, bytes_per_number)
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
    count = Counter(dim, n, bytes_per_number)
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


def _head_dim(name: str, size: int | None, dim: int, num_heads: int) -> int:
    checks.positive("num_heads", num_heads, "Use 1 for a single head.")
    return checks.divides("dim", dim, "num_heads", num_heads) if size is None else checks.positive(name, size)


def _windows(extent: int, stride: int, kernel: int, padding: str) -> tuple[int, int]:
    """Return how many keys an axis of `extent` gives, and how many zeros stand before it."""
    checks.padding("padding", padding)
    if checks.positive("kv_stride", stride, "Use 1 for no down-sampling.") == 1:
        return extent, 0
    size = checks.odd("dw_kernel_size", kernel)
    if padding == "same":
        count = -(-extent // stride)
        return count, max((count - 1) * stride + size - extent, 0) // 2
    edge = (stride - 1 + size - 1) // 2
    return (extent + 2 * edge - size) // stride + 1, edge
