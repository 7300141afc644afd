"""The doctor's page: what it says of packages, and that every complaint comes with a command."""

import subprocess
import sys

from packaging.requirements import Requirement

from mqa_lib import bootstrap, doctor


def declare(monkeypatch, *texts):
    monkeypatch.setattr(
        bootstrap, "declared", lambda extra="": [] if extra else [Requirement(t) for t in texts]
    )


def test_a_version_within_its_bounds_is_ok(monkeypatch):
    declare(monkeypatch, "numpy>=1.0,<99")
    assert [line.state for line in doctor.packages()] == ["ok"]


def test_a_version_outside_its_bounds_comes_with_the_command_that_mends_it(monkeypatch):
    declare(monkeypatch, "numpy>=97,<99")
    (line,) = doctor.packages()
    assert line.state == "mend" and line.mend.startswith("python -m pip install")
    assert '"numpy' in line.mend and ">=97" in line.mend and line.mend.endswith('"')


def test_on_colab_the_way_out_for_torch_is_another_runtime_not_pip(monkeypatch):
    declare(monkeypatch, "torch>=97,<99", "packaging>=997")
    monkeypatch.setattr(doctor, "hosted", lambda: True)
    torch_line, other = doctor.packages()
    assert "pip" not in torch_line.mend and "Runtime" in torch_line.mend
    assert "pip install" in other.mend


def test_a_missing_core_package_has_to_be_mended(monkeypatch):
    declare(monkeypatch, "no-such-distribution>=1,<2")
    assert [line.state for line in doctor.packages()] == ["mend"]


def test_a_missing_package_of_an_extra_is_only_noted(monkeypatch):
    monkeypatch.setattr(bootstrap, "declared", lambda extra="": [Requirement("no-such-distribution>=1")])
    assert [line.state for line in doctor.packages("lab")] == ["note"]


def test_every_complaint_of_the_page_has_a_command(monkeypatch):
    declare(monkeypatch, "numpy>=97,<99", "no-such-distribution>=1,<2")
    lines = doctor.report()
    assert all(line.mend for line in lines if line.state == "mend")


def test_the_page_names_what_it_looked_at():
    names = {line.name for line in doctor.report()}
    assert {
        "Python",
        "system",
        "RAM",
        "disk",
        "device",
        "torch",
        "ultralytics",
        "widgets",
        "front end",
        "fonts",
    } <= names


def test_the_page_puts_the_command_under_the_line_it_mends():
    lines = [doctor.Finding("ok", "a", "fine"), doctor.Finding("mend", "bcd", "broken", "make it")]
    assert doctor.page(lines).splitlines() == [
        "  ok  a    fine",
        "mend  bcd  broken",
        "           -> make it",
        "To mend: 1.",
    ]


def test_looking_for_ultralytics_does_not_import_it(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    doctor.report()
    assert "ultralytics" not in sys.modules


def test_one_line_is_one_line_and_names_mode_and_device(monkeypatch):
    monkeypatch.setenv("MQA_MODE", "full")
    assert doctor.one_line().count("\n") == 0
    assert "full mode" in doctor.one_line() and doctor.device() in doctor.one_line()


def test_one_line_names_what_is_out_of_range(monkeypatch):
    declare(monkeypatch, "numpy>=97,<99")
    assert "out of range: numpy" in doctor.one_line()


def test_the_exit_code_tells_whether_something_has_to_be_mended(monkeypatch, capsys):
    declare(monkeypatch, "numpy>=97,<99")
    assert doctor.main() == 1
    assert "numpy" in capsys.readouterr().out


def test_an_ultralytics_that_does_not_build_our_models_is_to_be_mended(monkeypatch):
    failed = subprocess.CompletedProcess(
        [], 1, "", "Traceback:\nTypeError: parse_model() wants something new\n"
    )
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: failed)
    doctor._tried_out.cache_clear()
    line = next(line for line in doctor.report() if line.name == "detector")
    doctor._tried_out.cache_clear()
    assert line.state == "mend" and "TypeError: parse_model() wants something new" in line.said
    assert line.mend.startswith('python -m pip install "ultralytics')
