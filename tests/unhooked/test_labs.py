"""Moving a slider changes the picture and the numbers, and the numbers are those of the formulas."""

import html
import re

import pytest

from mqa_lib import cost, labs, plots
from mqa_lib.timing import Spread

MOVES = [("num_heads", 16), ("size", 40), ("dim", 1024), ("kv_stride", 3)]


def texts(lab: labs.CostLab) -> str:
    return html.unescape(re.sub("<[^>]+>", " ", lab.table.value))


@pytest.mark.parametrize(("name", "value"), MOVES)
def test_every_slider_changes_the_one_picture_and_the_table(name: str, value: int) -> None:
    lab = labs.cost_lab()
    picture, before, told = lab.picture, lab.picture.value, texts(lab)
    lab.sliders[name].value = value
    assert lab.picture is picture
    assert picture.value != before
    assert picture.value.count("<img ") == 1 and f'alt="{html.escape(lab.alt)}"' in picture.value
    assert texts(lab) != told


def test_the_table_holds_the_numbers_of_the_formulas_for_what_the_sliders_say() -> None:
    lab = labs.cost_lab(key_dim=32)
    for name, value in MOVES:
        lab.sliders[name].value = value
    layer = (1024, 40, 40, 16, 32, 32)
    three = cost.multi_head(*layer), cost.multi_query(*layer), cost.mobile_mqa(*layer, kv_stride=3)
    assert tuple(lab.costs.values()) == three
    for each in three:
        assert f"{each.macs:,}" in texts(lab)
        assert f"{each.params:,}" in texts(lab)


def test_the_table_tells_the_shapes_of_shared_and_down_sampled_keys() -> None:
    lab = labs.cost_lab()
    lab.sliders["size"].value, lab.sliders["kv_stride"].value = 12, 3
    table = texts(lab)
    rows, columns = cost.key_grid(12, 12, 3)
    for shape in (
        "4 × 144 × 64",
        "1 × 144 × 64",
        f"1 × {rows * columns} × 64",
        f"4 × 144 × {rows * columns}",
    ):
        assert shape in table


def test_sliders_wait_until_they_are_let_go() -> None:
    assert not any(slider.continuous_update for slider in labs.cost_lab().sliders.values())


def test_an_error_while_redrawing_reaches_whoever_moved_the_slider(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = labs.cost_lab()
    monkeypatch.setattr(plots, "cost_bars", lambda costs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lab.sliders["size"].value = 40
    assert 'role="alert"' in lab.said.value and "ZeroDivisionError" in lab.said.value
    monkeypatch.undo()
    lab.sliders["size"].value = 20
    assert "alert" not in lab.said.value


def test_the_static_twin_draws_what_the_lab_draws_and_says_its_numbers() -> None:
    png, words = labs.cost_lab().twin()
    _, alt = plots.cost_bars(labs.lab_costs())
    assert png.startswith(b"\x89PNG") and alt in words
    for each in labs.lab_costs().values():
        assert cost.in_thousands(each.macs) in words
        assert cost.in_bytes(each.score_bytes) in words


def test_the_bars_are_as_long_as_the_macs() -> None:
    costs = labs.lab_costs()
    fig, _ = plots.cost_bars(costs)
    bars = fig.axes[0].patches
    lengths = [sum(bar.get_width() for bar in bars[row :: len(costs)]) for row in range(len(costs))]
    assert lengths == pytest.approx([each.macs / 1e6 for each in costs.values()])


def test_the_roofline_starts_at_the_share_of_macs_and_ends_at_the_share_of_bytes() -> None:
    costs = labs.lab_costs()
    fig, _ = plots.roofline({"a panel": costs}, {"a machine": 31.0})
    line = fig.axes[0].lines[1].get_ydata()
    first, last = costs[labs.MULTI_HEAD], costs[labs.MOBILE]
    assert line[0] == pytest.approx(
        last.macs / first.macs, abs=0.01
    )  # down-sampling is memory-bound even here
    moved = [each.weight_bytes + each.activation_bytes for each in (last, first)]
    assert line[-1] == pytest.approx(moved[0] / moved[1], abs=1e-3)


def test_the_ratios_say_their_numbers() -> None:
    _, alt = plots.time_ratios({"a map": {"theirs": Spread(1.75, 1.5, 2.0)}}, "ours")
    assert "a map: theirs 1.75" in alt
