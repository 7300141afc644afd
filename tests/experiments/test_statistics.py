"""Statistics over seeds: held to scipy, and to what a handful of numbers allows to say."""

import itertools

import numpy as np
import pytest
import scipy.stats

from mqa_lib.experiments import (
    METRICS,
    class_table,
    conclusion,
    curves,
    failed,
    overview,
    paired,
    scores,
    summary_table,
)
from mqa_lib.experiments.statistics import bootstrap
from tests.experiments.stub import epoch


def record(model, seed, values, arm="", **more):
    epochs = [epoch(number, value) for number, value in enumerate(values, start=1)]
    said = {"recipe": {"model": f"rtdetr-{model}", "seed": seed}, "epochs": epochs, "finished": True}
    return said | ({"experiment": {"arm": arm}} if arm else {}) | more


@pytest.mark.parametrize("values", [(0.2, 0.5, 1.7), (0.2, 0.5, 1.7, -0.9, 0.3, 2.9)])
def test_the_interval_of_few_values_is_that_of_all_their_resamples(values):
    means = [sum(drawn) / len(values) for drawn in itertools.product(values, repeat=len(values))]
    assert bootstrap(values) == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_the_interval_of_many_values_is_scipys():
    values = np.random.RandomState(5).standard_normal(23)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=3
    )
    assert bootstrap(values) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)
    assert bootstrap(values) == bootstrap(values)  # the same table whenever it is made


def test_every_metric_is_what_its_name_says():
    one, other = {"mAP50": 0.25, "mAP50-95": 0.125}, {"mAP50": 0.75, "mAP50-95": 0.5}
    test = {
        "mAP50": 0.5,
        "mAP50-95": 0.375,
        "classes": {"key": {"mAP50": 1.0, "mAP50-95": 0.9}, "lock-sky": one, "lock-blue": other},
        "lock colours": {"locks": 11, "found": 8, "right": 5},
    }
    found = {metric: scores([record("a", 3, [0.1], test=test)], metric)["a"][3] for metric in METRICS}
    assert found == {
        "mAP50": 0.5,
        "mAP50-95": 0.375,
        "locks, mAP50": 0.5,
        "key, mAP50": 1.0,
        "right colours": 0.625,
    }


def test_a_score_is_the_test_splits_or_else_the_best_epochs_and_a_failed_run_has_none():
    records = [record("a", 0, [0.3, 0.9, 0.6]), record("a", 1, [0.3], test={"mAP50": 0.7, "mAP50-95": 0.1})]
    records.append({**record("b", 0, [0.4]), "finished": False, "failed": {}})
    assert scores(records, "mAP50") == {"a": {0: 0.9, 1: 0.7}}


def test_arms_are_told_apart_and_two_records_of_one_seed_are_refused():
    records = [record("a", 0, [0.3], arm="long"), record("a", 0, [0.4], arm="short")]
    assert scores(records, "mAP50") == {"a, long": {0: 0.3}, "a, short": {0: 0.4}}
    with pytest.raises(ValueError, match=r"`records` \(=a, long, seed 0\) is there twice"):
        scores([records[0], records[0]], "mAP50")


def test_runs_that_differ_in_more_than_seed_and_variant_are_not_taken_for_alike():
    first = record("a", 0, [0.3], data={"name": "x", "made by": "one version"})
    longer = record("a", 1, [0.4], data=first["data"])
    longer["recipe"] = {**longer["recipe"], "epochs": 99}
    with pytest.raises(
        ValueError, match=r"`records` \(=a\) has runs of more than one recipe. Give the records of one"
    ):
        scores([first, longer], "mAP50")
    with pytest.raises(
        ValueError, match=r"`records` \(=x and y\) are of other data, so their scores cannot.* one data set"
    ):
        scores([first, record("b", 0, [0.4], data={"name": "y"})], "mAP50")
    for key in (
        "fingerprint",
        "commit",
        "classes",
    ):  # what tells a set from another of the same name and numbers
        known = {"name": "x", key: "old"}
        with pytest.raises(ValueError, match="are of other data"):
            scores(
                [record("a", 0, [0.3], data=known), record("b", 0, [0.4], data=known | {key: "new"})], "mAP50"
            )
    reworded = record("b", 0, [0.4], data={"name": "x", "made by": "another"})
    assert scores([first, reworded], "mAP50") == {"a": {0: 0.3}, "b": {0: 0.4}}


def test_classes_have_the_median_and_the_range_of_each_variant():
    """By hand; `b` never saw a dog, and a run that failed counts for nothing."""
    tests = ((0.1, 0.5), (0.4, 0.5), (0.2, 0.7))
    records = [
        record("a", seed, [0.9], test={"classes": {"cat": {"mAP50": cat}, "dog": {"mAP50": dog}}})
        for seed, (cat, dog) in enumerate(tests)
    ]
    records.append(record("b", 0, [0.9], test={"classes": {"cat": {"mAP50": 0.25}}}))
    records.append({**record("b", 1, []), "finished": False, "failed": {}})
    assert class_table(records).splitlines() == [
        "| mAP50 | a | b |",
        "|---|---|---|",
        "| cat | 0.200 (0.100 to 0.400) | 0.250 |",
        "| dog | 0.500 (0.500 to 0.700) | — |",
    ]
    with pytest.raises(ValueError, match=r"`metric` \(='key, mAP50'\)"):
        class_table(records, "key, mAP50")


def test_without_a_test_split_classes_have_the_best_epochs_scores():
    one = record("a", 0, [0.3, 0.9, 0.6])
    for shown, entry in zip((0.1, 0.2, 0.3), one["epochs"], strict=True):
        entry["classes"] = {"cat": {"mAP50-95": shown}}
    assert class_table([one], "mAP50-95").endswith("| cat | 0.200 |")


def test_runs_that_failed_are_counted_and_never_silently_left_out():
    lost = {"finished": False, "failed": {"reason": "nan", "last good epoch": 0}}
    records = [record("a", 0, [0.4]), {**record("a", 3, [0.9]), **lost}, {**record("b", 5, []), **lost}]
    assert failed(records) == {"a": [3], "b": [5]}
    rows = overview(records, ["mAP50"]).splitlines()[2:]
    assert rows == ["| a | 1, 1 failed | 0.400 | 1 |", "| b | 0, 1 failed | — | — |"]


@pytest.mark.parametrize(("count", "share"), [(2, 0.47), (3, 0.67), (5, 0.84)])
def test_the_interval_holds_the_mean_as_often_as_its_docstring_says(count, share):
    drawn = np.random.RandomState(11).standard_normal((400, count))
    held = [low <= 0 <= high for low, high in map(bootstrap, drawn)]
    assert np.mean(held) == pytest.approx(share, abs=0.05)
    assert f"{share:.0%}".replace("%", " %") in bootstrap.__doc__


def test_of_several_comparisons_it_is_said_how_many_agree_by_chance():
    """Two out of eight patterns of three signs agree, so of four comparisons one is expected to."""
    found = {"a": {0: 0.0, 1: 0.1, 2: 0.2}} | {name: {0: 0.1, 1: 0.2, 2: 0.3} for name in "bcde"}
    assert "about 1.0 of 4 such comparisons would agree by chance" in conclusion(paired(found, "a"), "mAP50")
    assert "such comparisons would" not in conclusion(
        paired({name: found[name] for name in "ab"}, "a"), "mAP50"
    )


@pytest.mark.parametrize(
    ("axis", "places"), [("epoch", (1, 2)), ("pictures", (7, 14)), ("CPU seconds", (50.0, 100.0))]
)
def test_a_curve_goes_along_the_axis_that_is_asked_for(axis, places):
    line = list(zip(places, (0.3, 0.5), strict=True))
    assert curves([record("a", 0, [0.3, 0.5])], "mAP50", axis) == {"a": [line]}


def test_what_the_first_epoch_counts_beyond_the_others_is_not_counted_twice():
    slow = record("a", 0, [0.3, 0.5, 0.6])
    for entry in slow["epochs"]:
        entry["cpu_seconds"] += 1000  # the preparation, which some records count into the first epoch
    assert curves([slow], "mAP50", "CPU seconds") == {"a": [[(50.0, 0.3), (100.0, 0.5), (150.0, 0.6)]]}
    for entry in slow["epochs"]:
        entry["cpu_seconds"] -= 1030  # a first epoch that needed less than the others did needed that
    assert curves([slow], "mAP50", "CPU seconds") == {"a": [[(20.0, 0.3), (70.0, 0.5), (120.0, 0.6)]]}


def test_the_overview_has_a_row_for_every_variant_with_medians_ranges_and_minutes():
    records = [record("a", seed, [0.1, value]) for seed, value in enumerate((0.9, 0.5, 0.7))]
    records += [record("b", 0, [0.25]), {**record("b", 1, [0.4]), "finished": False}]
    assert overview(records, ["mAP50", "mAP50-95"]).splitlines()[2:] == [
        "| a | 3 | 0.700 (0.500 to 0.900) | 0.350 (0.250 to 0.450) | 2 |",  # 2 x 50 / 60
        "| b | 1 | 0.250 | 0.125 | 1 |",  # of one seed there is no range
    ]


def test_of_an_even_number_the_median_lies_between_the_two_in_the_middle_and_minutes_are_the_median():
    records = [record("a", seed, [value]) for seed, value in enumerate((0.9, 0.1, 0.75, 0.5))]
    for one, minutes in zip(records, (1, 3, 5, 99), strict=True):
        one["epochs"][0]["cpu_seconds"] = 60.0 * minutes
    (row,) = overview(records, ["mAP50"]).splitlines()[2:]
    assert row == "| a | 4 | 0.625 (0.100 to 0.900) | 4 |"


def test_a_run_that_failed_is_drawn_as_far_as_it_went():
    lost = {**record("a", 3, [0.9]), "finished": False, "failed": {"reason": "nan", "last good epoch": 1}}
    assert curves([lost], "mAP50") == {"a": [[(1, 0.9)]]}


def test_differences_are_taken_between_runs_of_one_seed():
    found = {"a": {0: 0.5, 1: 0.75, 2: 0.25}, "b": {1: 1.0, 0: 0.625, 5: 0.0}}
    (one,) = paired(found, "a")
    assert (one.name, one.base, one.differences) == ("b", "a", {0: 0.125, 1: 0.25})
    assert 0.125 <= one.low <= one.high <= 0.25


SAID = [
    (
        {0: 0.6, 1: 0.7, 2: 0.8},
        "higher with 3 of 3 seeds, by +0.100 to +0.300. All seeds agree that it scores more",
    ),
    (
        {0: 0.4, 1: 0.3, 2: 0.2},
        "higher with 0 of 3 seeds, by -0.300 to -0.100. All seeds agree that it scores less",
    ),
    ({0: 0.6, 1: 0.4, 2: 0.6}, "higher with 2 of 3 seeds, by -0.100 to +0.100. The seeds do not all agree"),
    ({0: 0.6, 1: 0.5, 2: 0.6}, "higher with 2 of 3 seeds, by +0.000 to +0.100. The seeds do not all agree"),
    (
        {0: 0.6, 1: 0.5004, 2: 0.6},
        "higher with 2 of 3 seeds, by +0.000 to +0.100. The seeds do not all agree",
    ),
    ({0: 0.6, 1: 0.5006, 2: 0.6}, "higher with 3 of 3 seeds, by +0.001 to +0.100. All seeds agree"),
    ({0: 0.6, 1: 0.7}, "With fewer than 3 seeds that is an observation, not a result."),
    ({0: 0.5}, "b against a: mAP50 +0.000 with one seed. With fewer than 3 seeds that is an observation"),
    ({0: 0.6, 1: float("nan"), 2: 0.7}, "nothing can be said"),
]


@pytest.mark.parametrize(("theirs", "said"), SAID)
def test_the_sentence_says_no_more_than_the_seeds_do(theirs, said):
    sentence = conclusion(paired({"a": {0: 0.5, 1: 0.5, 2: 0.5}, "b": theirs}, "a"), "mAP50")
    assert said in sentence and sentence.endswith("and for no other.")


def test_every_variant_has_a_line_of_its_own_and_the_last_one_is_for_all():
    found = {"a": {0: 0.5}, "b": {0: 0.75}, "c": {0: 0.25}}
    first, second, last = conclusion(paired(found, "a"), "mAP50").splitlines()
    assert first.startswith("b against a") and second.startswith("c against a")
    assert last.startswith("All of it holds for these data")


def test_three_agreeing_seeds_are_said_to_agree_by_chance_in_a_quarter_of_cases():
    """Two signs of eight equally likely ones are all alike."""
    alike = [len(set(signs)) == 1 for signs in itertools.product("+-", repeat=3)]
    sentence = conclusion(
        paired({"a": {0: 0.0, 1: 0.1, 2: 0.2}, "b": {0: 0.1, 1: 0.2, 2: 0.3}}, "a"), "mAP50"
    )
    assert f"by chance in {sum(alike) / len(alike):.0%}" in sentence


def test_a_difference_many_times_the_spread_of_the_seeds_is_said_plainly_and_counts_no_chance():
    found = {
        "a": {0: 0.25, 1: 0.26, 2: 0.27},
        "b": {0: 0.98, 1: 0.99, 2: 0.99},
        "c": {0: 0.24, 1: 0.30, 2: 0.27},
    }
    one, other = paired(found, "a")
    assert (
        one.spread == pytest.approx(0.02) and one.effect == pytest.approx(0.72 / 0.02) and other.effect == 0
    )
    plain, unclear, *_ = conclusion([one, other], "mAP50").splitlines()
    assert plain.endswith("36 times the spread over the seeds.") and "by chance" not in plain
    assert "do not all agree" in unclear


def test_the_table_has_median_range_and_interval():
    found = {"a": {0: 0.5, 1: 0.5, 2: 0.5}, "b": {0: 0.75, 1: 0.75, 2: 0.75}}
    assert summary_table(found, "a", "mAP50").splitlines()[2:] == [
        "| a | 3 | 0.500 (0.500 to 0.500) | — |",
        "| b | 3 | 0.750 (0.750 to 0.750) | +0.250 [+0.250, +0.250] |",
    ]


def test_the_difference_in_the_table_is_the_mean_of_which_the_interval_is():
    found = {"a": dict.fromkeys(range(3), 0.0), "b": {0: 0.0, 1: 0.0, 2: 0.75}}
    assert "| b | 3 | 0.000 (0.000 to 0.750) | +0.250 [" in summary_table(found, "a", "mAP50")


@pytest.mark.parametrize(("seeds", "said"), [(1, "+0.250 (1 seed)"), (2, "+0.250 (2 seeds)")])
def test_fewer_than_three_seeds_have_no_interval(seeds, said):
    found = {"a": dict.fromkeys(range(3), 0.5), "b": dict.fromkeys(range(seeds), 0.75)}
    assert summary_table(found, "a", "mAP50").splitlines()[-1].endswith(f"| {said} |")


def test_the_table_of_differences_counts_runs_that_failed_and_names_a_variant_that_has_no_other():
    found = {"a": dict.fromkeys(range(3), 0.5), "b": {0: 0.75, 1: 0.75}}
    assert summary_table(found, "a", "mAP50", {"b": [2], "c": [0, 1]}).splitlines()[2:] == [
        "| a | 3 | 0.500 (0.500 to 0.500) | — |",
        "| b | 2, 1 failed | 0.750 (0.750 to 0.750) | +0.250 (2 seeds) |",
        "| c | 0, 2 failed | — | — |",
    ]


@pytest.mark.parametrize("metric", ["right colours", "locks, mAP50", "key, mAP50"])
def test_a_metric_that_other_data_have_is_refused_with_those_that_these_have(metric):
    photographs = [record("a", 0, [0.3], test={"mAP50": 0.5, "mAP50-95": 0.25, "classes": {"rbc": {}}})]
    photographs[0]["epochs"][0]["classes"] = {"rbc": {}}
    for read in (scores, curves):
        with pytest.raises(
            ValueError, match=rf"`metric` \(={metric}\) is not in these .*: mAP50; mAP50-95\."
        ):
            read(photographs, metric)
