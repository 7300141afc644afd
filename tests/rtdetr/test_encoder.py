"""The encoder with Mobile MQA is AIFI in everything but that its heads share one key/value head."""

import pytest
import torch
from torch import nn
from ultralytics.nn.modules.transformer import AIFI

from mqa_lib import MobileMQA, functional, hooks
from mqa_lib.rtdetr.encoder import AIFI_MQA

DIM, HEADS, INNER = 4 * 7 * 3, 3, 11
HEAD = DIM // HEADS


def tied_twins():
    """Return an AIFI all of whose heads have the same keys and values, and an AIFI_MQA with the same numbers."""
    aifi, own = AIFI(DIM, INNER, HEADS).eval(), AIFI_MQA(DIM, INNER, HEADS).eval()
    with torch.no_grad():
        for bias in (aifi.ma.in_proj_bias, aifi.ma.out_proj.bias):
            bias.zero_()
        q, k, v = aifi.ma.in_proj_weight.chunk(3)
        for part in (k, v):
            part.copy_(part[:HEAD].repeat(HEADS, 1))
        for name, weight in (("query", q), ("key", k[:HEAD]), ("value", v[:HEAD])):
            getattr(own.ma, name).proj.weight.copy_(weight[:, :, None, None])
        own.ma.output.proj.weight.copy_(aifi.ma.out_proj.weight[:, :, None, None])
    rest = {name: value for name, value in aifi.state_dict().items() if not name.startswith("ma.")}
    own.load_state_dict({**own.state_dict(), **rest})
    return aifi, own


@torch.no_grad()
def test_it_equals_aifi_where_all_heads_of_aifi_have_the_same_keys_and_values():
    aifi, own = tied_twins()
    x = torch.randn(2, DIM, 5, 13)
    torch.testing.assert_close(own(x), aifi(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_it_reads_is_what_its_weights_say_of_a_map_without_positions():
    layer, x = AIFI_MQA(DIM, INNER, HEADS).eval(), torch.randn(1, DIM, 5, 13)
    given = []
    layer.ma.register_forward_hook(lambda _, inputs, read: given.append((*inputs, read)))
    layer(x)
    ((placed, values_from, read),) = given
    weights = functional.attention_weights(*layer.ma.queries_and_keys(placed))
    seen = torch.einsum("bhqk,bvk->bhvq", weights, layer.ma.value(values_from).flatten(2))
    torch.testing.assert_close(layer.ma.output(seen.flatten(1, 2).unflatten(-1, (5, 13))), read)
    torch.testing.assert_close(values_from, x)
    positions = AIFI.build_2d_sincos_position_embedding(13, 5, DIM, like=x)
    torch.testing.assert_close(placed - x, positions.mT.unflatten(-1, (5, 13)))


@torch.no_grad()
def test_without_another_map_it_is_mobile_mqa_itself():
    layer, x = AIFI_MQA(DIM, INNER, HEADS).ma.eval(), torch.randn(2, DIM, 5, 7)
    torch.testing.assert_close(layer(x), MobileMQA.forward(layer, x))
    torch.testing.assert_close(layer(x, x), layer(x))


@torch.no_grad()
def test_keys_and_values_can_be_down_sampled():
    layer = AIFI_MQA(DIM, INNER, HEADS, 2).eval()
    assert layer(torch.randn(2, DIM, 5, 13)).shape == (2, DIM, 5, 13)
    assert layer.ma.key(torch.randn(2, DIM, 5, 13)).shape == (2, HEAD, 3, 7)


def test_it_has_fewer_parameters_by_the_keys_and_values_that_are_shared_and_the_biases():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    difference = count(AIFI(DIM, INNER, HEADS)) - count(AIFI_MQA(DIM, INNER, HEADS))
    assert difference == 2 * DIM * (DIM - HEAD) + 4 * DIM


def test_dropout_works_while_training_and_only_then():
    layer, x = AIFI_MQA(DIM, INNER, HEADS, 1, 0.5), torch.randn(1, DIM, 5, 7)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_whoever_looks_for_attention_finds_mobile_mqa_in_it_and_no_aifi():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.encoder = nn.Conv2d(3, DIM, 2, 2), AIFI_MQA(DIM, INNER, HEADS)

        def forward(self, x):
            return self.encoder(self.stem(x))

    (view,) = hooks.run(Net(), torch.rand(1, 3, 10, 14))
    assert (view.kind, view.name, view.grid) == ("Mobile MQA", "encoder.ma", (5, 7))
    assert view.q.shape == (HEADS, 35, HEAD) and view.k.shape == (1, 35, HEAD)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match=rf"`dim` \(={DIM}\) must be divisible by `num_heads` \(=5\)"):
        AIFI_MQA(DIM, INNER, 5)
