"""Make the course's pages: notebooks with their outputs go in, a folder of pages that needs no network comes out."""

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from notebooks import example, sources

HERE = Path(__file__).parent
TITLE = "Mobile MQA, from formula to detector"
EXTRA = "extra"
GLOSSARY = sources.ROOT / "notebooks" / "glossary.md"
# Which page stands in for the explorer that a cell shows, by the notebook and the name that the cell gives it.
EXPLORERS = {
    ("01", "view"): "probe",
    ("04", "view"): "probe",
    ("04", "strides_view"): "strides",
    ("04", "detector_view"): "explorer",
    ("05", "view"): "explorer",
    ("06", "view"): "explorer",
}
_SHOWS = re.compile(r"^(\w+) = explorer\.show\(", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A notebook and what the first page says of it.

    Attributes:
        name: The notebook's name.
        notebook: The notebook with its outputs.
        seconds: How long it ran.
        said: Its main result, or what stopped it.
        good: Whether it ran through.
    """

    name: str
    notebook: NotebookNode
    seconds: float
    said: str
    good: bool = True


def title(notebook: NotebookNode, name: str) -> str:
    """Return the notebook's first heading, or its name."""
    lines = (
        line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()
    )
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), name)


def _escaped(text: str) -> str:
    """Return text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]|$~#])", r"\\\1", html.escape(text, quote=False))


def _row(page: Page) -> str:
    number, _, question = title(page.notebook, page.name).rpartition(" · ")
    said = _escaped(page.said)
    said = said if page.good else f'<strong class="failed">{said}</strong>'
    link = f"[{_escaped(' · '.join(filter(None, (number, page.name[3:].replace('_', ' ')))))}]({page.name}.ipynb)"
    run = f'<a href="notebooks/{page.name}.ipynb" download aria-label="{page.name}, to run it">.ipynb</a>'
    return f"| {link} | {_escaped(question)} | {page.seconds / 60:.1f} | {said} | {run} |"


def index(pages: Sequence[Page]) -> str:
    """Return the first page: the table of the notebooks, then what else there is."""
    head = "| notebook | its question | minutes | main result | to run it |\n|---|---|---:|---|---|"
    table = "\n".join([head, *map(_row, pages)])
    names = [page.name for page in pages] + (["glossary"] if GLOSSARY.is_file() else [])
    text = (HERE / "index.md").read_text(encoding="utf-8")
    return text.replace("TABLE", table).replace("PAGES", "\n".join(names))


def at_home(text: str) -> str:
    """Return Markdown whose links to files beside the notebooks' folder are names instead: the pages travel alone."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)\s#]+)[^)]*\)", _named, text)


def _named(link: re.Match[str]) -> str:
    said, path = link.groups()
    return f"`{path}`" if said.strip("`") == path.rpartition("/")[2] else f"{said} (`{path}`)"


def _embedded(page: str) -> NotebookNode:
    """Return a cell that holds an explorer that works without a kernel."""
    return new_markdown_cell(
        f'<figure class="explorer"><iframe src="{page}.html" loading="lazy" title="The attention explorer, on bundled '
        f'weights"></iframe><figcaption>The same explorer on bundled weights, computed in your browser: '
        f'<a href="{page}.html">open it on a page of its own</a>.</figcaption></figure>'
    )


def prepared(notebook: NotebookNode, name: str) -> NotebookNode:
    """Return a copy of the notebook for the page: set-up folded, nothing that wants a kernel, explorers that move."""
    copy = nbformat.from_dict(notebook)
    cells = []
    for cell in copy.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = at_home(cell.source)
        if "setup" in sources.tags(cell):
            cell.metadata["tags"] = [*sources.tags(cell), "hide-input"]
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        if cell.cell_type == "code":
            shown = (EXPLORERS.get((name[:2], variable)) for variable in _SHOWS.findall(cell.source))
            cells += [_embedded(page) for page in shown if page]
    copy.cells = cells
    copy.metadata.pop("widgets", None)
    return copy


def write(pages: Sequence[Page], out: Path, explorers: bool = True) -> tuple[Path, str]:
    """Write the pages into the folder `out`, which is emptied before; return the first page, and Sphinx's warnings.

    Args:
        pages: The notebooks in their order.
        out: Where to write.
        explorers: Whether to write the explorers' pages too, which takes some seconds.

    Raises:
        RuntimeError: Sphinx failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        extra = Path(folder) / EXTRA
        (extra / "notebooks").mkdir(parents=True)
        source.mkdir()
        for page in pages:
            text = sources.dumps(prepared(page.notebook, page.name))
            (source / f"{page.name}.ipynb").write_text(text, encoding="utf-8")
            whole = extra / "notebooks" / f"{page.name}.ipynb"
            whole.write_text(sources.dumps(page.notebook), encoding="utf-8")
        (source / "index.md").write_text(index(pages), encoding="utf-8")
        if GLOSSARY.is_file():
            (source / GLOSSARY.name).write_text(
                at_home(GLOSSARY.read_text(encoding="utf-8")), encoding="utf-8"
            )
        if explorers:
            example.write_all(extra)
        shutil.rmtree(out, ignore_errors=True)
        return out / "index.html", _sphinx(source, out, Path(folder) / "doctrees")


def _sphinx(source: Path, out: Path, doctrees: Path) -> str:
    command = [sys.executable, "-m", "sphinx", "-q", "--no-color", "-b", "html", "-c", str(HERE)]
    command += [
        "-d",
        str(doctrees),
        "-D",
        f"html_extra_path={source.with_name(EXTRA)}",
        str(source),
        str(out),
    ]
    paths = [str(sources.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run(command, env=environment, cwd=sources.ROOT, capture_output=True, text=True)
    said = run.stderr.replace(f"{source}{os.sep}", "")
    if run.returncode:
        raise RuntimeError(f"Sphinx could not make the pages: {said.strip()[-2000:]}")
    (out / ".buildinfo").unlink(missing_ok=True)
    return said.strip()
