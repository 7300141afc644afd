"""What the pages need beyond Sphinx and MyST-NB: formulas as MathML, and the words of each picture."""

import binascii
import hashlib
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def inline(translator: Any, node: nodes.math) -> None:
    """Write a formula in a line as MathML, which browsers draw by themselves; a script would have to be loaded."""
    translator.body.append(convert(node.astext().strip()))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own, in a box that scrolls where the page is narrower."""
    formula = convert(node.astext().strip(), display="block")
    translator.body.append(
        f'<div class="math" tabindex="0" role="group" aria-label="Formula">{formula}</div>\n'
    )
    raise nodes.SkipNode


def words(path: Path) -> dict[str, str]:
    """Return the alternative text of a notebook's pictures, by the digest that MyST-NB names their files with."""
    found = {}
    for cell in nbformat.read(path, nbformat.NO_CONVERT).cells:
        for output in cell.get("outputs", []):
            for kind, data in output.get("data", {}).items():
                if kind in ("image/png", "image/jpeg"):
                    digest = hashlib.sha256(binascii.a2b_base64(data)).hexdigest()
                    found[digest] = output.get("metadata", {}).get(kind, {}).get("alt", "")
    return found


def describe(app: Sphinx, document: nodes.document) -> None:
    """Give the pictures of a notebook their words, which MyST-NB leaves behind."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        said = words(path)
        for picture in document.findall(nodes.image):
            if alt := said.get(Path(picture["uri"]).stem):
                picture["alt"] = alt


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of the above."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    app.connect("doctree-read", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
