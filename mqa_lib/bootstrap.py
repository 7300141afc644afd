"""What the notebooks' setup cell calls once it has found this file: install what is missing, say what is there.

It is run from its path, before `mqa_lib` can be imported, so it uses nothing but the standard library and `packaging`
(which comes with matplotlib, and inside pip).
"""

import importlib
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[1]
# A hosted notebook has these already, built for its driver and its front end. Replacing one breaks the session.
NEVER_TOUCHED = frozenset({"torch", "torchvision", "numpy", "matplotlib", "ipywidgets"})
# Needed to build the course, not to read it; and to export, to track and to train on several GPUs, for which a hosted
# notebook should not have its protobuf replaced.
BUILD_ONLY = frozenset({"jupyterlab", "jupytext", "latex2mathml", "nbclient"})
BUILD_ONLY |= {"myst-nb", "pydata-sphinx-theme", "sphinx"}
BUILD_ONLY |= {"cloudpickle", "lap", "onnx", "onnxruntime", "onnxscript", "onnxslim"}


def declared(extra: str = "") -> list[Requirement]:
    """Return what `pyproject.toml` asks for in one extra, or in the core for "".

    The file beside the package wins over the metadata of an installation, which may be of another version.
    """
    file = ROOT / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return [Requirement(text) for text in _of_extra(project, extra)]
    chosen = []
    for requirement in map(Requirement, metadata.requires("mqa-lib") or []):
        marker, requirement.marker = requirement.marker, None
        if (marker is None and not extra) or (
            marker is not None and extra and marker.evaluate({"extra": extra})
        ):
            chosen.append(requirement)
    return chosen


def _of_extra(project: dict, extra: str) -> list[str]:
    return project["optional-dependencies"][extra] if extra else project["dependencies"]


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def unmet(requirements: Iterable[Requirement]) -> list[Requirement]:
    """Return the requirements whose distribution is absent or of a version outside the bounds.

    Being importable is not asked: a hosted notebook may bring an old version of anything.
    """
    found = ((r, installed(r.name)) for r in requirements)
    return [
        r for r, version in found if version is None or not r.specifier.contains(version, prereleases=True)
    ]


def canonical(name: str) -> str:
    """Return a distribution's name as indexes spell it."""
    return name.lower().replace("_", "-").replace(".", "-")


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def install(wanted: list[Requirement]) -> list[str]:
    """Install `wanted`, then what those need in turn, each without its dependencies; return the names.

    `--no-deps` is what keeps the untouched packages untouched: one careless bound anywhere in the tree would
    otherwise replace torch under a running session.

    Raises:
        RuntimeError: pip failed; the message is pip's last line and the command.
    """
    done: list[str] = []
    while wanted := [r for r in wanted if canonical(r.name) not in NEVER_TOUCHED | set(done)]:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += [f"{r.name}{r.specifier}" for r in wanted]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            last = (run.stderr.strip() or "pip said nothing").splitlines()[-1]
            quoted = " ".join(f'"{part}"' if set(part) & set("<>=") else part for part in command[1:])
            raise RuntimeError(f"Could not install what is missing: {last} Try by hand: python {quoted}")
        importlib.invalidate_caches()
        done += [canonical(r.name) for r in wanted]
        needed = [Requirement(text) for r in wanted for text in metadata.requires(r.name) or []]
        wanted = unmet(r for r in needed if _applies(r))
    return done


def prepare() -> None:
    """Make `import mqa_lib` work in this session, then print the doctor's one line.

    Safe to run again: it installs nothing where nothing is missing.

    Raises:
        RuntimeError: Python is too old, or pip could not install what is missing.
    """
    if sys.version_info < (3, 11):  # noqa: UP036  (a copied folder has no installer to ask)
        raise RuntimeError(f"Python {platform.python_version()} is too old. Use 3.11 or newer.")
    os.environ.setdefault("MQA_MODE", "quick")
    os.environ.setdefault(
        "YOLO_AUTOINSTALL", "false"
    )  # ultralytics would call pip by itself, dependencies and all
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    # So that `python -m mqa_lib`, started from a notebook, finds the same copy.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(p for p in paths if p and p != str(ROOT))])
    loaded = {name.partition(".")[0] for name in sys.modules}
    course = [r for r in declared() + declared("lab") if canonical(r.name) not in BUILD_ONLY]
    new = install(unmet(course))
    if new:
        print(f"Installed: {', '.join(new)}.")
        owners = metadata.packages_distributions()
        if stale := sorted(m for m in loaded if set(map(canonical, owners.get(m, []))) & set(new)):
            print(f"Restart the session once: an older {', '.join(stale)} was already loaded.")
    from mqa_lib import doctor

    print(doctor.one_line())
