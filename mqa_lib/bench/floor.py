"""What no layer can go below: its bare matrix products, and what the machine reaches on one product and one copy."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mqa_lib import kernels, timing
from mqa_lib.bench.cases import Shape

Product = Callable[[Float[Tensor, "rows size"], Float[Tensor, "out size"]], Tensor]


def bare_products(shape: Shape) -> dict[str, Callable[[], object]]:
    """Return the matrix products of the layer on a shape, by both of PyTorch's routines, and nothing between them.

    Queries, keys, values, scores, weighted values and output: no norm, no softmax, no depthwise convolution, no new
    memory for the scores where the routine allows it. The faster of the two is the floor.
    """
    dim, rows, heads = shape.dim, shape.queries * shape.num_heads, shape.num_heads
    size, keys, pictures = shape.key_dim, shape.keys, shape.batch
    block = -(-rows // -(-rows * keys // kernels.BLOCK))
    x, reduced = torch.randn(pictures * shape.queries, dim), torch.randn(pictures * keys, dim)
    to_q, to_kv, to_out = (
        torch.randn(heads * size, dim),
        torch.randn(size, dim),
        torch.randn(dim, heads * size),
    )
    q, read = torch.randn(block, size), torch.randn(pictures * shape.queries, heads * size)
    k, v, scores = torch.randn(keys, size), torch.randn(size, keys), torch.randn(block, keys)
    once = [(x, to_q), (reduced, to_kv), (reduced, to_kv), (read, to_out)]
    for_each_block = [(q, k), (scores, v)]
    blocks = -(-rows // block) * pictures

    def by(product: Product) -> Callable[[], None]:
        @torch.inference_mode()
        def run() -> None:
            for left, right in once:
                product(left, right)
            for _ in range(blocks):
                for left, right in for_each_block:
                    product(left, right)

        return run

    room = {(len(a), len(b)): torch.empty(len(a), len(b)) for a, b in once + for_each_block}
    return {
        "floor, matmul": by(lambda a, b: torch.mm(a, b.T, out=room[len(a), len(b)])),
        "floor, convolution": by(_convolved),
    }


@torch.no_grad()
def merging(shape: Shape) -> dict[str, Callable[[], object]]:
    """Return parts of the layer one by one and merged into one operation, which the layer does not do.

    At a stride of 1 the projections of one input, 384 channels for 256 and twice 64, cut apart again; at larger strides
    the two depthwise convolutions as one with two filters for each channel.
    """
    x = torch.randn(shape.batch, shape.dim, shape.height, shape.width)
    x = x.contiguous(memory_format=torch.channels_last)
    if shape.kv_stride == 1:
        sizes = [shape.num_heads * shape.key_dim, shape.key_dim, shape.key_dim]
        parts = [torch.randn(size, shape.dim, 1, 1) for size in sizes]
        merged = torch.cat(parts)

        def cut() -> list[Tensor]:
            pieces = F.conv2d(x, merged).split(sizes, dim=1)
            return [piece.contiguous(memory_format=torch.channels_last) for piece in pieces]

        return {"apart": _quietly(lambda: [F.conv2d(x, part) for part in parts]), "merged": _quietly(cut)}
    kernel = torch.randn(2 * shape.dim, 1, 3, 3).contiguous(memory_format=torch.channels_last)
    how: dict[str, Any] = {
        "stride": shape.kv_stride,
        "padding": (shape.kv_stride + 1) // 2,
        "groups": shape.dim,
    }
    halves = [kernel[start::2].contiguous(memory_format=torch.channels_last) for start in (0, 1)]
    return {
        "apart": _quietly(lambda: [F.conv2d(x, half, **how) for half in halves]),
        "merged": _quietly(lambda: F.conv2d(x, kernel, **how)),
    }


def rates(repeats: int = 15) -> tuple[float, float]:
    """Return what this machine reached just now: MACs per second (a matrix product), bytes per second (a copy).

    Both are lower bounds of what it can do, in float32 and with torch's present number of threads.
    """
    side, numbers = 1024, 2**24
    a, b = torch.randn(2, side, side)
    source, target = torch.ones(numbers), torch.empty(numbers)
    runs = {"product": lambda: torch.mm(a, b), "copy": lambda: target.copy_(source)}
    product, copied = timing.compare(runs, repeats=repeats)
    return side**3 / min(product.seconds), 2 * 4 * numbers / min(copied.seconds)


def _convolved(
    left: Float[Tensor, "rows size"], right: Float[Tensor, "out size"]
) -> Float[Tensor, "1 out 1 rows"]:
    return F.conv2d(left[None, None].permute(0, 3, 1, 2), right[:, :, None, None])


def _quietly(run: Callable[[], object]) -> Callable[[], object]:
    return torch.inference_mode()(run)
