"""Build and run the notebooks: `python -m notebooks.build tutorial | notebooks | book [--only 04]`."""

import argparse
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from mqa_lib import timing
from notebooks import sources
from notebooks.book import site

CELL_SECONDS = 600
SECONDS = sources.ROOT / "data" / "benchmarks" / "notebooks.json"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_WIDGET_REPR = re.compile(r"^[A-Z]\w*\(")
_INSTEAD = "Interactive: run this cell in a notebook to use it."


@dataclass(frozen=True)
class Run:
    """What came of running one notebook.

    Attributes:
        name: The notebook's name.
        notebook: The notebook with its outputs, as far as it came.
        seconds: How long it ran.
        error: What stopped it, in one line; empty if it ran through.
    """

    name: str
    notebook: NotebookNode
    seconds: float
    error: str = ""

    @property
    def result(self) -> str:
        """What the cell tagged `result` printed, in one line."""
        for cell in self.notebook.cells:
            if "result" in sources.tags(cell):
                return " ".join(_printed(cell).split())
        return ""


def _printed(cell: NotebookNode) -> str:
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.get("outputs", [])
    ]
    return "".join(texts)


class _Progress:
    """One line per notebook: rewritten cell by cell on a terminal, written once elsewhere."""

    def __init__(self, place: str, started: float) -> None:
        self.place, self.started, self.began = place, started, time.monotonic()
        self.live = sys.stdout.isatty()
        if self.live:
            self._say("starting")

    def _say(self, text: str, end: str = "") -> None:
        lead = "\r\x1b[K" if self.live else ""
        print(
            f"{lead}{self.place}  {text}, {time.monotonic() - self.started:.0f} s so far", end=end, flush=True
        )

    def cell(self, number: int, total: int) -> None:
        if self.live:
            self._say(f"cell {number} of {total}")

    def done(self, error: str) -> None:
        seconds = time.monotonic() - self.began
        self._say(f"{'FAILED after' if error else 'done in'} {seconds:.0f} s", end="\n")
        if error:
            print(f"    {error}", flush=True)


def execute(name: str, notebook: NotebookNode, folder: Path, progress: _Progress | None = None) -> Run:
    """Return the notebook run from top to bottom in a fresh kernel, in `folder`; an error ends the run, not ours."""
    total = len(notebook.cells)
    options: dict[str, Any] = {"timeout": CELL_SECONDS, "kernel_name": "python3", "record_timing": False}
    options["extra_arguments"] = ["--log-level=40"]  # the kernel's own warnings would stand between our lines
    client = NotebookClient(
        notebook, resources={"metadata": {"path": str(folder)}}, store_widget_state=False, **options
    )
    if progress:
        client.on_cell_start = lambda cell, cell_index: progress.cell(cell_index + 1, total)
    began, error = time.monotonic(), ""
    environment = {"MQA_MODE": "quick", "YOLO_OFFLINE": "true", **os.environ}
    environment["MQA_PROGRESS"] = (
        "off"  # whoever builds the notebooks is no reader: nothing kept, nothing shown
    )
    paths = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(sources.ROOT)]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    try:
        client.execute(env=environment)
    except (
        Exception
    ) as problem:  # a dead kernel, a cell out of time, an error in a cell: all end this notebook
        error = _in_one_line(problem)
    return Run(name, tidy(notebook), time.monotonic() - began, error)


def _in_one_line(problem: Exception) -> str:
    name, value = getattr(problem, "ename", type(problem).__name__), getattr(problem, "evalue", str(problem))
    return f"{name}: {' '.join(str(value).split())}"[:400]


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Return `notebook` as it is kept: whole streams, no state of widgets, nothing of the machine that ran it."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = nbformat.from_dict({"name": "python"})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            kept = [_without_view(output) for output in cell.outputs if not _is_progress_bar(output)]
            cell.outputs = _whole_streams(kept)
    return notebook


def _is_progress_bar(output: NotebookNode) -> bool:
    data = output.get("data", {})
    return _WIDGET in data and re.search(r"\d+%\|", data.get("text/plain", "")) is not None


def _without_view(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    if _WIDGET in data:
        kept = {kind: data[kind] for kind in ("image/png", "text/html", "text/plain") if kind in data}
        if _WIDGET_REPR.match(kept.get("text/plain", "")):
            kept["text/plain"] = _INSTEAD
        output.data = nbformat.from_dict(kept)
    return output


def _whole_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return the outputs with neighbouring pieces of one stream joined and rewritten lines as last seen."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = re.sub(
                r"^[^\n]*\r(?=[^\n])", "", re.sub(r"\r+\n", "\n", output.text), flags=re.MULTILINE
            )
    return joined


def run_all(chosen: list[str]) -> list[Run]:
    """Return what came of each notebook in turn; one that fails does not stop the others."""
    runs, started = [], time.monotonic()
    wide = max(map(len, chosen), default=0)
    for number, name in enumerate(chosen, start=1):
        progress = _Progress(f"[{number}/{len(chosen)}] {name:<{wide}}", started)
        try:
            run = execute(name, sources.read(name), sources.ROOT / "notebooks", progress)
        except Exception as problem:  # a source that cannot be read: the others still run
            run = Run(name, nbformat.v4.new_notebook(), 0.0, _in_one_line(problem))
        progress.done(run.error)
        runs.append(run)
    return runs


def tutorial(chosen: list[str], build: Path) -> int:
    """Run the notebooks, make their pages under `build`, print the closing table; return 1 if any failed."""
    runs = run_all(chosen)
    home = _pages(runs, build / "pages")
    print(f"\n{table(runs, home.parent)}\n\nAll pages: {_shown(home)}   To use the notebooks: make lab")
    return int(any(run.error for run in runs))


def book(chosen: list[str], build: Path) -> int:
    """Make the pages under `build` from the notebooks as they are committed, without running any."""
    began, seconds = time.monotonic(), _recorded()
    files = {name: sources.ROOT / "notebooks" / f"{name}.ipynb" for name in chosen}
    read = {name: nbformat.read(file, nbformat.NO_CONVERT) for name, file in files.items()}
    home = _pages([Run(name, read[name], seconds.get(name, 0.0)) for name in chosen], build / "pages")
    print(f"All pages: {_shown(home)}, made in {time.monotonic() - began:.0f} s from the committed notebooks")
    return 0


def _pages(runs: list[Run], folder: Path) -> Path:
    pages = [site.Page(run.name, run.notebook, run.seconds, _said(run), good=not run.error) for run in runs]
    home, warnings = site.write(pages, folder)
    if warnings:
        print(warnings, file=sys.stderr)
    return home


def _said(run: Run) -> str:
    return f"FAILED: {run.error}" if run.error else run.result


def table(runs: list[Run], pages: Path) -> str:
    """Return the closing table: notebook, seconds, where to open it, main result."""
    cells = [("notebook", "seconds", "open", "main result")]
    cells += [(r.name, f"{r.seconds:.0f}", _shown(pages / f"{r.name}.html"), _said(r)) for r in runs]
    cells.append(("all", f"{sum(run.seconds for run in runs):.0f}", "", ""))
    wide = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:<{wide[2]}}  {d}".rstrip() for a, b, c, d in cells]
    return "\n".join(lines)


def _shown(path: Path) -> str:
    return os.path.relpath(path, sources.ROOT)


def committed(chosen: list[str]) -> int:
    """Run the notebooks and write those without problems to where people meet them; return 1 if any has a problem."""
    bad = False
    for run in run_all(chosen):
        problems = [run.error] if run.error else []
        problems += sources.cell_problems(run.notebook) + sources.output_problems(run.notebook)
        if not run.result:
            problems.append("the cell tagged `result` printed nothing")
        for problem in problems:
            print(f"    {run.name}: {problem}")
        if not problems:
            path = sources.ROOT / "notebooks" / f"{run.name}.ipynb"
            path.write_text(sources.dumps(run.notebook), encoding="utf-8")
            _record_seconds(run)
            print(f"    {_shown(path)}: {path.stat().st_size / 1000:.0f} kB. {run.result}")
        bad = bad or bool(problems)
    return int(bad)


def _recorded() -> dict[str, float]:
    return json.loads(SECONDS.read_text())["seconds"] if SECONDS.exists() else {}


def _record_seconds(run: Run) -> None:
    """Keep how long the notebook took, with the machine, where the README's map of the notebooks finds it."""
    SECONDS.parent.mkdir(parents=True, exist_ok=True)
    record = {"made by": "make notebooks", "seconds": {**_recorded(), run.name: round(run.seconds, 1)}}
    SECONDS.write_text(json.dumps({**record, "machine": timing.machine()}, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.build", description=__doc__)
    parser.add_argument("what", choices=["tutorial", "notebooks", "book"])
    parser.add_argument("--only", help="the number of one notebook, for example 04")
    chosen = parser.parse_args(arguments)
    wanted = [name for name in sources.names() if not chosen.only or name.startswith(chosen.only)]
    if not wanted:
        print(f"No source in notebooks/source begins with {chosen.only or 'a number'}.", file=sys.stderr)
        return 2
    if chosen.what == "notebooks":
        return committed(wanted)
    return {"tutorial": tutorial, "book": book}[chosen.what](wanted, sources.ROOT / "build")


if __name__ == "__main__":
    sys.exit(main())
