"""Experiments: runs as records, grids of runs that can be stopped and spread, and statistics that hold."""

from mqa_lib.experiments.bundled import BUNDLED, bundle, train_bundled
from mqa_lib.experiments.grid import Grid, Run, read_grid
from mqa_lib.experiments.labels import LABELS
from mqa_lib.experiments.records import (
    best_epoch,
    cpu_seconds,
    key_map50,
    label,
    lock_map50,
    read_runs,
    recorded,
    right_colours,
    score_table,
    table,
)
from mqa_lib.experiments.runner import Broken, compare
from mqa_lib.experiments.statistics import (
    AXES,
    METRICS,
    Paired,
    class_table,
    conclusion,
    curves,
    failed,
    measured,
    overview,
    paired,
    scores,
    summary_table,
)
from mqa_lib.experiments.until import SHARE, Until, ablation_table, compared, until, until_table

__all__ = [
    "AXES",
    "BUNDLED",
    "LABELS",
    "METRICS",
    "SHARE",
    "Broken",
    "Grid",
    "Paired",
    "Run",
    "Until",
    "ablation_table",
    "best_epoch",
    "bundle",
    "class_table",
    "compare",
    "compared",
    "conclusion",
    "cpu_seconds",
    "curves",
    "failed",
    "key_map50",
    "label",
    "lock_map50",
    "measured",
    "overview",
    "paired",
    "read_grid",
    "read_runs",
    "recorded",
    "right_colours",
    "score_table",
    "scores",
    "summary_table",
    "table",
    "train_bundled",
    "until",
    "until_table",
]
