"""The block adds what its attention read, scaled, and nothing else."""

import pytest
import torch

from mqa_lib import DropPath, LayerScale2d, MobileMQABlock, MultiHeadAttention2d, MultiHeadBlock, functional

BLOCKS = pytest.mark.parametrize("kind", [MobileMQABlock, MultiHeadBlock])


def drawn_block(kind=MobileMQABlock, **options):
    torch.manual_seed(0)
    own = {"kv_stride": 2, "value_dim": 7} if kind is MobileMQABlock else {}
    return kind(5, 2, 3, **own, **options).double().eval()


def drawn_map():
    return torch.randn(2, 5, 13, 17, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@BLOCKS
def test_output_is_the_input_plus_the_scaled_attention_of_the_normalised_input(kind):
    block, x = drawn_block(kind, layer_scale=0.3), drawn_map()
    torch.testing.assert_close(block(x), x + 0.3 * block.attn(block.norm(x)))


@BLOCKS
def test_a_layer_scale_of_zero_leaves_the_map_as_it_is(kind):
    x = drawn_map()
    assert torch.equal(drawn_block(kind, layer_scale=0.0)(x), x)


def test_the_control_is_the_einsum_specification_within_the_same_block():
    block, x = drawn_block(MultiHeadBlock, layer_scale=0.3), drawn_map()
    block.norm.running_mean.normal_(), block.norm.running_var.uniform_(0.5, 2.0)
    state = block.state_dict()
    normal = functional.normalise(x, state, "norm", block.norm.eps)
    q, k, v = (
        functional.project(normal, state[f"attn.{name}.weight"]).unflatten(1, (2, 3)).flatten(-2).mT
        for name in ("query", "key", "value")
    )  # b h n k
    read = functional.attend(q, k, v).mT.flatten(1, 2).unflatten(-1, (13, 17))
    scale = block.layer_scale.gamma[:, None, None]
    expected = x + scale * functional.project(read, state["attn.output.weight"])
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-10)


def test_arguments_by_position_mean_dim_heads_key_dim_and_kv_stride():
    attn = MobileMQABlock(5, 2, 3, 4).attn
    assert (attn.dim, attn.num_heads, attn.key_dim, attn.value_dim, attn.kv_stride) == (5, 2, 3, 3, 4)


def test_arguments_of_the_control_by_position_mean_dim_heads_key_dim_layer_scale_and_drop_path():
    block = MultiHeadBlock(5, 2, 3, 0.7, 0.4)
    attn = block.attn
    assert isinstance(attn, MultiHeadAttention2d)
    assert (attn.dim, attn.num_heads, attn.key_dim, attn.value_dim) == (5, 2, 3, 3)
    assert (block.layer_scale.gamma == 0.7).all() and block.drop_path.drop_prob == 0.4


def test_layer_scale_multiplies_each_channel_by_its_own_number():
    scale = LayerScale2d(3)
    scale.gamma.data = torch.tensor([2.0, 3.0, 5.0])
    assert scale(torch.ones(1, 3, 1, 1)).flatten().tolist() == [2.0, 3.0, 5.0]


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(4000, 1, 2, 3))
    per_sample = dropped.flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert set(per_sample.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(dropped.mean() - 1) < 0.05  # four standard deviations


def test_drop_path_does_nothing_when_not_training():
    x = drawn_map()
    assert DropPath(0.9).eval()(x) is x


def test_a_dropped_sample_passes_the_block_unchanged_and_a_kept_one_gets_the_scaled_up_branch():
    block = drawn_block(layer_scale=0.3, drop_path=0.5)
    x = drawn_map().repeat(8, 1, 1, 1)
    block.drop_path.train()
    torch.manual_seed(3)
    out, kept = block(x), x + 0.3 * block.attn(block.norm(x)) / 0.5
    dropped = [torch.equal(a, b) for a, b in zip(out, x, strict=True)]
    assert 0 < sum(dropped) < len(x)
    for index, gone in enumerate(dropped):
        torch.testing.assert_close(out[index], x[index] if gone else kept[index])


def test_every_argument_reaches_its_part():
    block = MobileMQABlock(5, 2, 3, 2, 0.3, 0.4, 7, (2, 1), 5)
    attn = block.attn
    assert (attn.query_strides, attn.value_dim, attn.key.down_conv.kernel_size) == ((2, 1), 7, (5, 5))
    assert block.drop_path.drop_prob == 0.4 and (block.layer_scale.gamma == 0.3).all()


@BLOCKS
def test_a_block_starts_as_almost_nothing_as_in_mobilenetv4(kind):
    torch.testing.assert_close(kind(5, 2, 3).layer_scale.gamma, torch.full((5,), 1e-5))


@BLOCKS
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dim": 0}, r"`dim` \(=0\) must be a whole number.*Use the number of channels of the map"),
        ({"key_dim": 0}, r"`key_dim` \(=0\) must be a whole number of at least 1\. Use 1 or more"),
        ({"drop_path": 1.0}, r"`drop_path` \(=1\.0\) must be at least 0 and below 1\. Use 0\.0"),
    ],
    ids=str,
)
def test_a_block_that_cannot_be_is_refused(kind, options, said):
    with pytest.raises(ValueError, match=said):
        kind(**{"dim": 5, "num_heads": 2, "key_dim": 3, **options})
