"""A comparison of runs to be cut in one's own way: which metric, against what, which arm."""

from collections.abc import Sequence
from typing import Any

from mqa_lib import checks, experiments, plots
from mqa_lib.labs.base import Lab, dropdown

Record = dict[str, Any]
_UNITS = {
    "epoch": "passes over the training pictures",
    "pictures": "pictures seen",
    "CPU seconds": "CPU seconds",
}
_ALL = "all"
CHANCE = 0.25


class ComparisonLab(Lab):
    """Curves of recorded runs, a thin line a seed and a thick one of medians, with what they may and may not show.

    Args:
        records: Records of the runs of one grid.
        metric: What to show first, a name in `experiments.METRICS`; the first that was measured if this one was not.
        axis: Against what, one of `experiments.AXES`.
    """

    def __init__(
        self, records: Sequence[Record], metric: str = "right colours", axis: str = "pictures"
    ) -> None:
        self.records = [record for record in records if record["epochs"]]
        known = experiments.measured(self.records)
        checks.one_of("metric", metric, experiments.METRICS)
        arms = sorted({record.get("experiment", {}).get("arm", "") for record in self.records})
        self.metric = dropdown("metric", known, metric if metric in known else known[0])
        self.axis = dropdown("against", experiments.AXES, axis)
        self.arm = dropdown("arm", [_ALL, *arms], _ALL)
        super().__init__([self.metric, self.axis, self.arm])

    def chosen(self) -> list[Record]:
        """Return the records of the chosen arm."""
        arm = self.arm.value
        return [each for each in self.records if arm in (_ALL, each.get("experiment", {}).get("arm", ""))]

    def draw(self) -> tuple[plots.Figure, str]:
        """Return the picture that is asked for, and the sentence that goes with it."""
        lines = experiments.curves(self.chosen(), self.metric.value, self.axis.value)
        x_label, y_label = _UNITS[self.axis.value], f"{self.metric.value}, validation split"
        level = ("chance", CHANCE) if self.metric.value == "right colours" else None
        return (
            plots.seed_curves(lines, x_label, y_label, level),
            plots.seed_curves_alt(lines, x_label, y_label),
        )

    def say(self) -> str:
        """Return what may and what may not be concluded from the picture."""
        unfinished = [experiments.label(each) for each in self.chosen() if not each.get("finished")]
        said = (
            "A thin line is one run, a thick one the median of its variant. The validation split, which is drawn here,"
            " chose each run's best epoch; how much the variants differ is told on the test split, beneath."
        )
        if self.axis.value == "CPU seconds":
            said += (
                " CPU seconds are those of one thread on one machine, and of trainings: what a layer costs when it"
                " predicts is measured in notebook 7. The article's layers computed in blocks, which is faster than"
                " what was published."
            )
        return said + (f" Not finished: {', '.join(sorted(set(unfinished)))}." if unfinished else "")


comparison = ComparisonLab  # as a cell asks for it: the lab, ready to be its last line
