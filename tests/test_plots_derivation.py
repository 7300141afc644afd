"""The pictures of the derivation hold the numbers they were given, and their alternative text says them."""

import numpy as np
import pytest

from mqa_lib import cost, plots


def test_a_heat_map_says_where_its_highest_value_lies() -> None:
    values = np.zeros((5, 7))
    values[3, 2] = 1.25
    fig, alt = plots.heat_maps({"weights": values}, mark=(1, 4))
    assert "row 1, column 4 marked" in alt
    assert "weights: from 0.00 to 1.25, highest at row 3, column 2" in alt
    assert np.array_equal(fig.axes[0].images[0].get_array(), values)


def test_the_mark_surrounds_its_cell() -> None:
    fig, _ = plots.heat_maps({"weights": np.eye(5)}, mark=(1, 4))
    square = fig.axes[0].patches[0]
    assert (square.get_x(), square.get_y(), square.get_width()) == (3.5, 0.5, 1)


def test_kinds_have_one_colour_and_one_name_each() -> None:
    kinds = np.zeros((5, 7), dtype=np.int64)
    kinds[1, 2:5] = 1
    fig, alt = plots.heat_maps({"kind": kinds}, mark=(1, 4), categories={"kind": ("sea", "land")})
    assert "kind: 32 cells sea, 3 cells land" in alt
    assert fig.axes[0].images[0].cmap.N == 2
    assert [label.get_text() for label in fig.axes[1].get_yticklabels()] == ["sea", "land"]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_key_centres_lie_where_the_formulas_put_them(stride: int) -> None:
    fig, alt = plots.key_centres(13, 17, [stride])
    rows, columns = cost.key_grid(13, 17, stride)
    drawn = fig.axes[0].collections[1].get_offsets()
    expected = [
        (cost.key_centre(column, stride), cost.key_centre(row, stride))
        for row in range(rows)
        for column in range(columns)
    ]
    assert drawn.tolist() == [list(pair) for pair in expected]
    assert f"kv_stride {stride}: {rows} by {columns} keys" in alt


def test_the_effect_of_the_scale_is_drawn_as_measured() -> None:
    variances, entropies = {"none": [4.0, 16.0]}, {"none": [0.75, 0.25]}
    fig, alt = plots.scale_effect([4, 16], variances, entropies)
    assert fig.axes[0].lines[0].get_ydata().tolist() == variances["none"]
    assert fig.axes[1].lines[0].get_ydata().tolist() == entropies["none"]
    assert "none: variance 16.0, entropy 0.25" in alt


def test_heads_are_as_many_and_as_high_as_they_have_tokens() -> None:
    fig, alt = plots.wiring(dim=11, height=5, width=7, num_heads=3, key_dim=2, kv_stride=2)
    tallest = max(box.get_height() for box in fig.axes[0].patches)
    tokens = [sorted(round(35 * box.get_height() / tallest, 6) for box in ax.patches) for ax in fig.axes]
    assert tokens == [[35] * 9, [35] * 5, [12, 12, 35, 35, 35]]
    assert "Mobile MQA: 3 heads of q with 35 tokens read from 1 of k and v with 12 tokens" in alt


def test_every_query_head_has_one_line_from_the_map_and_one_to_the_keys_it_reads() -> None:
    fig, _ = plots.wiring(dim=11, height=5, width=7, num_heads=3, key_dim=2, kv_stride=2)
    for ax, keys in zip(fig.axes, ([0, 1, 2], [1], [1]), strict=True):
        ends = [text.xy[0] for text in ax.texts if hasattr(text, "xy")]
        assert len(ends) == 6 and set(ends[1::2]) == set(keys)
        assert ends[::2] == [0, 1, 2]


def test_the_shapes_stand_beside_the_boxes() -> None:
    fig, _ = plots.wiring(dim=11, height=5, width=7, num_heads=3, key_dim=2, kv_stride=2)
    words = " ".join(text.get_text() for text in fig.axes[2].texts)
    for shape in ("35 × 11", "3 × 35 × 2", "1 × 12 × 2", "12 × 11", "35 × 6"):
        assert shape in words
