"""How long a variant trains until it names the colours: the measure of a comparison in which everybody gets there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from mqa_lib import checks
from mqa_lib.experiments.records import best_epoch, cpu_seconds, right_colours

SHARE = 0.9


@dataclass(frozen=True)
class Until:
    """When one run first named enough of the found locks' colours on the validation pictures, in two epochs in a row.

    Args:
        variant: Name of the model.
        seed: Its seed.
        pictures: Pictures that it had been shown by the first of the two, repeated ones counted; None if it never did.
        cpu_seconds: Seconds of one thread's computing by then; None if it never did.
        trained: Pictures of the whole run.
        accuracy: Colour accuracy of the best checkpoint, on the test pictures where they were measured.
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
        # a run that failed says nothing about how long its variant needs
        if not record["epochs"] or "failed" in record:
            continue
        seconds, epochs = cpu_seconds(record), record["epochs"]
        enough = [right_colours(epoch) >= share for epoch in epochs]
        at = next((i for i, pair in enumerate(pairwise(enough)) if all(pair)), None)
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

    Runs end when they are solved, so the last two columns say what was reached, and do not rank the variants.
    Where half of the seeds or more did not get there, the median is told as "more than" what those were trained on.

    Args:
        found: As `until` returns it.
        labels: Names for people; the models' own if not given.
        share: The share that was asked for.
    """
    goal = f"{share:.0%}"
    lines = [
        f"| variant | seeds that reach {goal} | pictures until {goal} | CPU seconds until {goal} "
        "| colour accuracy, best checkpoint | mAP50-95, best checkpoint |",
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
    first, second = ({run.seed: run for run in found.get(key, [])} for key in (name, base))
    shown = [(labels or {}).get(key, key) for key in (name, base)]
    seeds = sorted(first.keys() & second.keys())
    lead = f"{shown[0]} against {shown[1]}: "
    if not seeds:
        return f"{lead}no seed has been run with both yet."
    never = float("inf")
    pairs = [(first[seed].pictures or never, second[seed].pictures or never) for seed in seeds]
    sooner, later = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    count = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    # what a run that ends cannot tell: whether it would have got there with more pictures
    least = min(run.trained for runs in (first, second) for seed, run in runs.items() if seed in seeds)
    within = f"within {least:,} pictures"
    agree = True
    if all(a == b == never for a, b in pairs):
        counted = f"neither gets there {within}, with {count}"
    elif all(a < b == never for a, b in pairs) or all(b < a == never for a, b in pairs):
        counted = f"only {shown[0] if sooner else shown[1]} gets there {within}, with {count}; the other may with more"
    else:
        counted = f"sooner with {sooner} of {count}, later with {later}"
        agree = len(seeds) in (sooner, later)
    if len(seeds) < 3:
        return f"{lead}{counted}. With fewer than 3 seeds that is an observation, not a result."
    if not sooner + later:
        return f"{lead}{counted}."
    if not agree:
        return f"{lead}{counted}. Not resolved: the seeds do not agree."
    chance = f"{2 * 0.5 ** len(seeds):.0%}"
    return f"{lead}{counted}. If the two were equal, all seeds would agree in {chance} of such comparisons."


def ablation_table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of the probe's ablation: for each arm its seeds, accuracy and parameters.

    Seconds are in the rows, and not here: several trainings may have shared the machine.

    Args:
        rows: As `mqa_lib.probe.ablation` yields them.

    Raises:
        ValueError: There is no row.
    """
    checks.positive("rows", len(rows), "Make some with `python -m mqa_lib probe`.")
    lines = [
        "| between the convolutions | seeds | accuracy at the end: median (range) | parameters |",
        "|---|---|---|---|",
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        accuracy, parameters = _range([row["accuracy"] for row in own]), own[0]["parameters"]
        lines.append(f"| {arm} | {len(own)} | {accuracy} | {parameters:,} |")
    return "\n".join(lines)
