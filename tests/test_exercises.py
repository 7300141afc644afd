"""A right answer passes, a known mistake is named, and any other answer is helped on."""

from itertools import combinations

import pytest
import torch

from mqa_lib import exercises
from mqa_lib.exercises import EXERCISES, check

FUNCTIONS = [name for name, exercise in EXERCISES.items() if callable(exercise.right)]
KNOWN = [(name, mistake) for name, exercise in EXERCISES.items() for mistake in exercise.mistakes]


def stub(*_args, **_kwargs):
    raise NotImplementedError


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_passes(name):
    verdict = check(name, EXERCISES[name].right)
    assert verdict.right
    assert verdict.message.startswith("Right")


@pytest.mark.parametrize(("name", "mistake"), KNOWN)
def test_a_known_mistake_is_named(name, mistake):
    verdict = check(name, EXERCISES[name].mistakes[mistake])
    assert not verdict.right
    assert mistake in verdict.message


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_two_answers_of_an_exercise_can_be_taken_for_each_other(name):
    exercise = EXERCISES[name]
    results = [answer(**exercise.inputs) for answer in (exercise.right, *exercise.mistakes.values())]
    for one, other in combinations(results, 2):
        assert one.shape != other.shape or (one - other).abs().max() > 0.01


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_told_the_task_and_a_hint(name):
    message = check(name, stub).message
    assert EXERCISES[name].task in message
    assert EXERCISES[name].hint in message


def test_single_precision_and_another_path_to_the_result_pass():
    def weights(q, k):
        raised = torch.exp(q.float() @ k.float().mT / 13**0.5)
        return raised / raised.sum(-1, keepdim=True)

    verdict = check("03-scale", weights)
    assert verdict.right
    assert 0 < verdict.largest_error < 1e-6


def test_a_tensor_is_taken_for_the_result_on_the_exercise_s_inputs():
    given = exercises.inputs("03-split")
    assert check("03-split", EXERCISES["03-split"].right(**given)).right
    assert not check("03-split", torch.zeros(2, 3, 77, 5)).right


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda q, k: None, "Does it end with `return`?"),
        (lambda q, k: 3.5, "A tensor is needed and this is float"),
        (lambda q, k: q @ k, "Your function stopped with `RuntimeError: "),
        (lambda q: q, r"called with `q` of shape (2, 3, 11, 13), `k` of shape (2, 1, 7, 13)"),
        (lambda q, k: q, "the shape is (2, 3, 11, 13) and must be (2, 3, 11, 7)"),
        (lambda q, k: (q @ k.mT / 0).softmax(-1), "100% of the numbers are not finite"),
        (lambda q, k: 3 * EXERCISES["03-scale"].right(q, k), "every number is 3 times the right one"),
        (lambda q, k: EXERCISES["03-scale"].right(q, k).flip(-1), "all the right numbers are there"),
    ],
)
def test_an_unknown_mistake_is_told_by_its_symptom(answer, said):
    assert said in check("03-scale", answer).message


def test_a_single_wrong_number_is_pointed_at():
    answer = EXERCISES["03-scale"].right(**exercises.inputs("03-scale"))
    answer[1, 2, 5, 3] = 2.0
    verdict = check("03-scale", answer)
    assert "at index (1, 2, 5, 3) stands 2 and should stand" in verdict.message
    assert 1 < verdict.largest_error < 2


@pytest.mark.parametrize(
    ("answer", "said"), [(90, "too large by 2"), (87.5, "too small by 0.5"), ("8", "str")]
)
def test_another_number_is_told_how_far_off_it_is(answer, said):
    assert said in check("03-keys", answer).message


def test_asking_changes_no_random_state_and_no_input():
    torch.manual_seed(7)
    before, given = torch.get_rng_state(), exercises.inputs("03-scale")["q"].clone()
    check("03-scale", stub)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(given, exercises.inputs("03-scale")["q"])


def test_an_unknown_exercise_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"`name` \(='03-scales'\) is not known\. Use one of: 03-keys, 03-layer, 03-merge"
    ):
        check("03-scales", 1)


def test_a_cell_shows_the_message():
    assert repr(check("03-keys", 88)) == "Right: 88."
