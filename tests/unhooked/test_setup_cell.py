"""The setup cell, from folders as people have them: nothing but a notebook, a zip beside it, an address to clone."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from mqa_lib import bootstrap
from notebooks import build, publish, sources
from tests.unhooked.test_explorer import made

SITE = Path(sysconfig.get_path("purelib"))
OLD_WIDGETS = "7.7.1"  # what Colab has


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """Return a fresh Python that has none of our packages and does not know mqa_lib."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """Return a git repository that holds the project as it is in the working folder."""
    folder = tmp_path_factory.mktemp("address") / "project"
    keep = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "pyproject.toml", "mqa_lib"],
        cwd=sources.ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in keep:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((sources.ROOT / name).read_bytes())
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def run_cell(python, folder, cell=None, site=SITE, then="", **environment):
    """Run the setup cell in `folder`; the packages are seen through PYTHONPATH, where editable installs are not."""
    clean = {key: value for key, value in os.environ.items() if key not in ("MQA_MODE", "PYTHONPATH")}
    code = f"{cell or sources.setup_cell()}\nimport mqa_lib\nprint(mqa_lib.__file__)\n{then}"
    env = {**clean, "PYTHONPATH": os.fspath(site), **environment}
    return subprocess.run([python, "-c", code], cwd=folder, env=env, capture_output=True, text=True)


def test_the_cell_is_short():
    assert len(sources.setup_cell().splitlines()) < 15


def test_the_cell_names_no_package_that_must_not_be_touched():
    assert not any(name in sources.setup_cell() for name in (*bootstrap.NEVER_TOUCHED, "google", "pip"))


def test_alone_in_an_empty_folder_it_says_what_to_do(bare_python, tmp_path):
    unpublished = publish.with_address(sources.setup_cell(), "")
    run = run_cell(bare_python, tmp_path, unpublished)
    assert run.returncode != 0
    assert "Put the project's zip beside this notebook" in run.stderr.splitlines()[-1]


@pytest.mark.parametrize("prefix", ["", "project-main/"])
def test_a_zip_beside_the_notebook_is_enough(bare_python, committed, tmp_path, prefix):
    archive = tmp_path / "anything.zip"
    command = ["git", "archive", "--format=zip", f"--prefix={prefix}", "-o", archive, "HEAD"]
    subprocess.run([part for part in command if part != "--prefix="], cwd=committed, check=True)
    run = run_cell(bare_python, tmp_path)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path / "mobile-mqa" / prefix / "mqa_lib") in run.stdout
    assert "quick mode" in run.stdout


def test_another_zip_beside_it_is_left_alone(bare_python, committed, tmp_path):
    subprocess.run(
        ["git", "archive", "--format=zip", "-o", tmp_path / "ours.zip", "HEAD"], cwd=committed, check=True
    )
    subprocess.run([sys.executable, "-m", "zipfile", "-c", "data.zip", __file__], cwd=tmp_path, check=True)
    (tmp_path / "broken.zip").write_bytes(b"an upload that was cut off")
    assert run_cell(bare_python, tmp_path).returncode == 0
    assert not any((tmp_path / "mobile-mqa").rglob(Path(__file__).name))


def test_the_published_address_is_cloned(bare_python, committed, tmp_path):
    cell = publish.with_address(sources.setup_cell(), committed.as_uri())
    run = run_cell(bare_python, tmp_path, cell)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "mobile-mqa/.git").is_dir() and str(tmp_path / "mobile-mqa") in run.stdout


def test_running_it_again_changes_nothing(bare_python, committed, tmp_path):
    cell = publish.with_address(sources.setup_cell(), committed.as_uri())
    run = run_cell(bare_python, tmp_path, cell, then=cell)
    assert run.returncode == 0, run.stderr
    assert "Installed" not in run.stdout
    assert run.stdout.count("quick mode") == 2


def test_inside_the_project_the_folder_above_is_used(bare_python, committed):
    (committed / "notebooks").mkdir(exist_ok=True)
    run = run_cell(bare_python, committed / "notebooks")
    assert str(committed / "mqa_lib") in run.stdout, run.stderr
    assert not (committed / "notebooks/mobile-mqa").exists()


def test_a_command_started_from_the_notebook_finds_the_same_copy(bare_python, committed, tmp_path):
    cell = publish.with_address(sources.setup_cell(), committed.as_uri())
    ask = (
        "import sys; print(subprocess.run([sys.executable, '-c', 'import mqa_lib; print(mqa_lib.__file__)'], "
    )
    run = run_cell(bare_python, tmp_path, cell, then=f"{ask}capture_output=True, text=True, cwd='/').stdout)")
    assert len({line for line in run.stdout.splitlines() if line.endswith("__init__.py")}) == 1, run.stderr


def test_the_mode_is_left_as_it_was_set(bare_python, committed):
    run = run_cell(bare_python, committed, MQA_MODE="full")
    assert "full mode" in run.stdout, run.stderr


def test_a_missing_package_is_installed_with_what_it_needs_and_nothing_else(bare_python, committed, tmp_path):
    """jaxtyping and the one package it needs are hidden; both must come back, and torch must not be asked for."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in SITE.iterdir():
        if not entry.name.startswith(("jaxtyping", "wadler_lindig")):
            (site / entry.name).symlink_to(entry)
    run = run_cell(bare_python, committed, site=site)
    if "No matching distribution" in run.stderr:
        pytest.skip("no package index can be reached from here")
    assert run.returncode == 0, run.stderr
    assert "Installed: jaxtyping, wadler-lindig." in run.stdout


def fake_pip(monkeypatch, have):
    """Let bootstrap believe that `have` is installed, and record what it would give to pip."""
    asked = []
    monkeypatch.setattr(bootstrap, "installed", have.get)
    monkeypatch.setattr(
        bootstrap.metadata, "requires", lambda name: {"b": ["torch>99", "c>=2", "d ; extra == 'x'"]}.get(name)
    )
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda command, **_: asked.append(command) or done)
    return asked


def test_versions_are_compared_not_importability(monkeypatch):
    monkeypatch.setattr(bootstrap, "installed", {"a": "1.9", "b": "2.5"}.get)
    wanted = [Requirement("a>=2,<3"), Requirement("b>=2,<3"), Requirement("c")]
    assert [requirement.name for requirement in bootstrap.unmet(wanted)] == ["a", "c"]


def test_what_must_not_be_touched_never_reaches_pip(monkeypatch):
    asked = fake_pip(monkeypatch, {"torch": "1.0"})
    done = bootstrap.install(
        [Requirement(f"{name}>=99") for name in sorted(bootstrap.NEVER_TOUCHED)] + [Requirement("b>=1")]
    )
    assert done == ["b", "c"]
    assert all("--no-deps" in command for command in asked)
    assert [command[-1] for command in asked] == ["b>=1", "c>=2"]


def test_nothing_missing_means_pip_is_not_called(monkeypatch):
    asked = fake_pip(monkeypatch, {"b": "1.0"})
    assert bootstrap.install(bootstrap.unmet([Requirement("b>=1")])) == []
    assert asked == []


def test_a_failing_pip_is_reported_with_quoted_bounds(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "Looking\nERROR: no such thing\n")
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda command, **_: failed)
    with pytest.raises(RuntimeError, match=r'no such thing.*pip install.*"b<3,>=1"'):
        bootstrap.install([Requirement("b>=1,<3")])


@pytest.fixture(scope="module")
def old_widgets(tmp_path_factory):
    """Return a folder with the ipywidgets of Colab, to be put before the installed one."""
    folder = tmp_path_factory.mktemp("widgets")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder]
    run = subprocess.run(
        [*command, f"ipywidgets=={OLD_WIDGETS}", "ipython_genutils"], capture_output=True, text=True
    )
    if run.returncode:
        pytest.skip(f"ipywidgets {OLD_WIDGETS} cannot be had here: {run.stderr.strip().splitlines()[-1]}")
    return folder


def test_the_cell_accepts_the_widgets_of_colab(bare_python, committed, old_widgets):
    run = run_cell(
        bare_python, committed, then="import ipywidgets; print(ipywidgets.__version__)",
        PYTHONPATH=os.pathsep.join([str(old_widgets), str(SITE)]),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Installed" not in run.stdout and "in range" in run.stdout
    assert run.stdout.splitlines()[-1] == OLD_WIDGETS


SLIDER = """
import ipywidgets as widgets
assert widgets.__version__ == "{version}", widgets.__version__
picture = widgets.Image(format="png")
slider = widgets.IntSlider(value=3, min=1, max=7, continuous_update=False)
def redraw(change):
    picture.value = bytes([change["new"]])
slider.observe(redraw, "value")
slider.value = 5
assert picture.value == bytes([5])
widgets.VBox([slider, picture])
"""


def test_a_widget_works_in_a_kernel_with_the_widgets_of_colab(old_widgets, monkeypatch):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLIDER.format(version=OLD_WIDGETS))])
    monkeypatch.setenv("PYTHONPATH", str(old_widgets))
    run = build.execute("tiny", notebook, sources.ROOT / "notebooks")
    assert run.error == ""
    assert json.dumps(run.notebook).count("Interactive: run this cell") == 1


def test_a_quiz_works_with_the_widgets_of_colab(old_widgets, monkeypatch, tmp_path):
    code = "from mqa_lib import exercises\nname = next(iter(exercises.QUIZZES))\nview = exercises.quiz(name)\nview"
    then = "view.buttons.value = exercises.QUIZZES[name].right\nassert 'Right' in view.said.value"
    monkeypatch.setenv("PYTHONPATH", str(old_widgets))
    asked = f"import ipywidgets\nassert ipywidgets.__version__ == '{OLD_WIDGETS}'"
    cells = [nbformat.v4.new_code_cell(each) for each in (asked, code, then)]
    run = build.execute("tiny", nbformat.v4.new_notebook(cells=cells), tmp_path)
    assert run.error == "" and "<details>" in run.notebook.cells[1].outputs[0].data["text/html"]


def test_the_explorer_s_picture_and_sentence_are_saved_with_the_widgets_of_colab(
    old_widgets, monkeypatch, tmp_path
):
    made(5, 7).save(tmp_path / "one.npz")
    code = (
        f"import ipywidgets\nassert ipywidgets.__version__ == '{OLD_WIDGETS}'\n"
        "from mqa_lib import explorer, record\n"
        "view = explorer.show(record.AttentionRecord.load('one.npz'), query=17)"
    )
    monkeypatch.setenv("PYTHONPATH", str(old_widgets))
    cells = [nbformat.v4.new_code_cell(each) for each in (code, "view")]
    run = build.execute("tiny", nbformat.v4.new_notebook(cells=cells), tmp_path)
    assert run.error == ""
    for cell in run.notebook.cells:
        (data,) = (output.data for output in cell.outputs if "data" in output)
        assert "strongest key" in data["text/plain"] and len(data["image/png"]) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sources.names() if name[:2] in ("02", "04")])
def test_a_notebook_with_widgets_runs_with_those_of_colab(old_widgets, monkeypatch, name):
    """Takes as long as the notebooks: they are the ones whose widgets a reader on Colab sees first."""
    monkeypatch.setenv("PYTHONPATH", str(old_widgets))
    notebook = sources.read(name)
    asked = f'import ipywidgets\nassert ipywidgets.__version__ == "{OLD_WIDGETS}"'
    notebook.cells.append(nbformat.v4.new_code_cell(asked))
    run = build.execute(name, notebook, sources.ROOT / "notebooks")
    assert run.error == ""
