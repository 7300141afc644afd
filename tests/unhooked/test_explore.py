"""One command shows what any RT-DETR looks at: a page that needs nothing else, whatever its files are called."""

import base64
import hashlib
import io
import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import ultralytics
from PIL import Image
from torch import nn
from ultralytics import RTDETR, YOLO

from mqa_lib import MobileMQA, explorer, pictures, plots, record, rtdetr
from mqa_lib.__main__ import main
from mqa_lib.explorer import words

ROOT = Path(__file__).parents[2]
NANO = ROOT / "data/weights/rtdetr-nano-mobile-mqa.safetensors"
SCENE = ROOT / "data/keys_and_locks/images/val/000003.png"
BUS = Path(ultralytics.__file__).parent / "assets/bus.jpg"
HOSTILE = "<script>alert(1)</script>'\" onerror='alert(2)"


class Page(HTMLParser):
    """Keeps every start tag with its attributes, and every text by the tag that it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str, kind: str | None = None) -> list[dict]:
        return [had for name, had in self.tags if name == tag and kind in (None, had.get("class"))]


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """Explore, in a process and a folder of their own, a stock checkpoint that knows nothing of this library."""
    folder = tmp_path_factory.mktemp("stranger")
    RTDETR("rtdetr-l.yaml").save(folder / "theirs.pt")
    command = [sys.executable, "-m", "mqa_lib", "explore", "theirs.pt", str(BUS), "-o", "attention.html"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [*command, "--imgsz", "320"], cwd=folder, env=environment, capture_output=True, text=True
    )
    return run, folder / "attention.html"


def test_a_stranger_s_stock_checkpoint_is_explored_with_one_command(stranger):
    run, path = stranger
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "attention.html", "")
    page = page_of(path)
    (layer, decoder), words = (had["alt"] for had in page.all("img")), path.read_text()
    assert layer.count("reads most") == 8 and decoder.count("from within the box") == 6
    assert "model.11 (AIFI): 10×10 queries, 10×10 keys" in words and "Nobody said what these weights" in words


@pytest.fixture(scope="module")
def nano(tmp_path_factory) -> tuple[explorer.Seen, Path]:
    path = tmp_path_factory.mktemp("nano") / "attention.html"
    assert main(["explore", str(NANO), str(SCENE), "-o", str(path), "--at", "103,83"]) == 0
    return explorer.look(rtdetr.load(NANO), SCENE), path


def test_the_page_holds_the_records_own_numbers(nano):
    seen, path = nano
    text = path.read_text()
    for entry in seen.layers:
        query = entry.query_at(103, 83)
        for head in range(entry.num_heads):
            for key in entry.top(query, head):
                assert f"row {key.row}, column {key.column}: <b>{words.percent(key.share)}</b>" in text
            assert f"{float(record.entropy(entry.row(query, head))):.2f} bits" in text
        assert f"{entry.uniform_entropy:.2f} bits" in text
    alts = [had["alt"] for had in page_of(path).all("img")]
    assert alts == [
        *(plots.explorer_alt(entry, entry.query_at(103, 83)) for entry in seen.layers),
        plots.sampling_alt(seen.points),
    ]
    assert "trained on Keys &amp; Locks" in text


def test_every_picture_has_words_and_headings_go_down_by_one(nano, stranger):
    for path in (nano[1], stranger[1]):
        page = page_of(path)
        assert all(had["alt"].strip() for had in page.all("img"))
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert page.all("html")[0]["lang"] == "en"


def test_the_page_asks_for_nothing_and_lets_run_its_own_script_only(nano, stranger):
    for path in (nano[1], stranger[1]):
        page, text = page_of(path), path.read_text()
        assert {tag for tag, _ in page.tags} & {"link", "iframe", "object"} == set()
        script = re.search(r"<script type=module>(.*?)</script>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'\"" in text and "script-src 'self'" not in text
        assert [had.get("type") for had in page.all("script")] == ["text/plain", "module"]
        asked = [had[name] for _, had in page.tags for name in ("src", "href", "srcset") if name in had]
        assert all(address.startswith(("data:", "#")) for address in asked)
        assert "@import" not in text and "url(" not in text.replace(script, "")
        assert len(text) < 600_000


def test_a_hostile_name_is_shown_and_not_obeyed(tmp_path):
    path = tmp_path / "page.html"
    seen = explorer.look(rtdetr.load(NANO), SCENE, HOSTILE, HOSTILE)
    layers = [replace(entry, layer=HOSTILE, kind=HOSTILE) for entry in seen.layers]
    points = replace(seen.points, labels=(HOSTILE,) * len(seen.points.labels))
    explorer.export_html(replace(seen, layers=layers, points=points), path, model=HOSTILE)
    page = page_of(path)
    assert len(page.all("script")) == 2 and not [
        had for _, had in page.tags if any(n.startswith("on") for n in had)
    ]
    shown = "".join(text for tag, text in page.texts if tag not in ("style", "script"))
    assert shown.count(HOSTILE) >= 5


def test_pictures_of_any_kind_are_read_as_the_detector_reads_them(tmp_path):
    scene = Image.open(SCENE).convert("RGB")
    wide = scene.crop((0, 0, 128, 90))
    noted = Image.Exif()
    noted[0x0112] = 6  # to be turned by a quarter
    wide.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=noted)
    grey = np.asarray(wide.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.fromarray(np.asarray(wide.convert("L"))).save(tmp_path / "grey.png")
    wide.convert("RGBA").save(tmp_path / "clear.png")
    wide.save(tmp_path / "plain.png")
    names = ("turned", "clear", "plain", "deep", "grey")
    files = [str(tmp_path / f"{name}.png") for name in names]
    assert main(["explore", str(NANO), *files, "-o", str(tmp_path / "all.html")]) == 0
    text = (tmp_path / "all.html").read_text()
    parts = re.findall(r"<article><h2>[^<]*</h2>(.*?)</article>", text, re.DOTALL)
    shown = dict(zip(names, parts, strict=True))
    assert shown["turned"] == shown["clear"] == shown["plain"] != shown["grey"] == shown["deep"]


def test_one_picture_can_be_written_as_a_png(tmp_path, nano):
    path = tmp_path / "deep" / "attention.png"
    assert main(["explore", str(NANO), str(SCENE), "-o", str(path), "--layer", "model.8.attn"]) == 0
    assert min(Image.open(path).size) > 900
    said = plots.sampling_alt(nano[0].points)
    assert f"{nano[0].points.top(0, 0, 1)[0].share:.1%} of head" in said


def test_weights_that_a_model_file_draws_are_called_random(tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["explore", "rtdetr-nano-stock", str(SCENE), "-o", str(path), "--imgsz", "96,160"]) == 0
    text = path.read_text()
    assert "Random, as rtdetr-nano-stock.yaml builds them" in text and "3×5 queries" in text


def test_a_model_with_only_a_decoder_and_one_with_only_attention_are_explored_too(tmp_path):
    torch.manual_seed(0)
    attention = nn.Sequential(nn.Conv2d(3, 8, 8, 8), MobileMQA(8, num_heads=2, kv_stride=2))
    seen = explorer.look(attention, SCENE)
    assert seen.points is None and seen.middle == (64, 64)
    text = explorer.export_html(seen.layers, tmp_path / "a.html").read_text()
    assert "1 (Mobile MQA): 16×16 queries, 8×8 keys" in text and text.count("<img") == 1
    decoder = RTDETR(str(rtdetr.MODELS["rtdetr-nano-stock"]))
    for number, layer in enumerate(decoder.model.model):
        if type(layer).__name__ == "AIFI":
            passing = nn.Identity()
            passing.f, passing.i = layer.f, layer.i
            decoder.model.model[number] = passing
    seen = explorer.look(decoder, SCENE)
    assert seen.layers == [] and len(seen.points.layers) == 3
    assert "no attention over a grid" in explorer.export_html(seen, tmp_path / "b.html").read_text()


def test_a_model_without_attention_is_refused_with_what_was_looked_for():
    with pytest.raises(ValueError, match=r"DetectionModel.*no MobileMQA.*no AIFI.*no decoder"):
        explorer.look(YOLO("yolov8n.yaml"), SCENE)
    with pytest.raises(ValueError, match=r"Sequential.*no DeformableTransformerDecoder.*2 modules"):
        record.capture_decoder(nn.Sequential(nn.Conv2d(3, 8, 1)), SCENE)


REFUSED = {
    "picture.html": ([str(NANO), "nowhere.jpg"], "nowhere.jpg) is not there"),
    "text.html": ([str(NANO), str(SCENE), __file__], "test_explore.py) cannot be read as a picture"),
    "page.pdf": ([str(NANO), str(SCENE)], "must end in .html or .png"),
    "several.png": ([str(NANO), str(SCENE), str(BUS)], "holds one picture only"),
    "outside.html": (
        [str(NANO), str(SCENE), "--at", "128,0"],
        "outside 000003.png, which has 128 rows and 128",
    ),
    "layer.html": (
        [str(NANO), str(SCENE), "--layer", "model.9"],
        "Use one of: model.12, model.5.attn, model.8",
    ),
    "model.html": (["nowhere.pt", str(SCENE)], "nowhere.pt) does not exist"),
    "size.html": ([str(NANO), str(SCENE), "--imgsz", "0"], "`size` (=0) must be a whole number"),
}


@pytest.mark.parametrize("output", REFUSED)
def test_what_cannot_be_shown_is_refused_in_one_sentence_and_nothing_is_written(output, tmp_path, capsys):
    arguments, said = REFUSED[output]
    assert main(["explore", *arguments, "-o", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and error.count("\n") == 1
    assert not (tmp_path / output).exists()


@pytest.mark.parametrize("content", ["nothing", "text", "cut off", "a dictionary"])
def test_a_broken_checkpoint_is_refused_by_name(content, tmp_path, capsys):
    path = tmp_path / "theirs.pt"
    torch.save({"a": torch.zeros(999)}, path)
    if content != "a dictionary":
        path.write_bytes({"nothing": b"", "text": b"text\n"}.get(content, path.read_bytes()[:-500]))
    assert main(["explore", str(path), str(SCENE), "-o", str(tmp_path / "page.html")]) == 2
    assert "theirs.pt) cannot be read as a checkpoint" in capsys.readouterr().err


def test_a_large_photo_becomes_small_and_a_small_one_stays_to_the_pixel():
    kind, data = plots.photo(pictures.read(BUS))
    assert kind == "image/jpeg" and max(Image.open(io.BytesIO(data)).size) == 800 and len(data) < 200_000
    kind, data = plots.photo(pictures.read(SCENE))
    assert kind == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pictures.read(SCENE))


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_wide_and_narrow_light_and_dark_and_offline(
    browser, stranger, nano, width, scheme
):
    """Slow: a browser has to start."""
    for path in (nano[1], stranger[1]):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        asked, said = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url[:5]))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        lightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert (int(lightness) > 128) == (scheme == "light")
        assert set(asked) <= {"file:", "data:"}
        assert said == []
        page.close()


def test_a_page_that_is_too_large_is_refused_with_its_size_and_the_way_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mqa_lib.explorer.export.LARGEST", 1000)
    page = tmp_path / "a.html"
    assert main(["explore", "rtdetr-nano-mobile-mqa", str(SCENE), "--imgsz", "128", "-o", str(page)]) == 2
    said = capsys.readouterr().err
    assert re.search(r"`page` \(=a.html\) needs [\d,]+ bytes, at most 1,000 fit \([\d,]+ are queries", said)
    assert "--imgsz" in said and "--layer NAME" in said and not page.exists()
