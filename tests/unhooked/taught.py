"""The exercises and quizzes of a notebook as its source has them, and a run in which every solution is tried."""

import json
import re
from dataclasses import dataclass

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

HEADING = re.compile(
    r"^### Exercise (?P<name>\d\d-[\w-]+) · (?P<kind>\w+) · (?P<minutes>\d+) min · (?P<dots>[●○]{3})$",
    re.MULTILINE,
)
CHECK = re.compile(r"^exercises\.check\(\"(?P<name>\d\d-[\w-]+)\", .+\)$")
QUIZ = re.compile(r"^exercises\.quiz\(\"(\d\d-[\w-]+)\"\)", re.MULTILINE)
DETAILS = re.compile(
    r"<details>\s*<summary>(?P<title>[^<]+)</summary>\n\n(?P<text>.*?)\n?</details>", re.DOTALL
)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
NEAR = 4  # cells from a heading to its check
MARK, TRY = "what came of the solution: ", "tried"
# A solution sees what a reader has who solved the exercises before it; the notebook goes on as if nobody had.
CODE = """
import json as _json, random as _random, numpy as _numpy, torch as _torch
_states = _torch.get_rng_state(), _numpy.random.get_state(), _random.getstate()
_solved = globals().get("_solved", {{}})
_space = {{**globals(), **_solved}}
try:
    exec({solution!r}, _space)
    _verdict = eval({check!r}, _space)
    _found = [_verdict.right, _verdict.message]
except BaseException as _error:
    _found = [False, f"{{type(_error).__name__}}: {{_error}}"]
_solved |= {{k: v for k, v in _space.items() if callable(v) and globals().get(k) is not v}}
_torch.set_rng_state(_states[0]), _numpy.random.set_state(_states[1]), _random.setstate(_states[2])
print({mark!r} + _json.dumps(_found))
"""


@dataclass(frozen=True)
class Taught:
    """An exercise as it stands in a source.

    Attributes:
        name: As `exercises.check` knows it.
        kind: The kind in the heading.
        minutes: The minutes in the heading.
        dots: The difficulty in the heading.
        place: The number of its code cell.
        check: The line that checks the answer.
        folded: The titles of what is folded beneath it.
        solution: The code of the solution.
    """

    name: str
    kind: str
    minutes: int
    dots: str
    place: int
    check: str
    folded: tuple[str, ...]
    solution: str


def exercises(notebook: NotebookNode) -> list[Taught]:
    """Return the exercises of a notebook, in their order.

    Raises:
        AssertionError: An exercise is not of the form in which it can be taken apart.
    """
    found = []
    for number, cell in enumerate(notebook.cells):
        headings = list(HEADING.finditer(cell.source)) if cell.cell_type == "markdown" else []
        if not headings:
            continue
        (heading,) = headings
        asked = heading["name"]
        place, check = _checked(notebook, asked, number)
        help_ = notebook.cells[place + 1]
        folds = {fold["title"].strip(): fold["text"] for fold in DETAILS.finditer(help_.source)}
        blocks = BLOCK.findall(folds.get("Solution", ""))
        found.append(
            Taught(
                asked, heading["kind"], int(heading["minutes"]), heading["dots"], place, check,
                tuple(folds), "\n".join(blocks),
            )
        )  # fmt: skip
    return found


def _checked(notebook: NotebookNode, asked: str, heading: int) -> tuple[int, str]:
    """Return the place and the last line of the cell that checks an exercise; cells may prepare it."""
    for place in range(heading + 1, min(heading + 1 + NEAR, len(notebook.cells))):
        cell = notebook.cells[place]
        lines = cell.source.strip().splitlines() if cell.cell_type == "code" else []
        found = CHECK.match(lines[-1]) if lines else None
        if found and found["name"] == asked:
            return place, found[0]
    raise AssertionError(f"{asked}: a cell behind its heading must end with its check")


def quizzes(notebook: NotebookNode) -> list[str]:
    """Return the names of the quizzes that a notebook asks."""
    return [name for cell in notebook.cells if cell.cell_type == "code" for name in QUIZ.findall(cell.source)]


def with_solutions(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook with a cell behind each exercise that tries its solution; only its output is left of it."""
    for each in reversed(exercises(notebook)):
        code = CODE.format(solution=each.solution, check=each.check, mark=MARK)
        cell = new_code_cell(code, metadata={TRY: each.name})
        notebook.cells.insert(each.place + 1, cell)
    return notebook


def take_out(notebook: NotebookNode) -> dict[str, tuple[bool, str]]:
    """Take the tried solutions out of a notebook that ran; return by exercise whether it passed, and what was said."""
    found = {}
    for cell in [cell for cell in notebook.cells if TRY in cell.metadata]:
        notebook.cells.remove(cell)
        text = "".join(output.get("text", "") for output in cell.outputs)
        right, said = json.loads(text.rpartition(MARK)[2]) if MARK in text else (False, "it did not run")
        found[cell.metadata[TRY]] = (right, said)
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = cell.execution_count and number
    return found
