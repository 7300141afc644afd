"""Look at pictures with a model and write what it looked at to one file: a page that needs nothing else, or a PNG."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from mqa_lib import checks, plots
from mqa_lib.explorer import fitting, page, payload, words
from mqa_lib.explorer.seen import Seen, gather
from mqa_lib.explorer.style import style
from mqa_lib.record import AttentionRecord

LARGEST = 2_000_000  # bytes of a page that still opens and travels easily
_WAY_OUT = (
    "Show fewer pictures, one layer (`--layer NAME`, `look(..., layer=NAME)`), a smaller picture (`--imgsz`), or only "
    "fixed pictures (`--fixed`, `interactive=False`)."
)
# What a host gives the explorer, for a page that has no kernel: somewhere to keep the state.
_HOST = """
const state = STATE;
const model = { get: (name) => state[name], set: (name, value) => { state[name] = value; }, save_changes() {}, on() {},
  off() {}, send() {} };
state.text = document.getElementById("payload").textContent;
render({ model, el: document.getElementById("explorer") });
document.getElementById("fixed").open = !document.querySelector(".mqa-x");
"""


class PageTooLarge(ValueError):
    """Refusal of an interactive page of more than `LARGEST` bytes; as fixed pictures the same fits."""


def export_html(
    seen: Seen | Sequence[Seen] | Sequence[AttentionRecord],
    path: str | Path,
    at: tuple[int, int] | None = None,
    model: str = "this model",
    interactive: bool = True,
    fit: bool = False,
) -> Path:
    """Write a page that shows what a model looked at, in one file that asks for nothing else, and return its path.

    The page holds the explorer, and beneath it the same as fixed pictures, for browsers without JavaScript.

    Args:
        seen: What `look` returns, for one picture or several, or the records of one picture.
        path: Where to write.
        at: Row and column of the pixel whose attention is shown first; the middle of each picture's best detection if
            not given.
        model: What to call the model.
        interactive: Whether the page holds the explorer, or fixed pictures and no script.
        fit: Whether the explorer may do with less where all would be too large: first with 12 bits instead of 16 for
            queries and keys, then without the largest layers. The page says so, and its fixed pictures hold all.

    Raises:
        ValueError: There is nothing to show, or `at` lies outside a picture.
        PageTooLarge: The interactive page would be larger than 2 MB.
    """
    scenes = gather(seen)
    for scene in scenes:
        _check(scene, at)
    title = html.escape(f"What {model} looks at")
    links = "".join(
        f"<li><a href='#picture-{number}'>{html.escape(scene.name)}</a></li>"
        for number, scene in enumerate(scenes)
    )
    articles = "".join(_article(number, scene, at or scene.middle) for number, scene in enumerate(scenes))
    contents = f"<nav aria-label='Pictures'><ul>{links}</ul></nav>" if len(scenes) > 1 else ""
    fixed = f"{_caveat()}{contents}{articles}"
    lead = f"<p class='real'>{html.escape(_what_is_real(scenes[0]))}</p>"
    text = _page(title, lead, fixed, "")
    if interactive:
        pages = (
            _page(title, lead, _explorer(kept, at, fixed, bits, said), _script(kept[0], at))
            for kept, bits, said in (fitting.plans(scenes) if fit else [(scenes, 16, "")])
        )
        text = _first_that_fits(pages, Path(path).name, scenes)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _first_that_fits(pages: Iterable[str], name: str, scenes: Sequence[Seen]) -> str:
    first = 0
    for text in pages:
        size = len(text.encode())
        if size <= LARGEST:
            return text
        first = first or size
    packed = sum(record.q.nbytes + record.k.nbytes for scene in scenes for record in scene.layers)
    rule = f"needs {first:,} bytes, at most {LARGEST:,} fit ({packed:,} are queries and keys)"
    raise PageTooLarge(*checks.refuse("page", name, rule, _WAY_OUT).args)


def _page(title: str, lead: str, body: str, script: str) -> str:
    """Return the whole page; its policy lets run the one script that was written here, and nothing from a name."""
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    runs = f"; script-src 'sha256-{allowed}'" if script else ""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{runs}"
    said = "It asks for no other file." if script else "This page holds no script and asks for no other file."
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='color-scheme' content='light dark'>"
        f"<style>{style()}{payload.style() if script else ''}</style></head>"
        f"<body><header><h1>{title}</h1>{lead}</header><main>{body}</main>"
        f"<footer><p>Made by <code>python -m mqa_lib explore</code>. {said}</p></footer>"
        f"{f'<script type=module>{script}</script>' if script else ''}</body></html>\n"
    )


def _explorer(scenes: Sequence[Seen], at: tuple[int, int] | None, fixed: str, bits: int, said: str) -> str:
    """Return the place where the script draws, what it draws from, and the fixed pictures beneath it."""
    packed = payload.pack(scenes, at, [f"picture-{number}" for number in range(len(scenes))], bits)
    note = f"<p class='real'>{html.escape(said)}</p>" if said else ""
    return (
        f"{note}<div id='explorer'></div><details id='fixed' open><summary>The same as fixed pictures, for one place, "
        f"which need no JavaScript</summary>{fixed}</details>"
        f"<script type='text/plain' id='payload'>{base64.b64encode(packed).decode()}</script>"
    )


def _script(scene: Seen, at: tuple[int, int] | None) -> str:
    first = scene.layers[0] if scene.layers else None
    head = words.sharpest(first, first.query_at(*(at or scene.middle))) if first else -1
    state = json.dumps({"head": head})
    return payload.script().replace("export default { render };", _HOST.replace("STATE", state))


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
    if seen.layers:
        names = [f"{entry.layer}\n{entry.kind}" for entry in seen.layers]
        figures.append(plots.same_pixel_figure(seen.layers, names, row, column))
    if seen.points is not None:
        figures.append(plots.sampling_figure(seen.points))
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


def _article(number: int, scene: Seen, at: tuple[int, int]) -> str:
    photo = page.photo(scene.image)
    parts = [page.detections(scene.name, scene.image, scene.points, at)]
    parts += [page.layer(entry, at) for entry in scene.layers]
    if not scene.layers:
        parts.append("<p>This model holds no attention over a grid but its decoder's.</p>")
    if scene.points is not None:
        parts.append(page.decoder(scene.points))
    variables = page.variables(photo, scene.image)
    name = html.escape(scene.name)
    return f"<article id='picture-{number}' style='{variables}'><h2>{name}</h2>{''.join(parts)}</article>"


def _what_is_real(scene: Seen) -> str:
    return f"What the weights are: {scene.weights_are.rstrip('. ')}."


def _caveat() -> str:
    said = "".join(f"<p>{html.escape(text)}</p>" for text in (words.CAVEAT, words.CAVEAT_POINTS))
    return (
        f"<aside class='caveat' aria-labelledby='caveat'><h2 id='caveat'>How to read this</h2>{said}</aside>"
    )
