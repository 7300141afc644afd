"""The pictures of right and wrong layers draw the numbers they are given and say them in their alternative text."""

import numpy as np
import pytest

from mqa_lib import plots


def test_a_token_grid_writes_every_token_where_it_is_and_says_what_token_0_is_made_of():
    by_pixel, by_row = np.tile(np.arange(6), (3, 1)), np.repeat(np.arange(6), 3).reshape(3, 6)
    fig, alt = plots.token_layout({"right": by_pixel, "view": by_row})
    for ax, grid in zip(fig.axes, (by_pixel, by_row), strict=True):
        written = {text.get_position(): int(text.get_text()) for text in ax.texts}
        assert all(written[column, row] == token for (row, column), token in np.ndenumerate(grid))
    assert "right: token 0 is made of pixel 0;" in alt
    assert "view: token 0 is made of pixels 0, 1, 2." in alt


def test_output_maps_share_one_scale():
    maps = {"small": np.full((3, 5), 0.25), "large": np.linspace(0, 7, 15).reshape(3, 5)}
    fig, alt = plots.output_maps(maps, "distance")
    images = [ax.images[0] for ax in fig.axes if ax.images]
    assert {image.get_clim() for image in images} == {(0, 7)}
    assert "small: 1 different values" in alt
    assert "large: 15 different values" in alt


def test_errors_are_dots_at_their_values_and_zero_stays_in_sight():
    fig, alt = plots.oracle_errors(
        {"ours": {"spec": 0.0, "timm": 3e-15}, "theirs": {"spec": 7.0, "timm": 11.0}}, 2e-16
    )
    ax = fig.axes[0]
    ours, theirs = (line.get_xdata() for line in ax.lines[:2])
    assert list(theirs) == [7.0, 11.0]
    assert ours[1] == 3e-15
    assert ax.get_xlim()[0] < ours[0] < 2e-16
    assert [text.get_text() for text in ax.texts] == ["0", "3e-15", "7.0", "11.0"]
    assert "theirs against timm: 1.1e+01" in alt


def test_model_costs_stack_to_the_total_that_is_written_beside_them():
    gflops = {"stock": {"base": 13.0, "products": 0.0}, "other": {"base": 13.0, "products": 29.0}}
    fig, alt = plots.model_costs(gflops, {"stock": 5_000_000, "other": 7_000_000})
    bars = fig.axes[0].patches
    assert max(bar.get_x() + bar.get_width() for bar in bars) == pytest.approx(42)
    assert [text.get_text() for text in fig.axes[0].texts] == ["13.0", "42.0 = 13.0 + 29.0"]
    assert [text.get_text() for text in fig.axes[1].texts] == ["5.00", "7.00"]
    assert "in all 42.0, and 7.00 million parameters" in alt


def test_the_way_in_names_every_row_and_draws_ours_in_file_and_model():
    rows = [("[-1, 1, Conv, [7]]", "Conv", 2, False), ("[-1, 1, OurBlock, [7]]", "OurBlock", 4, True)]
    rows += [("[-1, 1, Conv, [11]]", "Conv", 8, True)]
    fig, alt = plots.way_in(rows, "OurBlock", "our.home", 104)
    written = [text.get_text() for text in fig.axes[0].texts]
    assert [f"{index}  {row[0]}" in written for index, row in enumerate(rows)] == [True] * 3
    assert "row 1\nOur\nBlock\nstride 4\n26 × 26" in written
    assert "our.home\n.OurBlock" in written
    assert "OurBlock is named in row 1, [-1, 1, OurBlock, [7]], a map at stride 4." in alt
    assert "reads the maps of rows 1, 2." in alt
