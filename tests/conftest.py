"""What all tests share: one seed per test, and a browser for those that need one."""

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests import chromium

os.environ.setdefault("MQA_MODE", "quick")
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # two processes with two threads each would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
os.environ["MQA_PROGRESS"] = "off"  # tests are no readers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that hold an address: each process would give the test another one, and xdist run none."""
    nameless = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if nameless:
        raise pytest.UsageError(f"Give these tests `ids` that stay the same: {', '.join(nameless)}")


@pytest.fixture(autouse=True)
def _seed(request: pytest.FixtureRequest) -> None:
    """Draw each test's numbers from its own name, so that neither order nor selection changes them."""
    seed = sum(place * ord(letter) for place, letter in enumerate(request.node.name, start=1)) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Return a Chromium that starts. `make test` sees to it that there is one."""
    path = chromium.find()
    if path is None:
        pytest.fail(f"The browser tests need Chromium. This would give one: {chromium.BY_HAND}")
    return path


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[object]:
    """Return a running browser, closed after each file: Playwright's event loop must not outlive it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser_path, args=list(chromium.FLAGS))
        yield running
        running.close()
