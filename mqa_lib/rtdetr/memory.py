"""How much memory a network needs: told in advance, without any, and measured in the process that asks."""

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# For a process that is measured. Tells glibc to hand large blocks back at once: otherwise what an earlier picture left
# would be used again unseen. Kernels keep scratch memory for every thread, so one makes machines comparable.
ENVIRONMENT = {
    **{"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_TRIM_THRESHOLD_": str(2**16)},
    **{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
}


@torch.no_grad()
def planned_bytes(network: nn.Module, size_px: int) -> int:
    """Return the largest sum of tensors alive at a time while a network sees one square picture of colours.

    Picture, weights and what kernels need for themselves are left out. It is found on tensors without contents, so any
    network can be asked on any machine.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        x = fake.from_tensor(torch.zeros(1, 3, size_px, size_px))
        with _Alive([*network.parameters(), *network.buffers()]) as alive:
            network(x)
    return alive.largest


def free_bytes() -> int | None:
    """Return the memory that a process could take now, within the limit of its container; None if nothing says it."""
    limits = []
    known = Path("/proc/meminfo")
    if known.exists():
        words = next(
            (line.split() for line in known.read_text().splitlines() if line.startswith("MemAvailable")), None
        )
        limits += [int(words[1]) * 1024] if words else []
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        limits.append(int(limit.read_text()) - int(used.read_text()))
    return min(limits) if limits else None


def resident_bytes() -> int:
    """Return what this process holds in memory now."""
    known = Path("/proc/self/statm")
    if known.exists():
        return int(known.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes() or 0  # elsewhere only the largest is told, and building the model was smaller


def forget_peak() -> None:
    """Let the kernel begin anew with the largest resident set, where it can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int | None:
    """Return the most that this process has held in memory; None where the system does not tell."""
    known = Path("/proc/self/status")
    if known.exists():
        return next(
            int(line.split()[1]) * 1024 for line in known.read_text().splitlines() if line.startswith("VmHWM")
        )
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Alive(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations make, as long as anything needs them."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.largest = 0
        self._ignored = {weight.untyped_storage()._cdata for weight in weights}
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._known = {key: held for key, held in self._known.items() if not held[0].expired()}
        for made in tree_leaves(out):
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in self._ignored:
                storage = made.untyped_storage()
                self._known[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.largest = max(self.largest, sum(size for _, size in self._known.values()))
        return out
