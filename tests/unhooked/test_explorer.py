"""The explorer shows the record's numbers, follows its controls, and hides no error."""

import re
from dataclasses import replace

import ipywidgets as widgets
import numpy as np
import pytest

from mqa_lib import explorer, plots
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


@pytest.fixture
def one() -> explorer.Explorer:
    return explorer.Explorer([made(5, 7)])


@pytest.fixture
def two() -> explorer.Explorer:
    return explorer.Explorer([made(5, 7, heads=3), made(10, 14, heads=2, cell=3, name="fine")])


def test_it_starts_at_the_middle_of_the_grid(one):
    assert (one.row.value, one.column.value, one.query) == (2, 3, 17)


def test_sliders_reach_every_query_and_no_further(one):
    assert (one.row.min, one.row.max, one.column.min, one.column.max) == (0, 4, 0, 6)


def test_the_picture_is_that_of_the_static_twin(one):
    assert one.picture.value == plots.quick_png(plots.explorer_figure(one.record, 17))


def test_moving_a_slider_redraws_the_same_picture_widget_and_the_table(one):
    picture, table, widget = one.picture.value, one.readout.value, one.picture
    one.column.value = 6
    assert one.picture is widget and bytes(one.picture.value).startswith(PNG)
    assert one.picture.value != picture and one.readout.value != table


def test_sliders_wait_until_they_are_let_go(one):
    assert not one.row.continuous_update and not one.column.continuous_update


def test_one_head_can_be_chosen(one):
    one.head.value = 1
    assert one.picture.value == plots.quick_png(plots.explorer_figure(one.record, 17, 1))
    assert "head 1" in one.readout.value and "head 0" not in one.readout.value


def test_another_layer_is_shown_at_the_same_place_of_the_picture(two):
    two.row.value, two.column.value = 4, 1
    before = two.record.query_cell_of(two.query)
    two.layer.value = 1
    inside = two.record.query_cell_of(two.query)
    assert before.top <= inside.top and inside.bottom <= before.bottom
    assert before.left <= inside.left and inside.right <= before.right
    two.layer.value = 0
    assert (two.row.value, two.column.value) == (4, 1)


def test_a_head_that_the_new_layer_lacks_gives_way_to_all_heads(two):
    two.head.value = 2
    two.layer.value = 1
    assert [value for _, value in two.head.options] == [-1, 0, 1] and two.head.value == -1


def test_changing_the_layer_draws_once(two, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        plots, "explorer_figure", lambda *arguments: drawn.append(arguments) or plots.figure()[0]
    )
    two.layer.value = 1
    assert len(drawn) == 1


def test_an_error_is_shown_where_the_reader_looks_and_raised(one, monkeypatch):
    monkeypatch.setattr(words, "readout", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.row.value = 0
    assert "could not redraw" in one.readout.value and "division by zero" in one.readout.value


def test_nothing_is_printed_by_a_redraw(one, capsys):
    one.row.value = 0
    assert capsys.readouterr() == ("", "")


def test_only_widgets_that_ipywidgets_7_and_8_share_are_used(two):
    seen = {type(widget) for widget in all_widgets(two)} - {explorer.Explorer}
    assert seen == {widgets.Dropdown, widgets.IntSlider, widgets.HBox, widgets.Image, widgets.HTML}


def all_widgets(widget):
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in all_widgets(child))]


def test_the_table_lists_the_record_s_five_strongest_keys_of_every_head():
    record = made(5, 7)
    table = words.readout(record, 17)
    listed = re.findall(r"<td>row (\d+), column (\d+): <b>([\d.]+)%</b></td>", table)
    expected = [key for line in zip(record.top(17, 0), record.top(17, 1), strict=True) for key in line]
    assert listed == [(str(key.row), str(key.column), words.percent(key.share)[:-1]) for key in expected]


def test_the_table_says_what_is_real_what_is_uniform_and_that_it_is_no_explanation():
    said = words.readout(made(5, 7), 17)
    assert "Made by hand, &lt;trained&gt; on nothing." in said
    assert "2.9% each and 5.13 bits" in said
    assert "does not say why" in said


def test_the_sentence_names_query_head_and_strongest_key():
    record = made(5, 7)
    best = record.top(17, 1, 1)[0]
    assert words.sentence(record, 17, 1).startswith(
        f"Query row 2, column 3, head 1: strongest key row {best.row}, column {best.column}, {best.share:.1%};"
    )


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_static_mode_shows_a_picture_with_alternative_text_and_the_table(heads, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: shown.extend(things))
    monkeypatch.setattr("mqa_lib.explorer.view.display", lambda *things, **_: shown.extend(things))
    assert explorer.show(made(5, 7, heads), mode="static") is None
    assert capsys.readouterr().out == "Explorer: static, as asked for.\n"
    assert shown[0].data.startswith(PNG) and "row 2, column 3" in shown[0].alt
    assert "<table>" in shown[1].data


def test_without_a_kernel_auto_mode_is_static_and_says_why(capsys, monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: None)
    monkeypatch.setattr("mqa_lib.explorer.view.display", lambda *things, **_: None)
    assert explorer.show([made(5, 7)]) is None
    assert capsys.readouterr().out == "Explorer: static, because no notebook's kernel is running.\n"


@pytest.mark.parametrize(("there", "kind"), [(True, "explorer"), (False, "widgets")])
def test_with_a_kernel_auto_mode_takes_the_explorer_and_without_anywidget_the_sliders(
    there, kind, capsys, monkeypatch
):
    monkeypatch.setattr("mqa_lib.explorer.view.get_ipython", lambda: type("Shell", (), {"kernel": True})())
    monkeypatch.setattr("mqa_lib.explorer.view.find_spec", lambda name: there or None)
    monkeypatch.setattr("mqa_lib.explorer.view.display", lambda *things, **_: None)
    shown = explorer.show([made(5, 7)], query=3)
    assert type(shown).__name__ == {"explorer": "AttentionExplorer", "widgets": "Explorer"}[kind]
    assert shown.query == 3
    said = capsys.readouterr().out
    assert said.startswith(f"Explorer: {kind}, because anywidget is") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((),), "`records` \\(=\\[\\]\\) is empty"),
        ((made(5, 7), "film"), "`mode` \\(='film'\\).*auto, explorer, static, widgets"),
        ((made(5, 7), "static", 35), "`query` \\(=35\\) must be from 0 to 34.*query_at"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_its_way_out(arguments, said):
    with pytest.raises(ValueError, match=said):
        explorer.show(*arguments)


def test_a_single_position_can_be_explored():
    tiny = replace(made(1, 1), image=np.zeros((6, 6, 3), np.uint8))
    assert explorer.Explorer([tiny]).readout.value.count("100.0%") == 3
