"""What attention over a feature map costs, in closed form: parameters, multiply-accumulates (MACs) and bytes.

One MAC is one multiplication and the addition after it. Convolutions and matrix products are counted; norms,
the softmax, pooling and enlarging are not, because they multiply no two large arrays (the memory traffic of pooling
and enlarging is counted). Nothing here runs a layer, so any size can be asked.
"""

from mqa_lib.cost.devices import DEVICES, FORMATS, Device
from mqa_lib.cost.layers import (
    MOBILE,
    MULTI_HEAD,
    MULTI_QUERY,
    key_centre,
    key_grid,
    mobile_mqa,
    multi_head,
    multi_query,
    query_grid,
    side_by_side,
)
from mqa_lib.cost.roofline import in_bytes, in_thousands, ridge_point, seconds
from mqa_lib.cost.steps import KINDS, Cost, Step

__all__ = [
    "DEVICES",
    "FORMATS",
    "KINDS",
    "MOBILE",
    "MULTI_HEAD",
    "MULTI_QUERY",
    "Cost",
    "Device",
    "Step",
    "in_bytes",
    "in_thousands",
    "key_centre",
    "key_grid",
    "mobile_mqa",
    "multi_head",
    "multi_query",
    "query_grid",
    "ridge_point",
    "seconds",
    "side_by_side",
]
