"""The course's pages: they open from a disk and from a host, ask no other one, and can be searched, read and moved."""

import re
import threading
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from notebooks import build, sources
from notebooks.book import site
from tests.unhooked import linked

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
NAMES = sources.names()
PAGES = ["index", *NAMES, "glossary"]
OUT = "[`A.md`](../x/A.md), [the rest](../x/B.md#c)"
FOLDED = "<details><summary>Hint 1</summary>\n\nRead **this**.\n\n```python\nx = 1\n```\n\n</details>"


def picture(alt):
    return new_output("display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": alt}})


@cache  # read once, for somebody may make them anew meanwhile
def committed(name):
    return nbformat.read(sources.ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)


SMALL = new_notebook(
    cells=[
        new_markdown_cell("# 8 · Small"),
        new_code_cell("folded", metadata={"tags": ["setup"]}),
        new_markdown_cell(
            r"[next](02_y.ipynb), [far](https://example.org/03_x.ipynb), $\frac{a}{b}$, " + OUT
        ),
        new_markdown_cell("$$\nx^2\n$$\n\n## A part\n\n" + FOLDED),
        new_code_cell("x" * 110, outputs=[picture("A & B meet")]),
        new_code_cell(
            "1", outputs=[new_output("display_data", {"text/markdown": "| a |\n|---|\n| $y_1$ |"})]
        ),
        new_code_cell(
            "2",
            outputs=[
                new_output("display_data", {"text/html": "<script src='https://cdn.example/require.js'>"})
            ],
        ),
    ],
    metadata={"language_info": {"name": "python"}},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of pages made from the committed notebooks, and what Sphinx warned of."""
    pages = []
    for name in NAMES:
        notebook = committed(name)
        pages.append(site.Page(name, notebook, 60.0, build.Run(name, notebook, 60.0).result))
    home, warnings = site.write(pages, tmp_path_factory.mktemp("book") / "pages")
    return home.parent, warnings


@pytest.fixture(scope="module")
def book(made):
    return made[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the folder of pages of two small notebooks, the second of which failed."""
    bad = new_notebook(cells=[new_markdown_cell("# Bad"), new_code_cell("1 / 0")])
    pages = [
        site.Page("01_x", SMALL, 5.0, "all | of *it*"),
        site.Page("02_y", bad, 1.0, "FAILED: why", good=False),
    ]
    return site.write(pages, tmp_path_factory.mktemp("small") / "pages", explorers=False)[0].parent


@pytest.fixture(scope="module")
def host(book):
    """Return the address of a static host that serves the pages."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path == "/favicon.ico":  # asked for by the browser, not by a page
                self.send_response(204)
                return self.end_headers()
            return super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def opened(browser):
    """Return what opens a page in a fresh profile, noting what it asks for and what goes wrong in it."""
    contexts = []

    def open_page(url, width=1440, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.asked, tab.wrong = [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
        tab.on("console", lambda said: tab.wrong.append(said.text) if said.type == "error" else None)
        tab.goto(url)
        return tab

    yield open_page
    for context in contexts:
        context.close()


def test_sphinx_has_nothing_to_complain_about(made):
    assert made[1] == ""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_a_disk_and_asks_no_host_for_anything(name, book, opened):
    text = (book / f"{name}.html").read_text()
    assert linked.FOREIGN.findall(text) == [] and linked.FETCHED.findall(text) == []
    tab = opened((book / f"{name}.html").as_uri())
    ours = (book.as_uri(), "data:", "blob:")
    assert [url[:200] for url in tab.asked if not url.startswith(ours)] == [] and len(tab.asked) > 5
    assert tab.wrong == [] and tab.locator("h1").count() == 1
    assert tab.locator("html").get_attribute("lang") == "en"


def test_no_style_of_the_pages_fetches_anything(book):
    styles = [*book.rglob("*.css")]
    assert len(styles) >= 3
    assert [path.name for path in styles if linked.FETCHED.search(path.read_text())] == []


def test_a_foreign_script_would_be_seen(small):
    page = (small / "01_x.html").read_text()
    assert linked.FOREIGN.search(page) and linked.FETCHED.search(page)


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_every_link_and_anchor_of_a_page_leads_somewhere(name, book):
    assert linked.dead(book / f"{name}.html") == []
    assert len(linked.soup(book / f"{name}.html").select("a[href]")) > 8


def test_a_dead_link_would_be_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<p id=a><a href='#a'>1</a><a href='#b'>2</a><a href=gone.html>3</a><a href='https://x'>4</a>"
    )
    assert linked.dead(page) == ["#b", "gone.html", "https://x"]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_keeps_the_words_of_every_picture(name, book):
    data = [
        o.metadata[kind]["alt"]
        for c in committed(name).cells
        for o in c.get("outputs", [])
        for kind in o.get("data", {})
        if kind.startswith("image/")
    ]
    images = linked.soup(book / f"{name}.html").select("article img")
    assert [image["alt"] for image in images if image.get("alt")] == [image.get("alt") for image in images]
    assert {" ".join(alt.split()) for alt in data} <= {" ".join(image["alt"].split()) for image in images}


@pytest.mark.parametrize("name", NAMES)
def test_every_formula_of_a_page_is_drawn(name, book):
    text = (book / f"{name}.html").read_text()
    visible = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    assert re.findall(r"\$[^$\s][^$]*\\[a-z]+[^$]*\$|\\begin\{|\\\(", visible) == []


def test_a_small_page_has_its_formulas_words_links_and_folds(small):
    text, page = (small / "01_x.html").read_text(), linked.soup(small / "01_x.html")
    assert "<mfrac>" in text and 'display="block"' in text and page.select("td msub")
    assert [image["alt"] for image in page.select("article img")] == ["A & B meet"]
    assert page.select('a[href="02_y.html"]') and page.select('a[href="https://example.org/03_x.ipynb"]')
    assert "A.md, the rest (x/B.md)" in page.select_one("article").text.replace("x/A.md", "A.md")
    assert page.select("details strong") and page.select("details div.highlight")
    assert "Set-up" in page.select_one("details.hide summary").text


def test_the_first_page_says_what_came_of_each_notebook(small, book):
    rows = linked.soup(small / "index.html").select("article tbody tr")
    assert [cell.text for cell in rows[0].select("td")] == [
        "8 · x",
        "Small",
        "0.1",
        "all | of *it*",
        ".ipynb",
    ]
    assert rows[1].select_one(".failed").text == "FAILED: why"
    assert "ZeroDivisionError" not in rows[0].text
    rows = linked.soup(book / "index.html").select("article tbody tr")
    assert len(rows) == len(NAMES) and all(cell.text.strip() for row in rows for cell in row.select("td"))


def test_a_page_names_all_others_its_neighbours_and_its_own_contents(book):
    page = linked.soup(book / f"{NAMES[2]}.html")
    listed = [link["href"] for link in page.select(".bd-sidebar-primary nav a")]
    assert [f"{name}.html" if name != NAMES[2] else "#" for name in NAMES] == listed[: len(NAMES)]
    assert page.select_one(".prev-next-footer .left-prev")["href"] == f"{NAMES[1]}.html"
    assert page.select_one(".prev-next-footer .right-next")["href"] == f"{NAMES[3]}.html"
    headings = [heading["id"] for heading in page.select("article section[id] section[id]")]
    assert {f"#{name}" for name in headings[:3]} <= {
        link["href"] for link in page.select(".bd-sidebar-secondary a")
    }


def found(tab, words):
    """Return the links that the search gives for some words, typed into its dialog."""
    tab.keyboard.press("Control+k")
    tab.locator("#pst-search-dialog input").fill(words)
    tab.locator("#pst-search-dialog input").press("Enter")
    tab.wait_for_url("**/search.html?q=*")
    tab.locator("#search-results li a").first.wait_for()
    return tab.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")


def test_the_search_works_from_a_disk(book, opened):
    tab = opened((book / "index.html").as_uri())
    links = found(tab, "softmax")
    assert any("02_derive_the_formula.html" in link for link in links)
    tab.locator("#search-results li a").first.click()
    tab.wait_for_selector("article h1")
    assert tab.wrong == []


def test_the_search_works_from_a_host_and_shows_the_words_around_a_hit(host, opened):
    tab = opened(f"{host}index.html")
    assert any("02_derive_the_formula.html" in link for link in found(tab, "softmax"))
    tab.locator("#search-results p.context").first.wait_for()
    assert [url for url in tab.asked if not url.startswith((host, "data:"))] == [] and tab.wrong == []


def brightness(tab):
    red, green, blue = map(
        int, re.findall(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    return (red + green + blue) / 3


def test_a_page_is_dark_where_the_system_is_and_follows_it(book, opened):
    tab = opened((book / "index.html").as_uri(), scheme="dark")
    assert brightness(tab) < 60
    tab.emulate_media(color_scheme="light")
    tab.wait_for_function("document.documentElement.dataset.theme == 'light'")
    assert brightness(tab) > 200


def test_a_reader_can_switch_and_the_next_page_remembers(book, opened):
    tab = opened((book / "index.html").as_uri())
    tab.locator("#pst-header button.theme-switch-button").press("Enter")
    tab.locator("#pst-header button.theme-change-button[data-mode=dark]").press("Enter")
    assert brightness(tab) < 60
    tab.goto((book / f"{NAMES[0]}.html").as_uri())
    assert brightness(tab) < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "03_build_the_layer"])
def test_nothing_of_a_page_is_closed_to_anyone(name, scheme, book, opened):
    tab = opened((book / f"{name}.html").as_uri(), scheme=scheme)
    answer = Axe().run(tab, options={"preload": False})  # it may not read style sheets from a disk
    assert [
        (each["id"], [node["html"][:150] for node in each["nodes"][:3]])
        for each in answer.response["violations"]
    ] == []


def test_a_page_can_be_used_with_the_keyboard_alone(book, opened):
    tab = opened((book / f"{NAMES[1]}.html").as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.querySelector('main').contains(document.activeElement)")
    fold = tab.locator("article details summary").first
    fold.focus()
    tab.keyboard.press("Enter")
    assert fold.evaluate("summary => summary.parentElement.open")


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_a_page_fits_a_telephone_without_scrolling_sideways(name, book, opened):
    tab = opened((book / f"{name}.html").as_uri(), width=320)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    inner = tab.locator(".bd-article-container")
    assert inner.evaluate("box => box.scrollWidth <= box.clientWidth")


@pytest.mark.parametrize("width", [1200, 1440])
def test_a_line_of_110_characters_fits_without_scrolling(width, small, opened):
    tab = opened((small / "01_x.html").as_uri(), width=width)
    line = tab.locator("article pre", has_text="x" * 110)
    assert line.evaluate("pre => pre.clientWidth >= pre.scrollWidth && pre.clientWidth > 0")


def test_every_explorer_of_a_notebook_has_a_page_that_stands_in_for_it(book):
    shown = {
        (name[:2], variable)
        for name in NAMES
        for cell in committed(name).cells
        if cell.cell_type == "code" and "guess=True" not in cell.source
        for variable in site._SHOWS.findall(cell.source)
    }
    assert shown <= set(site.EXPLORERS) and len(shown) >= 4
    for name in NAMES:
        frames = [frame["src"] for frame in linked.soup(book / f"{name}.html").select("iframe")]
        assert sorted(frames) == sorted(f"{site.EXPLORERS[key]}.html" for key in shown if key[0] == name[:2])


@pytest.mark.parametrize("name", [NAMES[0], NAMES[4]])
def test_an_explorer_in_a_page_moves_without_a_kernel(name, book, opened):
    tab = opened((book / f"{name}.html").as_uri(), scheme="dark")
    tab.locator("iframe").first.scroll_into_view_if_needed()
    frame = tab.frame_locator("iframe").first
    said = frame.locator(".mx-said")
    said.wait_for()
    before = said.text_content()
    frame.locator("input[type=range]").first.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(300)
    assert said.text_content() != before


def test_the_notebooks_that_the_first_page_gives_away_are_the_committed_ones(book):
    for name in NAMES:
        assert nbformat.read(book / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT) == committed(name)
