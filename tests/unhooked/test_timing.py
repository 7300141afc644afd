"""What the timing refuses, and that the command writes what it says."""

import json
from pathlib import Path

import pytest

from mqa_lib import bench, timing
from mqa_lib.timing import Timing


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`candidates` \(=\{\}\) must not be empty"):
        timing.compare({})


@pytest.mark.parametrize("name", ["repeats", "warmup"])
def test_no_round_and_no_warm_up_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` \(=0\)"):
        timing.compare({"nothing": lambda: None}, **{name: 0})


def test_a_ratio_across_two_measurements_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`rounds` \(=2\).*\(=3\).*one call of `compare`"):
        Timing("a", (1.0, 2.0), 1).ratio_to(Timing("b", (1.0, 2.0, 3.0), 1))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`mode` \(='eval'\) is not known.*inference, training"):
        bench.candidates(bench.SHAPES[1], "eval")


def test_layers_that_do_not_agree_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = bench.Shape("toy", dim=6, height=5, width=5, num_heads=2, key_dim=3)
    built = bench.layers(shape)
    built["timm"].output.proj.weight.data.mul_(1.5)
    monkeypatch.setattr(bench.cases, "layers", lambda *_: built)
    with pytest.raises(ValueError, match=r"`difference` .* ours and timm differ on toy, kv_stride 1"):
        bench.candidates(shape)


def test_the_command_writes_the_record_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = bench.Shape("toy", dim=4, height=5, width=5, num_heads=2, key_dim=2)
    monkeypatch.setattr(bench.run, "__defaults__", ([shape], *bench.run.__defaults__[1:]))
    out = tmp_path / "new" / "layer.json"
    assert bench.main(["--repeats", "2", "--modes", "inference", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["cases"][0]["shape"]["name"] == "toy"
    printed = capsys.readouterr().out
    assert "toy, kv_stride 1: timm / ours " in printed
    assert str(out) in printed
