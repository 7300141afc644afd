"""Timings on a clock that the tests turn themselves, so that every expected number is exact."""

import contextlib
import gc
import json
from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mqa_lib import bench, cost, published, timing
from mqa_lib.timing import Spread, Timing


class Clock:
    """Stands in for the machine: calls take what they are told, times how slow the machine is just then."""

    def __init__(self) -> None:
        self.now, self.slowness, self.log = 0.0, 1.0, []

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds * self.slowness
            self.log.append(name)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_every_candidate_gets_its_own_time_in_the_order_given(clock: Clock) -> None:
    fast, slow = timing.compare({"fast": clock.work("f", 2.0), "slow": clock.work("s", 3.0)}, repeats=5)
    assert (fast.name, fast.spread, len(fast.seconds)) == ("fast", Spread(2.0, 2.0, 2.0), 5)
    assert slow.ratio_to(fast) == Spread(1.5, 1.5, 1.5)


def test_candidates_take_turns_and_swap_who_goes_first(clock: Clock) -> None:
    timing.compare({"a": clock.work("a", 1.0), "b": clock.work("b", 1.0)}, repeats=3, warmup=2)
    assert clock.log == [*"aabb", *"ab", *"ba", *"ab"]


def test_a_machine_that_slows_down_half_way_does_not_change_the_ratio(clock: Clock) -> None:
    def rounds(values: range) -> range:
        for i in values:
            clock.slowness = 1.0 if i < 6 else 7.0
            yield i

    candidates = {"fast": clock.work("f", 2.0), "slow": clock.work("s", 3.0)}
    fast, slow = timing.compare(candidates, repeats=11, progress=rounds)
    assert fast.spread.high > fast.spread.low
    assert slow.ratio_to(fast).low == pytest.approx(1.5) == slow.ratio_to(fast).high


def test_short_calls_are_repeated_until_the_clock_can_see_them(clock: Clock) -> None:
    (short,) = timing.compare({"short": clock.work("s", 0.25)}, repeats=2, min_seconds=1.0, warmup=1)
    assert (short.calls, len(clock.log)) == (4, 1 + 2 * 4)
    assert short.spread.median == 0.25


def test_a_slow_first_call_does_not_decide_how_many_calls_a_round_takes(clock: Clock) -> None:
    def run() -> None:
        clock.now += 0.25 if clock.log else 9.0
        clock.log.append("run")

    (timing_of_run,) = timing.compare({"run": run}, repeats=1, min_seconds=1.0, warmup=2)
    assert timing_of_run.calls == 4


def test_no_garbage_is_collected_while_the_clock_runs_and_all_is_as_before_afterwards() -> None:
    collecting = []
    timing.compare({"run": lambda: collecting.append(gc.isenabled())}, repeats=1, min_seconds=0.0)
    assert collecting and not any(collecting)
    assert gc.isenabled()


def test_a_slow_machine_costs_rounds_but_leaves_three(clock: Clock) -> None:
    slow = {"a": clock.work("a", 2.0)}
    assert len(timing.compare(slow, repeats=11, max_seconds=15.0)[0].seconds) == 5
    assert len(timing.compare(slow, repeats=11, max_seconds=0.0)[0].seconds) == 3


def test_the_spread_is_the_median_between_the_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_twice_as_fast_and_half_as_fast_average_to_equal() -> None:
    assert timing.geometric_mean([2.0, 0.5]) == pytest.approx(1.0)


def test_only_quartiles_on_one_side_of_equal_decide() -> None:
    less, more, both = Spread(0.75, 0.5, 0.9), Spread(1.25, 1.1, 2.0), Spread(0.75, 0.5, 1.1)
    assert timing.verdict(less) == "yes, 25% less time"
    assert timing.verdict(more) == "no, 25% more time"
    assert timing.verdict(both) == "undecided"


def test_the_table_of_verdicts_is_markdown_with_a_row_for_each_map() -> None:
    ratios = {"8 × 8": {"stride 1": Spread(0.5, 0.5, 0.5), "stride 2": Spread(1.0, 0.9, 1.1)}}
    expected = (
        "| map | stride 1 | stride 2 |\n| --- | --- | --- |\n| 8 × 8 | yes, 50% less time | undecided |"
    )
    assert timing.verdict_table(ratios, "map") == expected


def test_the_machine_is_described_without_its_name_or_paths() -> None:
    text = json.dumps(timing.machine())
    assert timing.platform.node() not in text
    assert str(timing.Path.home()) not in text


def test_of_every_stride_the_faster_format_is_kept() -> None:
    shape = bench.Shape("toy", dim=6, height=5, width=7, num_heads=2, key_dim=3)
    timings = timing.compare(bench.stride_candidates(shape, (1, 3)), repeats=3)
    best = bench.faster_formats(timings)
    assert list(best) == ["multi-head", "kv_stride 1", "kv_stride 3"]
    for name, kept in best.items():
        assert kept.spread.median == min(t.spread.median for t in timings if t.name.startswith(name))


def test_the_rates_of_the_machine_are_those_of_its_product_and_its_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = [Timing("product", (2.0, 4.0), 1), Timing("copy", (0.5, 0.25), 1)]
    monkeypatch.setattr(timing, "compare", lambda *_, **__: known)
    assert bench.rates() == (1024**3 / 2.0, 2 * 4 * 2**24 / 0.25)


def toy(**options: int) -> bench.Shape:
    return bench.Shape("toy", dim=6, height=5, width=5, num_heads=2, key_dim=3, **options)


@pytest.mark.parametrize("mode", bench.MODES)
def test_a_bench_measures_everything_and_its_gains_can_be_had_again_from_its_seconds(mode: str) -> None:
    record = json.loads(json.dumps(bench.run([toy(kv_stride=2)], [mode], repeats=3)))
    case = record["cases"][0]
    timings = [Timing(t["name"], tuple(t["seconds"]), t["calls"]) for t in case["timings"]]
    inferred = {"timm / ours folded", "timm's block / our block folded", "ours / floor", "timm / floor"}
    assert set(case["gains"]) == set(bench.GAINS) - (inferred if mode == "training" else set())
    for name, spread in case["gains"].items():
        assert bench.gain(timings, name).median == pytest.approx(spread["median"], rel=0.01)
        assert record["geometric_means"][mode][name]["mean"] == pytest.approx(spread["median"])


def test_timm_counts_with_the_faster_of_its_kernels_and_formats() -> None:
    seconds = {"ours, NCHW": 2.0, "ours, NHWC": 3.0, "timm, NHWC": 8.0, "timm unfused, NCHW": 5.0}
    timings = [Timing(name, (value, value), 1) for name, value in seconds.items()]
    assert bench.gain(timings, "timm / ours") == Spread(2.5, 2.5, 2.5)
    assert bench.gain(timings, "multi-head / ours") is None


def test_a_layer_that_writes_too_many_scores_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.cases, "LARGEST", 2 * 25 * 25 - 1)
    assert not {"article, NCHW", "timm unfused, NCHW"} & set(bench.everything(toy()))
    assert {"article, NCHW", "timm unfused, NCHW"} <= set(bench.everything(toy(kv_stride=2)))


@pytest.mark.parametrize("kv_stride", [1, 2, 3, 4])
def test_a_shape_knows_how_many_keys_its_layer_reads(kv_stride: int) -> None:
    shape = bench.Shape("toy", 6, 13, 17, 2, 3, kv_stride)
    layer = bench.layers(shape)["ours"].eval()
    assert shape.keys == layer.weights(torch.zeros(1, 6, 13, 17)).shape[-1]


@pytest.mark.parametrize("routine", ["convolution", "matmul"])
def test_the_floor_multiplies_as_many_numbers_as_the_layer_counts(routine: str) -> None:
    shape = bench.Shape("toy", 6, 13, 17, 2, 3, 2, batch=2)
    with FlopCounterMode(display=False) as counter:
        bench.bare_products(shape)[f"floor, {routine}"]()
    price = cost.mobile_mqa(6, 13, 17, 2, 3, 3, kv_stride=2)
    assert counter.get_total_flops() == 2 * shape.batch * (price.macs - price.reduction_macs)


@pytest.mark.parametrize("kv_stride", [1, 2, 3])
def test_parts_merged_compute_what_they_compute_apart(kv_stride: int) -> None:
    runs = bench.merging(bench.Shape("toy", 6, 13, 17, 2, 3, kv_stride))
    apart, merged = runs["apart"](), runs["merged"]()
    if kv_stride > 1:
        merged = [merged[:, start::2] for start in (0, 1)]
    torch.testing.assert_close(merged, apart)


def test_what_a_backbone_would_have_instead_is_counted_as_it_runs() -> None:
    shape = bench.Shape("toy", 6, 13, 17, 2, 3)
    for name, (run, macs) in bench.convolutions(shape).items():
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
        assert counter.get_total_flops() == 2 * macs, name


def test_the_peak_counts_what_is_held_at_once_and_not_what_was_freed() -> None:
    def run() -> None:
        for _ in range(3):
            torch.ones(1000).add_(1)
        torch.ones(500) + torch.ones(500)

    assert timing.peak_bytes(run) == 3 * 500 * 4


class Watched(torch.nn.Module):
    """A layer that remembers its map, what runs it, and which gradients it was given."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer, self.learnt = layer, 0
        for parameter in layer.parameters():
            parameter.register_post_accumulate_grad_hook(self._count)

    def _count(self, _: torch.Tensor) -> None:
        self.learnt += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.x, self.by = x, (torch.is_inference_mode_enabled(), torch.is_grad_enabled())
        if x.requires_grad and not self.learnt:
            x.register_post_accumulate_grad_hook(self._count)
        return self.layer(x)


def test_a_step_of_training_makes_the_gradients_of_all_weights_and_of_the_map_and_keeps_none() -> None:
    layer = Watched(bench.layers(toy(kv_stride=2))["ours"])
    x, signal = torch.randn(2, 2, 6, 5, 5)
    out = bench.cases._run(layer, x, signal, "training")()
    torch.testing.assert_close(out, layer.layer(x))
    assert layer.learnt == 1 + len(list(layer.parameters()))
    # What waited for the next call would be there before it, and be missing in its peak.
    assert all(each.grad is None for each in (layer.x, *layer.parameters()))


def test_at_inference_nothing_is_kept_for_a_way_back() -> None:
    layer = Watched(bench.layers(toy())["ours"])
    x = torch.randn(2, 6, 5, 5)
    bench.cases._run(layer, x, x, "inference")()
    assert layer.by == (True, False)
    assert not layer.x.requires_grad


@pytest.mark.parametrize("mode", bench.MODES)
def test_all_layers_run_in_the_mode_asked_and_on_the_same_map_in_either_format(mode: str) -> None:
    noted = []

    class Noting(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noted.append((self.training, x.detach(), self.weight.detach()))
            return super().forward(x)

    runs = bench.cases._runs({"a": Noting(6, 6, 3), "b": Noting(6, 6, 5)}, toy(), mode, 0)
    for name, run in runs.items():
        with contextlib.suppress(RuntimeError):  # the map that comes out is no map for the gradient
            run()
        training, *tensors = noted[-1]
        assert training == (mode == "training")
        kind = torch.channels_last if name.endswith("NHWC") else torch.contiguous_format
        assert all(each.is_contiguous(memory_format=kind) for each in tensors)
    assert all(torch.equal(x, noted[0][1]) for _, x, _ in noted)


def test_what_is_compared_has_the_same_weights_and_its_own_way_to_compute() -> None:
    shape = toy(kv_stride=2)
    ours = bench.layers(shape)["ours"].state_dict()
    found = bench.cases.further_layers(shape, "inference")
    blocks = found["our block"].state_dict(), found["timm's block"].state_dict()
    attn = {key.removeprefix("attn."): tensor for key, tensor in blocks[0].items() if key.startswith("attn.")}
    pairs = [(ours, attn), blocks] + [
        (ours, found[name].state_dict()) for name in ("article", "timm unfused")
    ]
    for one, other in pairs:
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
    assert not found["timm unfused"].fused_attn and bench.layers(shape)["timm"].fused_attn
    assert found["article"].defects == published.ALL


def test_both_memory_formats_hold_the_same_weights() -> None:
    shape = bench.Shape("toy", dim=6, height=5, width=7, num_heads=2, key_dim=3, kv_stride=2)
    runs = bench.candidates(shape)
    for name in ("ours", "timm", "multi-head"):
        difference = (runs[f"{name}, NCHW"]() - runs[f"{name}, NHWC"]()).abs().max()
        assert difference < 1e-5  # float32, sums of at most 12 terms
