"""Statistics that hold over a few seeds: points, medians with the range, paired differences, what they allow to say.

A handful of seeds says little, so nothing here gives a single number without the points that it comes from.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Float

from mqa_lib import checks
from mqa_lib.experiments.records import (
    best_epoch,
    cpu_seconds,
    key_map50,
    label,
    lock_map50,
    right_colours,
)

Record = dict[str, Any]
METRICS: dict[str, Callable[[dict[str, Any]], float]] = {
    "mAP50": lambda score: score["mAP50"],
    "mAP50-95": lambda score: score["mAP50-95"],
    "locks, mAP50": lock_map50,
    "key, mAP50": key_map50,
    "right colours": right_colours,
}
AXES = ("epoch", "pictures", "CPU seconds")
_ENUMERATED = 6  # up to so many seeds every resample is looked at: 6 to the power of 6
_RESAMPLES = 20_000
_FEWEST = 3
# from so many times the spread over the seeds on, a difference needs no other argument
_OBVIOUS = 5
_ONE_GRID = "Give the records of one grid: `read_runs(folder, grid)`."
_ONE_SET = "Give those of one data set: `[r for r in records if r['experiment']['arm'] == ARM]`."
_SET = (
    "name",
    "pictures",
    "classes",
    "seed",
    "size",
    "fingerprint",
    "commit",
)  # what tells a data set by its card


@dataclass(frozen=True)
class Paired:
    """How much better one variant is than another with the same seeds, data and schedule.

    Args:
        name: The variant that is compared.
        base: What it is compared with.
        differences: Its metric minus the other's, by seed.
        low: Lower end of the bootstrap interval of their mean, see `bootstrap`.
        high: Upper end.
        spread: Highest minus lowest score over the seeds, of the one of the two where that is larger.
    """

    name: str
    base: str
    differences: dict[int, float]
    low: float
    high: float
    spread: float

    @property
    def effect(self) -> float:
        """The smallest difference in units of the spread, if all have one sign; else 0."""
        values = list(self.differences.values())
        agree = min(values) > 0 or max(values) < 0
        # a spread below what is printed counts as that
        return min(map(abs, values)) / max(self.spread, 0.001) if agree else 0.0


def scores(records: Iterable[Record], metric: str) -> dict[str, dict[int, float]]:
    """Return the metric of every finished run, by label and seed: on the test split if it was measured there.

    Without a test split it is the best epoch's on the validation split, which chose that epoch and so flatters it.

    Raises:
        ValueError: The metric is not known or not in the records, two records have the same label and seed, those of
            one label have other recipes, or the records are of several data sets.
    """
    records = list(records)
    used = [record.get("test") or best_epoch(record) for record in records if record.get("finished")]
    measure = _check_measured(metric, used)
    _check_alike(records)
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.get("finished"):
            by_seed, seed = found.setdefault(label(record), {}), record["recipe"]["seed"]
            if seed in by_seed:
                raise checks.refuse("records", f"{label(record)}, seed {seed}", "is there twice", _ONE_GRID)
            by_seed[seed] = measure(record.get("test") or best_epoch(record))
    return found


def measured(records: Iterable[Record]) -> list[str]:
    """Return the metrics that all of these records have: photographs have no locks, say, and so no colours of them."""
    return _known(
        [score for record in records for score in (record.get("test"), *record["epochs"][-1:]) if score]
    )


def _known(found: list[dict[str, Any]]) -> list[str]:
    return [name for name in METRICS if all(_has(score, name) for score in found)]


def _has(score: dict[str, Any], metric: str) -> bool:
    try:
        METRICS[metric](score)
    except (KeyError, ZeroDivisionError):
        return False
    return True


def _check_measured(metric: str, found: list[dict[str, Any]]) -> Callable[[dict[str, Any]], float]:
    """Return what measures a metric.

    Raises:
        ValueError: It is not known, or is not in one of these scores.
    """
    checks.one_of("metric", metric, METRICS)
    if metric not in (known := _known(found)):
        raise checks.refuse("metric", metric, "is not in these records", f"Use one of: {'; '.join(known)}.")
    return METRICS[metric]


def failed(records: Iterable[Record]) -> dict[str, list[int]]:
    """Return by label the seeds of the runs that failed: a comparison of the others alone would flatter a variant."""
    found: dict[str, list[int]] = {}
    for record in records:
        if "failed" in record:
            found.setdefault(label(record), []).append(record["recipe"]["seed"])
    return found


def _check_alike(records: list[Record]) -> None:
    """Refuse to take runs for seeds of one variant, or for rivals, that differ in more.

    Raises:
        ValueError: Runs of one label have other recipes, or the runs have other data.
    """
    from mqa_lib.rtdetr.recipe import Recipe

    defaults = {field.name: field.default for field in fields(Recipe) if field.name != "seed"}
    recipes: dict[str, Any] = {}
    for record in records:
        # an entry that a recipe of another version does not have stands at its default
        own = {key: record["recipe"].get(key, default) for key, default in defaults.items()}
        if recipes.setdefault(label(record), own) != own:
            raise checks.refuse("records", label(record), "has runs of more than one recipe", _ONE_GRID)
    cards = [{key: record.get("data", {}).get(key) for key in _SET} for record in records]
    if other := next((card for card in cards if card != cards[0]), None):
        names = f"{cards[0]['name']} and {other['name']}"
        raise checks.refuse(
            "records", names, "are of other data, so their scores cannot be compared", _ONE_SET
        )


def curves(
    records: Iterable[Record], metric: str, axis: str = "epoch"
) -> dict[str, list[list[tuple[float, float]]]]:
    """Return by label a line for each seed, of (place on the axis, metric on the validation split).

    Raises:
        ValueError: The metric or the axis is not known, or the metric is not in the records.
    """
    records = list(records)
    measure = _check_measured(metric, [epoch for record in records for epoch in record["epochs"]])
    checks.one_of("axis", axis, AXES)
    lines: dict[str, list[list[tuple[float, float]]]] = {}
    for record in records:
        if record["epochs"]:
            line = list(zip(_places(record, axis), map(measure, record["epochs"]), strict=True))
            lines.setdefault(label(record), []).append(line)
    return lines


def _places(record: Record, axis: str) -> list[float]:
    if axis == "CPU seconds":
        return cpu_seconds(record)
    return [float(epoch[axis]) for epoch in record["epochs"]]


def bootstrap(values: Sequence[float] | Float[np.ndarray, " n"], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean; up to six values it is exact, over all resamples.

    With few values it is far too narrow, because they rarely show how far others would lie. What is called 95 % then
    holds the mean of normal numbers in 84 % of cases with five values, in 67 % with three, in 47 % with two. So nothing
    here calls it by its level: read it with the points.
    """
    kept = np.asarray(values, dtype=float)
    if len(kept) <= _ENUMERATED:
        drawn = np.array(list(itertools.product(range(len(kept)), repeat=len(kept))))
    else:
        drawn = np.random.RandomState(0).randint(0, len(kept), (_RESAMPLES, len(kept)))
    low, high = np.quantile(kept[drawn].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(found: dict[str, dict[int, float]], base: str) -> list[Paired]:
    """Return the differences of every other variant to `base`, over the seeds that both have.

    Args:
        found: Scores by label and seed.
        base: The label to compare with.

    Raises:
        ValueError: The label is not there.
    """
    checks.one_of("base", base, found)
    compared = []
    for name, by_seed in found.items():
        shared = sorted(by_seed.keys() & found[base].keys())
        if name != base and shared:
            differences = {seed: by_seed[seed] - found[base][seed] for seed in shared}
            spread = max(float(np.ptp([each[seed] for seed in shared])) for each in (by_seed, found[base]))
            compared.append(Paired(name, base, differences, *bootstrap(list(differences.values())), spread))
    return compared


def summary_table(
    found: dict[str, dict[int, float]], base: str, metric: str, lost: dict[str, list[int]] | None = None
) -> str:
    """Return a Markdown table: median and range over seeds, and the differences to `base` with their interval.

    With fewer than three seeds in common there is no interval, only the mean and how many seeds it is of.

    Args:
        found: Scores by label and seed.
        base: The label to compare with.
        metric: What the scores are.
        lost: The seeds that failed by label, as `failed` returns them, to be counted beside the others.
    """
    lost = lost or {}
    differences = {one.name: one for one in paired(found, base)}
    lines = [f"| | seeds | {metric}: median (range) | minus {base}: mean [bootstrap] |", "|---|---|---|---|"]
    for name, by_seed in found.items():
        values = list(by_seed.values())
        against = "—"
        if one := differences.get(name):
            mean = sum(one.differences.values()) / len(one.differences)
            few = len(one.differences) < _FEWEST
            against = f"{mean:+.3f} " + (_seeds(one) if few else f"[{one.low:+.3f}, {one.high:+.3f}]")
        lines.append(f"| {name} | {_counted(values, lost.get(name))} | {_spread(values)} | {against} |")
    lines.extend(f"| {name} | {_counted((), lost[name])} | — | — |" for name in lost if name not in found)
    return "\n".join(lines)


def _counted(values: Sequence[float], lost: list[int] | None) -> str:
    return f"{len(values)}, {len(lost)} failed" if lost else f"{len(values)}"


def _seeds(one: Paired) -> str:
    return f"({len(one.differences)} seed{'s' * (len(one.differences) > 1)})"


def overview(records: Sequence[Record], metrics: Sequence[str]) -> str:
    """Return a Markdown table: for each variant its seeds, every metric's median and range, and CPU minutes a run.

    Runs that failed are counted beside the seeds.

    Raises:
        ValueError: A metric is not known, or two records have the same label and seed.
    """
    found = {metric: scores(records, metric) for metric in metrics}
    minutes: dict[str, list[float]] = {}
    for record in records:
        if record.get("finished"):
            minutes.setdefault(label(record), []).append(cpu_seconds(record)[-1] / 60)
    gone = failed(records)
    lines = [f"| variant | seeds | {' | '.join(metrics)} | CPU minutes |", "|---" * (len(metrics) + 3) + "|"]
    for name, taken in minutes.items():
        spreads = " | ".join(_spread(list(found[metric][name].values())) for metric in metrics)
        lines.append(f"| {name} | {_counted(taken, gone.get(name))} | {spreads} | {median(taken):.0f} |")
    for name in gone.keys() - minutes.keys():
        lines.append(f"| {name} | {_counted((), gone[name])} |" + " — |" * (len(metrics) + 1))
    return "\n".join(lines)


def class_table(records: Sequence[Record], metric: str = "mAP50") -> str:
    """Return a Markdown table: for each class and variant the metric's median and range over seeds.

    It is the test split's if that was measured, else the best epoch's on the validation split. Runs that did not come
    to their end are left out.

    Args:
        records: Those of one grid.
        metric: "mAP50" or "mAP50-95".

    Raises:
        ValueError: The metric is neither, or the records are of several data sets.
    """
    checks.one_of("metric", metric, ("mAP50", "mAP50-95"))
    _check_alike(list(records))
    found: dict[str, dict[str, list[float]]] = {}
    finished = [record for record in records if record.get("finished")]
    for record in finished:
        for kind, score in (record.get("test") or best_epoch(record)).get("classes", {}).items():
            found.setdefault(kind, {}).setdefault(label(record), []).append(score[metric])
    names = list(dict.fromkeys(map(label, finished)))
    lines = [f"| {metric} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for kind, by_name in found.items():
        cells = (_spread(by_name[name]) if name in by_name else "—" for name in names)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def conclusion(compared: Sequence[Paired], metric: str) -> str:
    """Return what the differences allow to say and what not, a line for each variant and one for all."""
    sentences = []
    for one in compared:
        values = list(one.differences.values())
        higher = sum(_shown(value) > 0 for value in values)
        said = f"{one.name} against {one.base}: {metric} "
        if len(values) == 1:
            said += f"{values[0]:+.3f} with one seed. "
        else:
            said += (
                f"higher with {higher} of {len(values)} seeds, by {min(values):+.3f} to {max(values):+.3f}. "
            )
        sentences.append(said + _verdict(one))
    by_chance = [
        2 * 0.5 ** len(one.differences)
        for one in compared
        if len(one.differences) >= _FEWEST and one.effect < _OBVIOUS
    ]
    if len(by_chance) > 1:
        sentences.append(
            f"If all were alike, about {sum(by_chance):.1f} of {len(by_chance)} such comparisons would agree by chance."
        )
    if sentences:
        sentences.append(
            "All of it holds for these data, this schedule and models of this size, and for no other."
        )
    return "\n".join(sentences)


def _shown(difference: float) -> float:
    """Return a difference as it is printed, so that one that is printed as 0 counts as none."""
    return round(difference, 3)


def _verdict(one: Paired) -> str:
    values = [_shown(value) for value in one.differences.values()]
    if any(math.isnan(value) for value in values):
        return "One of them has no value, so nothing can be said."
    if len(values) < _FEWEST:
        return f"With fewer than {_FEWEST} seeds that is an observation, not a result."
    if min(values) > 0 or max(values) < 0:
        chance = 2 * 0.5 ** len(values)
        side = "more" if min(values) > 0 else "less"
        if one.effect >= _OBVIOUS:
            return (
                f"That is plain: the smallest difference is {one.effect:.0f} times the spread over the seeds."
            )
        return (
            f"All seeds agree that it scores {side}; if the two were alike, all would agree by chance in {chance:.0%} "
            "of such comparisons."
        )
    return "The seeds do not all agree, so neither is shown to be better here."
