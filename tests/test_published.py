"""The article's layer computes what the article's does, and each of its mistakes can be made alone."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from mqa_lib import MobileMQA, functional, kernels, published
from mqa_lib.published import ALL, NONE, Defect, PublishedMQA

DIM, HEADS, KEY_DIM, VALUE_DIM, SIDE = 5, 2, 11, 7, 13
MIXABLE = (Defect.QUERY_LAYOUT, Defect.VALUE_LAYOUT, Defect.OUTPUT_LAYOUT, Defect.SCALE)
MIXTURES = [
    NONE | Defect(sum(d.value for d, on in zip(MIXABLE, bits, strict=True) if on))
    for bits in product([False, True], repeat=len(MIXABLE))
]


def mobile(**options):
    torch.manual_seed(3)
    sizes = {"num_heads": HEADS, "key_dim": KEY_DIM, "value_dim": KEY_DIM, **options}
    layer = MobileMQA(DIM, **sizes).double()
    for name, tensor in layer.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return layer.eval()


def picture(height=SIDE, width=SIDE, batch=3):
    torch.manual_seed(height + width)
    return torch.randn(batch, DIM, height, width, dtype=torch.float64)


def projected(x, layer, name):
    # batch × numbers, each map's numbers in the order of a row-major memory: channel by channel, pixel by pixel
    state = layer.state_dict()
    if name != "query" and layer.kv_stride > 1:
        x = functional.spatial_reduction(x, state[f"{name}.down_conv.weight"], layer.kv_stride)
        x = functional.normalise(x, state, f"{name}.norm", 1e-5)
    weight = state[f"{name}.proj.weight"][:, :, 0, 0].numpy()
    return np.einsum("bdyx,od->boyx", x.numpy(), weight).reshape(len(x), -1)


def addresses(rule, *shape):
    return np.fromfunction(rule, shape, dtype=int)


def restated(x, layer, defects):
    """Return the layer's output from the addresses of its numbers: nothing is viewed, turned or fused."""
    q, k, v = (projected(x, layer, name) for name in ("query", "key", "value"))
    heads, k_dim, v_dim, n = layer.num_heads, layer.key_dim, layer.value_dim, x.shape[2] * x.shape[3]
    m = k.shape[1] // k_dim
    q_at = addresses(lambda h, i, c: (h * k_dim + c) * n + i, heads, n, k_dim)
    if Defect.QUERY_LAYOUT in defects:
        q_at = addresses(lambda h, i, c: (h * n + i) * k_dim + c, heads, n, k_dim)
    v_at = addresses(lambda j, c: c * m + j, m, v_dim)
    if Defect.VALUE_LAYOUT in defects:
        v_at = addresses(lambda j, c: j * v_dim + c, m, v_dim)
    k_at = addresses(lambda j, c: c * m + j, m, k_dim)
    scores = np.exp(q[:, q_at] @ k[:, k_at][:, None].swapaxes(2, 3) / scale_of(layer, defects))
    read = (scores / scores.sum(-1, keepdims=True)) @ v[:, v_at][:, None]  # batch head query channel
    out_at = addresses(lambda h, i, c: (h * v_dim + c) * n + i, heads, n, v_dim)
    if Defect.OUTPUT_LAYOUT in defects:
        out_at = addresses(lambda h, i, c: (h * n + i) * v_dim + c, heads, n, v_dim)
    memory = np.empty((len(x), heads * n * v_dim))
    memory[:, out_at] = read
    weight = layer.state_dict()["output.proj.weight"][:, :, 0, 0].numpy()
    return (weight @ memory.reshape(len(x), -1, n)).reshape(len(x), -1, *x.shape[2:])


def scale_of(layer, defects):
    return np.sqrt(layer.key_dim // layer.num_heads if Defect.SCALE in defects else layer.key_dim)


@torch.no_grad()
@pytest.mark.parametrize("kv_stride", [1, 2])
def test_with_all_defects_it_computes_what_the_article_computes(kv_stride):
    layer = published.twin(mobile(kv_stride=kv_stride))
    torch.testing.assert_close(layer(picture()), torch.from_numpy(restated(picture(), layer, ALL)))


@pytest.mark.parametrize("defects", MIXTURES, ids=published.names)
def test_in_blocks_it_gives_the_same_numbers_and_gradients(defects):
    layer, x = published.twin(mobile(kv_stride=2), defects).train(), picture().requires_grad_()
    plain = layer(x)
    signal = torch.sin(torch.arange(plain.numel(), dtype=plain.dtype)).view_as(plain)
    given = (x, layer.state_dict(keep_vars=True)["key.proj.weight"])
    expected = torch.autograd.grad(plain, given, signal)
    with published.in_blocks():
        assert published.PublishedMQA.in_blocks
        blocks = layer(x)
    assert not published.PublishedMQA.in_blocks
    torch.testing.assert_close((blocks, *torch.autograd.grad(blocks, given, signal)), (plain, *expected))


def test_in_blocks_the_scores_are_never_written_down_whole(monkeypatch):
    seen, read = [], kernels.read
    monkeypatch.setattr(kernels, "read", lambda *given: seen.append(1) or read(*given))
    layer = published.twin(mobile())
    with published.in_blocks():
        layer(picture())
    layer(picture())
    assert len(seen) == 1


@torch.no_grad()
@pytest.mark.parametrize("defects", MIXTURES, ids=published.names)
def test_any_mixture_of_defects_computes_just_those(defects):
    layer = published.twin(mobile(value_dim=VALUE_DIM, kv_stride=2), defects)
    torch.testing.assert_close(layer(picture()), torch.from_numpy(restated(picture(), layer, defects)))


@torch.no_grad()
@pytest.mark.parametrize("size", [(SIDE, SIDE), (7, 17), (1, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize(("kv_stride", "padding"), [(1, ""), (2, ""), (3, ""), (2, "same")])
def test_without_defects_it_is_mobile_mqa(size, strides, kv_stride, padding):
    right = mobile(value_dim=VALUE_DIM, query_strides=strides, kv_stride=kv_stride, padding=padding)
    for memory in (torch.contiguous_format, torch.channels_last):
        x = picture(*size).contiguous(memory_format=memory)
        torch.testing.assert_close(published.twin(right, NONE)(x), right(x))


@torch.no_grad()
def test_a_twin_normalises_as_the_layer_does():
    right = MobileMQA(
        5, 5, 2, 3, 7, query_strides=2, kv_stride=2, norm_layer=partial(nn.BatchNorm2d, eps=0.5)
    ).eval()
    x = torch.randn(2, 5, SIDE, 17)
    torch.testing.assert_close(published.twin(right, NONE)(x), right(x))


def test_weights_load_from_mobile_mqa_and_back():
    right, layer = mobile(kv_stride=2), PublishedMQA(DIM, HEADS, KEY_DIM, kv_stride=2).double()
    layer.load_state_dict(right.state_dict())
    mobile(kv_stride=2).load_state_dict(layer.state_dict())
    assert list(layer.state_dict()) == list(right.state_dict())


@pytest.mark.parametrize("defect", MIXABLE, ids=published.names)
def test_a_defect_alone_moves_the_output(defect):
    found = published.deviation(mobile(), picture(), defect)
    assert found.correlation < 0.99
    assert found.largest > 0.1


def test_no_defect_moves_nothing_and_all_leave_nothing_of_the_output():
    right = MobileMQA(61, num_heads=HEADS, key_dim=KEY_DIM, value_dim=KEY_DIM)
    x = torch.randn(2, 61, SIDE, SIDE)
    nothing, everything = published.deviation(right, x, NONE), published.deviation(right, x, ALL)
    assert nothing.correlation > 1 - 1e-6
    assert nothing.largest < 1e-4
    assert abs(everything.correlation) < 0.1


def test_the_deviation_is_correlation_and_largest_difference_in_standard_deviations():
    right = mobile()
    expected, wrong = right(picture()).detach(), published.twin(right, Defect.SCALE)(picture()).detach()
    found = published.deviation(right, picture(), Defect.SCALE)
    assert found.correlation == pytest.approx(np.corrcoef(expected.ravel(), wrong.ravel())[0, 1])
    assert found.largest == pytest.approx(((wrong - expected).abs().max() / expected.std()).item())


def test_measuring_leaves_the_layer_in_its_mode_and_its_statistics_alone():
    right = mobile(kv_stride=2).train()
    before = {key: tensor.clone() for key, tensor in right.state_dict().items()}
    published.deviation(right, picture())
    assert right.training
    assert all(torch.equal(before[key], tensor) for key, tensor in right.state_dict().items())


def test_moving_pixels_moves_the_right_output_along_and_not_the_article_s():
    assert published.permutation_error(mobile(), picture(7, 17)) < 1e-12
    assert published.permutation_error(published.twin(mobile(), NONE), picture()) < 1e-12
    assert published.permutation_error(published.twin(mobile()), picture()) > 0.1


@torch.no_grad()
def test_a_twin_has_every_digit_of_the_weights_and_owns_them():
    right = mobile(kv_stride=2)
    twin = published.twin(right)
    assert all(torch.equal(right.state_dict()[key], tensor) for key, tensor in twin.state_dict().items())
    twin.query.proj.weight.zero_()
    assert right.query.proj.weight.abs().max() > 0


@torch.no_grad()
def test_the_permutation_error_is_the_largest_difference_after_moving_back():
    layer, order = (
        published.twin(mobile()),
        torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(2)),
    )
    moved = torch.empty_like(picture())
    moved.flatten(2).copy_(picture().flatten(2)[..., order])
    back = torch.empty_like(moved).flatten(2)
    back[..., order] = layer(moved).flatten(2)
    expected = layer(picture()).flatten(2)
    error = published.permutation_error(layer, picture(), seed=2)
    assert error == pytest.approx(((back - expected).abs().max() / expected.std()).item())


@torch.no_grad()
@pytest.mark.parametrize("defects", [NONE, Defect.SCALE, Defect.QUERY_LAYOUT], ids=published.names)
def test_its_weights_are_the_ones_that_forward_uses(defects):
    layer = published.twin(mobile(), defects)
    weights = layer.weights(picture())
    read = torch.einsum("bhnm,bvm->bhvn", weights, layer.value(picture()).flatten(2))
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, HEADS, SIDE**2, dtype=torch.float64))
    expected = layer.output(read.flatten(1, 2).unflatten(-1, (SIDE, SIDE)))
    torch.testing.assert_close(layer(picture()), expected)


def test_the_article_s_scale_sharpens_the_scores_by_the_root_of_the_number_of_heads():
    assert PublishedMQA(DIM, 3, 12).scale == pytest.approx(
        PublishedMQA(DIM, 3, 12, defects=NONE).scale / 3**0.5
    )


def test_more_heads_than_key_dim_give_no_number_with_the_article_s_scale():
    x = torch.randn(1, DIM, SIDE, SIDE)
    assert PublishedMQA(DIM, 5, 3)(x).isnan().all()
    assert PublishedMQA(DIM, 5, 3, defects=ALL & ~Defect.SCALE)(x).isfinite().all()


@torch.no_grad()
def test_late_dropout_keeps_the_mean_of_the_output_and_early_dropout_does_not():
    right, x = mobile(attn_drop=0.5), picture(batch=1).expand(4001, -1, -1, -1)[..., :2, :2]
    right.key.proj.weight.mul_(5)
    late, early = (published.twin(right, defects) for defects in (NONE, Defect.EARLY_DROPOUT))
    errors = [(layer.train()(x).mean(0) - layer.eval()(x)[0]).abs().max().item() for layer in (late, early)]
    assert errors[0] < 0.1 < 0.3 < errors[1]


def test_a_value_size_of_its_own_is_ignored_with_its_defect():
    asked = {"dim": DIM, "num_heads": HEADS, "key_dim": KEY_DIM, "value_dim": VALUE_DIM}
    assert PublishedMQA(**asked, defects=NONE).value_dim == VALUE_DIM
    assert PublishedMQA(**asked, defects=Defect.VALUE_DIM).value_dim == KEY_DIM


def test_without_upsampling_strided_queries_leave_a_smaller_map():
    layer = PublishedMQA(DIM, HEADS, KEY_DIM, query_strides=(2, 3), defects=Defect.NO_UPSAMPLING)
    assert layer(torch.randn(2, DIM, SIDE, 17)).shape == (2, DIM, 7, 6)


def test_weights_start_as_pytorch_draws_them():
    bound = (61 * 1) ** -0.5
    weight = PublishedMQA(61, HEADS, KEY_DIM).query.proj.weight
    assert 0.9 * bound < weight.abs().max() <= bound


@pytest.fixture(scope="module")
def proofs():
    return {proof.defect: proof for proof in published.evidence(seed=3)}


def test_every_defect_has_its_proof_in_order_and_asking_again_gives_the_same(proofs):
    state = torch.get_rng_state()
    again = {proof.defect: proof for proof in published.evidence(seed=3)}
    assert list(proofs) == list(Defect)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone
    assert repr(again) == repr(proofs)  # NaN is not equal to itself


@pytest.mark.parametrize("defect", [Defect.QUERY_LAYOUT, Defect.VALUE_LAYOUT, Defect.OUTPUT_LAYOUT])
def test_a_layout_is_proven_by_moving_the_pixels_and_by_correlation(proofs, defect):
    proof = proofs[defect]
    assert proof.right < 1e-4 < 1 < proof.wrong
    assert abs(proof.deviation.correlation) < 0.3


def test_the_scale_is_proven_by_nan_and_by_correlation(proofs):
    proof = proofs[Defect.SCALE]
    assert (proof.wrong, proof.right) == (1, 0)
    assert 0.5 < proof.deviation.correlation < 0.99


def test_early_dropout_is_proven_in_training_and_hidden_in_evaluation(proofs):
    proof = proofs[Defect.EARLY_DROPOUT]
    assert 5 * proof.right < proof.wrong
    assert proof.deviation.correlation > 1 - 1e-6


def test_an_ignored_size_and_a_missing_upsampling_are_proven_by_what_comes_out(proofs):
    assert (proofs[Defect.VALUE_DIM].wrong, proofs[Defect.VALUE_DIM].right) == (16, 8)
    smaller = proofs[Defect.NO_UPSAMPLING]
    assert (smaller.wrong, smaller.right) == (8 * 8, 16 * 16)
    assert smaller.deviation.error == "1 × 64 × 8 × 8 instead of 1 × 64 × 16 × 16"


@pytest.mark.parametrize(
    ("defect", "said", "pixels"),
    [
        (Defect.QUERY_STRIDES, "TypeError: avg_pool2d", 16 * 16),
        (Defect.SQUARE_ONLY, "RuntimeError: shape '[1, 64, 16, 16]' is invalid", 16 * 12),
        (Defect.ROW_MAJOR_ONLY, "RuntimeError: view size is not compatible", 16 * 16),
    ],
)
def test_what_does_not_run_is_proven_by_what_pytorch_says(proofs, defect, said, pixels):
    proof = proofs[defect]
    assert np.isnan(proof.wrong)
    assert proof.right == pixels
    assert proof.deviation.error.startswith(said)


def test_every_defect_is_said_in_a_sentence_and_named():
    assert list(published.WRONG) == list(published.each()) == list(Defect)
    assert published.names(Defect.SCALE | Defect.VALUE_DIM) == "scale and value dim"
    assert (published.names(NONE), published.names(ALL)) == ("none", "all")
