"""Charts over seeds show every seed; their sentences say what they show."""

from mqa_lib import plots
from mqa_lib.plots.comparison import medians

LINES = {"a": [[(1.0, 0.1), (2.0, 0.5)], [(1.0, 0.3), (2.0, 0.7)], [(1.0, 0.2), (3.0, 0.9), (4.0, 1.0)]]}
DIFFERENCES = {"b": {0: 0.1, 1: -0.3, 5: 0.2}, "c": {0: 0.4}}
INTERVALS = {"b": (-0.3, 0.2), "c": (0.4, 0.4)}


def test_medians_go_as_far_as_the_shortest_seed():
    assert medians(LINES["a"]) == [(1.0, 0.2), (2.0, 0.7)]


def test_every_seed_has_a_thin_line_and_all_together_a_thick_one():
    (ax,) = plots.seed_curves(LINES, "epoch", "mAP50", ("chance", 0.25)).axes
    *seeds, middle, level = ax.lines
    assert [list(map(tuple, line.get_xydata())) for line in seeds] == LINES["a"]
    assert max(line.get_linewidth() for line in seeds) < middle.get_linewidth()
    assert middle.get_label() == "a (3 seeds)" and set(level.get_ydata()) == {0.25}


def test_every_difference_has_a_dot_and_the_interval_a_bar():
    (ax,) = plots.paired_dots(DIFFERENCES, INTERVALS, "mAP50", "a").axes
    bars, dots = ax.lines[0:6:3], ax.lines[1:6:3]
    assert [list(line.get_xdata()) for line in dots] == [[0.1, -0.3, 0.2], [0.4]]
    assert [tuple(line.get_xdata()) for line in bars] == [*INTERVALS.values()]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "c"]


def test_the_sentences_have_the_numbers():
    said = plots.seed_curves_alt(LINES, "epoch", "mAP50")
    assert "a 0.70 (0.50 to 1.00, 3 seeds)" in said
    said = plots.paired_dots_alt(DIFFERENCES, INTERVALS, "mAP50", "a")
    assert "b +0.100, -0.300, +0.200 (interval -0.300 to +0.200); c +0.400" in said
