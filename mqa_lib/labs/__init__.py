"""The labs of the course: controls over one picture, one sentence and one table, drawn from what really ran.

A lab stands as the last line of a cell, or in `show`. Where no kernel answers, its picture and its sentence are there.
"""

from mqa_lib.labs.base import Lab, show
from mqa_lib.labs.bugs import BugHunt, bug_hunt
from mqa_lib.labs.comparison import ComparisonLab, comparison
from mqa_lib.labs.costs import (
    MOBILE,
    MULTI_HEAD,
    MULTI_QUERY,
    CostLab,
    cost_lab,
    lab_costs,
    shape_table,
)
from mqa_lib.labs.rooflines import RooflineLab, roofline
from mqa_lib.labs.strides import StrideLab, stride_lab
from mqa_lib.labs.tracer import ShapeTracer, shape_tracer

__all__ = [
    "MOBILE",
    "MULTI_HEAD",
    "MULTI_QUERY",
    "BugHunt",
    "ComparisonLab",
    "CostLab",
    "Lab",
    "RooflineLab",
    "ShapeTracer",
    "StrideLab",
    "bug_hunt",
    "comparison",
    "cost_lab",
    "lab_costs",
    "roofline",
    "shape_table",
    "shape_tracer",
    "show",
    "stride_lab",
]
