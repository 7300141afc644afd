"""How tokens read from keys and values that all heads share: PyTorch's fused kernel, convolutions, plain products.

With shared keys, heads are only more queries, and the score of every query with every key is a 1×1 convolution of the
query map whose weights *are the keys*; reading is a second one whose weights are the values. oneDNN, which computes
PyTorch's convolutions on x86, reaches about twice the speed of the matrix products inside the fused CPU kernel on
processors for which MKL does not use AVX-512 (AMD's), and the scores stay in the cache when a block of queries is taken
at a time. Elsewhere, for few scores, and for compilers, there is the fused kernel.
"""

import platform

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK = 2**21  # scores at a time: 8 MiB, which a shared cache holds
FEW = 2**17  # scores of one picture below which starting two convolutions takes longer than it saves
FEW_IN_TRAINING = 2**18  # below which training is fastest with plain products, whose way back repeats nothing
KEPT = 2**23  # scores that training may keep for the way back, 32 MiB; above, they are computed once more
_X86 = platform.machine().lower() in ("x86_64", "amd64")


def read(
    q: Float[Tensor, "batch rows key_dim"],
    k: Float[Tensor, "batch keys key_dim"],
    v: Float[Tensor, "batch keys value_dim"],
    dropout: float = 0.0,
) -> Float[Tensor, "batch rows value_dim"]:
    """Return for every query the values, averaged with softmax(q·k / sqrt(key_dim)).

    Memory grows linearly with the rows, in training too, wherever the choice of `way` or PyTorch has a kernel for it.
    PyTorch has none on a CPU for dropout: in other formats than float32, on other processors than x86, and while
    something traces, all scores are written then.

    Args:
        q: Queries of all heads, one after the other.
        k: Keys that all of them share.
        v: Values that all of them share.
        dropout: Share of the weights that are dropped.
    """
    return _WAYS[way(q, k, v, dropout)](q, k, v, dropout)


def way(
    q: Float[Tensor, "batch rows key_dim"],
    k: Float[Tensor, "batch keys key_dim"],
    v: Float[Tensor, "batch keys value_dim"],
    dropout: float = 0.0,
) -> str:
    """Return how `read` computes: "fused", "products" or "convolutions".

    PyTorch's fused kernel, but for float32 on an x86 CPU while nothing traces: there plain matrix products for few
    scores in training, since their way back repeats nothing, and convolutions for many scores. Dropout keeps the fused
    CPU kernel from being used at all, so with it there is no such thing as few scores. With a single thread PyTorch
    gives 1×1 convolutions of one picture to a slow kernel of its own, so the fused one stays ahead.
    """
    if not _may_choose(q) or (torch.get_num_threads() == 1 and not dropout):
        return "fused"
    scores = q.shape[1] * k.shape[1]
    trains = torch.is_grad_enabled() and any(each.requires_grad for each in (q, k, v))
    if trains and scores < FEW_IN_TRAINING and len(q) * scores <= KEPT:
        return "products"
    return "convolutions" if dropout or scores >= FEW else "fused"


def _may_choose(q: Float[Tensor, "batch rows key_dim"]) -> bool:
    if q.device.type != "cpu" or q.dtype != torch.float32 or not _X86 or len(q) == 0:
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not torch.backends.mkldnn.is_available():
        return False  # a compiler must see one operation, not a loop whose length depends on the size
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return False  # `torch.func` neither maps a softmax in place nor computes scores twice
    # Whoever counts operations by name, as ultralytics does, knows attention and not what stands for it here.
    return torch._C._len_torch_function_stack() == 0


def _fused(
    q: Float[Tensor, "batch rows key_dim"],
    k: Float[Tensor, "batch keys key_dim"],
    v: Float[Tensor, "batch keys value_dim"],
    dropout: float,
) -> Float[Tensor, "batch rows value_dim"]:
    """Return what PyTorch's fused attention gives, with heads of one size: for others it would fall back silently."""
    key_dim, value_dim = q.shape[-1], v.shape[-1]
    if value_dim < key_dim:
        v = F.pad(v, (0, key_dim - value_dim))
    elif key_dim < value_dim:  # zeros add nothing to a score; its scale is stated
        q, k = (F.pad(each, (0, value_dim - key_dim)) for each in (q, k))
    out = F.scaled_dot_product_attention(
        q[:, None], k[:, None], v[:, None], dropout_p=dropout, scale=key_dim**-0.5
    ).squeeze(1)  # squeezed, not indexed: the gradient of an index is a map of zeros
    return out if value_dim >= key_dim else out[..., :value_dim]


def _by_products(
    q: Float[Tensor, "batch rows key_dim"],
    k: Float[Tensor, "batch keys key_dim"],
    v: Float[Tensor, "batch keys value_dim"],
    dropout: float,
) -> Float[Tensor, "batch rows value_dim"]:
    weights = (q @ (k * q.shape[-1] ** -0.5).mT).softmax(dim=-1)
    return (F.dropout(weights, dropout) if dropout else weights) @ v


def _by_convolutions(
    q: Float[Tensor, "batch rows key_dim"],
    k: Float[Tensor, "batch keys key_dim"],
    v: Float[Tensor, "batch keys value_dim"],
    dropout: float,
) -> Float[Tensor, "batch rows value_dim"]:
    batch, rows, key_dim = q.shape
    keys = k.shape[1]
    scaled = k * key_dim**-0.5
    block = -(-rows // -(-rows * keys // BLOCK))
    # split and unbind, because the gradient of a slice would be a map of zeros for every slice; and the values turned
    # once, or every block's gradient of them would wait for that of the last block
    tasks = [
        (its_q, its_k, its_v)
        for picture, its_k, its_v in zip(q.unbind(), scaled.unbind(), v.mT.unbind(), strict=True)
        for its_q in picture.split(block)
    ]
    if torch.is_grad_enabled() and any(each.requires_grad for each in (q, k, v)):
        recompute = batch * rows * keys > KEPT
        parts = [_recomputed(*task, dropout) if recompute else _block(*task, dropout) for task in tasks]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(batch, rows, -1)
    if len(tasks) == 1:
        return _block(*tasks[0], dropout)[None]
    # Small results that stay, one after each large block that goes, would keep the heap from using the gaps again.
    read = q.new_empty(batch * rows, v.shape[-1])
    for place, task in zip(read.split([len(its_q) for its_q, _, _ in tasks]), tasks, strict=True):
        place.copy_(_block(*task, dropout))
    return read.view(batch, rows, -1)


def _recomputed(
    q: Float[Tensor, "rows key_dim"],
    k: Float[Tensor, "keys key_dim"],
    v: Float[Tensor, "value_dim keys"],
    dropout: float,
) -> Float[Tensor, "rows value_dim"]:
    return checkpoint(_block, q, k, v, dropout, use_reentrant=False, preserve_rng_state=dropout > 0)


def _block(
    q: Float[Tensor, "rows key_dim"],
    k: Float[Tensor, "keys key_dim"],
    v: Float[Tensor, "value_dim keys"],
    dropout: float,
) -> Float[Tensor, "rows value_dim"]:
    scores = _convolved(q, k)
    if not scores.requires_grad:
        torch.softmax(scores, dim=-1, out=scores)  # a second array of this size would leave the cache
        return _convolved(F.dropout(scores, dropout, inplace=True) if dropout else scores, v)
    weights = scores.softmax(dim=-1)
    return _convolved(F.dropout(weights, dropout) if dropout else weights, v)


def _convolved(
    tokens: Float[Tensor, "rows size"], matrix: Float[Tensor, "out size"]
) -> Float[Tensor, "rows out"]:
    """Return tokens · matrixᵀ as a 1×1 convolution of a channels_last map with one row of pixels."""
    as_map = tokens[None, None].permute(0, 3, 1, 2)
    return F.conv2d(as_map, matrix[:, :, None, None]).permute(0, 2, 3, 1).flatten(0, 2)


_WAYS = {"fused": _fused, "products": _by_products, "convolutions": _by_convolutions}
