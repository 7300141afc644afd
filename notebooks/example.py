"""The bundled detector on one picture of Keys & Locks, as a page with the explorer: `python -m notebooks.example`.

It also draws the README's picture of that page, for which a Chromium has to be there (`python -m tests.chromium`).
"""

import json
import sys
from pathlib import Path

from mqa_lib import explorer, probe, record, rtdetr
from mqa_lib.datasets import keys_and_locks

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "data/weights/rtdetr-nano-mobile-mqa.safetensors"
PICTURE = Path("data/pictures/explorer.png")
PICTURES = 32
SIZE = (1120, 1170)


def example(pictures: int = PICTURES) -> tuple[explorer.Seen, tuple[int, int]]:
    """Return what the bundled detector looks at in a picture, and the pixel in the middle of its clearest lock.

    Of the first validation pictures with four pairs it is the one with the lock whose key gets the largest weight. So
    it shows what the layer can do, not what it does on average.

    Args:
        pictures: How many of the validation pictures to choose from.
    """
    model = rtdetr.load(WEIGHTS)
    best: tuple[float, explorer.Seen, tuple[int, int]] | None = None
    for index in range(pictures):
        scene = keys_and_locks.draw_scene(0, index, "val", pairs=(2, 4))
        if len(scene.pairs) < 4:
            continue
        seen = explorer.look(model, keys_and_locks.render(scene), f"validation picture {index}")
        layer = seen.layers[0]
        for pair in scene.pairs:
            lock = (pair.lock.row, pair.lock.column)
            weights = layer.rows(layer.query_at(*lock)).reshape(layer.num_heads, -1)
            offset = abs(layer.key_centres() - (pair.key.row + 0.5, pair.key.column + 0.5)).max(axis=1)
            share = float(weights[:, offset.argmin()].max())
            if best is None or share > best[0]:
                best = share, explorer.gather(seen, scene.pairs)[0], lock
    assert best is not None
    seen, lock = best[1:]
    check = explorer.mask_check(model, seen.image, 0, seen.layers[0].query_at(*lock))
    whole = explorer.Seen(seen.name, seen.image, seen.layers, seen.points, seen.pairs, [check])
    return whole, lock


def write(path: Path) -> Path:
    """Write the example's page and return its path."""
    seen, lock = example()
    return explorer.export_html(seen, path, lock, "the bundled detector")


def probes(path: Path, strides: tuple[int, ...] = (2,)) -> Path:
    """Write a page with the bundled probes of some strides on one picture of notebook 1 and return its path."""
    scene = keys_and_locks.draw_scene(0, 0, "val", probe.SIZE, probe.PAIRS, probe.RADII, probe.STEP)
    layers = []
    for stride in strides:
        card = json.loads((probe.WEIGHTS / f"stride-{stride}.json").read_text())
        said = f"kv_stride {stride}, {card['weights_are']}"
        layers += record.capture(probe.load(stride), keys_and_locks.render(scene), weights_are=said)
    seen = explorer.gather(layers, scene.pairs)[0]
    lock = scene.pairs[0].lock
    return explorer.export_html([seen], path, (lock.row, lock.column), "the bundled probe")


def write_all(folder: Path) -> list[Path]:
    """Write every explorer that the course's pages show into `folder` and return their paths."""
    detector = write(folder / "explorer.html")
    return [detector, probes(folder / "probe.html"), probes(folder / "strides.html", (1, 2, 4))]


def picture(page: Path, path: Path) -> None:
    """Draw the upper part of the page's explorer."""
    from playwright.sync_api import sync_playwright

    from tests import chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=list(chromium.FLAGS))
        tab = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1] + 200})
        tab.goto(page.resolve().as_uri())
        box = tab.locator(".mqa-x").bounding_box()
        assert box is not None
        height = SIZE[1] - 40.0
        tab.screenshot(
            path=path, clip={"x": box["x"], "y": box["y"], "width": box["width"], "height": height}
        )
        browser.close()


def main() -> int:
    """Write the page into `build/` and the picture into `data/pictures/`."""
    page = write(ROOT / "build/pages/explorer.html")
    picture(page, ROOT / PICTURE)
    print(f"{page.relative_to(ROOT)}, {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
