"""The layer's benchmark: ours against timm's, multi-head attention, the article's layer, and the bare matrix products.

`python -m mqa_lib bench` runs it over the shapes of MobileNetV4 and of RT-DETR and writes one record.
"""

from mqa_lib.bench.cases import (
    MODES,
    SHAPES,
    Shape,
    candidates,
    convolutions,
    everything,
    layers,
    stride_candidates,
)
from mqa_lib.bench.floor import bare_products, merging, rates
from mqa_lib.bench.run import GAINS, OUT, faster_formats, gain, main, run, summary, write

__all__ = [
    "GAINS",
    "MODES",
    "OUT",
    "SHAPES",
    "Shape",
    "bare_products",
    "candidates",
    "convolutions",
    "everything",
    "faster_formats",
    "gain",
    "layers",
    "main",
    "merging",
    "rates",
    "run",
    "stride_candidates",
    "summary",
    "write",
]
