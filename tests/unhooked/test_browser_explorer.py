"""The explorer in a real JupyterLab: it is there, its sliders move it, and nothing is asked of the network."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlparse

import nbformat
import pytest

from mqa_lib.record import AttentionRecord
from tests.unhooked.test_explorer import made

PATIENCE = 120_000  # ms; a kernel that imports torch on a busy machine takes its time


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab in an empty home on a notebook that shows a record, and return its address."""
    home = tmp_path_factory.mktemp("lab")
    made(5, 7).save(home / "one.npz")
    made(10, 14, heads=3, cell=3, name="fine").save(home / "two.npz")
    code = (
        "from mqa_lib import explorer, record\n"
        "layers = [record.AttentionRecord.load(f'{name}.npz') for name in ('one', 'two')]\n"
        "view = explorer.show(layers, mode='widgets')"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, home / "demo.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "share"),
    }
    options = [
        "--no-browser",
        "--ServerApp.token=",
        f"--ServerApp.port={port}",
        "--port-retries=0",
        "--allow-root",
    ]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        *options,
        "--ServerApp.ip=127.0.0.1",
        f"--notebook-dir={home}",
    ]
    log = (home / "lab.log").open("w")
    server = subprocess.Popen(command, cwd=home, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api/status", server, home / "lab.log")
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()
        shutil.rmtree(home, ignore_errors=True)


def wait_for(address, server, log):
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def page(lab, browser):
    """Open the notebook, run its cell, and return the page once the explorer is there."""
    page = browser.new_page(viewport={"width": 1300, "height": 1400})
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(
        f"{lab}/lab/workspaces/t/tree/demo.ipynb?reset", wait_until="domcontentloaded", timeout=PATIENCE
    )
    # A notebook that has no kernel yet calls itself idle too; what is run then is lost in a question for a kernel.
    page.locator("#jp-main-statusbar", has_text="(ipykernel) | Idle").wait_for(timeout=PATIENCE)
    page.locator(".jp-Notebook .jp-Cell").first.click()
    page.keyboard.press("Shift+Enter")
    page.locator(".jp-OutputArea-output .widget-image").wait_for(timeout=PATIENCE)
    page.locator(".jp-OutputArea-output table").wait_for(timeout=PATIENCE)
    yield page
    page.close()


def picture(page):
    return page.locator(".widget-image").get_attribute("src")


def moved(page, before):
    """Wait until the picture is another one than `before`."""
    changed = "old => document.querySelector('.widget-image').src !== old"
    page.wait_for_function(changed, arg=before, timeout=PATIENCE, polling=10)


def texts(page, selector):
    return page.locator(f".jp-OutputArea-output {selector}").all_inner_texts()


def strongest(record: AttentionRecord, query: int) -> list[str]:
    keys = [record.top(query, head, 1)[0] for head in range(record.num_heads)]
    return [f"row {key.row}, column {key.column}: {key.share:.1%}" for key in keys]


@pytest.mark.slow
def test_it_shows_picture_sliders_and_the_record_s_own_numbers(page):
    """Slow, as all of this file: a server, a browser and a kernel have to start."""
    size = page.evaluate(
        "(({naturalWidth, naturalHeight}) => [naturalWidth, naturalHeight])"
        "(document.querySelector('.widget-image'))"
    )
    assert min(size) > 300 and page.locator('[role="slider"]').count() == 2
    assert texts(page, "tr:nth-child(2) td") == strongest(made(5, 7), 17)


@pytest.mark.slow
def test_an_arrow_key_on_a_slider_moves_the_query_and_leaves_the_cell_where_it_is(page):
    before = picture(page)
    page.locator('[role="slider"]').nth(1).focus()
    page.keyboard.press("ArrowRight")
    moved(page, before)
    assert texts(page, "tr:nth-child(2) td") == strongest(made(5, 7), 18)
    assert (
        page.locator(".jp-Notebook .jp-Cell").nth(0).evaluate("cell => cell.contains(document.activeElement)")
    )


@pytest.mark.slow
def test_the_menu_changes_the_layer(page):
    before = picture(page)
    page.locator(".widget-dropdown select").first.select_option(index=1)
    moved(page, before)
    assert len(texts(page, "tr:nth-child(2) td")) == 3


@pytest.mark.slow
def test_there_is_one_picture_and_nothing_was_printed_after_the_first_line(page):
    assert page.locator(".widget-image").count() == 1
    printed = texts(page, "[data-mime-type='application/vnd.jupyter.stdout']")
    assert len(printed) <= 1 and page.locator(".jp-OutputArea-output").first.inner_text().count("\n") <= 1


@pytest.mark.slow
def test_nothing_is_asked_of_any_other_machine(page):
    hosts = {urlparse(url).hostname for url in page.asked if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"}
