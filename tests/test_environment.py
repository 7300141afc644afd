"""The lists of what is installed agree, whichever way somebody installs."""

import os
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
WANTED = [*PROJECT["dependencies"], *EXTRAS["lab"], *EXTRAS["dev"]]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PIP_LIST = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
PINS = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
]
OFFLINE = ("Temporary failure in name resolution", "Name or service not known", "Network is unreachable")


def pinned() -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in PINS)}


def test_conda_gets_the_lists_of_pyproject():
    assert [entry for entry in PIP_LIST if not entry.startswith("-")] == WANTED


def test_conda_gets_the_same_versions_and_the_library_itself():
    assert [entry for entry in PIP_LIST if entry.startswith("-")] == ["-c constraints.txt", "-e ."]


def test_conda_gets_a_python_that_pyproject_allows():
    python = next(entry for entry in CONDA["dependencies"] if str(entry).startswith("python"))
    lowest = SpecifierSet(python.removeprefix("python"))
    assert "3.11.0" in lowest and "3.10.14" not in lowest
    assert "3.11.0" in SpecifierSet(PROJECT["requires-python"]) and "3.10.14" not in SpecifierSet(
        PROJECT["requires-python"]
    )


@pytest.mark.parametrize("wanted", WANTED)
def test_a_requirement_is_pinned_within_its_bounds(wanted):
    requirement = Requirement(wanted)
    assert requirement.specifier.contains(pinned()[requirement.name.lower()])


@pytest.mark.parametrize("wanted", WANTED)
def test_a_requirement_has_a_lower_and_an_upper_bound(wanted):
    assert {clause.operator for clause in Requirement(wanted).specifier} >= {">=", "<"}


def test_a_pin_is_one_plain_version():
    assert [line for line in PINS if line.count("==") != 1 or "+" in line or "@" in line] == []


@pytest.mark.slow
def test_the_conda_list_can_be_installed_into_a_fresh_environment(tmp_path):
    """Takes about half a minute: pip has to resolve the whole set, which is what this proves; nothing is installed."""
    venv.create(tmp_path / "fresh", with_pip=True)
    (tmp_path / "list.txt").write_text("\n".join(entry for entry in PIP_LIST if not entry.startswith("-")))
    python = tmp_path / "fresh" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [
        python,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "-q",
        "-r",
        tmp_path / "list.txt",
        "-c",
        ROOT / "constraints.txt",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode and any(sign in run.stderr for sign in OFFLINE):
        pytest.skip("no package index can be reached from here")
    assert run.returncode == 0, run.stderr[-2000:]


def test_the_tests_run_in_what_pyproject_allows():
    from mqa_lib import bootstrap

    assert [str(requirement) for requirement in bootstrap.unmet(map(Requirement, WANTED))] == []


def test_make_says_so_where_no_python_is_new_enough(tmp_path):
    command = ["make", "-C", str(ROOT), "setup", "PYTHON=no-such-python", f"VENV={tmp_path}/none"]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""})
    assert run.returncode != 0
    assert "Python >= 3.11" in run.stderr and "no-such-python" in run.stderr


def test_make_lists_its_commands():
    run = subprocess.run(
        ["make", "-C", str(ROOT), "help"], capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""}
    )
    assert all(
        f"make {name} " in run.stdout
        for name in ("tutorial", "test", "lab", "notebooks", "bench", "lint", "clean")
    )
