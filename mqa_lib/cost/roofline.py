"""How long a cost takes at least on a machine, and counts in words."""

from collections.abc import Sequence

from mqa_lib import checks
from mqa_lib.cost.steps import Cost


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
