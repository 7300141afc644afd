"""What was passed is kept beside the notebook, whatever becomes of the file; bar and quiz show it and take no HTML."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mqa_lib import exercises
from mqa_lib.exercises import bar, kept, quizzes
from mqa_lib.exercises.core import Quiz

RIGHT = {"03-keys": 88, "05-channels": 24}
SHARED = Quiz(
    question="What do the heads of `MobileMQA` share?",
    options={
        "keys and values": "Yes. One head of each serves all queries.",
        "queries": "Each head has queries <b>of its own</b>; see `num_heads`.",
        "nothing": "Then it would be multi-head attention.",
    },
    right="keys and values",
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return where a reader's progress goes, in a session that knows nothing yet."""
    monkeypatch.setenv("MQA_PROGRESS", str(tmp_path / kept.NAME))
    monkeypatch.setattr(kept, "_session", {})
    monkeypatch.setattr(kept, "notes", [])
    return tmp_path / kept.NAME


def forget(monkeypatch):
    """Go on as after a restart of the kernel."""
    monkeypatch.setattr(kept, "_session", {})


def test_a_right_answer_is_kept_over_a_restart_and_a_wrong_one_does_not_undo_it(file, monkeypatch):
    assert "Notebook 3: 1 of" in exercises.check("03-keys", 88).message
    forget(monkeypatch)
    exercises.check("03-keys", 315)
    assert exercises.progress("03").done == ["03-keys"]
    assert [path.name for path in file.parent.iterdir()] == [kept.NAME]


def test_a_wrong_answer_keeps_nothing(file):
    exercises.check("03-keys", 315)
    assert not file.exists() and exercises.progress("03").done == []


def test_two_notebooks_at_once_lose_nothing(file):
    code = (
        "import sys; from mqa_lib.exercises import kept\n"
        "for n in range(40): kept.keep(f'{sys.argv[1]}-{n}', True)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("01", "02")]
    assert [each.wait() for each in both] == [0, 0]
    assert len(json.loads(file.read_text())["done"]) == 80


@pytest.mark.parametrize("broken", ["{", "[]", '{"done": {"03-keys": 1}}', '{"done": []}', "\xff\xfe"])
def test_a_file_that_makes_no_sense_is_said_and_kept_and_progress_goes_on(file, broken):
    file.write_bytes(broken.encode("latin-1"))
    exercises.check("05-channels", 24)
    said = exercises.check("03-keys", 88).message
    assert exercises.progress("05").done == ["05-channels"]
    assert (file.parent / "mqa_progress.broken.json").read_bytes() == broken.encode("latin-1")
    assert "Right: 88" in said and json.loads(file.read_text())["done"].keys() == {"03-keys", "05-channels"}


def test_the_bar_says_that_a_file_made_no_sense_and_a_second_copy_does_not_replace_the_first(file):
    for text in ("first", "second"):
        file.write_text(text)
        assert "could not be understood; it is kept as mqa_progress.broken" in repr(exercises.progress("03"))
    copies = sorted(file.parent.glob("*.broken*"))
    assert sorted(copy.read_text() for copy in copies) == ["first", "second"]


def test_where_nothing_can_be_written_a_sentence_says_so_and_the_session_counts(file, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kept, "_write", refused)
    verdict = exercises.check("03-keys", 88)
    assert verdict.right and "cannot be kept" in verdict.message and "Permission denied" in verdict.message
    assert "1 of" in exercises.progress("03").sentence


def test_an_interrupted_writing_leaves_the_old_file_whole(file, monkeypatch):
    exercises.check("03-keys", 88)
    before = file.read_text()
    monkeypatch.setattr(Path, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exercises.check("05-channels", 24)
    assert file.read_text() == before and [*file.parent.iterdir()] == [file]


def test_on_colab_a_mounted_drive_is_used_and_what_was_passed_before_is_taken_along(tmp_path, monkeypatch):
    monkeypatch.delenv("MQA_PROGRESS")
    monkeypatch.setattr(kept, "HERE", tmp_path)
    monkeypatch.setattr(kept, "DRIVE", tmp_path / "MyDrive")
    forget(monkeypatch)
    exercises.check("03-keys", 88)
    kept.DRIVE.mkdir()
    forget(monkeypatch)
    exercises.check("05-channels", 24)
    assert json.loads((kept.DRIVE / kept.NAME).read_text())["done"].keys() == {"03-keys", "05-channels"}


def test_whoever_builds_the_notebooks_keeps_and_shows_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MQA_PROGRESS", "off")
    monkeypatch.setattr(kept, "HERE", tmp_path)
    assert exercises.check("03-keys", 88).message == "Right: 88."
    assert exercises.progress("03").done == [] and [*tmp_path.iterdir()] == []


def test_the_bar_is_read_as_text_and_by_a_screen_reader_and_moves_where_it_stands(file, monkeypatch):
    sent = []
    display = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display, "display", lambda data, **how: sent.append((data, how["display_id"])))
    monkeypatch.setattr(display, "update_display", lambda data, **how: sent.append((data, how["display_id"])))
    monkeypatch.setattr(bar, "_shown", {})
    exercises.progress("05")._ipython_display_()
    exercises.check("05-channels", 24)
    (before, first), (after, second) = sent
    assert first == second
    total = len(exercises.progress("05").names)
    assert f'<progress max="{total}" value="0">' in before["text/html"]
    assert f'<progress max="{total}" value="1">' in after["text/html"]
    assert f"Notebook 5: 1 of {total} done. Done: 05-channels. Open: " in after["text/plain"]


def test_a_quiz_explains_what_is_chosen_at_once_and_keeps_it(file, monkeypatch):
    monkeypatch.setattr(exercises, "QUIZZES", {"02-share": SHARED})
    view = exercises.quiz("02-share")
    assert view.widget is view.widget and view.buttons.value is None and view.said.value == ""
    view.buttons.value = "nothing"
    assert "Not so.</strong> Then it would be multi-head attention." in view.said.value
    assert kept.load()["02-share"] == {"passed": False, "answer": "nothing"}
    view.buttons.value = "keys and values"
    assert "Right.</strong> One head" in view.said.value and kept.load()["02-share"]["passed"]
    forget(monkeypatch)
    again = exercises.quiz("02-share")
    assert again.widget.children[1].value == "keys and values" and "Right.</strong>" in again.said.value


@pytest.mark.parametrize("answer", ["<script>alert(1)</script>", "no longer an option"])
def test_an_answer_in_the_file_that_is_no_option_is_not_shown(file, answer):
    kept.keep("02-share", False, answer=answer)
    view = quizzes.QuizView("02-share", SHARED)
    assert view.widget and view.buttons.value is None and answer not in view.said.value


def test_a_quiz_has_a_folded_list_for_where_no_kernel_answers(file):
    bundle = quizzes.QuizView("02-share", SHARED)._repr_mimebundle_()
    page = bundle["text/html"]
    assert page.count("<details>") == page.count("<summary>") == 3 and "<script" not in page
    assert "What do the heads of <code>MobileMQA</code> share?" in page
    assert "<b>" not in page and "&lt;b&gt;of its own" in page
    assert bundle[quizzes._VIEW]["model_id"] and "( ) queries" in bundle["text/plain"]


def test_without_ipywidgets_the_folded_list_is_all(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert quizzes.QuizView("02-share", SHARED)._repr_mimebundle_().keys() == {"text/html", "text/plain"}


def test_an_unknown_quiz_or_notebook_is_refused_with_the_known_ones(file):
    with pytest.raises(ValueError, match=r"`name` \(='02-shares'\) is not known"):
        exercises.quiz("02-shares")
    with pytest.raises(ValueError, match=r"`notebook` \(='8'\) is not known\. Use one of: 01, 02"):
        exercises.progress("8")
