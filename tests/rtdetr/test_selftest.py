"""The self-test holds with the installed ultralytics, says what broke with another, and leaves random numbers alone."""

import time

import pytest
import torch
from ultralytics.nn import tasks

from mqa_lib.__main__ import main
from mqa_lib.rtdetr import encoder, fit, selftest


def test_the_integration_holds_and_it_is_told_in_a_few_seconds(capsys):
    start = time.perf_counter()
    assert main(["selftest"]) == 0
    assert time.perf_counter() - start < 30  # five on a quiet machine; the tests' machine may be a busy one
    said = capsys.readouterr().out
    assert said.count("  ok  ") == len(selftest.CHECKS) and "the integration holds" in said


def test_it_names_what_broke_and_goes_on(monkeypatch, capsys):
    parse = tasks.parse_model

    def forgetful(d, ch, verbose=True):
        if any(row[2] == "AIFI_MQA" for row in d["head"]):
            raise TypeError("parse_model() wants something new")
        return parse(d, ch, verbose)

    monkeypatch.setattr(tasks, "parse_model", forgetful)
    forgetful.reads_our_layers = True
    assert main(["selftest"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  channels are worked out: TypeError: parse_model() wants something new" in said
    assert "  ok  names are known to model files" in said and "checks failed" in said


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (lambda self, x: x.detach(), "a loss reaches every attention"),
        (lambda self, x: x * float("nan"), "pictures of any shape are answered"),
    ],
)
def test_each_check_can_fail(broken, check, monkeypatch):
    monkeypatch.setattr(encoder.AIFI_MQA, "forward", broken)
    assert dict(selftest.run())[check] != ""


def test_an_untested_version_is_named_beside_the_verdict(monkeypatch, capsys):
    monkeypatch.setattr(fit, "__version__", "9.9.9")
    selftest.main()
    assert "ultralytics 9.9.9 is outside the tested range" in capsys.readouterr().out


def test_the_caller_s_random_numbers_stay_as_they_were():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(selftest.run())
    assert torch.equal(torch.rand(3), expected)
