"""Write executed notebooks as pages that need nothing but themselves: no network, no script, formulas as MathML."""

import html
import re
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from jinja2 import pass_context
from jinja2.runtime import Context
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

_STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --paper: #fff; --quiet: #5b5b5b; --panel: #f5f6f8; --link: #0050a0; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--paper);
  font: 1.05rem/1.6 system-ui, sans-serif; }
a { color: var(--link); }
p, ul, ol, blockquote { max-width: 58rem; } /* code needs 110 characters, prose reads better in shorter lines */
nav { display: flex; justify-content: space-between; gap: 1rem; font-size: .95rem; }
pre { font: .88rem/1.5 ui-monospace, monospace; overflow-x: auto; margin: 0; }
code { font-family: ui-monospace, monospace; font-size: .92em; }
.input, .highlight { background: var(--panel); border-radius: 6px; }
.highlight { padding: .6rem .9rem; }
.cell { margin: 1rem 0; }
.prompt, .anchor-link { display: none; }
.output_area { margin: .5rem 0 .5rem .9rem; }
.output_stderr { color: #8a3b00; }
.ansi-red-fg { color: #b30000; }
img, svg, iframe { max-width: 100%; height: auto; }
.rendered_html table, table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
math[display="block"] { margin: 1rem 0; }
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
blockquote { border-left: 4px solid #ccc; margin-left: 0; padding-left: 1rem; color: var(--quiet); }
summary { color: var(--quiet); cursor: pointer; margin-bottom: .4rem; }
.failed { color: #8a0000; font-weight: 600; }
"""


class _Renderer(IPythonRenderer):
    """Turn formulas into MathML, which browsers draw by themselves."""

    def inline_math(self, body: str) -> str:
        return convert(body.strip())

    def block_math(self, body: str) -> str:
        return convert(body.strip(), display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return convert(f"\\begin{{{name}}}{body}\\end{{{name}}}", display="block")


def markdown(source: str) -> str:
    """Return Markdown with LaTeX formulas as HTML with MathML."""
    return MarkdownWithMath(renderer=_Renderer(escape=False, exclude_anchor_links=True)).render(source)


class _Exporter(HTMLExporter):
    """nbconvert's plain body, without the page around it that asks other hosts for scripts."""

    def __init__(self) -> None:
        super().__init__(template_name="basic")

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        return markdown(source)


def _without_latex(notebook: NotebookNode) -> NotebookNode:
    copy = nbformat.from_dict(notebook)
    for output in (output for cell in copy.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if "text/latex" in data and "text/html" not in data:
            output.data = nbformat.from_dict({"text/html": markdown(data["text/latex"])})
        data.pop("application/vnd.jupyter.widget-view+json", None)
    return copy


def _finished(body: str) -> str:
    """Return the page's body with links to pages instead of notebooks, and the setup cell's code folded away."""
    soup = BeautifulSoup(body, "html.parser")
    for link in soup.select('a[href$=".ipynb"]'):
        if re.fullmatch(r"(\./)?\d\d_\w+\.ipynb", str(link["href"])):
            link["href"] = str(link["href"]).replace(".ipynb", ".html")
    if code := soup.select_one("div.input"):
        details = code.wrap(soup.new_tag("details"))
        summary = soup.new_tag("summary")
        summary.string = "Set-up, the same in every notebook"
        details.insert(0, summary)
    return str(soup)


def title(notebook: NotebookNode, name: str) -> str:
    """Return the notebook's first heading, or its name."""
    lines = (
        line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()
    )
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), name)


def _frame(heading: str, body: str) -> str:
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(heading)}</title>\n<style>{_STYLE}{colours}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def page(notebook: NotebookNode, name: str, before: str = "", after: str = "") -> str:
    """Return a notebook as one page, with links to the pages `before` and `after` it where there are any."""
    body, _ = _Exporter().from_notebook_node(_without_latex(notebook))
    links = [f'<a href="{before}.html">← {before}</a>' if before else "<span></span>"]
    links += ['<a href="index.html">All notebooks</a>']
    links += [f'<a href="{after}.html">{after} →</a>' if after else "<span></span>"]
    menu = f"<nav>{''.join(links)}</nav>"
    return _frame(title(notebook, name), f"{menu}\n<main>\n{_finished(body)}\n</main>\n{menu}")


def index(rows: list[tuple[str, str, float, str, bool]]) -> str:
    """Return the page that lists the notebooks, from rows of (name, title, seconds, result, ran through)."""
    lines = []
    for name, heading, seconds, result, good in rows:
        said = html.escape(result) if good else f'<span class="failed">{html.escape(result)}</span>'
        lines.append(
            f'<tr><td><a href="{name}.html">{html.escape(heading)}</a></td><td>{seconds:.0f} s</td>'
            f'<td>{said}</td><td><a href="../notebooks/{name}.ipynb">notebook</a></td></tr>'
        )
    head = "<tr><th>notebook</th><th>time</th><th>main result</th><th>to run it</th></tr>"
    body = f"<h1>Mobile MQA, from formula to detector</h1>\n<table>{head}{''.join(lines)}</table>"
    body += (
        '\n<p><a href="explorer.html">The attention explorer</a> on the bundled detector: one page, to be sent to '
        "anyone, that needs neither a kernel nor a network.</p>"
    )
    return _frame("Mobile MQA, from formula to detector", f"<main>{body}</main>")


def write(folder: Path, name: str, text: str) -> Path:
    """Write one page into `folder`; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.html"
    path.write_text(text, encoding="utf-8")
    return path
