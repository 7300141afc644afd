"""What the timing refuses, and that the command writes what it says."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mqa_lib import bench, timing
from mqa_lib.timing import Timing

RUNNER = sys.modules["mqa_lib.bench.run"]  # the package has a function of that name


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


def toy_record() -> dict[str, Any]:
    machine = {"cpu": "toy", "threads": 1}
    return {"made": "2000-01-01", "machine": machine, "cases": [], "geometric_means": {}}


def test_the_command_hands_on_what_it_is_told_and_on_a_gpu_adds_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(RUNNER, "run", lambda **options: asked.append(options) or toy_record())
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    out = tmp_path / "layer.json"
    line = ["--device", "cuda", "--threads", "3", "--max-seconds", "5", "--repeats", "7", "--out", str(out)]
    assert bench.main(line) == 0
    threads, single, half = asked
    assert threads == 3
    assert (single["repeats"], single["max_seconds"], single["modes"]) == (7, 5.0, bench.MODES)
    kinds = [(each["device"], each["dtype"]) for each in (single, half)]
    assert kinds == [("cuda", torch.float32), ("cuda", torch.bfloat16)]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["layer-cuda-bfloat16.json", "layer-cuda-float32.json"]


def test_a_bench_keeps_the_heap_warms_up_and_tells_the_lowest_and_the_highest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warm_ups, kept = [], []

    def compare(runs: dict, repeats: int, warmup: int, **_: object) -> list[Timing]:
        warm_ups.append(warmup)
        seconds = {"timm, NHWC": float(len(warm_ups))}  # so the second shape gains twice as much as the first
        return [Timing(name, (seconds.get(name, 1.0),) * repeats, 1) for name in ("timm, NHWC", "ours, NHWC")]

    monkeypatch.setattr(timing, "compare", compare)
    monkeypatch.setattr(timing, "keep_heap", lambda: kept.append(1) or False)
    shape = bench.Shape("toy", dim=4, height=3, width=5, num_heads=2, key_dim=2)
    record = bench.run([shape, shape], ["inference"], repeats=3)
    mean = record["geometric_means"]["inference"]["timm / ours"]
    assert mean == {"mean": pytest.approx(2**0.5), "lowest": 1.0, "highest": 2.0}
    assert warm_ups == [record["settings"]["warm_up"]] * 2 == [2, 2]
    assert kept == [1] and record["settings"]["heap is kept"] is False


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
