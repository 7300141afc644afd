"""What the command `compare` does: the runs of a grid, then a table of them, or the table alone."""

import argparse
import contextlib
import os
import sys
from typing import Any

from mqa_lib import checks
from mqa_lib.experiments.records import read_runs, table
from mqa_lib.experiments.runner import Broken, compare
from mqa_lib.experiments.statistics import class_table, overview


def run(options: argparse.Namespace) -> int:
    """Do it and return its exit code: 1 if runs ended in an error."""
    if options.what.is_dir() or options.what.suffix not in (".yaml", ".yml"):
        _show(read_runs(options.what))
        return 0
    if options.nice:
        if not hasattr(os, "nice"):
            raise checks.refuse("--nice", "", "is not to be had on Windows", "Lower it in the Task Manager.")
        os.nice(19)
    where, code = (options.what, options.records, options.work), 0
    try:
        compare(*where, options.slice, options.together, options.ray, only=options.only)
    except Broken as error:
        if os.environ.get("MQA_TRACEBACK"):
            raise
        print(error, file=sys.stderr)
        code = 1
    with contextlib.suppress(FileNotFoundError):  # no run of this grid has a record yet
        _show(read_runs(options.records / options.what.stem, options.what))
    return code


def _show(records: list[dict[str, Any]]) -> None:
    print(table(records))
    tested = [record for record in records if "test" in record or "failed" in record]
    if not any("test" in record for record in tested):
        return
    try:
        medians = overview(tested, ["mAP50", "mAP50-95"])
        classes = class_table([record for record in tested if "test" in record])
    except ValueError as error:  # records of several data sets, say, which the table above has room for
        print(f"No medians over seeds: {error}", file=sys.stderr)
    else:
        print(
            f"\nMedians over seeds and their range, on the test split:\n\n{medians}\n\nBy class:\n\n{classes}"
        )
