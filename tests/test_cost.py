"""The closed forms equal what the layers own and what torch counts while they run."""

import math
from unittest import mock

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from mqa_lib import MobileMQA, MultiHeadAttention2d, cost
from mqa_lib.published import PublishedMQA

MOBILE = st.fixed_dictionaries(
    {
        "dim": st.sampled_from([2, 5, 11]),
        "num_heads": st.sampled_from([1, 2, 3]),
        "key_dim": st.sampled_from([1, 3, 7]),
        "value_dim": st.sampled_from([1, 5, 13]),
        "query_strides": st.sampled_from([1, 2, (1, 3), (3, 2)]),
        "kv_stride": st.sampled_from([1, 2, 3, 4]),
        "dw_kernel_size": st.sampled_from([1, 3, 5]),
        "dim_out": st.sampled_from([None, 17]),
    }
)
SIZES = st.tuples(st.integers(1, 23), st.integers(1, 19))
# The defaults of a layer in MobileNetV4-hybrid-medium, on a map whose sides differ.
LAYER = {"dim": 160, "height": 13, "width": 17, "num_heads": 4, "key_dim": 64}


def counted_macs(layer: torch.nn.Module, dim: int, height: int, width: int) -> int:
    # Before 2.15 torch knows no formula for the fused kernel of a CPU and counts nothing for it. Mobile MQA is counted
    # on its other path: before the fused kernel zeros are added where key_dim and value_dim differ.
    by_convolutions = mock.patch("mqa_lib.kernels.way", return_value="convolutions")
    with (
        by_convolutions,
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
        torch.no_grad(),
    ):
        layer.eval()(torch.zeros(1, dim, height, width))
    return counter.get_total_flops() // 2


def owned(layer: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())


@settings(max_examples=60, deadline=None)
@given(MOBILE, SIZES)
def test_mobile_mqa_costs_what_torch_counts_for_any_layer_and_map(layer: dict, size: tuple[int, int]) -> None:
    built, price = MobileMQA(**layer), cost.mobile_mqa(height=size[0], width=size[1], **layer)
    assert price.params == owned(built)
    assert price.macs == counted_macs(built, layer["dim"], *size)


@settings(max_examples=20, deadline=None)
@given(SIZES, st.sampled_from([1, 2, 3]), st.sampled_from([1, 7]), st.sampled_from([2, 5]))
def test_multi_head_costs_what_torch_counts(
    size: tuple[int, int], heads: int, key_dim: int, value_dim: int
) -> None:
    built = MultiHeadAttention2d(11, heads, key_dim, value_dim)
    price = cost.multi_head(11, *size, heads, key_dim, value_dim)
    assert (price.params, price.macs) == (owned(built), counted_macs(built, 11, *size))


def test_torchs_counter_sees_the_fused_kernel_of_a_cpu_only_if_it_knows_its_formula() -> None:
    q, kv = torch.zeros(1, 1, 4 * 16 * 16, 64), torch.zeros(1, 1, 8 * 8, 64)
    counted = {}
    for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(kernel), torch.no_grad():
            torch.nn.functional.scaled_dot_product_attention(q, kv, kv)
        counted[kernel] = counter.get_total_flops() // 2
    price = cost.mobile_mqa(160, 16, 16, 4, 64, 64, kv_stride=2)
    expected = price.score_macs + price.value_macs
    knows = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu in flop_registry  # torch 2.15 does
    assert counted == {SDPBackend.MATH: expected, SDPBackend.FLASH_ATTENTION: expected if knows else 0}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 13), st.sampled_from([1, 2]), st.sampled_from([3, 5]), st.sampled_from([1, 3]))
def test_the_articles_layer_costs_what_mobile_mqa_with_values_as_wide_as_keys_costs(
    side: int, kv_stride: int, kernel: int, heads: int
) -> None:
    layer = PublishedMQA(11, heads, 7, kv_stride=kv_stride, dw_kernel_size=kernel)
    price = cost.mobile_mqa(11, side, side, heads, 7, 7, kv_stride=kv_stride, dw_kernel_size=kernel)
    assert (price.params, price.macs) == (owned(layer), counted_macs(layer, 11, side, side))


def moved_by(module: torch.nn.Module, *kinds: type, shape: tuple[int, ...]) -> int:
    """Return the bytes that modules of some kinds read and write when `module` runs: no closed form, just shapes."""
    sizes: list[int] = []

    def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        sizes.append(inputs[0].nbytes + output.nbytes)

    for part in module.modules():
        if isinstance(part, kinds):
            part.register_forward_hook(note)
    with torch.no_grad():
        module.eval()(torch.zeros(shape))
    return sum(sizes)


@settings(max_examples=40, deadline=None)
@given(MOBILE, st.integers(1, 7), st.integers(1, 5))
def test_bytes_are_those_that_move_through_the_modules_of_timms_layer(
    layer: dict, rows: int, columns: int
) -> None:
    strides = layer["query_strides"]
    down, across = (strides, strides) if isinstance(strides, int) else strides
    size = rows * down, columns * across  # timm wants a map that the query strides divide
    theirs = timm.layers.MultiQueryAttention2d(**{**layer, "query_strides": (down, across)})
    parts = torch.nn.Conv2d, torch.nn.AvgPool2d, torch.nn.Upsample  # norms fold into what follows
    through = moved_by(theirs, *parts, shape=(1, layer["dim"], *size))
    price = cost.mobile_mqa(height=size[0], width=size[1], **layer)
    queries, keys = (
        rows * columns,
        math.prod(cost.key_grid(*size, layer["kv_stride"], layer["dw_kernel_size"])),
    )
    head = layer["key_dim"] + layer["value_dim"]
    kernel = (
        4 * (queries * layer["num_heads"] + keys) * head
    )  # q, k and v are read, what they make is written
    assert price.activation_bytes == through + kernel
    half = cost.mobile_mqa(height=size[0], width=size[1], **layer, bytes_per_number=2)
    assert 2 * half.activation_bytes == price.activation_bytes


def test_the_articles_table_leaves_out_a_hundred_times_what_it_prints_for_its_attention() -> None:
    stages = {160: 3, 80: 4, 40: 6, 20: 3}  # cells a side at 640 px, and blocks
    dims = dict(zip(stages, (64, 128, 256, 512), strict=True))
    scores = projections = 0
    for side, blocks in stages.items():
        price = cost.mobile_mqa(dims[side], side, side, 2, 48, 48)
        scores += blocks * (price.score_macs + price.value_macs)
        projections += blocks * price.projection_macs
    assert scores > 100 * projections


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize("kv_stride", [1, 2, 3, 4])
@pytest.mark.parametrize("query_strides", [1, (2, 3)])
def test_the_grids_are_those_of_the_layer(
    kv_stride: int, query_strides: int | tuple[int, int], padding: str
) -> None:
    layer = MobileMQA(
        2, num_heads=1, query_strides=query_strides, kv_stride=kv_stride, padding=padding
    ).eval()
    q, k = layer.queries_and_keys(torch.zeros(1, 2, 13, 17))
    assert q.shape[2] == math.prod(cost.query_grid(13, 17, query_strides))
    assert k.shape[2] == math.prod(cost.key_grid(13, 17, kv_stride, padding=padding))


def test_the_score_matrix_is_as_large_as_the_weights_that_the_layer_returns() -> None:
    layer = MobileMQA(6, num_heads=2, key_dim=3, kv_stride=2).eval()
    weights = layer.weights(torch.zeros(1, 6, 13, 17))
    price = cost.mobile_mqa(6, 13, 17, num_heads=2, key_dim=3, kv_stride=2)
    assert price.score_bytes == weights.numel() * weights.element_size()


def test_the_steps_add_up_to_the_whole() -> None:
    price = cost.mobile_mqa(**LAYER, kv_stride=2, query_strides=2)
    assert sum(price.by_kind().values()) == price.macs
    assert price.macs == price.projection_macs + price.reduction_macs + price.score_macs + price.value_macs


def test_the_steps_of_a_small_layer_are_those_counted_by_hand() -> None:
    price = cost.mobile_mqa(dim=5, height=2, width=3, num_heads=2, key_dim=3, value_dim=7)
    projections = 6 * (5 * 6) + 6 * (5 * 3) + 6 * (5 * 7) + 6 * (14 * 5)  # q, k, v, output over 6 pixels
    assert list(price.by_kind().values()) == [projections, 0, 2 * 6 * 6 * 3, 2 * 6 * 6 * 7]
    tokens = 6 * (5 + 6) + 6 * (5 + 3) + 6 * (5 + 7) + 6 * (14 + 5) + 6 * (6 + 3) + 6 * (14 + 7)
    assert price.activation_bytes == 4 * tokens


def test_multi_query_is_mobile_mqa_that_reduces_nothing() -> None:
    assert cost.multi_query(**LAYER) == cost.mobile_mqa(**LAYER, kv_stride=1)


def test_one_head_costs_the_same_shared_or_not() -> None:
    one = {**LAYER, "num_heads": 1}
    assert cost.multi_query(**one) == cost.multi_head(**one)


def test_sharing_divides_key_and_value_bytes_by_the_heads_and_leaves_scores_alone() -> None:
    separate, shared = cost.multi_head(**LAYER), cost.multi_query(**LAYER)
    assert separate.key_value_bytes == 4 * shared.key_value_bytes
    assert (separate.score_macs, separate.score_bytes) == (shared.score_macs, shared.score_bytes)


def test_stride_two_makes_the_scores_of_an_even_map_four_times_smaller() -> None:
    even = {**LAYER, "height": 14, "width": 26}
    assert (
        cost.mobile_mqa(**even, kv_stride=1).score_bytes
        == 4 * cost.mobile_mqa(**even, kv_stride=2).score_bytes
    )


def test_side_by_side_are_the_three_layers_of_one_size() -> None:
    sizes = {**LAYER, "value_dim": 64, "bytes_per_number": 1}
    three = cost.multi_head(**sizes), cost.multi_query(**sizes), cost.mobile_mqa(**sizes, kv_stride=3)
    assert tuple(cost.side_by_side(**LAYER, kv_stride=3, bytes_per_number=1).values()) == three


def test_two_layers_cost_their_sum() -> None:
    first, second = cost.multi_query(**LAYER), cost.mobile_mqa(**LAYER, kv_stride=2)
    both = first + second
    for name in ("params", "macs", "weight_bytes", "activation_bytes", "score_bytes", "key_value_bytes"):
        assert getattr(both, name) == getattr(first, name) + getattr(second, name)


def test_half_precision_halves_every_byte_and_no_mac() -> None:
    full, half = cost.mobile_mqa(**LAYER), cost.mobile_mqa(**LAYER, bytes_per_number=2)
    assert full.macs == half.macs
    for name in ("weight_bytes", "activation_bytes", "score_bytes", "key_value_bytes"):
        assert getattr(full, name) == 2 * getattr(half, name)


def test_a_machine_that_only_lacks_arithmetic_takes_the_macs_and_one_that_only_lacks_memory_the_bytes() -> (
    None
):
    price = cost.mobile_mqa(**LAYER, kv_stride=2)
    assert cost.seconds(price, 1e9, 1e30) == pytest.approx(price.macs / 1e9)
    moved = price.weight_bytes + price.activation_bytes
    assert cost.seconds(price, 1e30, 1e9) == pytest.approx(moved / 1e9)
    with_scores = cost.seconds(price, 1e30, 1e9, scores_in_memory=True)
    assert with_scores == pytest.approx((moved + 2 * price.score_bytes) / 1e9)


def test_no_roofline_is_faster_than_its_arithmetic_or_its_memory_alone() -> None:
    price = cost.multi_head(**LAYER)
    estimate = cost.seconds(price, 3e9, 1e9)
    assert estimate >= price.macs / 3e9
    assert estimate >= (price.weight_bytes + price.activation_bytes) / 1e9


def test_at_the_ridge_point_arithmetic_and_memory_take_equally_long() -> None:
    assert cost.ridge_point(6e12, 2e10) == 300.0


@pytest.mark.parametrize(("count", "decimal", "binary"), [(7, "7", "7 B"), (1536, "1.5 k", "1.5 KiB")])
def test_large_numbers_are_written_with_a_unit(count: int, decimal: str, binary: str) -> None:
    assert (cost.in_thousands(count), cost.in_bytes(count)) == (decimal, binary)


def test_the_score_matrices_of_a_stride_four_map_at_640_px_fill_gibibytes() -> None:
    price = cost.multi_query(256, 160, 160, num_heads=2, key_dim=48)
    assert cost.in_bytes(price.score_bytes) == "4.9 GiB"


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("extent", [13, 14])
def test_a_key_is_centred_where_the_middle_of_its_filter_lies(
    stride: int, size: int, padding: str, extent: int
) -> None:
    layer = MobileMQA(1, num_heads=1, kv_stride=stride, dw_kernel_size=size, padding=padding).eval()
    if stride > 1:
        torch.nn.init.dirac_(layer.key.down_conv.weight)  # passes on what lies under the middle
    torch.nn.init.ones_(layer.key.proj.weight)
    rows = torch.arange(float(extent))[:, None].expand(1, 1, extent, 17)
    _, keys = layer.queries_and_keys(rows)
    seen = keys.unflatten(2, cost.key_grid(extent, 17, stride, size, padding))[0, 0, :, 1, 0]
    for index, row in enumerate(seen.tolist()):
        centre = cost.key_centre(index, stride, size, padding, extent)
        expected = centre if 0 <= centre < extent else 0  # beyond the border lie zeros
        assert row == pytest.approx(expected, rel=1e-4)  # the untrained norm divides by sqrt(1 + eps)
    if padding == "":
        assert cost.key_centre(1, stride, size) == cost.key_centre(1, stride, size, padding, extent)


def test_a_batch_costs_its_pictures_and_its_weights_once() -> None:
    one = cost.mobile_mqa(**LAYER, kv_stride=2)
    many = one.for_batch(7)
    assert (many.macs, many.activation_bytes, many.score_bytes) == tuple(
        7 * each for each in (one.macs, one.activation_bytes, one.score_bytes)
    )
    assert (many.params, many.weight_bytes) == (one.params, one.weight_bytes)
    assert one.macs_per_byte < many.macs_per_byte < 7 * one.macs_per_byte
    assert many.bytes_moved(scores_in_memory=True) - many.bytes_moved() == 7 * (
        one.bytes_moved(scores_in_memory=True) - one.bytes_moved()
    )
    assert one.for_batch(1) == one


def test_a_devices_ridge_is_its_peak_by_its_bandwidth_or_what_is_published() -> None:
    assert cost.DEVICES["NVIDIA T4"].ridge(4) == pytest.approx(8.1e12 / 2 / 320e9)
    assert cost.DEVICES["Pixel 8 EdgeTPU"].ridge(1) == 433.8
    assert cost.Device("a machine", "a source", {4: 6e12, 1: 24e12}, 2e10).formats == (4, 1)
