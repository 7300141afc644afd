"""Pictures of attention show the record's numbers, each where its pixels are."""

import numpy as np
import pytest
from matplotlib.colors import Normalize

from mqa_lib import plots
from mqa_lib.plots import attention
from mqa_lib.record import AttentionRecord, Rectangle

CELL = 6.0
LINKED = 7, 11  # a query and the key that it reads, in a layer of 5 × 7 queries and 3 × 4 keys of stride 2


def linked(heads: int = 2, strength: float = 40.0) -> AttentionRecord:
    """Return a record in which one query reads one key in head 1, and everything else is read alike."""
    q, k = np.zeros((heads, 35, 1), np.float16), np.zeros((1, 12, 1), np.float16)
    q[1 % heads, LINKED[0]], k[0, LINKED[1]] = strength, 1
    image = np.random.RandomState(0).randint(0, 256, (30, 42, 3)).astype(np.uint8)
    sizes = {"query_cell": (CELL, CELL), "key_step": (2 * CELL, 2 * CELL), "key_size": (3 * CELL, 3 * CELL)}
    made = {
        "layer": "attn",
        "kind": "Mobile MQA",
        "weights_are": "Made by hand.",
        "key_origin": (-CELL, -CELL),
    }
    return AttentionRecord(
        q=q, k=k, scale=1.0, query_grid=(5, 7), key_grid=(3, 4), image=image, **sizes, **made
    )


def titles(fig) -> list[str]:
    return [ax.get_title() for ax in fig.axes if ax.get_title()]


def test_titles_name_the_query_and_every_head_s_entropy_beside_the_uniform_level():
    query = "query at row 1, column 0"
    assert titles(plots.explorer_figure(linked(), LINKED[0])) == [
        "head 0: 3.6 of 3.6 bits",
        "head 1: 0.0 of 3.6 bits",
        query,
    ]


@pytest.mark.parametrize(("heads", "panels"), [(1, 1), (2, 2), (4, 4), (5, 5), (8, 8), (11, 11)])
def test_every_head_has_a_map(heads, panels):
    assert (
        sum(title.startswith("head") for title in titles(plots.explorer_figure(linked(heads), 0))) == panels
    )


def test_one_head_can_be_drawn_alone():
    assert titles(plots.explorer_figure(linked(), LINKED[0], head=1))[1] == "head 1: 0.0 of 3.6 bits"


def test_a_target_is_outlined_on_the_picture_and_on_every_map_that_lies_on_it():
    plain, marked = (plots.explorer_figure(linked(), LINKED[0], target=target) for target in (None, 5))
    outlined = sum(len(ax.patches) for ax in marked.axes) - sum(len(ax.patches) for ax in plain.axes)
    assert outlined == 2 * (
        1 + linked().num_heads
    )  # a colour on black, on the picture and on each head's map


def test_bare_grid_holds_the_weights_themselves():
    record = linked()
    grids = [image.get_array() for ax in plots.explorer_figure(record, LINKED[0]).axes for image in ax.images]
    shown = [grid for grid in grids if grid.shape == (3, 4)]
    np.testing.assert_allclose(shown, record.rows(LINKED[0]))


def test_strongest_key_is_drawn_on_the_middle_of_its_footprint():
    record = linked()
    _, ax = plots.figure()
    attention.draw_weights(ax, record, record.rows(LINKED[0])[1], LINKED[0], Normalize(0, 1))
    left, right, bottom, top = ax.images[1].get_extent()
    place = np.unravel_index(ax.images[1].get_array()[..., 3].argmax(), record.key_grid)
    drawn = [top + (place[0] + 0.5) * (bottom - top) / 3, left + (place[1] + 0.5) * (right - left) / 4]
    middle = [(2 * 2 + 0.5) * CELL - 0.5, (2 * 3 + 0.5) * CELL - 0.5]  # key (2, 3) is centred on cell (4, 6)
    assert drawn == pytest.approx(middle)


def test_map_on_the_picture_shows_the_whole_picture_and_no_more():
    record = linked()
    _, ax = plots.figure()
    attention.draw_weights(ax, record, record.rows(0)[0], 0, Normalize(0, 1))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 41.5), (29.5, -0.5))


def test_weights_that_choose_nothing_fill_a_quarter_of_the_scale():
    assert attention.weight_scale(np.full((2, 3, 4), 1 / 12)).vmax == pytest.approx(4 / 12)


def test_scale_reaches_from_nothing_to_the_largest_weight_of_all_heads():
    scale = attention.weight_scale(linked().rows(LINKED[0]))
    assert (scale.vmin, scale.vmax) == (0, pytest.approx(1))


def test_alternative_text_names_query_strongest_keys_and_uniform_level():
    said = plots.explorer_alt(linked(), LINKED[0])
    assert "row 1, column 0" in said
    assert "head 1 reads most, 100%, from row 2, column 3" in said
    assert "3 by 4 keys" in said and "8.3%" in said


def test_same_pixel_has_a_row_for_each_record_and_a_map_for_each_of_its_heads():
    shown = titles(plots.same_pixel_figure([linked(2), linked(3)], ["two", "three"], 8, 3))
    assert shown.count("head 0: 3.6 of 3.6 bits") == 2
    assert sum(title.startswith("head") for title in shown) == 2 + 3 and {"two", "three"} <= set(shown)


def test_entropy_figure_has_a_dot_at_each_head_s_median_and_a_line_at_the_uniform_level():
    ax = plots.entropy_figure([linked()], ["made"]).axes[0]
    medians = np.median(linked().entropy(), axis=1)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), medians)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["made, head 0", "made, head 1"]
    assert ax.collections[1].get_segments()[0][0][0] == pytest.approx(np.log2(12))


def test_reach_figure_states_the_sizes_of_footprint_and_reach():
    fig = plots.reach_figure(linked(), 0, Rectangle(0.0, 0.0, 20.0, 25.0))
    said = [text.get_text() for text in fig.legends[0].get_texts()]
    assert said == ["made from these cells: 12 × 12 px", "knows of these pixels: 20 × 25 px"]
