"""The explorer of a notebook: small, all of its state in traits, and a picture with a true sentence beneath it."""

import base64
import io
import json
import re
import sys
from unittest.mock import MagicMock

import ipywidgets
import nbformat
import numpy as np
import pytest
import timm
import torch
import traitlets
from IPython.core.formatters import DisplayFormatter
from ipywidgets.embed import dependency_state
from nbconvert import HTMLExporter
from PIL import Image
from torch import nn

from mqa_lib import MobileMQA, explorer, plots, transfer
from mqa_lib.explorer import payload, words
from mqa_lib.explorer.widget import AttentionExplorer
from tests.unhooked.explored import AIFI, SAID, STAGE, now, opened, p5, random_record
from tests.unhooked.test_explorer import PNG, made


def widget(*records, **options) -> AttentionExplorer:
    return AttentionExplorer(explorer.gather(records), **options)


def bytes_of(view) -> int:
    state = view.get_state()
    return len(json.dumps({k: v for k, v in state.items() if k != "data"}).encode()) + len(state["data"])


def same_picture(text: str, figure, said: str) -> bool:
    """Return whether a picture of 256 colours is that of a figure, with a sentence beneath it."""
    height = figure.get_figheight()
    shown, drawn = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)
        for png in (base64.b64decode(text), plots.png(plots.with_caption(figure, said)))
    )
    words = shown[round(150 * height) :]
    has_words = words.shape[0] > 20 and (words < 100).any() and (words > 200).mean() > 0.8
    return (
        has_words and shown.shape == drawn.shape and np.abs(shown - drawn).mean() < 15
    )  # the photo is noise


def test_its_bundle_holds_the_widget_the_picture_and_the_sentence():
    taken = made(5, 7)
    view = widget(taken, query=17)
    data, metadata = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    said = words.sentence(taken, 17, words.sharpest(taken, 17))
    assert data["text/plain"] == said == metadata["image/png"]["alt"]
    assert same_picture(data["image/png"], plots.explorer_figure(taken, 17), said)


def test_a_notebook_saves_its_picture_and_its_sentence_with_ipywidgets_7_too(monkeypatch):
    """Whose widgets display themselves, and nothing but their view."""
    view = "application/vnd.jupyter.widget-view+json"
    shown = []

    def theirs(self, **_):
        shown.append({view: {"model_id": self.model_id}})

    monkeypatch.setattr(ipywidgets.Widget, "_ipython_display_", theirs, raising=False)
    monkeypatch.setattr(
        "mqa_lib.explorer.widget.display", lambda data, **_: shown.append(data), raising=False
    )
    explored = widget(made(5, 7), query=17)
    DisplayFormatter().format(explored)
    (data,) = shown
    assert data[view]["model_id"] == explored.model_id and data["text/plain"] == explored.sentence()
    assert same_picture(data["image/png"], plots.explorer_figure(made(5, 7), 17), explored.sentence())


def test_its_picture_outlines_the_right_key_where_that_is_known():
    """By hand: the first lock's cell asks, and the middle of key 8 is the nearest to the pixel of its key."""
    taken = made(5, 7)
    middles = taken.key_centres()
    lock, key = (int(at) for at in taken.query_cell_of(17)[:2]), (int(at) for at in middles[8])
    match = explorer.Match("star", tuple(lock), tuple(key))
    seen = explorer.gather(taken, [match])
    data, _ = AttentionExplorer(seen, query=17)._repr_mimebundle_()
    assert same_picture(data["image/png"], plots.explorer_figure(taken, 17, target=8), data["text/plain"])
    bare, _ = widget(taken, query=17)._repr_mimebundle_()
    assert data["image/png"] != bare["image/png"]
    assert data["text/plain"] == f"{bare['text/plain']} The right key is outlined in orange."
    assert seen[0].right_key(taken, 17) == 8 and seen[0].right_key(taken, 18) is None


def test_a_page_made_from_a_state_without_defaults_has_the_script():
    view = widget(made(5, 7))
    kept = dependency_state([view], drop_defaults=True)[view.model_id]["state"]
    assert kept["_esm"] == str(view._esm) and "export default" in kept["_esm"]


def notebook_of(view, with_state: bool):
    """Return a notebook whose one cell showed the explorer, as it is saved with or without the widgets' state."""
    data, metadata = view._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    state = {"version_major": 2, "version_minor": 0, "state": dependency_state([view])}
    kept = {"widgets": {"application/vnd.jupyter.widget-state+json": state}} if with_state else {}
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("view", outputs=[output])], metadata=kept
    )


@pytest.mark.parametrize("template", ["lab", "classic"])
def test_a_page_of_nbconvert_shows_the_picture_or_holds_all_that_the_explorer_needs(template):
    """With the state, nbconvert leaves the picture out and asks the network for the widgets' own scripts."""
    view, exporter = widget(made(5, 7), query=17), HTMLExporter(template_name=template)
    plain, _ = exporter.from_notebook_node(notebook_of(view, with_state=False))
    (picture,) = re.findall(r"<img[^>]*data:image/png[^>]*>", plain)
    # The other template reads no alternative text, but the sentence is drawn in the picture too.
    if template == "classic":
        assert f'alt="{view.sentence()}"' in picture
    full, _ = exporter.from_notebook_node(notebook_of(view, with_state=True))
    found = re.search(r'type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', full, re.DOTALL)
    state = json.loads(found[1])["state"][view.model_id]
    assert state["state"]["_esm"] == payload.script() and state["state"]["_css"] == payload.style()
    assert base64.b64decode(state["buffers"][0]["data"]) == view.data
    assert f'"model_id": "{view.model_id}"' in full and "<img" not in full


def test_the_picture_of_a_guess_shows_no_answer():
    taken = made(5, 7)
    data, _ = widget(taken, query=17, guess=True)._repr_mimebundle_()
    assert same_picture(data["image/png"], plots.query_figure(taken, 17), data["text/plain"])
    assert "%" not in data["text/plain"] and "Which key" in data["text/plain"]


def test_it_starts_at_the_query_that_was_asked_for_and_at_the_sharpest_head():
    view = widget(made(5, 7), query=3)
    assert (view.query, view.locked, view.layer, view.direction, view.temperature) == (3, False, 0, "from", 1)
    assert view.head == made(5, 7).rows(3).reshape(2, -1).max(1).argmax()


@pytest.mark.parametrize(
    ("name", "value"), [("direction", "up"), ("scale", "log"), ("colours", "jet"), ("query", "a")]
)
def test_a_state_that_is_none_is_refused(name, value):
    with pytest.raises(traitlets.TraitError, match=name):
        setattr(widget(made(5, 7)), name, value)


def test_what_travels_to_a_notebook_is_small():
    for name, records, most in (
        ("P5", [p5()], 450_000),
        ("with AIFI", [p5(), random_record(**AIFI)], 900_000),
    ):
        size = bytes_of(widget(*records))
        print(
            f"{name}: {size / 1000:.0f} kB, of it queries and keys {sum(r.q.nbytes + r.k.nbytes for r in records)}"
        )
        assert size <= most
    assert p5().q.nbytes + p5().k.nbytes <= 300_000 and len(plots.photo(p5().image)[1]) <= 80_000


def test_on_colab_the_data_travel_as_text_and_are_the_same(monkeypatch):
    plain = widget(made(5, 7))
    colab = MagicMock()
    colab._widgets._installed_url = "https://example.invalid/manager.js"
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", colab)
    there = widget(made(5, 7))
    assert there.data == b"" and base64.b64decode(there.text) == plain.data
    data, metadata = there._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(PNG) and "strongest key" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in metadata


def asking_model() -> nn.Module:
    torch.manual_seed(0)
    layers = [MobileMQA(8, num_heads=2, kv_stride=stride) for stride in (1, 2)]
    return nn.Sequential(nn.Conv2d(3, 8, 6, 6), *layers, nn.Conv2d(8, 4, 1)).eval()


def ask(view, scene, layer, query):
    view._handle_custom_msg({"check": {"scene": scene, "layer": layer, "query": query}}, [])


def test_the_reader_may_ask_the_kernel_to_mask_keys_of_any_picture_at_the_size_it_was_looked_at():
    model, random = asking_model(), np.random.RandomState(0)
    images = [random.randint(0, 256, (30, 42, 3)).astype(np.uint8) for _ in range(2)]
    seen = [
        explorer.look(model, image, name, size=(36, 48), layer="2")
        for name, image in zip("ab", images, strict=True)
    ]
    view = widget(*seen, model=model)
    ask(view, 1, 0, 40)
    expected = explorer.mask_check(model, images[1], 1, 40, (36, 48))
    found = view.checked[0]
    assert (found["scene"], found["layer"], found["queries"]) == (1, 0, [40])
    assert [line["top"] for line in found["rows"]] == list(expected.strongest)
    silent = widget(made(5, 7))
    ask(silent, 0, 0, 17)
    assert not silent.checks and silent.checked == []


def test_a_check_that_fails_says_so_where_it_was_asked_for(caplog):
    model = nn.Sequential(asking_model(), nn.MaxPool2d(2))
    image = np.random.RandomState(0).randint(0, 256, (30, 42, 3)).astype(np.uint8)
    view = widget(explorer.look(model, image), model=model)
    ask(view, 0, 0, 17)
    assert "neither a score per class nor a map" in view.checked[0]["failed"] and view.checked[0][
        "queries"
    ] == [17]


def test_records_of_several_pictures_become_several_pictures():
    other = np.zeros((30, 42, 3), np.uint8)
    scenes = explorer.gather([made(5, 7), random_record(2, 5, 5, 3, image=other), made(5, 7, name="b")])
    assert [(scene.name, len(scene.layers)) for scene in scenes] == [("picture 1", 2), ("picture 2", 1)]


def test_timm_s_hybrids_are_explored_after_their_layers_were_carried_over():
    model = timm.create_model("mobilenetv4_hybrid_medium", pretrained=False).eval()
    assert transfer.replace_in(model) == 8
    image = np.random.RandomState(0).randint(0, 256, (96, 128, 3)).astype(np.uint8)
    seen = explorer.look(model, image, size=(96, 128))
    assert [layer.kind for layer in seen.layers] == ["Mobile MQA"] * 8
    assert seen.layers[0].key_grid == (3, 4) and widget(*seen.layers).sentence().startswith("Query row 3")


KINDS = {
    "grey": lambda random: random.randint(0, 256, (30, 42)).astype(np.uint8),
    "alpha": lambda random: random.randint(0, 256, (30, 42, 4)).astype(np.uint8),
    "16 bits": lambda random: random.randint(0, 65536, (30, 42)).astype(np.uint16),
    "one row": lambda random: random.randint(0, 256, (1, 42, 3)).astype(np.uint8),
    "one column": lambda random: random.randint(0, 256, (30, 1, 3)).astype(np.uint8),
    "one pixel": lambda random: random.randint(0, 256, (1, 1, 3)).astype(np.uint8),
    "large": lambda random: random.randint(0, 256, (1500, 2100, 3)).astype(np.uint8),
}


def network_of_any_size() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 6, 6), MobileMQA(8, num_heads=2, kv_stride=2)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_any_size_and_kind_is_shown(kind, browser, tmp_path):
    seen = explorer.look(network_of_any_size(), KINDS[kind](np.random.RandomState(0)), size=(30, 42))
    view = widget(seen)
    assert min(Image.open(io.BytesIO(view.picture())).size) > 100 and bytes_of(view) < 450_000
    page = opened(browser, explorer.export_html(seen, tmp_path / "a.html"))
    assert page.locator(SAID).inner_text() == view.sentence() and page.said == []
    page.locator(STAGE).focus()
    page.keyboard.press("Control+End")
    assert now(page)["query"] == "34" and page.locator(STAGE).bounding_box()["width"] > 20
    page.close()


def test_a_picture_that_a_camera_turned_is_shown_upright(tmp_path):
    array = np.random.RandomState(0).randint(0, 256, (30, 42, 3)).astype(np.uint8)
    noted = Image.Exif()
    noted[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(array).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=noted)
    seen = explorer.look(network_of_any_size(), tmp_path / "turned.png", size=(30, 42))
    np.testing.assert_array_equal(seen.image, array)
    assert widget(seen).data == widget(explorer.look(network_of_any_size(), array, size=(30, 42))).data
