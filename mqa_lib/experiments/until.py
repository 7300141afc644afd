"""How long a variant trains until it names the colours: the measure of a comparison in which everybody gets there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mqa_lib import checks
from mqa_lib.experiments.records import best_epoch, cpu_seconds, right_colours

SHARE = 0.9


@dataclass(frozen=True)
class Until:
    """When one run first named enough of the found locks' colours on the validation pictures.

    Args:
        variant: Name of the model.
        seed: Its seed.
        pictures: Pictures that it had been trained on by then; None if it never did.
        cpu_seconds: Seconds of one thread's computing by then; None if it never did.
        trained: Pictures of the whole run.
        accuracy: Colour accuracy at the end, on the test pictures where they were measured.
        map50_95: mAP50-95 there.
    """

    variant: str
    seed: int
    pictures: int | None
    cpu_seconds: float | None
    trained: int
    accuracy: float
    map50_95: float


def until(records: Iterable[dict[str, Any]], share: float = SHARE) -> dict[str, list[Until]]:
    """Return for each variant, in the order of the records, when each seed's run first had `share` of the colours.

    Raises:
        ValueError: A variant has two records with one seed, as where a grid has it in two arms.
    """
    found: dict[str, list[Until]] = {}
    for record in records:
        if not record["epochs"]:
            continue
        seconds, epochs = cpu_seconds(record), record["epochs"]
        at = next((i for i, epoch in enumerate(epochs) if right_colours(epoch) >= share), None)
        score = record.get("test") or best_epoch(record)
        variant, seed = record["recipe"]["model"], record["recipe"]["seed"]
        when = (None, None) if at is None else (epochs[at]["pictures"], seconds[at])
        run = Until(variant, seed, *when, epochs[-1]["pictures"], right_colours(score), score["mAP50-95"])
        if seed in {other.seed for other in found.setdefault(variant, [])}:
            way_out = "Give those of one arm: `[r for r in records if r['experiment']['arm'] == ARM]`."
            raise checks.refuse("records", f"{variant}, seed {seed}", "is there twice", way_out)
        found[variant].append(run)
    return {name: sorted(runs, key=lambda run: run.seed) for name, runs in found.items()}


def until_table(
    found: dict[str, list[Until]], labels: dict[str, str] | None = None, share: float = SHARE
) -> str:
    """Return a Markdown table: for each variant how many seeds got there, and after how much, as median and range.

    Where half of the seeds or more did not get there, the median is told as "more than" what those were trained on.

    Args:
        found: As `until` returns it.
        labels: Names for people; the models' own if not given.
        share: The share that was asked for.
    """
    goal = f"{share:.0%}"
    lines = [
        f"| variant | seeds that reach {goal} | pictures until {goal} | CPU seconds until {goal} "
        "| colour accuracy at the end | mAP50-95 at the end |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        there = [run for run in runs if run.pictures is not None]
        pictures = [run.pictures if run.pictures is not None else float("inf") for run in runs]
        seconds = [run.cpu_seconds if run.cpu_seconds is not None else float("inf") for run in runs]
        cells = (
            f"{len(there)} of {len(runs)}",
            _spread(pictures, min((run.trained for run in runs if run.pictures is None), default=None)),
            _spread(seconds, None),
            _range([run.accuracy for run in runs]),
            _range([run.map50_95 for run in runs]),
        )
        lines.append(f"| {(labels or {}).get(name, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float | int], most: int | None) -> str:
    def said(value: float | int) -> str:
        if value < float("inf"):
            return f"{value:,.0f}"
        return "not reached" if most is None else f"more than {most:,.0f}"

    middle = said(median(values))
    return middle if len(set(values)) == 1 else f"{middle} ({said(min(values))} to {said(max(values))})"


def _range(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def compared(
    found: dict[str, list[Until]], name: str, base: str, labels: dict[str, str] | None = None
) -> str:
    """Return a sentence: with how many seeds `name` got there after fewer pictures than `base`, and what follows.

    Runs are paired by seed. A run that never got there counts as later than one that did.
    """
    first, second = ({run.seed: run.pictures for run in found.get(key, [])} for key in (name, base))
    shown = [(labels or {}).get(key, key) for key in (name, base)]
    seeds = sorted(first.keys() & second.keys())
    lead = f"{shown[0]} against {shown[1]}: "
    if not seeds:
        return f"{lead}no seed has been run with both yet."
    pairs = [(first[seed] or float("inf"), second[seed] or float("inf")) for seed in seeds]
    sooner, later = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    only = sum(b == float("inf") > a for a, b in pairs) - sum(a == float("inf") > b for a, b in pairs)
    counted = f"reaches the share sooner with {sooner} of {len(seeds)} seeds, later with {later}"
    if abs(only) == len(seeds):
        never = shown[1] if only > 0 else shown[0]
        counted = f"{never} does not reach the share with any of {len(seeds)} seeds, the other does with all"
    elif not sooner and set(map(min, pairs)) == {float("inf")}:
        counted = f"neither reaches the share with any of {len(seeds)} seeds"
    counted = counted.replace("any of 1 seeds", "the one seed")
    if len(seeds) < 3:
        return f"{lead}{counted}. {len(seeds)} seed{'s' * (len(seeds) > 1)}: an observation, not a result."
    if abs(only) == len(seeds):
        return f"{lead}{counted}. That is a difference in kind."
    if sooner == len(seeds) or later == len(seeds) or counted.startswith("neither"):
        return f"{lead}{counted}."
    return f"{lead}{counted}. Not resolved: the seeds do not agree."


def ablation_table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of the probe's ablation: for each arm its seeds, accuracy, parameters and CPU seconds.

    Args:
        rows: As `mqa_lib.probe.ablation` yields them.

    Raises:
        ValueError: There is no row.
    """
    checks.positive("rows", len(rows), "Make some with `python -m mqa_lib probe`.")
    lines = [
        "| between the convolutions | seeds | accuracy at the end: median (range) | parameters | CPU seconds |",
        "|---|---|---|---|---|",
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        seconds = median(row["cpu_seconds"] for row in own)
        cells = (
            len(own),
            _range([row["accuracy"] for row in own]),
            f"{own[0]['parameters']:,}",
            f"{seconds:.0f}",
        )
        lines.append(f"| {arm} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
