"""Charts over seeds show every seed; their sentences say what they show."""

import pytest

from mqa_lib import plots
from mqa_lib.plots.comparison import medians

LINES = {"a": [[(1.0, 0.2), (3.0, 0.9), (4.0, 1.0)], [(1.0, 0.1), (2.0, 0.5)], [(1.0, 0.3), (2.0, 0.7)]]}
DIFFERENCES = {"b": {0: 0.1, 1: -0.3, 5: 0.2}, "c": {0: 0.4}}
MARKS = {"a seed", "mean", "bootstrap of the mean"}
INTERVALS = {"b": (-0.3, 0.2)}  # c has too few seeds for one


def test_medians_go_as_far_as_the_shortest_seed():
    assert medians(LINES["a"]) == [(1.0, 0.2), (2.0, 0.7)]


def test_every_seed_has_a_thin_line_and_all_together_a_thick_one():
    (ax,) = plots.seed_curves(LINES, "epoch", "mAP50", ("chance", 0.25)).axes
    *seeds, middle, level = ax.lines
    assert [list(map(tuple, line.get_xydata())) for line in seeds] == LINES["a"]
    assert max(line.get_linewidth() for line in seeds) < middle.get_linewidth()
    assert middle.get_label() == "a (3 seeds)" and set(level.get_ydata()) == {0.25}


def test_a_variant_has_one_colour_in_all_arms_and_an_arm_one_dash_in_all_variants():
    names = ("a, warm", "b, warm", "a, cold", "c, cold")
    (ax,) = plots.seed_curves(dict.fromkeys(names, LINES["a"]), "epoch", "mAP50").axes
    looks = {
        line.get_label().partition(" (")[0]: (line.get_color(), line.get_linestyle()) for line in ax.lines
    }
    (a, solid), (b, solid_too), (a_too, dashed), (c, dashed_too) = (looks[name] for name in names)
    assert a == a_too and len({a, b, c}) == 3
    assert solid == solid_too and dashed == dashed_too and solid != dashed


def test_every_difference_has_a_dot_the_mean_a_stroke_and_an_interval_a_bar():
    fig = plots.paired_dots(DIFFERENCES, INTERVALS, "mAP50", "a")
    (ax,) = fig.axes
    drawn = {
        name: [list(line.get_xdata()) for line in ax.lines if line.get_label() == name] for name in MARKS
    }
    assert drawn["a seed"] == [[0.1, -0.3, 0.2], [0.4]]
    assert drawn["bootstrap of the mean"] == [[-0.3, 0.2]]
    assert [x for (x,) in drawn["mean"]] == pytest.approx([0.0, 0.4])
    assert {x for line in ax.lines if line.get_linestyle() == ":" for x in line.get_xdata()} == {0}
    assert {text.get_text() for text in fig.legends[0].get_texts()} == MARKS
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "c"]


def test_dots_have_the_colour_of_their_variants_curves_and_the_legend_that_of_none():
    names = ("b, warm", "c, warm")
    (curves,) = plots.seed_curves(dict.fromkeys(names, LINES["a"]), "epoch", "mAP50").axes
    fig = plots.paired_dots({name: {0: 0.1} for name in names}, {names[1]: (0.0, 0.2)}, "mAP50", "a, warm")
    dots = [line.get_color() for line in fig.axes[0].lines if line.get_label() == "a seed"]
    assert dots == [line.get_color() for line in curves.lines if line.get_linewidth() > 2]
    assert {mark.get_color() for mark in fig.legends[0].legend_handles} == {"#000000"}


def test_epochs_are_ticked_by_whole_numbers_alone():
    (ax,) = plots.seed_curves({"a": [[(1.0, 0.2), (2.0, 0.3)]]}, "epoch", "mAP50").axes
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_every_seed_has_a_dot_and_its_variants_median_a_stroke():
    found = {"b, warm": {0: 0.5, 3: 0.2, 5: 0.7}, "a, warm": {0: 0.1}}
    (ax,) = plots.seed_dots(found, "mAP50", ("guessing", 0.25)).axes
    dots, strokes = ([list(line.get_xdata()) for line in ax.lines if line.get_marker() == m] for m in "o|")
    assert dots == [[0.5, 0.2, 0.7], [0.1]] and [x for (x,) in strokes] == [0.5, 0.1]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b, warm", "a, warm"]
    assert ax.texts[0].get_text() == "guessing" and set(ax.lines[-1].get_xdata()) == {0.25}
    assert plots.seed_dots_alt(found, "mAP50") == (
        "mAP50, a dot a seed: b, warm 0.50, 0.20, 0.70; a, warm 0.10."
    )


UNTIL = {"a": [700, 1400, None], "b": [None, None], "c": [2100.0], "d": [500, None]}
ENDS = {"a": [900, 1500, 9000], "b": [9600, 8000], "c": [2300], "d": [600, 7000]}


def test_a_seed_that_gets_there_has_a_dot_and_one_that_does_not_a_triangle_where_it_ended():
    fig = plots.until_dots(UNTIL, ENDS, "pictures until 90 %")
    (ax,) = fig.axes
    drawn = {
        mark: {
            round(line.get_ydata()[0]): list(line.get_xdata())
            for line in ax.lines
            if line.get_marker() == mark and len(line.get_xdata())
        }
        for mark in "o>|"
    }
    assert drawn["o"] == {0: [700, 1400], 2: [2100], 3: [500]}
    assert drawn[">"] == {0: [9000], 1: [9600, 8000], 3: [7000]}
    # only where most seeds get there does the middle one tell something
    assert drawn["|"] == {0: [1400], 2: [2100]}
    assert [text.get_text() for text in ax.get_yticklabels()] == list(UNTIL)
    assert ax.get_xlim() == (0, pytest.approx(1.05 * 9600)) and ax.get_xlabel() == "pictures until 90 %"
    marks = {text.get_text() for text in fig.legends[0].get_texts()}
    assert marks == {"a seed reaches the goal", "a seed ends without it", "median"}


def test_the_sentence_of_until_names_every_seed_and_who_did_not_get_there():
    assert plots.until_dots_alt(UNTIL, "pictures until 90 %") == (
        "pictures until 90 %, a dot a seed: a 700, 1,400, not reached; b not reached, not reached; c 2,100;"
        " d 500, not reached."
    )


def test_the_sentences_have_the_numbers():
    said = plots.seed_curves_alt(LINES, "epoch", "mAP50")
    assert "a 0.70 (0.50 to 1.00, 3 seeds)" in said
    said = plots.paired_dots_alt(DIFFERENCES, INTERVALS, "mAP50", "a")
    assert said.endswith("b +0.100, -0.300, +0.200 (interval -0.300 to +0.200); c +0.400.")
