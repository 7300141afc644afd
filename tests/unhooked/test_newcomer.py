"""Somebody who has just cloned the project: *Run All*, a slider, a quiz, an exercise, the explorer, and no error."""

import json
import re
import shutil
import subprocess
import time

import nbformat
import pytest

from mqa_lib.exercises import QUIZZES, kept
from notebooks import sources
from tests.unhooked import jupyter, taught

NAME = "01_see_it_first"
RUN_MS = 200_000  # two minutes on two free cores
EXPLORER, QUIZ, BAR = ".mqa-x", ".mqa-quiz", ".jp-OutputArea-output:has(progress)"
LOGGED = re.compile(r"^\[[EC] .*|^Traceback.*|^\w+Error: .*", re.MULTILINE)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Return a folder with what git keeps of the project and nothing else."""
    monkeypatch.delenv("MQA_PROGRESS")  # a newcomer's progress is kept
    folder = tmp_path / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=sources.ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (sources.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources.ROOT / name, folder / name)
    return folder


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(20_000)
    page.said, page.asked = [], set()
    page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.add(request.url))
    yield page
    page.close()


def run_all(page, count):
    """Run all cells and wait until the last one, which has a number from its committed run already, has run anew."""
    last = page.locator(".jp-CodeCell .jp-InputArea-prompt").last
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last.filter(has_text="[*]:").wait_for()
    last.filter(has_not_text="[*]:").wait_for(timeout=RUN_MS)  # an error anywhere ends it too
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []
    assert last.inner_text() == f"[{count}]:"


def move_a_slider(page):
    view = page.locator(EXPLORER).first
    before, said = view.get_attribute("data-query"), view.locator(".mx-said").inner_text()
    view.locator("input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('{EXPLORER}').dataset.query !== '{before}'")
    assert view.locator(".mx-said").inner_text() != said


def answer_a_quiz(page, name):
    quiz = QUIZZES[name]
    view = page.locator(QUIZ).filter(has_text=quiz.question.split("`")[0])
    for option in (next(each for each in quiz.options if each != quiz.right), quiz.right):
        view.get_by_label(option, exact=True).focus()
        page.keyboard.press("Space")
        label = "Right." if option == quiz.right else "Not so."
        view.locator("[role=status]", has_text=label).wait_for()


def solve(page, notebook, exercise):
    """Type a solution in place of the stub, and run it."""
    place = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"].index(exercise.place)
    cell = page.locator(".jp-CodeCell").nth(place)
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(f"{exercise.solution.strip()}\n\n\n{exercise.check}")
    page.keyboard.press("Control+Enter")
    cell.locator(".jp-OutputArea-output", has_text="Right").wait_for()


def look_about(page):
    """Go to the explorer's picture, move about by keys, and see it answer."""
    page.locator(f"{EXPLORER} .mx-stage").first.focus()
    page.keyboard.press("Control+Home")
    page.wait_for_function(f"document.querySelector('{EXPLORER}').dataset.query === '0'")
    assert page.locator(f"{EXPLORER} canvas").count() > 1


def take_the_explorer_along(page, browser, notebook, folder):
    """Add a cell that writes the explorer as a page, and open that where there is no kernel."""
    shown = re.search(r"explorer\.show\((\w+)", "\n".join(cell.source for cell in notebook.cells))[1]
    page.locator(".jp-NotebookPanel-toolbar [data-command='notebook:insert-cell-below']").first.click()
    page.keyboard.press("Enter")
    page.keyboard.insert_text(f'explorer.export_html({shown}, "seen.html"); print("written")')
    page.keyboard.press("Control+Enter")
    page.locator(".jp-OutputArea-output", has_text=re.compile("^written")).wait_for()
    alone = browser.new_page()
    alone.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
    alone.on("pageerror", lambda error: page.said.append(str(error)))
    alone.goto((folder / "seen.html").as_uri())
    alone.locator(f"{EXPLORER} .mx-stage").focus()
    alone.keyboard.press("Control+Home")
    alone.wait_for_function(f"document.querySelector('{EXPLORER}').dataset.query === '0'")
    alone.close()


def passed(page, count):
    page.locator(BAR, has_text=f": {count} of").wait_for()


def saved(page, path):
    """Save the notebook as a reader does and return it."""
    before = path.stat().st_mtime_ns
    page.locator(".jp-NotebookPanel-toolbar [data-command='docmanager:save']").first.click()
    until = time.monotonic() + 20
    while path.stat().st_mtime_ns == before and time.monotonic() < until:
        page.wait_for_timeout(200)
    return nbformat.read(path, nbformat.NO_CONVERT)


@pytest.mark.slow
def test_a_newcomer_meets_no_error_from_run_all_to_the_explorer(clone, browser, page, tmp_path):
    """Takes as long as notebook 1 and a JupyterLab: it is the one way that every reader goes."""
    path = clone / f"notebooks/{NAME}.ipynb"
    source = nbformat.read(path, nbformat.NO_CONVERT)
    exercise = next(each for each in taught.exercises(source) if each.kind == "implement")
    quiz = taught.quizzes(source)[0]
    with jupyter.server(tmp_path) as address:
        jupyter.open_notebook(page, address, f"project/notebooks/{NAME}.ipynb")
        run_all(page, sum(cell.cell_type == "code" for cell in source.cells))
        passed(page, 0)
        move_a_slider(page)
        answer_a_quiz(page, quiz)
        passed(page, 1)
        solve(page, source, exercise)
        passed(page, 2)
        look_about(page)
        take_the_explorer_along(page, browser, source, clone / "notebooks")
        notebook = saved(page, path)
        log = (tmp_path / "lab.log").read_text()  # the server's own and the kernel's
    kept_file = json.loads((clone / "notebooks" / kept.NAME).read_text())
    assert kept_file["done"].keys() == {quiz, exercise.name}
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ] == []
    assert page.said == []
    assert LOGGED.findall(log) == []
    assert {url.split("/")[2].split(":")[0] for url in page.asked if url.startswith(("http", "ws"))} == {
        "127.0.0.1"
    }
