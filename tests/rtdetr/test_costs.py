"""What a variant costs is found twice, told with how it was found, and refused where it would not fit."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mqa_lib import rtdetr
from mqa_lib.__main__ import main
from mqa_lib.cost import mobile_mqa
from mqa_lib.rtdetr import audit, costs, memory, train
from mqa_lib.rtdetr.recipe import Recipe
from mqa_lib.timing import Spread

NANO, STOCK = "rtdetr-nano-mobile-mqa", "rtdetr-nano-stock"


def test_every_variant_has_a_row_after_its_stock_model():
    names = costs.variants()
    assert set(names) >= set(rtdetr.MODELS) and len(names) == len(set(names))
    assert all(names.index(costs.stock_of(name)) <= names.index(name) for name in names)
    assert costs.stock_of("rtdetr-l-mobile-mqa") == "rtdetr-l" and costs.stock_of(NANO) == STOCK


def test_the_blocks_add_to_the_gflops_what_the_formula_says():
    more = costs.all_gflops(costs.network(NANO), 192) - costs.all_gflops(costs.network(STOCK), 192)
    blocks = ((96, 24, 2), (128, 12, 1))  # channels, side of the map at 192 px, kv_stride
    macs = sum(mobile_mqa(dim, side, side, 4, 32, 32, kv_stride=kv).macs for dim, side, kv in blocks)
    assert more == pytest.approx(2 * macs / 1e9, rel=1e-6)


def test_the_article_s_network_is_counted_whole_without_its_gigabytes():
    article, stock = (
        costs.all_gflops(audit.one_class(f"rtdetr-resnet50-{name}")) for name in ("article", "stock")
    )
    assert article - stock == pytest.approx(audit.article_gflops(640))


class Plain(nn.Module):
    """A network whose memory can be told by hand: a convolution, and an activation while its input is alive."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 1, 1)

    def forward(self, x):
        y = self.conv(x)
        return self.last(y.relu() + y)  # y, its activation and their sum live at once


def test_planned_memory_is_what_can_be_told_by_hand():
    assert memory.planned_bytes(Plain(), 7) == 3 * 5 * 7 * 7 * 4


def test_planned_memory_of_the_article_s_network_holds_two_score_matrices():
    network = costs.as_predicted(costs.network("rtdetr-resnet50-article"), "row-major")
    scores = audit.STAGES[0].block_cost(320).score_bytes
    assert 2 * scores < memory.planned_bytes(network, 320) < 2.2 * scores


MEASURED = """
import torch
from mqa_lib.rtdetr import memory
memory.forget_peak()
before = memory.resident_bytes()
block = torch.ones(2**25)  # 128 MiB
del block
print(memory.peak_bytes() - before)
"""


def test_measured_memory_is_what_a_process_took():
    # In a process of its own: this one may hold a block of that size already, freed by another test.
    run = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    assert int(run.stdout) == pytest.approx(2**27, rel=0.05)


def test_a_variant_that_does_not_fit_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**30)
    row = replace(ROW, name="rtdetr-resnet50-article", planned_bytes=10 * 2**30)
    message = (
        r"`variant` \(=rtdetr-resnet50-article\) needs about 12\.0 GiB .* 1\.0 GiB are free\. Leave it out"
    )
    with pytest.raises(ValueError, match=message):
        costs.measure_memory(row)


def test_a_variant_that_is_refused_keeps_its_place_and_its_reason(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**10)
    rows = costs.with_latencies(costs.measure(["rtdetr-nano-article"], 96), rounds=1, size_px=96)
    assert [row.name for row in rows] == [STOCK, "rtdetr-nano-article"]
    assert all(row.refused and row.seconds is None and row.gflops > 0 for row in rows)
    assert "needs about" in costs.table(rows).splitlines()[-1]


def test_a_variant_is_measured_as_ultralytics_predicts_with_it():
    model = costs.as_predicted(costs.network(STOCK), "channels_last")
    assert model.is_fused() and not model.training
    assert model.model[2].cv1.conv.weight.is_contiguous(memory_format=torch.channels_last)


ROW = costs.Row(STOCK, STOCK, 5, None, 0.7, 11)


def test_a_record_comes_back_as_it_was(tmp_path):
    spread = Spread(0.5, 0.4, 0.7)
    rows = [replace(ROW, seconds=spread, ratio=spread, rounds=3), replace(ROW, refused="too large")]
    file = tmp_path / "r.json"
    file.write_text(json.dumps(costs.record(rows, 640, "made by a test")))
    assert costs.read(file) == rows


def test_the_command_measures_a_variant_in_turns_with_stock_and_says_how(tmp_path, capsys):
    file = tmp_path / "r.json"
    words = ["costs", "--variants", NANO, "--rounds", "5", "--size", "96", "-o", str(file)]
    assert main(words) == 0
    stock, own = costs.read(file)
    assert (stock.name, own.name, own.rounds, stock.ratio) == (STOCK, NANO, 5, Spread(1.0, 1.0, 1.0))
    assert own.ratio.low <= own.ratio.median <= own.ratio.high and own.folded and not stock.folded
    assert own.peak_bytes is not None and own.gflops_printed is not None
    kept = json.loads(file.read_text())
    assert kept["settings"]["memory"] == costs.MEMORY_METHOD and kept["machine"]["versions"]["ultralytics"]
    assert f"| {NANO} | {own.params:,} |" in capsys.readouterr().out
    assert main([*words, "--latency-only", "--rounds", "3"]) == 0
    assert main([*words, "--latency-only", "--size", "64"]) == 2
    again = costs.read(file)[1]
    assert again.rounds == 3 and again.seconds != own.seconds and again.peak_bytes == own.peak_bytes


def test_an_unknown_variant_and_a_size_that_does_not_fit_are_refused(tmp_path, capsys):
    assert main(["costs", "--variants", "rtdetr-huge"]) == 2
    assert "`variant` (='rtdetr-huge') is not known" in capsys.readouterr().err
    assert main(["costs", "--variants", STOCK, "--size", "100", "-o", str(tmp_path / "r.json")]) == 2
    assert "`size_px` (=100) must be divisible by `stride` (=32)" in capsys.readouterr().err


def test_a_record_of_all_variants_is_not_written_over_by_that_of_one(tmp_path, capsys):
    there = tmp_path / "all.json"
    there.write_text((Path(__file__).parents[2] / "data/benchmarks/rtdetr.json").read_text())
    before = there.read_bytes()
    command = ["costs", "--latency-only", "--variants", "rtdetr-nano-mobile-mqa", "-o", str(there)]
    assert main(command) == 2
    assert "exists, and would lose rtdetr-l, " in capsys.readouterr().err and there.read_bytes() == before


def test_latencies_alone_want_a_record_whose_memory_is_kept(tmp_path, capsys):
    assert main(["costs", "--latency-only", "-o", str(tmp_path / "none.json")]) == 2
    assert "none.json) must exist, since its memory is kept. Leave" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["carry none.pt --to rtdetr-nano-mobile-mqa", "export none.pt --weights-are x"]
)
def test_what_exists_is_not_written_over(command, tmp_path, capsys):
    there = tmp_path / "mine.safetensors"
    there.write_text("mine")
    main([*command.split(), "-o", str(there)])
    assert "exists. Use another name, or --force" in capsys.readouterr().err and there.read_text() == "mine"


@pytest.mark.parametrize("key", ["epochs", "imgsz", "batch"])
def test_a_recipe_without_size_is_refused_before_the_data_are_read(key, tmp_path):
    with pytest.raises(ValueError, match=rf"`{key}` \(=0\) must be a whole number of at least 1"):
        train.train(Recipe("rtdetr-nano-stock", **{key: 0}), tmp_path / "none.yaml", tmp_path / "run")
