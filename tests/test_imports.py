"""Imports run one way, each third party has one door, and `import mqa_lib` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mqa_lib"
# A module may import only from the ranks below its own, or from its own package.
RANKS = (
    {"checks", "bootstrap", "locking"},
    {"download", "functional", "cost", "timing", "pictures", "npz"},
    {"datasets"},
    {"kernels", "sampling"},
    {"attention"},
    {"blocks"},
    {"published", "hooks", "fold", "transfer", "trace"},
    {"decoder"},
    {"probe", "record", "bench"},
    {"plots"},
    {"explorer", "rtdetr", "contact_sheet"},
    {"experiments", "doctor"},
    {"exercises"},
    {"labs"},
    {"__main__"},
)
# The setup cell's helper ends by handing over to the doctor, once everything can be imported.
HANDS_OVER = {("bootstrap", "doctor")}
DOORS = {
    "matplotlib": {"plots"},
    "seaborn": {"plots"},
    "ultralytics": {"rtdetr"},
    "ipywidgets": {"exercises", "labs"},
    "anywidget": {"explorer"},
    "ray": {"experiments"},
}
HEAVY = {
    "ultralytics",
    "matplotlib",
    "seaborn",
    "ipywidgets",
    "anywidget",
    "timm",
    "torchvision",
    "PIL",
    "pandas",
    "ray",
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[tuple[str, str]]:
    """Return (top-level package, module below it) of every import, inside functions too."""
    pairs = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            pairs |= {(*alias.name.split("."), "")[:2] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            top, _, rest = node.module.partition(".")
            pairs |= {(top, rest.split(".")[0] or alias.name) for alias in node.names}
    return pairs


def ours(path: Path) -> set[str]:
    return {name for top, name in imported(path) if top == "mqa_lib"}


def rank(module: str) -> int:
    return next(place for place, names in enumerate(RANKS) if module in names)


def loaded_by(statement: str) -> set[str]:
    """Return the heavy packages that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return HEAVY & set(run.stdout.split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_ranks_below_it(path):
    own = module_of(path)
    assert any(own in names for names in RANKS), f"give {own} a rank in {Path(__file__).name}"
    known = set().union(*RANKS)
    upwards = {name for name in ours(path) & known if name != own and rank(name) >= rank(own)}
    assert {(own, name) for name in upwards} <= HANDS_OVER


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_third_party_is_imported_only_by_its_door(path):
    tops = {top for top, _ in imported(path)}
    assert {top for top in tops & DOORS.keys() if module_of(path) not in DOORS[top]} == set()


def test_a_relative_import_would_slip_through_and_is_not_used():
    def relative(path):
        return any(isinstance(n, ast.ImportFrom) and n.level for n in ast.walk(ast.parse(path.read_text())))

    assert [path.name for path in FILES if relative(path)] == []


def test_importing_the_library_loads_nothing_heavy():
    assert loaded_by("import mqa_lib") == set()


def test_the_test_above_can_fail():
    assert {"matplotlib", "seaborn"} <= loaded_by("import mqa_lib.plots")


def test_the_reader_of_imports_sees_those_inside_functions(tmp_path):
    file = tmp_path / "labs.py"
    file.write_text(
        "def f():\n    import ultralytics.nn\n    from mqa_lib import plots\n    from mqa_lib.record import x\n"
    )
    assert imported(file) == {("ultralytics", "nn"), ("mqa_lib", "plots"), ("mqa_lib", "record")}


def test_the_public_names_exist_and_are_few():
    import mqa_lib

    assert len(mqa_lib.__all__) <= 15
    assert all(hasattr(mqa_lib, name) for name in mqa_lib.__all__)
