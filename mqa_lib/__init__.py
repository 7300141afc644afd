"""Mobile MQA, from formula to detector.

The map of the library, from the inside out::

    checks       words every refusal          functional   the formulas as einsum, the specification
    attention    MobileMQA, MultiHeadAttention2d            blocks       MobileMQABlock
    published    the article's layer, each defect a switch  probe        the tiny network of notebook 1
    cost         parameters, MACs, bytes      timing       medians, pairs
    record       AttentionRecord, capture     decoder      SamplingRecord: what RT-DETR's decoder reads
    plots        arrays in, Axes out          explorer     look at attention, write it to a page
    labs         widgets for shapes, costs, strides, bugs   trace        every operation of one run
    datasets     Keys & Locks, YOLO folders   rtdetr       the only door to ultralytics
    experiments  runs as records              exercises    checks an answer, names the mistake

`import mqa_lib` loads torch and nothing heavier.
"""

from mqa_lib.attention import MobileMQA, MultiHeadAttention2d
from mqa_lib.blocks import DropPath, LayerScale2d, MobileMQABlock, MultiHeadBlock

__version__ = "0.1.0"
__all__ = [
    "DropPath",
    "LayerScale2d",
    "MobileMQA",
    "MobileMQABlock",
    "MultiHeadAttention2d",
    "MultiHeadBlock",
    "__version__",
]
