"""Both ways to compute attention with shared keys give the specification's result, in memory linear in the queries."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from mqa_lib import MobileMQA, functional, kernels, timing

WAYS = kernels._WAYS


def tokens(batch=3, rows=23, keys=19, key_dim=5, value_dim=7, dtype=torch.float32):
    return [
        torch.randn(batch, count, size, dtype=dtype, requires_grad=True)
        for count, size in ((rows, key_dim), (keys, key_dim), (keys, value_dim))
    ]


def expected(q, k, v):
    return functional.attend(q[:, None], k[:, None], v[:, None])[:, 0]


def gradients(read, inputs):
    out = read(*inputs)
    signal = torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)
    return out, *torch.autograd.grad(out, inputs, signal)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", [{}, {"value_dim": 3}, {"value_dim": 5}, {"rows": 1, "keys": 1}], ids=str)
def test_both_ways_give_values_and_gradients_of_the_specification(way, sizes):
    inputs = tokens(dtype=torch.float64, **sizes)
    found = gradients(lambda *given: WAYS[way](*given, 0.0), inputs)
    torch.testing.assert_close(found, gradients(expected, inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("limits", [{"BLOCK": 57}, {"BLOCK": 57, "KEPT": 1}, {"KEPT": 1}], ids=str)
def test_blocks_of_queries_and_scores_computed_twice_change_nothing(limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(kernels, name, value)
    inputs = tokens(dtype=torch.float64)
    found = gradients(lambda *given: kernels._by_convolutions(*given, 0.0), inputs)
    torch.testing.assert_close(found, gradients(expected, inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [1, 2**23], ids=["computed twice", "kept"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("learning", range(3), ids=["queries", "keys", "values"])
def test_where_the_others_are_frozen_each_gets_its_own_gradient(learning, way, kept, monkeypatch):
    monkeypatch.setattr(kernels, "KEPT", kept)
    monkeypatch.setattr(kernels, "BLOCK", 57)
    inputs = [
        each.requires_grad_(place == learning) for place, each in enumerate(tokens(dtype=torch.float64))
    ]
    signal = torch.randn(3, 23, 7, dtype=torch.float64)
    found, right = (
        torch.autograd.grad(read(*inputs), inputs[learning], signal)
        for read in (lambda *given: WAYS[way](*given, 0.0), expected)
    )
    torch.testing.assert_close(found, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kept", "twice"), [(3 * 23 * 19, 0), (3 * 23 * 19 - 1, 3)])
def test_the_scores_of_all_pictures_together_decide_whether_they_are_kept(kept, twice, monkeypatch):
    monkeypatch.setattr(kernels, "KEPT", kept)
    seen, block = [], kernels._block
    monkeypatch.setattr(kernels, "_block", lambda *given: seen.append(1) or block(*given))
    kernels._by_convolutions(*tokens(), 0.0).sum().backward()
    assert len(seen) == 3 + twice


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("learns", [False, True])
def test_dropout_drops_its_share_of_the_weights_and_scales_up_the_rest(way, learns):
    q, k = torch.zeros(1, 4001, 5, requires_grad=learns), torch.zeros(1, 7, 5)
    weights = WAYS[way](
        q, k, torch.eye(7)[None], 0.25
    )  # every query weighs 7 keys alike; values tell them apart
    kept = weights > 0
    torch.testing.assert_close(weights[kept], torch.full_like(weights[kept], 1 / 7 / 0.75))
    assert 1 - kept.float().mean().item() == pytest.approx(0.25, abs=0.02)  # eight standard deviations


def test_while_derivatives_run_forwards_the_fused_way_is_taken():
    with torch.autograd.forward_ad.dual_level():
        assert kernels.way(*given(4096, 64)) == "fused"


@pytest.mark.parametrize("kept", [1, 2**23], ids=["computed twice", "kept"])
def test_dropout_keeps_the_mean_and_drops_the_same_weights_on_the_way_back(kept, monkeypatch):
    monkeypatch.setattr(kernels, "KEPT", kept)
    q, k, v = (each.detach() for each in tokens(batch=1, rows=4001, keys=7))
    q = q[:, :1].expand(-1, 4001, -1).contiguous()
    v.requires_grad_()
    out = kernels._by_convolutions(q, k, v, 0.5)
    torch.testing.assert_close(out.mean(1), expected(q[:, :1], k, v)[:, 0], rtol=0, atol=0.05)
    # The output is linear in the values: with the same weights dropped, gradient · values is the output again.
    (grad,) = torch.autograd.grad(out.sum(), v)
    torch.testing.assert_close((grad * v).sum(), out.sum(), rtol=1e-4, atol=1e-2)


def given(rows, keys, batch=1, dtype=torch.float32, train=False):
    q, kv = (
        torch.empty(batch, rows, 64, dtype=dtype, requires_grad=train),
        torch.empty(batch, keys, 64, dtype=dtype),
    )
    return q, kv, kv


@pytest.fixture
def threads():
    """Set the number of threads, and put it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.skipif(not kernels._X86, reason="elsewhere there is one way only")
def test_on_one_thread_the_fused_way_is_taken_but_for_dropout(threads):
    threads(1)
    assert kernels.way(*given(4096, 64)) == kernels.way(*given(4096, 64, train=True)) == "fused"
    assert kernels.way(*given(4096, 1), dropout=0.1) == "convolutions"


@pytest.mark.skipif(not kernels._X86, reason="elsewhere there is one way only")
def test_the_way_is_chosen_by_the_number_of_scores_and_by_what_is_asked(threads):
    threads(2)
    assert kernels.way(*given(4096, 32)) == "convolutions"
    assert kernels.way(*given(4096, 31)) == "fused"
    assert (
        kernels.way(*given(4096, 31, train=True)) == kernels.way(*given(4096, 63, train=True)) == "products"
    )
    assert kernels.way(*given(4096, 64, train=True)) == "convolutions"
    assert kernels.way(*given(4096, 1), dropout=0.1) == "convolutions"
    assert kernels.way(*given(4096, 63, batch=65, train=True)) == "convolutions"  # too many to keep
    with torch.no_grad():
        assert kernels.way(*given(4096, 31, train=True)) == "fused"
    for dtype in (torch.float64, torch.bfloat16):
        assert kernels.way(*given(4096, 64, dtype=dtype)) == "fused"


@pytest.mark.parametrize("side", [16, 48], ids=["fused", "convolutions"])
def test_the_layer_gives_the_specification_on_both_sides_of_the_choice(side, threads):
    threads(2)
    layer = MobileMQA(11, num_heads=3, key_dim=13, value_dim=7, kv_stride=2).eval()
    x = torch.randn(2, 11, side, side - 3)
    chosen = kernels.way(*given(3 * side * (side - 3), side // 2 * ((side - 2) // 2)))
    assert (chosen == "convolutions") == (side == 48 and kernels._X86)
    exact = functional.mobile_mqa(
        x.double(), {n: t.double() for n, t in layer.state_dict().items()}, 3, kv_stride=2
    )
    torch.testing.assert_close(layer(x), exact.float(), rtol=0, atol=2e-6)


def events(layer, x):
    with torch.inference_mode():
        layer(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            layer(x)
    return seen


def copied(seen):
    """How many numbers were copied by operations that only copy."""
    return {
        e.key: e.count
        for e in seen.key_averages()
        if e.key in ("aten::clone", "aten::contiguous", "aten::cat")
    }


def test_in_channels_last_nothing_is_copied_on_the_fused_way():
    layer = MobileMQA(160, num_heads=4, key_dim=64, value_dim=64, kv_stride=2).to(
        memory_format=torch.channels_last
    )
    x = torch.randn(1, 160, 16, 16).contiguous(memory_format=torch.channels_last)
    assert copied(events(layer.eval(), x)) == {}


def test_the_counter_of_copies_sees_those_of_another_memory_format():
    layer = MobileMQA(160, num_heads=4, key_dim=64, value_dim=64, kv_stride=2)
    assert (
        copied(events(layer.eval(), torch.randn(1, 160, 16, 16)))["aten::clone"] == 4
    )  # q, k, v and what was read


def most_bytes(layer, side):
    x = torch.randn(1, 8, side, 13).contiguous(memory_format=torch.channels_last)
    held = most = 0
    for event in events(layer, x).profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_training_holds_a_few_blocks_of_scores_and_one_gradient_of_keys_and_values(monkeypatch):
    monkeypatch.setattr(kernels, "KEPT", 1)
    q, k, v = tokens(batch=1, rows=4001, keys=499, key_dim=3, value_dim=7)

    def step():
        q.grad = k.grad = v.grad = None
        kernels._by_convolutions(q, k, v, 0.0).backward(torch.ones(1, 4001, 7))
        q.grad = k.grad = v.grad = None

    held = []
    for blocks in (40, 200):
        monkeypatch.setattr(kernels, "BLOCK", 4001 * 499 // blocks)
        held.append(timing.peak_bytes(step))
    linear = 4 * (4001 + 499) * (3 + 7)  # bytes of all that is read and written
    assert held[1] < held[0] < 4 * linear + 8 * 4 * 4001 * 499 // 40


def test_memory_grows_linearly_with_the_queries():
    layer = MobileMQA(8, num_heads=2, key_dim=8, value_dim=8, kv_stride=4).eval()
    small, large = most_bytes(layer, 401), most_bytes(layer, 1601)
    assert large < 4.2 * small  # with all scores in memory it would be 16 times as much


def test_heads_of_another_value_size_stay_on_the_fused_kernel():
    for sizes in ((5, 11), (11, 5)):
        layer = MobileMQA(8, num_heads=2, key_dim=sizes[0], value_dim=sizes[1]).eval()
        keys = {e.key for e in events(layer, torch.randn(1, 8, 7, 5)).key_averages()}
        assert "aten::_scaled_dot_product_flash_attention_for_cpu" in keys


def test_whoever_watches_functions_sees_attention_and_not_how_it_is_computed():
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    q = torch.randn(1, 2048, 64)
    with Watch():
        kernels.read(q, q[:, :64], q[:, :64])
    assert torch.nn.functional.scaled_dot_product_attention in seen
