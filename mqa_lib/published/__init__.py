"""The layer as the article publishes it, every mistake of it on a switch of its own, and a proof of each."""

from mqa_lib.published.evidence import Deviation, Evidence, deviation, evidence, permutation_error
from mqa_lib.published.layer import ALL, NONE, WRONG, Defect, PublishedMQA, each, in_blocks, names, twin

__all__ = [
    "ALL",
    "NONE",
    "WRONG",
    "Defect",
    "Deviation",
    "Evidence",
    "PublishedMQA",
    "deviation",
    "each",
    "evidence",
    "in_blocks",
    "names",
    "permutation_error",
    "twin",
]
