"""Records hold what the layer computes, and draw it where the picture's pixels are."""

import numpy as np
import pytest
import torch
from torch import nn

from mqa_lib import MobileMQA, MultiHeadAttention2d
from mqa_lib.record import AttentionRecord, capture, entropy, reach

# float16 keeps 11 bits; scores of a few units are then off by thousandths, and so are the weights
TOLERANCE = 2e-3
CELL = 4


def network(attention: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, CELL, CELL), nn.BatchNorm2d(8))
    nn.init.normal_(stem[0].weight, std=0.3)
    return nn.Sequential(stem, attention)


def layer(**options) -> MobileMQA:
    torch.manual_seed(1)
    return MobileMQA(8, num_heads=3, key_dim=5, value_dim=7, **options)


def picture(height: int = 13 * CELL, width: int = 17 * CELL) -> np.ndarray:
    return np.random.RandomState(2).randint(0, 256, (height, width, 3)).astype(np.uint8)


def as_batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def taken() -> AttentionRecord:
    return capture(network(layer(kv_stride=2)), picture(), "Random weights.")[0]


@pytest.mark.parametrize(
    "options", [{}, {"kv_stride": 2}, {"kv_stride": 3}, {"query_strides": (2, 3), "kv_stride": 4}]
)
def test_weights_are_those_of_the_layer(options):
    model = network(layer(**options)).eval()
    expected = model[1].weights(model[0](as_batch(picture())))[0].detach().numpy()
    assert np.abs(capture(model, picture())[0].weights() - expected).max() < TOLERANCE


def test_weights_of_multi_head_attention_are_those_that_make_its_output():
    torch.manual_seed(1)
    model = network(MultiHeadAttention2d(8, num_heads=2, key_dim=5, value_dim=7)).eval()
    x = model[0](as_batch(picture()))
    weights = torch.from_numpy(capture(model, picture())[0].weights())
    values = model[1].value(x)[0].flatten(1).unflatten(0, (2, 7)).mT
    read = (weights @ values).mT.flatten(0, 1).unflatten(-1, x.shape[-2:])
    torch.testing.assert_close(model[1].output(read[None]), model[1](x), atol=20 * TOLERANCE, rtol=0)


@pytest.mark.parametrize("by", [1e6, 1e-7])
def test_activations_that_half_precision_cannot_hold_are_kept_with_their_weights(by):
    model = network(layer()).eval()
    expected = capture(model, picture())[0].weights()
    with torch.no_grad():
        model[1].query.proj.weight.mul_(by)
        model[1].key.proj.weight.div_(by)
    record = capture(model, picture())[0]
    assert np.isfinite(record.q).all() and record.scale != capture(network(layer()), picture())[0].scale
    assert np.abs(record.weights() - expected).max() < TOLERANCE


def test_activations_that_are_not_finite_are_refused_by_layer():
    model = network(layer())
    with torch.no_grad():
        model[1].key.proj.weight.mul_(float("inf"))
    with pytest.raises(ValueError, match=r"`k` \(=nan\).*not finite in the layer 1,.*look at its weights"):
        capture(model, picture())


def test_rows_sum_to_one(taken):
    np.testing.assert_allclose(taken.weights().sum(-1), 1, atol=1e-6)


def test_one_row_is_a_row_of_all_weights(taken):
    np.testing.assert_allclose(taken.row(19, 2), taken.weights()[2, 19], atol=1e-6)
    np.testing.assert_allclose(taken.rows(19).reshape(3, -1), taken.weights()[:, 19], atol=1e-6)


def test_one_head_is_a_part_of_all_weights(taken):
    np.testing.assert_array_equal(taken.weights(1)[0], taken.weights()[1])


def test_heads_differ(taken):
    assert np.abs(taken.weights()[0] - taken.weights()[1]).max() > 10 * TOLERANCE


def test_mobile_mqa_shares_its_keys_and_multi_head_attention_does_not(taken):
    other = capture(network(MultiHeadAttention2d(8, num_heads=2, key_dim=5)), picture())[0]
    assert (taken.shares_keys, other.shares_keys) == (True, False)


def test_grids_are_those_of_queries_and_of_down_sampled_keys(taken):
    assert (taken.query_grid, taken.key_grid) == ((13, 17), (7, 9))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"kv_stride": 2}, 13),
        ({"kv_stride": 3}, 13),
        ({"kv_stride": 4}, 13),
        ({"kv_stride": 2, "dw_kernel_size": 5}, 13),
        ({"kv_stride": 2, "padding": "same"}, 12),  # pads one side only where the extent is even
        ({"kv_stride": 3, "padding": "same", "dw_kernel_size": 5}, 14),
    ],
)
@pytest.mark.parametrize("pixel", [(0, 0), (29, 41), (47, 67), (30, 3)])
def test_a_changed_pixel_moves_the_keys_whose_footprint_holds_it_and_no_others(options, rows, pixel):
    model = network(layer(**options))
    before, changed = picture(rows * CELL), picture(rows * CELL)
    changed[pixel] = 255 - changed[pixel]
    one, two = (capture(model, image)[0] for image in (before, changed))
    moved = set(np.flatnonzero(np.abs(one.k.astype(float) - two.k).max(axis=(0, 2)) > 0))
    feet = [one.footprint(key) for key in range(one.k.shape[1])]
    held = {
        key for key, f in enumerate(feet) if f.top <= pixel[0] < f.bottom and f.left <= pixel[1] < f.right
    }
    assert moved == held


@pytest.mark.parametrize("options", [{}, {"query_strides": (2, 3), "padding": "same"}])
@pytest.mark.parametrize("pixel", [(0, 0), (29, 41), (51, 67)])
def test_a_changed_pixel_moves_the_query_whose_cell_holds_it_and_no_other(options, pixel):
    model = network(layer(kv_stride=2, **options))
    changed = picture()
    changed[pixel] = 255 - changed[pixel]
    one, two = (capture(model, image)[0] for image in (picture(), changed))
    moved = np.flatnonzero(np.abs(one.q.astype(float) - two.q).max(axis=(0, 2)))
    assert list(moved) == [one.query_at(*pixel)]


def test_the_cell_of_a_query_holds_the_pixels_that_name_it(taken):
    for query in range(13 * 17):
        top, left, bottom, right = map(int, taken.query_cell_of(query))
        assert {taken.query_at(row, column) for row in (top, bottom - 1) for column in (left, right - 1)} == {
            query
        }


def test_uniform_weights_have_the_entropy_of_a_uniform_distribution(taken):
    assert entropy(np.full((2, 64), 1 / 64)) == pytest.approx([6, 6])
    assert taken.uniform_entropy == pytest.approx(np.log2(63))
    assert taken.entropy().shape == (3, 221)
    assert taken.entropy().max() <= taken.uniform_entropy + 1e-6


def test_weights_on_one_key_have_no_entropy():
    assert entropy(np.array([0.0, 1.0, 0.0])) == 0


def test_top_lists_the_strongest_keys_in_falling_order(taken):
    readings, row = taken.top(100, 1, 5), taken.row(100, 1)
    assert [reading.key for reading in readings] == list(np.argsort(row)[::-1][:5])
    assert all(reading.share == row[reading.row * 9 + reading.column] for reading in readings)


def test_a_record_comes_back_from_its_file_unchanged(taken, tmp_path):
    back = AttentionRecord.load(taken.save(tmp_path / "one.npz"))
    for name in ("q", "k", "image"):
        np.testing.assert_array_equal(getattr(back, name), getattr(taken, name))
    rest = [name for name in vars(taken) if name not in ("q", "k", "image")]
    assert {name: getattr(back, name) for name in rest} == {name: getattr(taken, name) for name in rest}


def test_capture_finds_layers_at_any_depth_in_the_order_in_which_they_run():
    inner = nn.Sequential(
        MultiHeadAttention2d(8, num_heads=2, key_dim=5), nn.ModuleDict({"deep": layer()})["deep"]
    )
    records = capture(nn.Sequential(network(layer(kv_stride=2)), inner), picture())
    assert [record.layer for record in records] == ["0.1", "1.0", "1.1"]
    assert [record.kind for record in records] == ["Mobile MQA", "multi-head attention", "Mobile MQA"]


def test_capture_leaves_mode_and_statistics_as_they_were():
    model = network(layer(kv_stride=2)).train()
    model[1].key.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    capture(model, picture())
    assert model.training and model[0].training and not model[1].key.norm.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_capture_keeps_the_last_run_of_a_layer_that_runs_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(layer())

        def forward(self, x):
            return self.inner(x * 0), self.inner(x)

    torch.testing.assert_close(capture(Twice(), picture())[0].q, capture(network(layer()), picture())[0].q)


def test_what_the_weights_are_comes_from_the_caller_else_from_the_model_else_is_said_to_be_unknown():
    model = network(layer())
    unsaid = capture(model, picture())[0].weights_are
    model.weights_are = "Trained on nothing."
    assert capture(model, picture())[0].weights_are == "Trained on nothing."
    assert capture(model, picture(), "Random.")[0].weights_are == "Random."
    assert "Nobody said" in unsaid


def test_a_layer_that_ran_in_half_precision_is_recorded_too():
    record = capture(network(layer(kv_stride=2)).bfloat16(), picture())[0]
    np.testing.assert_allclose(record.weights().sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("key", [0, 31, 62])
def test_a_key_knows_of_just_its_footprint_where_cells_do_not_overlap(key):
    model = network(layer(kv_stride=2))
    assert reach(model, picture(), "1", key) == capture(model, picture())[0].footprint(key)


def test_a_key_knows_of_more_where_the_cells_before_it_overlap():
    model = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), layer(kv_stride=2))
    top, left, bottom, right = reach(model, picture(), "1", 31)  # row 3, column 4: cells 5…7 and 7…9
    assert (top, left, bottom, right) == (5 * 4 - 3, 7 * 4 - 3, 7 * 4 + 4, 9 * 4 + 4)


STEMS = {
    "the probe's": [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 3, 1), nn.Conv2d(8, 8, 3, 1, 1)],
    "a chain of stride 2": [nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)],
    "pooled": [nn.Conv2d(3, 8, 7, 2, 3), nn.AvgPool2d(2)],
    "without padding": [nn.Conv2d(3, 8, 5, 3)],
    "dilated": [nn.Conv2d(3, 8, 3, 2, padding=2, dilation=2)],
}


def middle_of(part) -> list[float]:
    return [(part.top + part.bottom) / 2, (part.left + part.right) / 2]


def stemmed(name: str, **options) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(*STEMS[name]), layer(**options))


@pytest.mark.parametrize("name", STEMS)
def test_a_query_is_centred_on_what_its_cell_of_the_map_sees(name):
    model, record = stemmed(name), capture(stemmed(name), picture())[0]
    x = as_batch(picture()).requires_grad_()
    row, column = (extent // 2 for extent in record.query_grid)
    model[0](x)[0, :, row, column].abs().sum().backward()
    _, rows, columns = x.grad[0].nonzero().T
    seen = [float(at.min() + at.max() + 1) / 2 for at in (rows, columns)]
    assert middle_of(record.query_cell_of(row * record.query_grid[1] + column)) == seen


@pytest.mark.parametrize("name", STEMS)
def test_a_key_is_centred_on_what_it_knows_of(name):
    model = stemmed(name, kv_stride=2)
    record = capture(model, picture())[0]
    rows, columns = record.key_grid
    key = rows // 2 * columns + columns // 2
    known = middle_of(reach(model, picture(), "1", key))
    assert middle_of(record.footprint(key)) == known == list(record.key_centres()[key])


def test_with_padded_convolutions_of_stride_2_cell_i_has_pixel_stride_times_i_in_its_middle():
    record = capture(stemmed("a chain of stride 2"), picture())[0]
    for row, column in ((0, 0), (5, 3), (12, 16)):
        query = row * 17 + column
        assert record.query_at(4 * row, 4 * column) == query
        if row and column:
            assert middle_of(record.query_cell_of(query)) == [4 * row + 0.5, 4 * column + 0.5]


def test_cells_of_a_stretched_picture_are_stretched_with_it():
    as_it_is = capture(stemmed("the probe's"), picture(66, 66))[0]
    doubled = capture(stemmed("the probe's"), picture(132, 132), size=66)[0]
    assert [2 * at for at in middle_of(as_it_is.query_cell_of(60))] == middle_of(doubled.query_cell_of(60))


def test_where_nothing_is_known_of_the_map_its_cells_share_the_picture_out_evenly():
    class Halved(nn.Module):
        def forward(self, x):
            return x[..., ::2, ::2]

    record = capture(nn.Sequential(Halved(), nn.Conv2d(3, 8, 1), layer()), picture())[0]
    assert (record.query_origin, record.query_cell) == ((0, 0), (2, 2))


def test_a_record_with_shifted_cells_keeps_them_in_its_file(tmp_path):
    record = capture(stemmed("the probe's", kv_stride=2), picture())[0]
    back = AttentionRecord.load(record.save(tmp_path / "one.npz"))
    assert back.query_origin == record.query_origin == (-2.5, -2.5)
    assert back.footprint(14) == record.footprint(14)
