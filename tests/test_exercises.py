"""A right answer passes, a known mistake is named, and any other answer is helped on."""

from itertools import combinations

import numpy as np
import pytest
import torch

from mqa_lib import exercises
from mqa_lib.exercises import EXERCISES, QUIZZES, Exercise, check
from mqa_lib.exercises.core import judge, normal, result_of

FUNCTIONS = [name for name, exercise in EXERCISES.items() if exercise.kind == "implement"]
KNOWN = [(name, mistake) for name, exercise in EXERCISES.items() for mistake in exercise.mistakes]


def stub(*_args, **_kwargs):
    raise NotImplementedError


def answer_of(name, source):
    """Return what a reader hands in: the function itself, or what it finds out."""
    exercise = EXERCISES[name]
    return source if exercise.kind == "implement" else result_of(exercise, source)


def gap(one, other):
    """Return how far apart two results are, endless where they cannot be compared."""
    one, other = (torch.as_tensor(each, dtype=torch.float64) for each in (one, other))
    return (one - other).abs().max().item() if one.shape == other.shape else float("inf")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_passes(name):
    verdict = check(name, answer_of(name, EXERCISES[name].right))
    assert verdict.right, verdict.message
    assert verdict.message.startswith("Right")


@pytest.mark.parametrize(("name", "mistake"), KNOWN)
def test_a_known_mistake_is_named(name, mistake):
    verdict = check(name, answer_of(name, EXERCISES[name].mistakes[mistake]))
    assert not verdict.right
    assert mistake in verdict.message


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_two_answers_of_an_exercise_can_be_taken_for_each_other(name):
    exercise = EXERCISES[name]
    results = [answer(**exercise.inputs) for answer in (exercise.right, *exercise.mistakes.values())]
    for one, other in combinations(results, 2):
        assert gap(one, other) > 0.01


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_two_inputs_hold_the_same_numbers(name):
    """Or whoever takes one for the other passes."""
    given = [
        each
        for value in EXERCISES[name].inputs.values()
        for each in (value.values() if isinstance(value, dict) else [value])
        if isinstance(each, torch.Tensor)
    ]
    for one, other in combinations(given, 2):
        assert one.shape != other.shape or not torch.equal(one, other)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_told_the_task_and_a_hint(name):
    implement = EXERCISES[name].kind == "implement"
    for unsolved in (..., stub if implement else None):
        message = check(name, unsolved).message
        assert EXERCISES[name].task in message and EXERCISES[name].hint in message


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
        (lambda q, k: q @ k, f"Hint: {EXERCISES['03-scale'].hint}"),
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
        ValueError, match=r"`name` \(='03-scales'\) is not known\. Use one of: .*03-keys, 03-layer, 03-merge"
    ):
        check("03-scales", 1)


def test_a_cell_shows_the_message():
    assert repr(check("03-keys", 88)) == "Right: 88."


DOUBLED = Exercise(
    task="Write `doubled(x)`.",
    hint="add it to itself.",
    right=lambda x: x + x,
    mistakes={"it is squared.": lambda x: x * x},
    inputs={"x": normal(3, 5)},
)


def in_place(x):
    x.mul_(2)
    return x


class Mute(Exception):
    def __str__(self):
        raise self


def mute(x):
    raise Mute


HOSTILE = [
    (lambda x: [[1.0]], "A tensor is needed and this is list. `torch.stack`"),
    (lambda x: x.numpy(), "A tensor is needed and this is ndarray. `torch.from_numpy`"),
    (lambda x: (2 * x).to("meta"), "on the device meta"),
    (lambda x: torch.complex(2 * x, x), "the tensor is complex"),
    (lambda x: (2 * x).bfloat16(), "too coarse to tell"),
    (lambda x: (2 * x).long(), "has no place for fractions"),
    (lambda x: torch.full_like(x, torch.nan), "100% of the numbers are not finite"),
    (lambda x: x[:0], "the shape is (0, 5) and must be (3, 5)"),
    (lambda x: x + None, "Your function stopped with `TypeError: "),
    (lambda x, y: x, "Your function stopped with `TypeError: "),
    (mute, "Your function stopped with `Mute:`"),
    (lambda x: exec('raise ValueError("<img src=x> `code`")'), "`ValueError: <img src=x> 'code'`"),
    (lambda x: stub(x) + x, "your function calls `stub`, which is not written yet"),
    (lambda x: (yield x), "A tensor is needed and this is generator"),
]


@pytest.mark.parametrize(("answer", "said"), HOSTILE)
def test_whatever_is_handed_in_is_told_what_it_is(answer, said):
    verdict = judge(DOUBLED, answer)
    assert not verdict.right and said in verdict.message


def test_sparse_float32_and_tracked_tensors_pass():
    for answer in (lambda x: (2 * x).to_sparse(), lambda x: 2 * x.float(), lambda x: 2 * x.requires_grad_()):
        assert judge(DOUBLED, answer).right


def test_inputs_changed_in_place_are_mentioned_and_do_not_reach_the_next_check():
    first = judge(DOUBLED, in_place)
    assert first.right and "changes `x` in place" in first.message
    assert judge(DOUBLED, in_place).right and "in place" not in judge(DOUBLED, lambda x: 2 * x).message
    exercises.inputs("03-split")["q_map"].zero_()
    assert exercises.inputs("03-split")["q_map"].abs().sum() > 0


ABOUT = Exercise("How many?", "count.", 200.0, {"half of it.": 100}, kind="predict", tolerance=0.1)
FOUND = Exercise(
    "How many?",
    "count.",
    lambda x: x.numel(),
    {"rows.": lambda x: len(x)},
    {"x": torch.zeros(3, 5)},
    "investigate",
)
NAMED = Exercise(
    "Which?", "look.", "the keys", {"those move.": "queries"}, kind="predict", choices=("the keys", "queries")
)


@pytest.mark.parametrize("answer", [200, 181, 219.9, np.float32(190), np.int64(210), torch.tensor(205)])
def test_an_estimate_passes_within_its_tolerance(answer):
    assert judge(ABOUT, answer).right


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (179, "too small by 21"),
        (100.4, "half of it"),
        (float("nan"), "NaN"),
        (10**400, "too large by inf"),
        (True, "A number is needed and this is bool"),
        (1j, "A number is needed and this is complex"),
        ([200], "A number is needed and this is list"),
        (torch.ones(2), "A number is needed and this is Tensor"),
        (np.ones(2), "A number is needed and this is ndarray"),
    ],
)
def test_another_estimate_is_told_what_is_wrong_with_it(answer, said):
    verdict = judge(ABOUT, answer)
    assert not verdict.right and said in verdict.message


def test_a_whole_number_is_right_exactly_and_a_fraction_up_to_rounding():
    third = Exercise("A third?", "divide.", 1 / 3, {}, kind="predict")
    assert judge(third, 0.3333333).right and not judge(third, 0.333).right
    assert not judge(Exercise("How many?", "count.", 10**9, {}, kind="predict"), 10**9 + 1).right


def test_a_number_may_be_found_out_by_a_function():
    assert judge(FOUND, 15).right and "rows" in judge(FOUND, 3).message


def test_a_choice_is_taken_in_any_case_and_another_is_told_the_choices():
    assert judge(NAMED, " The  keys").right
    assert "those move" in judge(NAMED, "Queries").message
    assert '"the keys" | "queries"' in judge(NAMED, "values").message
    assert '"the keys" | "queries"' in judge(NAMED, 2).message
    assert "the keys | queries" in judge(NAMED, None).message


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_is_complete(name):
    exercise = EXERCISES[name]
    assert exercise.mistakes and exercise.minutes > 0 and exercise.difficulty in (1, 2, 3)
    if isinstance(right := result_of(exercise, exercise.right), str):
        assert {right, *exercise.mistakes.values()} <= {*exercise.choices}


@pytest.mark.parametrize("name", QUIZZES)
def test_a_quiz_has_three_or_four_short_answers_all_explained(name):
    quiz = QUIZZES[name]
    assert 3 <= len(quiz.options) <= 4 and quiz.right in quiz.options
    assert all(len(why.split()) >= 4 for why in quiz.options.values())
    assert len(set(quiz.options.values())) == len(quiz.options)


def test_asking_changes_no_random_state_even_where_layers_are_made():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    check("03-layer", EXERCISES["03-layer"].right)
    check("03-layer", lambda x, matrices, num_heads: torch.rand_like(x))
    assert torch.equal(before, torch.get_rng_state())


def test_the_minutes_are_the_recorded_seconds_of_that_notebook(tmp_path, monkeypatch):
    file = tmp_path / "notebooks.json"
    file.write_text('{"machine": {"cores": 7}, "seconds": {"02_a": 90.0, "03_b": 11.0}}')
    monkeypatch.setattr(exercises, "_BUILT", file)
    assert (
        exercises.minutes("02") == "1.5 minutes on 7 CPU cores in the recorded build; on a GPU not measured."
    )
    assert exercises.minutes("05") == "How long notebook 05 takes has not been recorded."
