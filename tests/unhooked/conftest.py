"""A picture of Keys & Locks seen by the bundled detector, its page, and a browser's tab on that."""

from dataclasses import replace

import pytest

from mqa_lib import explorer, rtdetr
from mqa_lib.datasets import keys_and_locks
from tests.unhooked.explored import opened
from tests.unhooked.test_explore import NANO

ALONE = {
    "test_browser_labs",
    "test_browser_widget",
    "test_explorer_modes",
    "test_newcomer",
}
ALONE |= {"test_browser_engines", "test_explorer_script", "test_kernels"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of files that measure the machine, or that wait for a browser and a server."""
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker("alone")


@pytest.fixture(scope="session")
def seen() -> explorer.Seen:
    scene = keys_and_locks.draw_scene(0, 3, "val", pairs=(2, 4))
    model = rtdetr.load(NANO)
    found = explorer.look(model, keys_and_locks.render(scene), "a picture")
    check = explorer.mask_check(model, found.image, 0, found.layers[0].query_at(*found.middle), draws=2)
    return replace(explorer.gather(found, scene.pairs)[0], checks=(check,))


@pytest.fixture(scope="session")
def file(seen, tmp_path_factory):
    return explorer.export_html(seen, tmp_path_factory.mktemp("page") / "nano.html", model="the nano")


@pytest.fixture
def page(browser, file):
    with_page = opened(browser, file)
    yield with_page
    with_page.close()
