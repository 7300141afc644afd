"""How long until a variant names the colours: counted by hand, and told so that nobody hears more than there is."""

from dataclasses import replace

import pytest

from mqa_lib.experiments import Until, compared, until, until_table
from tests.experiments.stub import coloured, epoch


def record(model, seed, shares, test=None, arm="plain"):
    """An epoch is 7 pictures and 50 seconds of computing."""
    epochs = [
        epoch(number) | {"lock colours": coloured(share)} for number, share in enumerate(shares, start=1)
    ]
    said = {"recipe": {"model": model, "seed": seed}, "experiment": {"arm": arm}, "epochs": epochs}
    return said | ({"test": test} if test else {})


def test_a_run_is_there_with_the_first_of_two_epochs_in_a_row_that_have_the_share():
    test = {"mAP50-95": 0.75, "lock colours": coloured(0.8)}
    shares = (0.25, 0.9, 0.5, 0.9, 1.0, 1.0)
    (one,) = until([record("a", 3, shares, test)])["a"]
    assert one == Until("a", 3, 28, 200.0, 42, 0.8, 0.75)
    (other,) = until([record("a", 3, shares, test)], share=0.95)["a"]
    assert other == replace(one, pictures=35, cpu_seconds=250.0)


def test_a_run_that_failed_says_nothing_about_its_variant():
    assert until([record("a", 3, (0.25, 0.5)) | {"failed": {"reason": "nan"}}]) == {}


def test_a_run_that_never_names_them_has_no_number_and_without_a_test_split_its_best_epochs_scores():
    run = record("a", 3, (0.25, 0.875, 0.5))
    run["epochs"][1]["mAP50-95"] = 0.5
    assert until([run]) == {"a": [Until("a", 3, None, None, 21, 0.875, 0.5)]}


def test_an_epoch_that_finds_no_lock_is_not_there():
    run = record("a", 3, (0.25, 1.0, 1.0, 1.0))
    run["epochs"][1]["lock colours"] = {"locks": 50, "found": 0, "right": 0}
    assert until([run])["a"][0].pictures == 21


def test_variants_keep_the_order_of_the_records_and_seeds_their_own():
    found = until(
        [record("b", 5, (1.0,)), record("a", 0, (1.0,)), record("b", 2, (1.0,)), record("c", 0, ())]
    )
    assert [(name, [run.seed for run in runs]) for name, runs in found.items()] == [("b", [2, 5]), ("a", [0])]


def test_a_variant_that_is_there_twice_with_a_seed_is_refused_for_it_would_count_twice():
    records = [record("a", seed, (1.0,), arm=arm) for arm in ("long", "short") for seed in (0, 1)]
    with pytest.raises(
        ValueError, match=r"`records` \(=a, seed 0\) is there twice\. Give those of one arm: `\["
    ):
        until(records)
    assert [run.seed for run in until(records[:2])["a"]] == [0, 1]


def runs(model, pictures, trained=9000):
    ends = trained if isinstance(trained, tuple) else (trained,) * len(pictures)
    return [
        Until(model, seed, at, None if at is None else at / 20, end, 0.5 + seed / 8, 0.25 + seed / 8)
        for seed, (at, end) in enumerate(zip(pictures, ends, strict=True))
    ]


@pytest.mark.parametrize(
    ("pictures", "trained", "row"),
    [
        ((1400, 7000, 2100), 9000, "3 of 3 | 2,100 (1,400 to 7,000) | 105 (70 to 350)"),
        ((1400, 7000), 9000, "2 of 2 | 4,200 (1,400 to 7,000) | 210 (70 to 350)"),
        ((1400, 1400, 1400), 9000, "3 of 3 | 1,400 | 70"),
        ((1400,), 9000, "1 of 1 | 1,400 | 70"),
        # those that are there may have ended long before
        (
            (4200, None, None),
            (4900, 96000, 90000),
            "1 of 3 | more than 90,000 (4,200 to more than 90,000) | not reached (210 to not reached)",
        ),
        (
            (4200, None),
            (4900, 96000),
            "1 of 2 | more than 96,000 (4,200 to more than 96,000) | not reached (210 to not reached)",
        ),
        (
            (4200, None, 700),
            (4900, 96000, 1400),
            "2 of 3 | 4,200 (700 to more than 96,000) | 210 (35 to not reached)",
        ),
        ((None, None), 96000, "0 of 2 | more than 96,000 | not reached"),
    ],
)
def test_a_row_has_the_median_and_the_range_and_says_where_seeds_did_not_get_there(pictures, trained, row):
    head, _, body = until_table({"a": runs("a", pictures, trained)}, share=0.75).splitlines()
    assert head.startswith("| variant | seeds that reach 75% | pictures until 75% | CPU seconds until 75% |")
    assert body.startswith(f"| a | {row} | ")


def test_a_row_ends_with_the_scores_and_a_variant_may_have_a_name_for_people():
    found = {"a": runs("a", (700, 1400, None)), "b": runs("b", (700,))}
    first, second = until_table(found, {"a": "stock"}).splitlines()[2:]
    assert first.startswith("| stock | 2 of 3") and second.startswith("| b | 1 of 1")
    assert first.endswith("| 0.625 (0.500 to 0.750) | 0.375 (0.250 to 0.500) |")
    assert second.endswith("| 0.500 | 0.250 |")


NEVER = (None,) * 3
FEW = "With fewer than 3 seeds that is an observation, not a result."
CHANCE = "If the two were equal, all seeds would agree in 25% of such comparisons."
OPEN = "Not resolved: the seeds do not agree."
COMPARED = [
    ((10, 20, 30), (20, 30, 40), f"sooner with 3 of 3 seeds, later with 0. {CHANCE}"),
    ((20, 30, 40), (10, 20, 30), f"sooner with 0 of 3 seeds, later with 3. {CHANCE}"),
    ((10, 20, 30), (20, 10, 40), f"sooner with 2 of 3 seeds, later with 1. {OPEN}"),
    ((10, 20, 30), (10, 20, 40), f"sooner with 1 of 3 seeds, later with 0. {OPEN}"),
    ((10, 20, 30), (None, 30, 40), f"sooner with 3 of 3 seeds, later with 0. {CHANCE}"),
    ((10, None, None), NEVER, f"sooner with 1 of 3 seeds, later with 0. {OPEN}"),
    # whoever did not get there was stopped, and may have been slower only
    (
        (10, 20, 30),
        NEVER,
        f"only a gets there within 9,000 pictures, with 3 seeds; the other may with more. {CHANCE}",
    ),
    (
        NEVER,
        (10, 20, 30),
        f"only b gets there within 9,000 pictures, with 3 seeds; the other may with more. {CHANCE}",
    ),
    (NEVER, NEVER, "neither gets there within 9,000 pictures, with 3 seeds."),
    ((10,), (20,), f"sooner with 1 of 1 seed, later with 0. {FEW}"),
    ((10, 20), (20, 30), f"sooner with 2 of 2 seeds, later with 0. {FEW}"),
    ((10,), (None,), f"only a gets there within 9,000 pictures, with 1 seed; the other may with more. {FEW}"),
    ((None,), (None,), f"neither gets there within 9,000 pictures, with 1 seed. {FEW}"),
    # runs are paired by seed: those of a seed that the other lacks count for nothing
    ((10, 20, 30), (20, 30), f"sooner with 2 of 2 seeds, later with 0. {FEW}"),
    ((10, 20), (), "no seed has been run with both yet."),
]


@pytest.mark.parametrize(("ours", "theirs", "said"), COMPARED)
def test_the_sentence_says_no_more_than_the_seeds_do(ours, theirs, said):
    sentence = compared({"a": runs("a", ours), "b": runs("b", theirs)}, "a", "b")
    assert sentence.startswith("a against b: ") and sentence.endswith(said)


def test_a_variant_without_runs_is_told_and_names_for_people_are_used():
    assert compared({"a": runs("a", (10,))}, "a", "b", {"b": "stock"}) == (
        "a against stock: no seed has been run with both yet."
    )
