"""The comparison lab shows what the records say, in the metric, against the axis and of the arm that are asked for."""

import pytest

from mqa_lib.labs.comparison import comparison
from tests.experiments.stub import epoch


def record(model, seed, shares, arm="warm", finished=True):
    epochs = []
    for number, share in enumerate(shares, start=1):
        counted = {"locks": 100, "found": 50, "right": round(50 * share)}
        classes = {name: {"mAP50": 0.5, "mAP50-95": 0.25} for name in ("key", "lock-sky")}
        epochs.append(epoch(number, 0.75) | {"lock colours": counted, "classes": classes})
    said = {"recipe": {"model": f"rtdetr-{model}", "seed": seed}, "epochs": epochs, "finished": finished}
    return said | {"experiment": {"arm": arm}}


@pytest.fixture
def lab():
    records = [record("a", 0, [0.2, 0.4]), record("a", 1, [0.2, 0.6]), record("b", 0, [0.1, 0.8], "scratch")]
    return comparison([*records, record("c", 0, [0.3], finished=False)])


def test_it_begins_with_the_colours_against_pictures_and_says_medians_and_ranges(lab):
    assert "a, warm 0.50 (0.40 to 0.60, 2 seeds); b, scratch 0.80" in lab.alt
    assert "pictures seen" in lab.alt
    assert lab.alt.replace('"', "&quot;") in lab.picture.value


def test_an_arm_leaves_the_others_out(lab):
    before = lab.picture.value
    lab.arm.value = "scratch"
    assert "b, scratch 0.80" in lab.alt and "a, warm" not in lab.alt and lab.picture.value != before


def test_a_metric_and_an_axis_change_the_picture_and_what_may_be_concluded(lab):
    lab.metric.value = "mAP50"
    assert "a, warm 0.75 (0.75 to 0.75, 2 seeds)" in lab.alt
    assert "what a layer costs when it predicts" not in lab.said.value
    lab.axis.value = "CPU seconds"
    assert "what a layer costs when it predicts" in lab.said.value and "CPU seconds" in lab.alt


def test_a_run_that_is_not_finished_is_named(lab):
    assert "Not finished: c, warm." in lab.said.value


def test_metrics_that_the_records_lack_are_not_offered():
    cells = [{**record("a", 0, [0.2]), "epochs": [epoch(1)]}]
    metric = comparison(cells).metric
    assert metric.options == ("mAP50", "mAP50-95") and metric.value == "mAP50"
