"""What the tests of the explorer's page share: records of known sizes, and how to move about in the page."""

import numpy as np

from mqa_lib import pictures
from mqa_lib.record import AttentionRecord
from tests.unhooked.test_explore import BUS

STAGE, LARGE, SAID = ".mx-stage", ".mx-answer > .mx-map", ".mx-said"
AIFI = {"heads": 8, "queries": 20, "keys": 20, "dim": 32, "sets": 8, "layer": "model.11", "kind": "AIFI"}


# A fixed piece of work of the same kind as a move (sums, words, layout, small canvases), timed in the same page after
# each move: what slows the machine slows both.
GRIND = """(() => {
  const box = document.createElement('div'), spans = [], canvases = [];
  box.style.cssText = 'position:fixed;left:0;top:0;width:400px;visibility:hidden';
  document.body.append(box);
  for (let i = 0; i < 100; i++) box.append(spans[i] = document.createElement('span'));
  for (let i = 0; i < 9; i++) box.append(canvases[i] = document.createElement('canvas'));
  let count = 0;
  globalThis.grind = () => {
    const begun = performance.now();
    let sum = count += 1;
    for (let i = 0; i < 200000; i++) sum += Math.sqrt(i * 1.0001);
    spans.forEach((span, at) => { span.textContent = `${at + count} ${sum.toFixed(1)}`; });
    box.offsetHeight;
    for (const canvas of canvases) {
      const context = canvas.getContext('2d');
      context.putImageData(context.createImageData(20, 20), 0, 0);
    }
    return performance.now() - begun;
  };
})()"""
GRIND_MS = 1.5  # of the machine that the bars are meant for


def p95_and_bar(rounds, bar: float, rate: int) -> tuple[float, float]:
    """Return the slowest of twenty moves, each the median of its rounds, and what a bar comes to on this machine now.

    A pause that others cause falls on one round of a move, and not on three of five. What is slow all the while slows
    the fixed work as well, and then the bar is as much wider.

    Args:
        rounds: Milliseconds of a move and of the fixed work after it: round × move × 2.
        bar: Milliseconds on the machine that the bar is meant for.
        rate: Throttling of the browser.
    """
    moves, grinds = np.moveaxis(np.array(rounds), -1, 0)
    p95 = float(np.percentile(np.median(moves, axis=0), 95))
    most = bar * max(1.0, float(np.median(grinds)) / (GRIND_MS * rate))
    print(
        f"{rate}x: p50 {np.median(moves):.2f} ms, p95 {p95:.2f} ms, p95 of all {np.percentile(moves, 95):.2f} ms;",
        end=" ",
    )
    print(f"fixed work {np.median(grinds):.2f} ms; allowed {most:.1f} ms")
    return p95, most


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
