"""What the tests of the explorer's page share: records of known sizes, and how to move about in the page."""

import numpy as np

from mqa_lib import pictures
from mqa_lib.record import AttentionRecord
from tests.unhooked.test_explore import BUS

STAGE, LARGE, SAID = ".mx-stage", ".mx-answer > .mx-map", ".mx-said"
AIFI = {"heads": 8, "queries": 20, "keys": 20, "dim": 32, "sets": 8, "layer": "model.11", "kind": "AIFI"}


def random_record(heads, queries, keys, dim, sets=1, image=None, **said) -> AttentionRecord:
    random = np.random.RandomState(0)
    image = pictures.read(BUS) if image is None else image
    cell = tuple(extent / queries for extent in image.shape[:2])
    step = tuple(extent / keys for extent in image.shape[:2])
    known = {"layer": "attn", "kind": "Mobile MQA", "weights_are": "Random numbers.", **said}
    return AttentionRecord(
        q=random.normal(size=(heads, queries**2, dim)).astype(np.float16),
        k=random.normal(size=(sets, keys**2, dim)).astype(np.float16),
        scale=dim**-0.5,
        query_grid=(queries, queries),
        key_grid=(keys, keys),
        query_cell=cell,
        key_step=step,
        key_size=step,
        key_origin=(0.0, 0.0),
        image=image,
        **known,
    )


def p5(stride: int = 2) -> AttentionRecord:
    return random_record(4, 20, 20 // stride, 64)


def opened(browser, path, **options):
    page = browser.new_page(viewport={"width": 1200, "height": 900}, **options)
    page.set_default_timeout(6000)
    page.asked, page.said = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(path.as_uri())
    return page


def now(page) -> dict[str, str]:
    return page.evaluate("({...document.querySelector('.mqa-x').dataset})")


def over(page, selector, part, limits):
    """Move the pointer to the middle of a part of the picture, and return where that is."""
    box = page.locator(selector).first.bounding_box()
    top, left, bottom, right = part
    x = box["x"] + box["width"] * (left + right) / 2 / limits[1]
    y = box["y"] + box["height"] * (top + bottom) / 2 / limits[0]
    page.mouse.move(x, y)
    return x, y


def at_query(page, record, query):
    return over(page, STAGE, record.query_cell_of(query), record.image.shape)


def menu(page, name):
    return page.get_by_label(name, exact=True)
