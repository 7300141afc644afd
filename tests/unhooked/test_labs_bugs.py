"""The bug hunt: mutants make the mistakes they are named for, experiments tell them apart, names are judged rightly."""

import html
import itertools
import json

import pytest
import torch

from mqa_lib import MobileMQA, functional, labs
from mqa_lib.labs import bugs, experiments, mutants
from mqa_lib.published import Defect, twin

ALSO_IN_THE_ARTICLE = {
    "scale-by-heads": Defect.SCALE,
    "query-view": Defect.QUERY_LAYOUT,
    "output-view": Defect.OUTPUT_LAYOUT,
}


def sizes(kv_stride: int) -> dict[str, int]:
    return {"dim": 12, "num_heads": 3, "key_dim": 5, "kv_stride": kv_stride}


@pytest.mark.parametrize("kv_stride", [1, 2])
def test_the_written_out_layer_without_a_mistake_is_mobile_mqa(kv_stride: int) -> None:
    layer, x = mutants.build(**sizes(kv_stride)), torch.randn(2, 12, 7, 11)
    library = MobileMQA(12, num_heads=3, key_dim=5, value_dim=5, kv_stride=kv_stride).eval()
    library.load_state_dict(layer.state_dict())
    assert torch.allclose(layer(x), library(x), atol=1e-5)
    assert torch.allclose(
        layer(x), functional.mobile_mqa(x, layer.state_dict(), 3, kv_stride=kv_stride), atol=1e-5
    )


@pytest.mark.parametrize("bug", mutants.MUTANTS)
def test_a_mutant_is_wrong_somewhere_and_keeps_the_shape_of_a_square(bug: str) -> None:
    x = torch.randn(2, 12, 8, 8)
    right, wrong = (mutants.build(name, **sizes(2), attn_drop=0.5) for name in ("", bug))
    assert wrong(x).shape == right(x).shape
    if bug == "square-only":
        with pytest.raises(RuntimeError, match="invalid for input"):
            wrong(x[..., :6])
    elif bug == "early-dropout":
        assert torch.equal(wrong(x), right(x))  # in evaluation nobody can tell
        torch.manual_seed(5)
        dropped = right.train()(x)
        torch.manual_seed(5)
        assert not torch.allclose(wrong.train()(x), dropped, atol=0.01)
    else:
        assert (wrong(x) - right(x)).abs().max() > 0.1


@pytest.mark.parametrize(("bug", "defect"), ALSO_IN_THE_ARTICLE.items())
def test_mistakes_of_the_article_are_the_same_as_in_its_layer(bug: str, defect: Defect) -> None:
    right, wrong = (mutants.build(name, dim=16, num_heads=4, key_dim=8) for name in ("", bug))
    x = torch.randn(1, 16, 6, 6)
    assert torch.allclose(twin(right, defect)(x), wrong(x), atol=1e-5)


def test_what_experiments_show_tells_any_two_mistakes_apart() -> None:
    shown = {
        bug: tuple(frozenset(experiments.run(name, bug).symptoms) for name in experiments.EXPERIMENTS)
        for bug in ["", *mutants.MUTANTS]
    }
    assert not any(shown[""])  # the right layer has no symptom
    for one, other in itertools.combinations(shown, 2):
        assert shown[one] != shown[other], (one, other)


@pytest.mark.parametrize("bug", mutants.MUTANTS)
def test_the_proof_that_is_named_shows_a_symptom_of_that_mistake(bug: str) -> None:
    experiment, _ = bugs.PROOFS[bug]
    assert experiments.run(experiment, bug).symptoms


def test_symptoms_have_the_size_that_theory_gives_them() -> None:
    spread = {bug: experiments.run("raise key_dim", bug).measures for bug in ("no-scale", "scale-by-heads")}
    for key_dim in (8, 64):
        right, missing = spread["no-scale"][f"spread of the scores, key_dim {key_dim}"]
        assert missing / right == pytest.approx(key_dim**0.5, rel=1e-4)
        right, heads = spread["scale-by-heads"][f"spread of the scores, key_dim {key_dim}"]
        assert heads / right == pytest.approx(2, rel=1e-4)  # the root of 4 heads
    assert experiments.run("where a key looks", "padding").measures == {
        "row on which key 2 is centred": (4, 5)
    }
    alone = experiments.run("one head", "own-values").measures["largest error with 1 head [std]"]
    assert alone[1] < 1e-5


def test_suspects_and_experiments_change_the_one_picture_and_the_notes() -> None:
    hunt = labs.bug_hunt()
    picture = hunt.picture
    seen = set()
    for name in experiments.EXPERIMENTS:
        hunt.experiment.value = name
        seen.add(picture.value)
        assert name in hunt.table.value and bugs._ASKS[name] in html.unescape(hunt.said.value)
    assert len(seen) == len(experiments.EXPERIMENTS) and hunt.picture is picture
    first, hunt.suspect.value = hunt.suspect.value, "suspect C"
    assert "Notes on suspect C" in hunt.table.value and "one head" not in hunt.table.value
    hunt.suspect.value = first
    assert "one head" in hunt.table.value  # notes are kept


@pytest.mark.parametrize("seed", [0, 7])
def test_every_right_name_is_found_right_and_every_other_one_wrong_with_a_difference(seed: int) -> None:
    hunt = labs.bug_hunt(seed)
    for suspect, bug in hunt.bugs.items():
        hunt.suspect.value = suspect
        for named in mutants.MUTANTS:
            right, said = hunt.judge(named)
            assert right == (named == bug)
            if not right:
                expected, shown = said.split(" would show: ")[1].split(". Of this suspect it shows: ")
                assert expected != shown.rstrip("."), (named, bug)


def test_a_name_is_judged_with_its_lines_and_progress_is_kept(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQA_PROGRESS", str(tmp_path / "kept.json"))
    hunt = labs.bug_hunt()
    wrong, right = (next(k for k in mutants.MUTANTS if (k == hunt.bug) == is_it) for is_it in (False, True))
    hunt.name.value = mutants.MUTANTS[wrong].title
    assert (
        "Not so" in hunt.verdict.value and "0 of 10" in hunt.bar.value and "<pre>" not in hunt.verdict.value
    )
    hunt.name.value = mutants.MUTANTS[right].title
    assert "Right" in hunt.verdict.value and "1 of 10" in hunt.bar.value
    assert html.escape(bugs.mistake(right)) in hunt.verdict.value
    assert json.loads((tmp_path / "kept.json").read_text())["done"][f"bug-hunt: {right}"]["passed"]
    hunt.suspect.value = "suspect B"
    assert hunt.verdict.value == "" and hunt.name.value == bugs._CHOOSE
    assert "1 of 10" in labs.bug_hunt(3).bar.value  # the next day


@pytest.mark.parametrize("experiment", experiments.EXPERIMENTS)
def test_the_hunt_opens_where_the_suspect_is_seen_to_be_wrong(experiment: str) -> None:
    hunt = labs.bug_hunt(experiment=experiment)
    assert hunt.finding.symptoms and hunt.suspect.value[1:] in hunt.twin()[1]


def test_the_twin_gives_nothing_away() -> None:
    hunt = labs.bug_hunt()
    _, words = hunt.twin()
    assert not any(mutant.title in words + hunt.table.value for mutant in mutants.MUTANTS.values())
