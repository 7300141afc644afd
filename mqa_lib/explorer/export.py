"""Look at pictures with a model and write what it looked at to one file: a page that needs nothing else, or a PNG."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path

from torch import nn

from mqa_lib import checks, pictures, plots
from mqa_lib import record as records
from mqa_lib.explorer import payload, still, words
from mqa_lib.explorer.seen import Seen, gather, look
from mqa_lib.record import AttentionRecord

LARGEST = 4_000_000  # bytes of a page that still opens and travels easily
_WAY_OUT = (
    "Show a smaller picture (`--imgsz 320`, `look(..., size=320)`), one layer (`--layer NAME`, "
    "`look(..., layer=NAME)`), or fewer pictures."
)
# What a host gives the explorer, for a page that has no kernel: somewhere to keep the state.
_HOST = """
const state = STATE;
const model = { get: (name) => state[name], set: (name, value) => { state[name] = value; }, save_changes() {}, on() {},
  off() {}, send() {} };
state.text = document.getElementById("payload").textContent;
render({ model, el: document.getElementById("explorer") });
document.getElementById("still").open = !document.querySelector(".mqa-x");
"""


@singledispatch
def export_html(
    seen: nn.Module | Seen | Sequence[Seen] | Sequence[AttentionRecord],
    path: str | Path,
    at: tuple[int, int] | None = None,
    model: str = "this model",
) -> Path:
    """Write a page that shows what a model looked at, in one file that asks for nothing else, and return its path.

    The page holds the explorer, and beneath it still pictures with their sentences, for browsers without JavaScript.
    `export_html(model, picture, path)` looks first.

    Args:
        seen: What `look` returns, for one picture or several, or the records of one picture; or a model.
        path: Where to write.
        at: Row and column of the pixel whose attention is shown first; the middle of each picture's best detection if
            not given.
        model: What to call the model.

    Raises:
        ValueError: There is nothing to show, `at` lies outside a picture, or the page would be too large.
    """
    scenes = gather(seen)
    for scene in scenes:
        _check(scene, at)
    text = _page(scenes, at, html.escape(f"What {model} looks at"))
    path, size = Path(path), len(text.encode())
    if size > LARGEST:
        packed = sum(record.q.nbytes + record.k.nbytes for scene in scenes for record in scene.layers)
        rule = f"needs {size:,} bytes, at most {LARGEST:,} fit ({packed:,} are queries and keys)"
        raise checks.refuse("page", path.name, rule, _WAY_OUT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@export_html.register(nn.Module)
def _export_model(
    seen: nn.Module,
    picture: pictures.Picture,
    path: str | Path,
    at: tuple[int, int] | None = None,
    model: str = "this model",
    size: records.Size = None,
    layer: str | None = None,
) -> Path:
    return export_html(look(seen, picture, size=size, layer=layer), path, at, model)


def _page(scenes: Sequence[Seen], at: tuple[int, int] | None, title: str) -> str:
    """Return the whole page; its policy lets run the one script that was written here, and nothing from a name."""
    script = _script(scenes[0], at)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    packed = base64.b64encode(payload.pack(scenes, at)).decode()
    articles = "".join(_article(scene, at or scene.middle) for scene in scenes)
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='color-scheme' content='light dark'>"
        f"<style>{payload.style('page.css')}{payload.style()}</style></head>"
        f"<body><header><h1>{title}</h1><p class='real'>{html.escape(_what_is_real(scenes[0]))}</p></header>"
        "<main><div id='explorer'></div><details id='still' open><summary>The same as still pictures, for one place, "
        f"which need no JavaScript</summary><aside class='caveat' aria-labelledby='caveat'>"
        f"<h2 id='caveat'>How to read this</h2>{words.caveat()}</aside>{articles}</details></main>"
        "<footer><p>Made by <code>python -m mqa_lib explore</code>. It asks for no other file.</p></footer>"
        f"<script type='text/plain' id='payload'>{packed}</script><script type=module>{script}</script></body></html>\n"
    )


def _script(scene: Seen, at: tuple[int, int] | None) -> str:
    first = scene.layers[0] if scene.layers else None
    head = words.sharpest(first, first.query_at(*(at or scene.middle))) if first else -1
    state = json.dumps({"head": head})
    return payload.script().replace("export default { render };", _HOST.replace("STATE", state))


def _article(scene: Seen, at: tuple[int, int]) -> str:
    parts = [f"<h2>{html.escape(scene.name)}, row {at[0]}, column {at[1]}</h2>"]
    for shown in still.stills(scene, at):
        said, title = html.escape(shown.said), html.escape(shown.title)
        image = f"<img src='{still.address(shown.figure)}' alt='{said}'>"
        parts.append(f"<section><h3>{title}</h3><figure>{image}<figcaption>{said}</figcaption></figure>")
        if shown.table:
            parts.append(
                f"<div class='scroll' role='region' tabindex='0' aria-label='{title}'>{shown.table}</div>"
            )
        parts.append("</section>")
    if not scene.layers:
        parts.append("<p>This model holds no attention over a grid but its decoder's.</p>")
    return f"<article>{''.join(parts)}</article>"


def export_png(seen: Seen, path: str | Path, at: tuple[int, int] | None = None) -> Path:
    """Write one picture that shows what a model looked at in one picture, and return its path.

    Args:
        seen: What `look` returns.
        path: Where to write.
        at: As in `export_html`.

    Raises:
        ValueError: `at` lies outside the picture.
    """
    from PIL import Image

    _check(seen, at)
    row, column = at or seen.middle
    real = f"{seen.name}, row {row}, column {column}. {_what_is_real(seen)}"
    figures = [plots.note_figure([real, words.CAVEAT, words.CAVEAT_POINTS])]
    figures += [shown.captioned() for shown in still.stills(seen, (row, column))]
    drawn = [Image.open(io.BytesIO(plots.png(figure))).convert("RGB") for figure in figures]
    whole = Image.new("RGB", (max(part.width for part in drawn), sum(part.height for part in drawn)), "white")
    top = 0
    for part in drawn:
        whole.paste(part, (0, top))
        top += part.height
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save(path, "PNG", optimize=True)
    return path


def _check(scene: Seen, at: tuple[int, int] | None) -> None:
    height, width = scene.image.shape[:2]
    if at is not None and not (0 <= at[0] < height and 0 <= at[1] < width):
        rule = f"lies outside {scene.name}, which has {height} rows and {width} columns of pixels"
        raise checks.refuse("at", at, rule, f"Use a row below {height} and a column below {width}.")


def _what_is_real(scene: Seen) -> str:
    return f"What the weights are: {scene.weights_are.rstrip('. ')}."
