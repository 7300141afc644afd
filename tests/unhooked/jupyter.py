"""A JupyterLab of its own for the browser tests, with notebooks in an empty home."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

PATIENCE = 120_000  # ms; a kernel that imports torch on a busy machine takes its time


def notebook(path: Path, cells: list[str]) -> None:
    """Write a notebook with these cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = [nbformat.v4.new_code_cell(code) for code in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), path)


@contextlib.contextmanager
def server(home: Path) -> Iterator[str]:
    """Start JupyterLab on a folder and return its address; it ends with the block."""
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
        _wait_for(f"{address}/api/status", server, home / "lab.log")
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def _wait_for(address, server, log):
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start: {log.read_text()}")


def open_notebook(page, address: str, name: str) -> None:
    """Open a notebook and wait until its kernel can run cells."""
    page.goto(
        f"{address}/lab/workspaces/t/tree/{name}?reset", wait_until="domcontentloaded", timeout=PATIENCE
    )
    # A notebook that has no kernel yet calls itself idle too; what is run then is lost in a question for a kernel.
    page.locator("#jp-main-statusbar", has_text="(ipykernel) | Idle").wait_for(timeout=PATIENCE)


def run_all(page, last: int) -> None:
    """Run all cells and wait until the last has run as number `last`."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-InputArea-prompt", has_text=f"[{last}]:").wait_for(timeout=PATIENCE)
