"""Taking a notebook's exercises apart: a solution is tried where a reader stands, and leaves the notebook as it was."""

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from notebooks import build
from tests.unhooked import taught

KEYS = "### Exercise 03-keys · predict · 2 min · ●○○\n\nHow many?"
SPLIT = "Some text.\n\n### Exercise 03-split · implement · 3 min · ●●○\n\nWrite it."
STUB = "def split(q_map, num_heads):\n    raise NotImplementedError\n\n\nexercises.check({name!r}, split)"


def help_(solution):
    hints = "".join(f"<details><summary>Hint {n}</summary>\n\nLook.\n</details>\n\n" for n in (1, 2))
    folded = f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n\nWhy.\n</details>"
    return new_markdown_cell(f"{hints}{folded}\n\n## Next")


def lesson(keys="prediction = halved(15) * halved(21)\ntorch.randn(5)", check="exercises.check"):
    """Return a notebook with two exercises, the second of which uses the first's solution."""
    cut = "def halved(n):\n    return -(-n // 2)\n\n\ndef split(q_map, num_heads):\n"
    cells = [
        new_code_cell(
            "import torch\nfrom mqa_lib import exercises\nhalved = prediction = None\nbefore = torch.manual_seed(3)"
        ),
        new_markdown_cell(SPLIT),
        new_code_cell(STUB.format(name="03-split").replace("'", '"')),
        help_(f"{cut}    return q_map.unflatten(1, (num_heads, -1)).flatten(-2).mT"),
        new_markdown_cell(KEYS),
        new_code_cell(f'{check}("03-keys", prediction)'),
        help_(keys),
        new_code_cell("print(halved, prediction, torch.initial_seed() == 3, torch.randn(1).item())"),
    ]
    return new_notebook(cells=cells)


def run(notebook, folder):
    ran = build.execute("x", taught.with_solutions(notebook), folder)
    assert ran.error == ""
    return taught.take_out(ran.notebook), ran.notebook


def test_solutions_pass_build_on_each_other_and_leave_no_trace(tmp_path):
    tried, ran = run(lesson(), tmp_path)
    alone = build.execute("x", lesson(), tmp_path).notebook
    assert {name: right for name, (right, _) in tried.items()} == {"03-split": True, "03-keys": True}
    assert ran.cells[-1].outputs == alone.cells[-1].outputs
    assert ran.cells[-1].outputs[0].text.startswith("None None True")
    assert [c.execution_count for c in ran.cells if c.cell_type == "code"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("solution", "said"),
    [("prediction = 315", "without down-sampling"), ("prediction = x", "NameError: name 'x'")],
)
def test_a_solution_that_does_not_pass_is_named_with_what_the_check_says(tmp_path, solution, said):
    right, message = run(lesson(solution), tmp_path)[0]["03-keys"]
    assert not right and said in message


def test_the_parts_of_an_exercise_are_found():
    split, keys = taught.exercises(lesson())
    assert (split.kind, split.minutes, split.dots, split.place) == ("implement", 3, "●●○", 2)
    assert (
        keys.folded == ("Hint 1", "Hint 2", "Solution")
        and keys.check == 'exercises.check("03-keys", prediction)'
    )


def test_an_exercise_of_another_form_is_refused():
    with pytest.raises(AssertionError, match="03-keys: a cell behind its heading must end with its check"):
        taught.exercises(lesson(check="check"))
