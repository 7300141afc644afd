"""Write the repository's address everywhere it is needed: `python -m notebooks.publish owner/name`.

The address has one home, the line `REPOSITORY = "..."` of `notebooks/source/_setup.py`. What is built from it follows:
the setup cell of the committed notebooks, and the README's badge row.
"""

import re
import sys
from pathlib import Path

import nbformat

from mqa_lib import checks

HOST = "https://github.com"
OPEN_IN_COLAB = "https://colab.research.google.com"
MARKS = ("<!-- badges -->", "<!-- /badges -->")
_FORM = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
_LINE = re.compile(r'^REPOSITORY = "[^"\n]*"', re.MULTILINE)


def repository(text: str) -> str:
    """Return `text` if it reads owner/name.

    Raises:
        ValueError: It does not.
    """
    if not _FORM.fullmatch(text) or text.endswith((".git", "/.", "/..")):
        raise checks.refuse(
            "REPO", repr(text), "must be of the form owner/name", "Use `make publish REPO=owner/name`."
        )
    return text


def with_address(setup: str, address: str) -> str:
    """Return the setup cell with `address` as the place that is cloned.

    Raises:
        ValueError: The cell has no line for it.
    """
    changed, count = _LINE.subn(f'REPOSITORY = "{address}"', setup)
    if count != 1:
        raise checks.refuse(
            "_setup.py", f"{count} lines", "must have one line `REPOSITORY = ...`", "Put it back."
        )
    return changed


def badges(repo: str, names: list[str], branch: str = "main") -> str:
    """Return the badge row: whether the tests pass, and each notebook's way to Colab."""
    tests = f"{HOST}/{repo}/actions/workflows/ci.yml"
    row = [f"[![Tests]({tests}/badge.svg)]({tests})"]
    for name in names:
        target = f"{OPEN_IN_COLAB}/github/{repo}/blob/{branch}/notebooks/{name}.ipynb"
        row.append(f"[![Open {name[:2]} in Colab]({OPEN_IN_COLAB}/assets/colab-badge.svg)]({target})")
    return "\n".join(row)


def with_badges(readme: str, row: str) -> str:
    """Return the README with `row` between its two marks; one mark alone gets its partner.

    Raises:
        ValueError: The README has no mark, or the closing one comes first.
    """
    start, end = MARKS
    if start not in readme:
        raise checks.refuse("README.md", "no mark", f"must hold `{start}`", "Put that line under the title.")
    if end not in readme:
        readme = readme.replace(start, f"{start}\n{end}", 1)
    head, rest = readme.split(start, 1)
    if end not in rest:
        raise checks.refuse(
            "README.md", "marks", f"must hold `{end}` after `{start}`", "Put the two lines in order."
        )
    return f"{head}{start}\n{row}\n{end}{rest.split(end, 1)[1]}"


def publish(root: Path, repo: str, branch: str = "main") -> list[Path]:
    """Write the address into the setup cell, the committed notebooks and the README under `root`; return the files.

    Raises:
        ValueError: `repo` is not owner/name, or a place to write it is missing. Nothing is written then.
    """
    address = f"{HOST}/{repository(repo)}"
    setup = root / "notebooks/source/_setup.py"
    committed = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    names = sorted(path.stem for path in (root / "notebooks/source").glob("[0-9][0-9]_*.py"))
    readme = root / "README.md"
    texts = {
        setup: with_address(setup.read_text(encoding="utf-8"), address),
        readme: with_badges(readme.read_text(encoding="utf-8"), badges(repo, names, branch)),
    }
    for path in committed:
        notebook = nbformat.read(path, nbformat.NO_CONVERT)
        for cell in notebook.cells:
            if "setup" in cell.metadata.get("tags", []):
                cell.source = texts[setup].strip()
        texts[path] = nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def main(arguments: list[str]) -> int:
    """Publish under the name given on the command line; return the exit code."""
    root = Path(__file__).resolve().parents[1]
    try:
        written = publish(root, arguments[0] if arguments else "")
    except ValueError as refusal:
        print(refusal, file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
