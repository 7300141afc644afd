"""Write the README's picture and tables from the records: `python -m notebooks.readme`.

Between `<!-- NAME -->` and `<!-- /NAME -->` the README holds what a record says; nothing there is typed by hand.
"""

import json
import re
from pathlib import Path

import numpy as np

from mqa_lib import experiments, plots, record, rtdetr
from mqa_lib.datasets import keys_and_locks
from mqa_lib.rtdetr import costs

ROOT = Path(__file__).parents[1]
COVER = Path("data/pictures/attention.png")
SECONDS = Path("data/benchmarks/notebooks.json")
PROBE = Path("data/probe/ablation.json")
LAYER = Path("data/benchmarks/layer.json")
VARIANTS = Path("data/benchmarks/rtdetr.json")
RUNS, GRID = Path("data/runs/detectors"), Path("data/experiments/detectors.yaml")
UNTIL = Path("data/pictures/until.png")
_GAINS = {
    "timm / ours": "timm's layer, as ours",
    "timm / ours folded": "timm's layer, as ours folded",
    "timm's block / our block folded": "timm's block, as our block folded",
    "multi-head / ours": "multi-head attention of the same sizes, as ours",
    "article / ours": "the article's layer, as ours",
    "ours / floor": "ours, as its bare matrix products",
}


def cover(pictures: int = 32, near: int = 16, much: float = 0.9) -> tuple[str, str]:
    """Write the picture and return its alternative text, and how many locks are like it.

    It shows one lock of the bundled validation pictures and what the heads of the detector's first Mobile MQA read
    there: of the first pictures with four pairs, the lock whose key gets the largest weight. So it shows what the
    layer can do, not what it does on average.
    """
    clear = []
    model = rtdetr.load(ROOT / "data/weights/rtdetr-nano-mobile-mqa.safetensors")
    found: dict[float, tuple[record.AttentionRecord, int]] = {}
    for index in range(pictures):
        scene = keys_and_locks.draw_scene(0, index, "val", pairs=(2, 4))
        picture = keys_and_locks.render(scene)
        seen = record.capture(model, picture, weights_are=model.card["weights_are"])[0]
        for pair in scene.pairs:
            query = seen.query_at(pair.lock.row, pair.lock.column)
            weights = seen.rows(query).reshape(seen.num_heads, -1)
            away = np.abs(seen.key_centres() - (pair.key.row, pair.key.column))
            clear.append(weights[:, away.max(1) <= near].sum(1) > much)
            if len(scene.pairs) == 4:
                found[float(weights[:, away.sum(1).argmin()].max())] = (seen, query)
    chosen = found[max(found)]
    (ROOT / COVER).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / COVER).write_bytes(plots.png(plots.explorer_figure(*chosen)))
    said = (
        f"It was chosen for being clear: of the {len(clear)} locks in the first {pictures} pictures all heads put more "
        f"than {much:.0%} of their\nweight within {near} pixels of the right key at {sum(map(all, clear))}, "
        f"and at least one head does at {sum(map(any, clear))}. Notebook 4 counts what is read *most*."
    )
    return plots.explorer_alt(*chosen), said


def probe_table(root: Path = ROOT) -> str:
    """Return the probe's recorded ablation as a table."""
    return experiments.ablation_table(json.loads((root / PROBE).read_text())["rows"])


def _until(root: Path) -> dict[str, list[experiments.Until]]:
    runs = experiments.read_runs(root / RUNS, root / GRID, missing_ok=True)
    return experiments.until(run for run in runs if run["experiment"]["arm"] == "from-scratch")


def grid_table(root: Path = ROOT) -> str:
    """Return by variant how many pictures and seconds the recorded runs needed, under their chart."""
    found = _until(root)
    if not found:
        return "No run is recorded yet."
    return f"![]({UNTIL})\n\n{experiments.until_table(found, experiments.LABELS)}"


def open_runs(root: Path = ROOT) -> str:
    """Return a sentence on how many of the grid's runs are recorded, and of which variants there is none yet."""
    runs = experiments.read_runs(root / RUNS, root / GRID, missing_ok=True)
    counts = experiments.recorded(root / GRID, runs)
    done, of = map(sum, zip(*counts.values(), strict=True))
    if done == of:
        return f"All {done} runs of the grid are recorded."
    missing = "; ".join(name for name, (there, _) in counts.items() if not there)
    none = f" There is none yet of: {missing}." if missing and done else ""
    return f"Of the grid's {of} runs {done} are recorded.{none}"


def charts(root: Path = ROOT) -> dict[Path, tuple[plots.Figure, str]]:
    """Return the chart of the recorded runs by the file it goes to, with its alternative text."""
    runs = {experiments.LABELS[name]: each for name, each in _until(root).items()}
    reached = {name: [run.pictures for run in each] for name, each in runs.items()}
    trained = {name: [run.trained for run in each] for name, each in runs.items()}
    label = f"pictures shown until {experiments.SHARE:.0%} of the colours are correct"
    if not runs:
        return {}
    return {UNTIL: (plots.until_dots(reached, trained, label), plots.until_dots_alt(reached, label))}


def notebook_table(root: Path = ROOT) -> str:
    """Return the map of the notebooks with the seconds they took when they were last built."""
    recorded = json.loads((root / SECONDS).read_text())
    lines = ["| notebook | its question | minutes to run |", "|---|---|---|"]
    for file in sorted((root / "notebooks").glob("0*.ipynb")):
        title = json.loads(file.read_text())["cells"][0]["source"]
        question = re.sub(r"^# \d · ", "", "".join(title).splitlines()[0])
        seconds = recorded["seconds"].get(file.stem, float("nan"))
        lines.append(f"| [`{file.stem}`](notebooks/{file.name}) | {question} | {seconds / 60:.1f} |")
    return "\n".join(lines)


def layer_table(root: Path = ROOT) -> str:
    """Return how the recorded layers compare, as geometric means over the shapes of the benchmark."""
    recorded = json.loads((root / LAYER).read_text())
    lines = ["| how many times as long | at inference | in training |", "|---|---|---|"]
    means = recorded["geometric_means"]
    for gain, name in _GAINS.items():
        cells = [_mean(means[mode].get(gain)) for mode in ("inference", "training")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    machine = recorded["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"{recorded['settings']['shapes']} shapes, {machine['cpu']}, {machine['threads']} threads.",
        ]
    )


def _mean(mean: dict[str, float] | None) -> str:
    return f"**{mean['mean']:.2f}** ({mean['lowest']:.2f} to {mean['highest']:.2f})" if mean else ""


def variants_table(root: Path = ROOT) -> str:
    """Return what the recorded RT-DETR variants cost, as far as they are ResNet-50 or larger."""
    rows = [row for row in costs.read(root / VARIANTS) if "nano" not in row.name]
    return costs.table(rows)


def written(text: str, root: Path = ROOT) -> str:
    """Return the README's text with every table between its marks, and the words of every chart, made again."""
    for name, table in TABLES.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = marked.sub(lambda match, table=table: match[1] + table(root) + "\n" + match[2], text)
    for file, (_, alt) in charts(root).items():
        text = described(text, file, alt)
    return text


def described(text: str, picture: Path, alt: str) -> str:
    """Return the README's text with an alternative text given to a picture."""
    return re.sub(rf"!\[[^\]]*\]\({re.escape(str(picture))}\)", lambda _: f"![{alt}]({picture})", text)


TABLES = {
    "probe": probe_table,
    "grid": grid_table,
    "open": open_runs,
    "layer": layer_table,
    "variants": variants_table,
    "notebooks": notebook_table,
}


def main() -> None:
    """Write picture and README."""
    (alt, clear), path = cover(), ROOT / "README.md"
    for file, (figure, _) in charts().items():
        (ROOT / file).write_bytes(plots.png(figure))
    text = described(path.read_text(), COVER, alt)
    text = re.sub(r"(<!-- clear -->\n).*?(\n<!-- /clear -->)", rf"\g<1>{clear}\g<2>", text, flags=re.DOTALL)
    path.write_text(written(text))


if __name__ == "__main__":
    main()
