"""What machines can do at most, in one place: MACs per second, bytes per second, and who says so."""

from collections.abc import Mapping
from dataclasses import dataclass

from mqa_lib import checks
from mqa_lib.cost.roofline import ridge_point

FORMATS = {4: "float32", 2: "float16", 1: "int8"}  # by bytes per number


@dataclass(frozen=True)
class Device:
    """One machine's two rates, or the ratio of them where nothing else is published.

    Args:
        name: What people call it.
        source: Where the numbers stand.
        peak_macs: MACs per second at most, by bytes per number; a MAC is two floating-point operations.
        bandwidth: Bytes per second between memory and processor, at most.
        ridges: Ridge points by bytes per number, where the rates themselves are not published.
    """

    name: str
    source: str
    peak_macs: Mapping[int, float] | None = None
    bandwidth: float | None = None
    ridges: Mapping[int, float] | None = None

    @property
    def formats(self) -> tuple[int, ...]:
        """The bytes per number for which something is known, the widest first."""
        return tuple(sorted(self.peak_macs or self.ridges or {}, reverse=True))

    def ridge(self, bytes_per_number: int) -> float:
        """Return the MACs per byte at which arithmetic and memory take equally long.

        Raises:
            ValueError: Nothing is known for numbers of this size.
        """
        if bytes_per_number not in self.formats:
            known = ", ".join(FORMATS[each] for each in self.formats)
            rule = f"is not known for {self.name}"
            raise checks.refuse("bytes_per_number", bytes_per_number, rule, f"Use one of: {known}.")
        if self.peak_macs is None or self.bandwidth is None:
            return (self.ridges or {})[bytes_per_number]
        return ridge_point(self.peak_macs[bytes_per_number], self.bandwidth)


_PAPER = "MobileNetV4, arXiv:2404.10518, Table 16 (ratio only)"
_TERA = 1e12

DEVICES = {
    device.name: device
    for device in (
        Device("Pixel 6 CPU", _PAPER, ridges={1: 31.2}),
        Device("Galaxy S23 CPU", _PAPER, ridges={1: 39.7}),
        Device("Pixel 4 DSP", _PAPER, ridges={1: 347.3}),
        Device("Pixel 8 EdgeTPU", _PAPER, ridges={1: 433.8}),
        Device(
            "Jetson Orin Nano 8 GB",
            "NVIDIA's data sheet: 1024 cores at 625 MHz, 20 TOPS (int8, dense), 68 GB/s",
            {4: 1024 * 625e6, 1: 20 * _TERA / 2},
            68e9,
        ),
        Device(
            "NVIDIA T4",
            "NVIDIA's data sheet: 8.1 TFLOPS (float32), 65 TFLOPS (float16), 130 TOPS (int8), 320 GB/s",
            {4: 8.1 * _TERA / 2, 2: 65 * _TERA / 2, 1: 130 * _TERA / 2},
            320e9,
        ),
        Device(
            "NVIDIA A100 40 GB",
            "NVIDIA's data sheet: 19.5 TFLOPS (float32), 312 TFLOPS (float16), 624 TOPS (int8), 1555 GB/s",
            {4: 19.5 * _TERA / 2, 2: 312 * _TERA / 2, 1: 624 * _TERA / 2},
            1555e9,
        ),
    )
}
