"""The notebooks: what is committed is what the sources say, follows the rules, and runs."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mqa_lib.exercises import EXERCISES, QUIZZES
from notebooks import build, sources
from notebooks.book import site
from tests.unhooked import taught

NAMES = sources.names()
MINUTES_EACH = 3
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def committed(name):
    return nbformat.read(sources.ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)


def picture(alt=None):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return new_output("display_data", {"image/png": PIXEL, "text/plain": "<Image>"}, metadata=metadata)


def ran(*outputs, **metadata):
    return new_notebook(
        cells=[new_code_cell("1", execution_count=1, outputs=list(outputs))], metadata=metadata
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_source_keeps_the_rules_of_cells(name):
    assert sources.cell_problems(sources.read(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_has_the_cells_of_its_source(name):
    assert sources.same_cells(committed(name), sources.read(name)), f"run: make notebooks ONLY={name[:2]}"


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_holds_nothing_that_must_not_be_committed(name):
    assert sources.output_problems(committed(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_is_valid(name):
    nbformat.validate(committed(name))


def test_every_committed_notebook_has_a_source():
    assert [path.stem for path in sorted((sources.ROOT / "notebooks").glob("*.ipynb"))] == NAMES


def test_the_setup_cell_is_the_same_in_all():
    firsts = {next(c.source for c in committed(name).cells if c.cell_type == "code") for name in NAMES}
    assert firsts <= {sources.setup_cell()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_source_runs_from_top_to_bottom_in_quick_mode(name, monkeypatch):
    """Takes minutes, most of the whole suite: it is what a reader does first, so it is done for every change.

    Behind each exercise its solution is tried, so that nothing has to run twice.
    """
    monkeypatch.setenv("MQA_MODE", "quick")
    run = build.execute(name, taught.with_solutions(sources.read(name)), sources.ROOT / "notebooks")
    print(f"{name}: {run.seconds:.0f} s. {run.result}")
    tried = taught.take_out(run.notebook)
    assert run.error == ""
    assert {exercise: said for exercise, (right, said) in tried.items() if not right} == {}
    for each in taught.exercises(run.notebook):
        shown = run.notebook.cells[each.place].outputs[-1]["data"]["text/plain"]
        assert EXERCISES[each.name].task in shown and EXERCISES[each.name].hint in shown
    assert sources.output_problems(run.notebook) == []
    # twice that, because another process tests on the same two cores meanwhile
    assert run.result and run.seconds < 2 * 60 * MINUTES_EACH


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_every_kind_of_exercise_with_two_hints_and_a_solution_folded(name):
    found = taught.exercises(sources.read(name))
    assert [each.name for each in found] == [known for known in EXERCISES if known[:2] == name[:2]]
    assert {each.kind for each in found} == {"predict", "implement", "investigate"}
    for each in found:
        known = EXERCISES[each.name]
        assert (each.kind, each.minutes, each.dots) == (known.kind, known.minutes, known.dots), each.name
        assert each.folded == ("Hint 1", "Hint 2", "Solution") and each.solution, each.name


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_asks_two_quizzes_or_more_and_shows_its_progress(name):
    source = sources.read(name)
    assert sorted(taught.quizzes(source)) == sorted(known for known in QUIZZES if known[:2] == name[:2])
    assert len(taught.quizzes(source)) >= 2
    assert any(f'exercises.progress("{name[:2]}")' in cell.source for cell in source.cells)


CASES = [
    (ran(picture()), "without alternative text"),
    (new_notebook(cells=[new_markdown_cell("![](a.png)")]), "without alternative text"),
    (ran(new_output("display_data", {"text/html": "<img src='data:'>"})), "without alternative text"),
    (ran(new_output("stream", name="stderr", text="careful")), "wrote to stderr: careful"),
    (ran(new_output("stream", text="saved to /home/someone/x")), "names a machine path"),
    (ran(new_output("stream", text=f"{sources.ROOT}/x")), "names a machine path"),
    (ran(new_output("error", ename="E", evalue="why", traceback=[])), "raised E: why"),
    (ran(new_output("display_data", {build._WIDGET: {}, "text/plain": "x"})), "holds a widget view"),
    (ran(widgets={"state": {}}), "hold widget state"),
    (ran(new_output("stream", text="x" * sources.LARGEST_BYTES)), "bytes, at most"),
    (new_notebook(cells=[new_code_cell("1", execution_count=2)]), r"counts are \[2\]"),
]


@pytest.mark.parametrize(("notebook", "complaint"), CASES)
def test_what_must_not_be_committed_is_named(notebook, complaint):
    assert re.search(complaint, "; ".join(sources.output_problems(notebook)))


def test_a_tidy_notebook_has_no_problems():
    link = new_output("display_data", {"text/html": "<a href='https://example.org/opt/'>a</a>"})
    assert sources.output_problems(ran(picture("A line."), link)) == []


RULES = [
    ("x = 1\n" * 21, "21 lines of code"),
    ("class A:\n    pass", "defines a class"),
    ("def f(): ...\ndef g(): ...", "more than one function"),
    ("a\nb\nc\nd\ne", "median code cell has 5"),
]


@pytest.mark.parametrize(("text", "complaint"), RULES)
def test_a_broken_rule_of_cells_is_named(text, complaint):
    cells = [new_code_cell("setup"), new_code_cell("import a"), new_code_cell(text), new_code_cell(text)]
    assert complaint in "; ".join(sources.cell_problems(new_notebook(cells=cells)))


def test_a_notebook_without_a_result_is_named():
    assert (
        "0 code cells are tagged `result`"
        in sources.cell_problems(new_notebook(cells=[new_code_cell("1")]))[-1]
    )


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Return a folder of two small sources that takes the place of the real ones; the second fails."""
    text = '# %% [markdown]\n# # Title\n\n# %% tags=["setup"]\n\n'
    text += '# %%\n{}\n\n# %% tags=["result"]\nprint("the\\nresult")\n'
    for name, middle in (("01_good", "1"), ("02_bad", "1 / 0")):
        (tmp_path / f"{name}.py").write_text(text.format(middle))
    monkeypatch.setattr(sources, "SOURCES", tmp_path)
    monkeypatch.setattr(sources.read, "__defaults__", (tmp_path,))
    return tmp_path


def test_identifiers_depend_on_what_cells_say_and_not_on_their_place(small):
    before = {cell.source: cell.id for cell in sources.read("01_good").cells}
    path = small / "01_good.py"
    path.write_text(path.read_text().replace("# %%\n1", "# %%\n0\n\n# %%\n1"))
    after = {cell.source: cell.id for cell in sources.read("01_good").cells}
    assert before.items() <= after.items() and len(set(after.values())) == len(after)


def test_the_tutorial_goes_on_after_a_failure_and_says_so(small, capsys):
    assert build.tutorial(["02_bad", "01_good"], small / "build") == 1
    said = capsys.readouterr().out
    assert re.search(r"02_bad +\d+ .*FAILED: ZeroDivisionError: division by zero", said)
    assert re.search(r"01_good +\d+ .*01_good.html +the result", said)
    page = (small / "build/pages/index.html").read_text()
    assert "FAILED: ZeroDivisionError" in page
    shown = {path.stem for path in (small / "build/pages").glob("*.html")}
    assert shown >= {"index", "01_good", "02_bad", *site.EXPLORERS.values()}


def test_a_result_is_what_the_tagged_cell_printed_in_one_line(small):
    run = build.execute("01_good", sources.read("01_good"), small)
    assert (run.result, run.error) == ("the result", "")
    assert [cell.execution_count for cell in run.notebook.cells if cell.cell_type == "code"] == [1, 2, 3]


def test_a_source_without_the_setup_cell_is_refused(small):
    (small / "01_good.py").write_text("# %%\n1\n")
    with pytest.raises(ValueError, match="setup"):
        sources.read("01_good")


def test_a_line_written_over_is_kept_as_last_seen():
    pieces = [new_output("stream", text="10 %\r"), new_output("stream", text="100 %\r\ndone\n")]
    (joined,) = build._whole_streams(pieces)
    assert joined.text == "100 %\ndone\n"


def test_a_widget_keeps_its_picture_and_loses_its_view():
    data = {build._WIDGET: {"model_id": "1"}, "image/png": PIXEL, "text/plain": "VBox(children=(IntSlider(…"}
    (output,) = build.tidy(ran(new_output("display_data", data))).cells[0].outputs
    assert output.data.keys() == {"image/png", "text/plain"}
    assert output.data["text/plain"].startswith("Interactive")


def test_a_quiz_keeps_its_folded_list_and_loses_its_view():
    data = {build._WIDGET: {"model_id": "1"}, "text/html": "<details></details>", "text/plain": "Which?"}
    (output,) = build.tidy(ran(new_output("display_data", data))).cells[0].outputs
    assert output.data == {"text/html": "<details></details>", "text/plain": "Which?"}


def test_whoever_builds_a_notebook_leaves_no_progress_in_it_or_beside_it(tmp_path, monkeypatch):
    monkeypatch.delenv("MQA_PROGRESS")
    code = "from mqa_lib import exercises\nexercises.check('03-keys', 88)", "exercises.progress('03')"
    run = build.execute("x", new_notebook(cells=[new_code_cell(each) for each in code]), tmp_path)
    assert "Notebook 3: 0 of" in run.notebook.cells[1].outputs[0].data["text/plain"], run.error
    assert [*tmp_path.iterdir()] == []


def test_the_first_state_of_a_progress_bar_is_not_kept():
    bar = {build._WIDGET: {"model_id": "1"}, "text/plain": "train:   0%|          | 0/150 [00:00<?, ?it/s]"}
    assert build.tidy(ran(new_output("display_data", bar))).cells[0].outputs == []
