"""One page about this machine: what is there, what is missing, and the one command that mends each line."""

import functools
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from mqa_lib import bootstrap

FREE_GB_FOR_COURSE = 2.0
RAM_GB_FOR_COURSE = 4.0
# Drawn on by the operating systems; one of them lets pictures carry Chinese, Japanese or Korean words.
_CJK_FONTS = (
    "NotoSansCJK",
    "NotoSerifCJK",
    "SourceHanSans",
    "wqy-",
    "simhei",
    "msyh",
    "PingFang",
    "Hiragino",
    "YuGoth",
)
_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
)


@dataclass(frozen=True)
class Finding:
    """One line of the page.

    Attributes:
        state: "ok", "note" (worth knowing, nothing to do), or "mend" (something will not work).
        name: What was looked at.
        said: What was found.
        mend: The one command that mends it; empty where nothing is to be mended.
    """

    state: str
    name: str
    said: str
    mend: str = ""


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036  (a copied folder has no installer to ask)
        return Finding("mend", "Python", f"{version}, the course needs 3.11", "make setup PYTHON=python3.12")
    return Finding("ok", "Python", version)


def _ram() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return Finding("note", "RAM", "unknown on this system")
    if total < RAM_GB_FOR_COURSE:
        return Finding(
            "note", "RAM", f"{total:.0f} GB, training wants {RAM_GB_FOR_COURSE:.0f}: close other notebooks"
        )
    return Finding("ok", "RAM", f"{total:.0f} GB")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    if free < FREE_GB_FOR_COURSE:
        return Finding(
            "mend", "disk", f"{free:.1f} GB free, the course wants {FREE_GB_FOR_COURSE:.0f}", "make clean"
        )
    return Finding("ok", "disk", f"{free:.0f} GB free")


def device() -> str:
    """Return what PyTorch would compute on, in a few words."""
    if torch.cuda.is_available():
        return f"GPU {torch.cuda.get_device_name(0)}"
    if torch.backends.mps.is_available():
        return "GPU of this Mac (mps)"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)}"


def _device() -> Finding:
    if hosted() and not torch.cuda.is_available():
        return Finding("note", "device", f"{device()}; for a GPU: Runtime > Change runtime type > T4 GPU")
    return Finding("ok", "device", device())


def hosted() -> bool:
    """Return whether this is a session on Colab."""
    return "google.colab" in sys.modules


def packages(extra: str = "") -> list[Finding]:
    """Return a line for each requirement of the core (extra "") or of an extra, held against its bounds.

    A missing package of an extra is only noted: the layer works without it.
    """
    lines = []
    for requirement in bootstrap.declared(extra):
        version = bootstrap.installed(requirement.name)
        bounds = ",".join(sorted(str(requirement.specifier).split(","), reverse=True))
        command = f'python -m pip install "{requirement.name}{requirement.specifier}"'
        if hosted() and bootstrap.canonical(requirement.name) in bootstrap.NEVER_TOUCHED:
            command = "choose another version under Runtime > Change runtime type"
        if version is None:
            state = "note" if extra else "mend"
            lines.append(Finding(state, requirement.name, f"not installed ({bounds})", command))
        elif not requirement.specifier.contains(version, prereleases=True):
            lines.append(Finding("mend", requirement.name, f"{version}, the range is {bounds}", command))
        else:
            lines.append(Finding("ok", requirement.name, f"{version} ({bounds})"))
    return lines


def _torch_pair() -> Finding:
    """Return whether torchvision was built for this torch; a wrong pair fails at import with a riddle."""
    if find_spec("torchvision") is None:
        return Finding("note", "torch pair", "torchvision is not installed")
    run = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    if run.returncode:
        last = (run.stderr.strip() or "no message").splitlines()[-1]
        command = "python -m pip install --upgrade torch torchvision"
        return Finding("mend", "torch pair", f"torchvision does not fit torch: {last}", command)
    return Finding("ok", "torch pair", "torchvision fits torch")


def _widgets() -> list[Finding]:
    version = bootstrap.installed("ipywidgets")
    if version is None:
        return [
            Finding("note", "widgets", "ipywidgets is not installed; every widget has a picture beneath it")
        ]
    lines = [Finding("ok", "widgets", f"ipywidgets of major version {version.split('.')[0]}")]
    front = Path(sys.prefix, "share/jupyter/labextensions/anywidget")
    if bootstrap.installed("anywidget") is None:
        lines.append(
            Finding(
                "note", "front end", "anywidget is not installed; the pictures beneath the widgets remain"
            )
        )
    elif hosted():
        lines.append(Finding("ok", "front end", "anywidget switches it on by itself here"))
    elif front.is_dir():
        lines.append(Finding("ok", "front end", "anywidget's files are where JupyterLab looks"))
    else:
        command = "python -m pip install --force-reinstall --no-deps anywidget"
        lines.append(
            Finding("mend", "front end", "anywidget's files are not where JupyterLab looks", command)
        )
    return lines


def _fonts() -> Finding:
    files = (
        file.name for folder in _FONT_FOLDERS for file in Path(folder).expanduser().glob("**/*.[to]t[fc]")
    )
    found = next((name for name in files if any(mark.lower() in name.lower() for mark in _CJK_FONTS)), None)
    if found is None:
        return Finding(
            "note", "fonts", "no Chinese, Japanese or Korean font; the course's pictures need none"
        )
    return Finding("ok", "fonts", f"{found} for Chinese, Japanese or Korean words")


def _ultralytics() -> Finding:
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        return Finding("note", "detector", "ultralytics is not installed; the layer works without it")
    copies = [entry for entry in sys.path if Path(entry, "ultralytics", "__init__.py").is_file()]
    where = Path(spec.origin).parent
    if len(set(copies)) > 1:
        command = "python -m pip uninstall ultralytics"
        return Finding(
            "mend", "detector", f"{len(set(copies))} copies of ultralytics; {where} would be used", command
        )
    if wrong := _tried_out():
        wanted = next((str(r) for r in bootstrap.declared("lab") if r.name == "ultralytics"), "ultralytics")
        said = f"our models do not work with the installed ultralytics: {wrong}"
        return Finding("mend", "detector", said, f'python -m pip install "{wanted}"')
    return Finding("ok", "detector", f"ultralytics is read from {where}; our models build and answer with it")


@functools.cache
def _tried_out() -> str:
    """Return what went wrong when a process of its own built our models and let them answer, else nothing."""
    code = "from mqa_lib.rtdetr import build; build.try_out()"
    run = subprocess.run([sys.executable, "-c", code], cwd=bootstrap.ROOT, capture_output=True, text=True)
    return (run.stderr.strip() or "no message").splitlines()[-1] if run.returncode else ""


def report() -> list[Finding]:
    """Return every line of the page, in the order in which it is read."""
    return [
        _python(),
        Finding("ok", "system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        _ram(),
        _disk(Path.cwd()),
        _device(),
        *packages(),
        *packages("lab"),
        _torch_pair(),
        *_widgets(),
        _fonts(),
        _ultralytics(),
        Finding("ok", "network", "not asked for: quick mode reads only what is in data/"),
        Finding("ok", "mode", f"MQA_MODE is {os.environ.get('MQA_MODE', 'quick')}"),
    ]


def page(lines: list[Finding]) -> str:
    """Return the lines as text, each mending command under the line it mends."""
    wide = max(len(line.name) for line in lines)
    text = []
    for line in lines:
        text.append(f"{line.state:>4}  {line.name:<{wide}}  {line.said}")
        if line.mend:
            text.append(f"{'':>4}  {'':<{wide}}  -> {line.mend}")
    broken = sum(line.state == "mend" for line in lines)
    text.append("Everything the course needs is here." if not broken else f"To mend: {broken}.")
    return "\n".join(text)


def one_line() -> str:
    """Return the page's gist: versions, device, mode, and whether the long page is worth reading."""
    from mqa_lib import __version__

    broken = [line for line in (_python(), *packages(), *packages("lab")) if line.state == "mend"]
    gist = f"mqa_lib {__version__} · Python {platform.python_version()} · torch {torch.__version__.partition('+')[0]}"
    gist += f" · {device()} · {os.environ.get('MQA_MODE', 'quick')} mode"
    if broken:
        names = ", ".join(line.name for line in broken)
        return f"{gist} · out of range: {names} (python -m mqa_lib doctor says how to mend it)"
    return f"{gist} · all versions in range"


def main() -> int:
    """Print the page; return 1 if a line has to be mended, else 0."""
    lines = report()
    print(page(lines))
    return int(any(line.state == "mend" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
