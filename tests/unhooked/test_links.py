"""Every link in the repository's prose leads to something; other hosts are not asked."""

import re
from pathlib import Path

import nbformat
import pytest

from notebooks import sources
from tests.unhooked import linked

PROSE = [sources.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")]
PROSE += sorted((sources.ROOT / "notebooks").glob("*.md")) + sorted((sources.ROOT / "mqa_lib").rglob("*.md"))
NOTEBOOKS = sorted((sources.ROOT / "notebooks").glob("*.ipynb"))


def slugs(text: str) -> set[str]:
    """Return the anchors that GitHub and the pages give to headings, and those written by hand."""
    headings = re.findall(
        r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings)
    return {*plain, *re.findall(r"\b(?:id|name)=[\"']([^\"']+)", text)}


def prose(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, nbformat.NO_CONVERT).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def dead(path: Path, text: str) -> list[str]:
    found = []
    outside = re.sub(r"^```.*?^```|`[^`\n]+`", "`", text, flags=re.DOTALL | re.MULTILINE)
    for url in [*linked.MARKDOWN.findall(outside), *re.findall(r"\b(?:href|src)=[\"']([^\"']+)", outside)]:
        if re.match(r"[a-z]+:", url):
            found += [url] if linked.badly_formed(url) else []
            continue
        file, _, anchor = url.partition("#")
        target = (path.parent / file) if file else path
        if not target.exists() or (anchor and target.is_file() and anchor not in slugs(prose(target))):
            found.append(url)
    return found


@pytest.mark.parametrize("path", [*PROSE, *NOTEBOOKS], ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(path):
    assert dead(path, prose(path)) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](no-such.md)", "no-such.md"),
        ("[a](README.md#no-such-heading)", "README.md#no-such-heading"),
        ("[a](https://nowhere)", "https://nowhere"),
        ('<a href="gone.html">a</a>', "gone.html"),
        ("[a](README.md#the-layer), [b](https://example.org/x)", None),
    ],
)
def test_a_dead_link_would_be_seen(text, wrong):
    assert dead(sources.ROOT / "x.md", text) == ([wrong] if wrong else [])
