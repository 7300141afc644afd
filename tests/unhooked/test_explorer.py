"""What the explorer says is the record's own, and where it cannot run its still pictures say the same."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mqa_lib import MobileMQA, explorer
from mqa_lib.explorer import words
from mqa_lib.record import AttentionRecord

PNG = b"\x89PNG"


def made(rows: int, columns: int, heads: int = 2, cell: int = 6, name: str = "attn") -> AttentionRecord:
    random = np.random.RandomState(rows)
    sizes = {
        "query_cell": (cell, cell),
        "key_step": (cell, cell),
        "key_size": (cell, cell),
        "key_origin": (0, 0),
    }
    return AttentionRecord(
        q=random.normal(size=(heads, rows * columns, 3)).astype(np.float16),
        k=random.normal(size=(1, rows * columns, 3)).astype(np.float16),
        scale=1.0,
        query_grid=(rows, columns),
        key_grid=(rows, columns),
        image=random.randint(0, 256, (30, 42, 3)).astype(np.uint8),
        layer=name,
        kind="Mobile MQA",
        weights_are="Made by hand, <trained> on nothing.",
        **sizes,
    )


def test_the_table_lists_the_record_s_five_strongest_keys_of_every_head():
    record = made(5, 7)
    table = words.readout(record, 17)
    listed = re.findall(r"<td>row (\d+), column (\d+): <b>([\d.]+)%</b></td>", table)
    expected = [key for line in zip(record.top(17, 0), record.top(17, 1), strict=True) for key in line]
    assert listed == [(str(key.row), str(key.column), words.percent(key.share)[:-1]) for key in expected]


def test_the_sentence_names_query_head_and_strongest_key():
    record = made(5, 7)
    best = record.top(17, 1, 1)[0]
    assert words.sentence(record, 17, 1).startswith(
        f"Query row 2, column 3, head 1: strongest key row {best.row}, column {best.column}, {best.share:.1%};"
    )


def test_the_table_says_what_is_real_and_what_is_uniform():
    said = words.readout(made(5, 7), 17)
    assert "Made by hand, &lt;trained&gt; on nothing." in said
    assert "2.9% each and 5.13 bits" in said


@pytest.fixture
def shown(monkeypatch) -> list:
    """Return what a notebook would be given to display."""
    things = []
    for place in ("IPython.display.display", "mqa_lib.explorer.view.display"):
        monkeypatch.setattr(place, lambda *given, **_: things.extend(given))
    return things


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_static_mode_shows_a_picture_with_alternative_text_and_the_table_and_that_it_is_no_explanation(
    heads, capsys, shown
):
    assert explorer.show(made(5, 7, heads), mode="static") is None
    assert capsys.readouterr().out == "Explorer: static, as asked for.\n"
    assert shown[0].data.startswith(PNG) and "row 2, column 3" in shown[0].alt
    assert "<table>" in shown[1].data and "does not say why" in shown[2].data


def test_static_mode_shows_every_layer_at_the_place_of_the_query_that_was_asked_for(shown):
    coarse = made(5, 7)
    explorer.show(
        [coarse, replace(made(10, 14, cell=3, name="fine"), image=coarse.image)], mode="static", query=33
    )
    assert "row 4, column 5 outlined" in shown[0].alt and "row 9, column 11 outlined" in shown[2].alt


def test_a_guess_shows_the_query_and_no_answer_where_there_is_no_script(shown):
    explorer.show(made(5, 7), mode="static", query=3, guess=True)
    assert [thing.alt for thing in shown] == ["The picture with the query at row 0, column 3 marked."]


@pytest.mark.parametrize(
    ("kernel", "anywidget", "said"),
    [
        (True, True, "explorer, because anywidget is here; if nothing shows"),
        (True, False, "static, because anywidget is not installed."),
        (False, True, "static, because no notebook's kernel is running."),
    ],
)
def test_auto_mode_takes_what_can_run_here_and_says_why(kernel, anywidget, said, capsys, monkeypatch, shown):
    shell = type("Shell", (), {"kernel": True})() if kernel else None
    monkeypatch.setattr("mqa_lib.explorer.view.get_ipython", lambda: shell)
    monkeypatch.setattr("mqa_lib.explorer.view.find_spec", lambda name: anywidget or None)
    view = explorer.show([made(5, 7)], query=3)
    assert view is None if said.startswith("static") else view.query == 3
    printed = capsys.readouterr().out
    assert printed.startswith(f"Explorer: {said}") and printed.count("\n") == 1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 6, 6), MobileMQA(8, num_heads=2, kv_stride=2)).eval()


def test_a_model_and_a_picture_are_looked_at_shown_and_may_be_asked_again(tmp_path, shown):
    image = np.random.RandomState(0).randint(0, 256, (30, 42, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    view = explorer.show(network(), tmp_path / "photo.png", "explorer", query=3)
    seen = explorer.look(network(), image)
    assert view.query == 3 and view.checks
    np.testing.assert_array_equal(view.scenes[0].layers[0].q, seen.layers[0].q)
    smaller = explorer.show(network(), image, mode="explorer", size=(18, 24)).scenes[0]
    assert smaller.layers[0].query_grid == (3, 4)
    page = explorer.export_html(network(), tmp_path / "photo.png", tmp_path / "deep" / "page.html", (3, 5))
    assert page.read_text() == explorer.export_html(seen, tmp_path / "again.html", (3, 5)).read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((),), r"`seen` \(=\[\]\) is empty.*`look` or `record.capture`"),
        (
            ("photo.jpg",),
            r"`seen` \(='photo.jpg'\).*Give a model and a picture, as in `show\(model, 'photo.jpg'\)`",
        ),
        ((np.zeros((7, 7, 3), np.uint8),), r"`seen` \(=ndarray\).*Give a model and a picture"),
        ((network(),), r"`picture` \(=None\) must be given with a model"),
        ((made(5, 7), "film"), r"`mode` \(='film'\).*auto, explorer, static"),
        ((made(5, 7), "static", 35), r"`query` \(=35\) must be from 0 to 34.*query_at"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_its_way_out(arguments, said):
    with pytest.raises(ValueError, match=said):
        explorer.show(*arguments)


def test_a_page_of_a_picture_alone_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"`seen` \(='photo.jpg'\).*Give a model and a picture"):
        explorer.export_html("photo.jpg", tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
