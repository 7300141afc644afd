"""Read the notebooks' text sources, and hold notebooks to the rules of the course."""

import hashlib
import json
import re
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks" / "source"
SETUP = SOURCES / "_setup.py"
LONGEST_CELL, MEDIAN_CELL, NINE_IN_TEN, IMPORT_LINES = 20, 4, 12, 8
LARGEST_BYTES = 1_000_000

# Folders that exist on somebody's machine only. Base64 is not searched: it may spell anything.
_MACHINE_PATH = re.compile(
    r"(?<![\w.:/<>-])(?:/(?:root|tmp|work|home/\w+|Users/\w+|private|var/folders|opt)/|[A-Z]:\\Users\\)"
)
_MARKDOWN_IMAGE = re.compile(r"!\[\s*\]\(")
_HTML_IMAGE = re.compile(r"<img\b(?![^>]*\balt=[\"'][^\"'])[^>]*>")


def names() -> list[str]:
    """Return the notebooks' names, in the order of the course."""
    return [path.stem for path in sorted(SOURCES.glob("[0-9][0-9]_*.py"))]


def setup_cell() -> str:
    """Return the text of the setup cell, the same in every notebook."""
    return SETUP.read_text(encoding="utf-8").strip()


def tags(cell: NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return cell.metadata.get("tags", [])


def read(name: str, folder: Path = SOURCES) -> NotebookNode:
    """Return the notebook that a source describes: the setup cell put in, identifiers made from what cells say.

    An identifier made from the text stays when other cells come and go, so that a changed line stays a small change.

    Raises:
        ValueError: The first code cell of the source is not the one tagged `setup`.
    """
    notebook = jupytext.read(folder / f"{name}.py", fmt="py:percent")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or "setup" not in tags(code[0]):
        raise ValueError(f'{name}.py must begin its code with an empty cell `# %% tags=["setup"]`. Add it.')
    code[0].source = setup_cell()
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{name}:{cell.cell_type}:{cell.source}".encode()).hexdigest()[:10]
        cell.id = "setup" if cell is code[0] else f"{digest}-{seen[digest]}"
        seen[digest] += 1
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def dumps(notebook: NotebookNode) -> str:
    """Return the notebook as the text that is committed."""
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def _lines(cell: NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def cell_problems(notebook: NotebookNode) -> list[str]:
    """Return what breaks the rules of cells, each as a sentence with the cell's number."""
    code = [(place, cell) for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    found = []
    for place, cell in code:
        if _lines(cell) > LONGEST_CELL:
            found.append(f"cell {place}: {_lines(cell)} lines of code, at most {LONGEST_CELL} are allowed")
        if re.search(r"^class ", cell.source, re.MULTILINE):
            found.append(f"cell {place}: defines a class; classes live in mqa_lib")
        if len(re.findall(r"^def ", cell.source, re.MULTILINE)) > 1:
            found.append(f"cell {place}: defines more than one function")
    if len(code) > 1 and _lines(code[1][1]) > IMPORT_LINES:
        found.append(
            f"cell {code[1][0]}: {_lines(code[1][1])} lines of imports, at most {IMPORT_LINES} are allowed"
        )
    own = sorted(_lines(cell) for _, cell in code[1:]) or [0]
    if statistics.median(own) > MEDIAN_CELL:
        found.append(
            f"the median code cell has {statistics.median(own):g} lines, at most {MEDIAN_CELL} are allowed"
        )
    if own[(9 * len(own) - 1) // 10] > NINE_IN_TEN:
        found.append(f"more than one code cell in ten is longer than {NINE_IN_TEN} lines")
    results = sum("result" in tags(cell) for _, cell in code)
    if results != 1:
        found.append(f"{results} code cells are tagged `result`, exactly one must be")
    return found


def _texts(cell: NotebookNode) -> list[str]:
    """Return everything of a cell that a reader can read as text."""
    texts = [cell.source]
    for output in cell.get("outputs", []):
        texts += [output.get("text", ""), *output.get("traceback", [])]
        for kind, value in output.get("data", {}).items():
            if not kind.startswith("image/") or kind == "image/svg+xml":
                texts.append(value if isinstance(value, str) else json.dumps(value))
    return texts


def _machine_paths(cell: NotebookNode) -> list[str]:
    here = [p for p in {str(ROOT), str(Path.home()), sys.prefix, tempfile.gettempdir()} if len(p) > 4]
    found = []
    for text in _texts(cell):
        readable = re.sub(r"data:[\w/+.-]+;base64,[\w+/=]+", "", text)
        found += [match.group() for match in _MACHINE_PATH.finditer(readable)]
        found += [path for path in here if re.search(rf"(?<![\w.:/<>-]){re.escape(path)}\b", readable)]
    return found


def _images_without_words(cell: NotebookNode) -> int:
    count = sum(len(_MARKDOWN_IMAGE.findall(text)) + len(_HTML_IMAGE.findall(text)) for text in _texts(cell))
    for output in cell.get("outputs", []):
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                count += not output.get("metadata", {}).get(kind, {}).get("alt", "").strip()
    return count


def output_problems(notebook: NotebookNode) -> list[str]:
    """Return what must not be committed in an executed notebook, each as a sentence with the cell's number."""
    found = []
    counts = [
        cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()
    ]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"execution counts are {counts}, not 1 to {len(counts)}")
    if "widgets" in notebook.metadata:
        found.append("the metadata hold widget state")
    for place, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found.append(f"cell {place}: raised {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"cell {place}: wrote to stderr: {output.text.strip()[:200]}")
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                found.append(f"cell {place}: holds a widget view, which nothing can show without its kernel")
        if paths := _machine_paths(cell):
            found.append(f"cell {place}: names a machine path ({', '.join(sorted(set(paths)))})")
        if bare := _images_without_words(cell):
            found.append(f"cell {place}: {bare} pictures without alternative text")
    size = len(dumps(notebook).encode())
    if size > LARGEST_BYTES:
        found.append(f"{size:,} bytes, at most {LARGEST_BYTES:,} are allowed")
    return found


def same_cells(one: NotebookNode, other: NotebookNode) -> bool:
    """Return whether two notebooks have the same cells, outputs aside."""
    return [(c.id, c.cell_type, c.source, tags(c)) for c in one.cells] == [
        (c.id, c.cell_type, c.source, tags(c)) for c in other.cells
    ]
