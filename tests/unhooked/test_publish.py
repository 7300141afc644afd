"""Publishing writes the address once, and everything built from it follows."""

import shutil

import nbformat
import pytest

from notebooks import publish, sources

REPO = "somebody/mobile-mqa"
README = "# Title\n\n<!-- badges -->\n\nText stays.\n"


@pytest.fixture
def project(tmp_path):
    """Return a copy of what publishing touches, with one small committed notebook."""
    folder = tmp_path / "notebooks" / "source"
    folder.mkdir(parents=True)
    shutil.copy(sources.SETUP, folder)
    (folder / "01_small.py").write_text('# %% tags=["setup"]\n\n# %% tags=["result"]\nprint(1)\n')
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "notebooks/01_small.ipynb").write_text(sources.dumps(sources.read("01_small", folder)))
    return tmp_path


def setup_of(path):
    return next(
        cell.source for cell in nbformat.read(path, 4).cells if "setup" in cell.metadata.get("tags", [])
    )


def test_the_address_reaches_the_setup_cell_and_every_committed_notebook(project):
    publish.publish(project, REPO)
    cell = (project / "notebooks/source/_setup.py").read_text()
    assert f'REPOSITORY = "https://github.com/{REPO}"' in cell
    assert setup_of(project / "notebooks/01_small.ipynb") == cell.strip()


def test_the_setup_cell_still_is_python(project):
    publish.publish(project, REPO)
    compile((project / "notebooks/source/_setup.py").read_text(), "_setup.py", "exec")


def test_the_readme_gets_a_badge_for_the_tests_and_one_for_each_notebook(project):
    publish.publish(project, REPO)
    text = (project / "README.md").read_text()
    assert f"{REPO}/actions/workflows/ci.yml/badge.svg" in text
    assert f"/github/{REPO}/blob/main/notebooks/01_small.ipynb" in text
    assert text.startswith("# Title\n") and text.endswith("\n\nText stays.\n")


def test_publishing_twice_is_publishing_once(project):
    publish.publish(project, "first/name")
    publish.publish(project, REPO)
    once = {path: path.read_text() for path in publish.publish(project, REPO)}
    assert not any("first/name" in text for text in once.values())
    assert {path: path.read_text() for path in publish.publish(project, REPO)} == once


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "name",
        "https://github.com/owner/name",
        "owner/name/more",
        "owner/na me",
        "-owner/name",
        'o/n"',
        "o/n.git",
        "o/..",
    ],
)
def test_another_form_is_refused_and_nothing_is_written(project, wrong):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"must be of the form owner/name.*make publish REPO=owner/name"):
        publish.publish(project, wrong)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_a_readme_without_the_mark_is_refused_and_nothing_is_written(project):
    (project / "README.md").write_text("# Title\n")
    with pytest.raises(ValueError, match="badges"):
        publish.publish(project, REPO)
    assert 'REPOSITORY = ""' in (project / "notebooks/source/_setup.py").read_text()


def test_the_project_itself_has_the_places_to_write_to():
    assert publish.with_address(sources.setup_cell(), "x").count('REPOSITORY = "x"') == 1
    readme = (sources.ROOT / "README.md").read_text()
    assert "row" in publish.with_badges(readme or README, "row")


def test_the_command_says_what_is_wrong_without_a_traceback(capsys):
    assert publish.main(["nonsense"]) == 2
    assert "owner/name" in capsys.readouterr().err
