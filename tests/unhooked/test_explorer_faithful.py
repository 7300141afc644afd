"""Hiding keys does what it says, in every kind of layer, and the check finds what an answer hangs on."""

import numpy as np
import pytest
import torch
from torch import nn

from mqa_lib import MobileMQA, MultiHeadAttention2d, explorer, pictures, rtdetr
from mqa_lib.explorer import faithful
from tests.unhooked.test_explore import NANO, SCENE

LAYERS = {
    "Mobile MQA": MobileMQA(8, num_heads=3, key_dim=5, value_dim=7, kv_stride=2),
    "pooled queries": MobileMQA(8, num_heads=3, key_dim=5, value_dim=7, query_strides=(2, 3), kv_stride=2),
    "padded as TensorFlow": MobileMQA(8, num_heads=2, query_strides=2, kv_stride=2, padding="same"),
    "multi-head attention": MultiHeadAttention2d(8, num_heads=2, key_dim=5, value_dim=7),
}


def image(height=52, width=68):
    return np.random.RandomState(2).randint(0, 256, (height, width, 3)).astype(np.uint8)


def network(layer) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), layer, nn.Conv2d(8, 4, 1)).eval()


@pytest.mark.parametrize("name", LAYERS)
def test_hiding_no_key_changes_nothing_and_the_hook_is_gone_afterwards(name):
    model, batch = network(LAYERS[name]), pictures.tensor(image())
    with torch.no_grad():
        before = model(batch)
        with faithful.hidden(model, "1", [0, 5], []):
            torch.testing.assert_close(model(batch), before, atol=1e-5, rtol=1e-4)
        with faithful.hidden(model, "1", [0, 5], [1, 2]):
            assert not torch.allclose(model(batch), before, atol=1e-6)
        torch.testing.assert_close(model(batch), before, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["Mobile MQA", "multi-head attention"])
def test_only_the_queries_that_were_named_lose_the_keys(name):
    model, batch = network(LAYERS[name]), pictures.tensor(image())
    with torch.no_grad(), faithful.hidden(model, "1", [3, 40], [2]):
        after = model(batch)
    moved = ((after - model(batch)).abs().amax(1).flatten() > 1e-5).nonzero().flatten().tolist()
    assert moved == [3, 40]


def test_a_hidden_key_of_rt_detr_s_own_encoder_is_read_no_more():
    model = rtdetr.load(NANO).model.eval()
    aifi = next(name for name, module in model.named_modules() if type(module).__name__ == "AIFI")
    attention, batch, kept = model.get_submodule(aifi).ma, pictures.tensor(pictures.read(SCENE)), []
    hook = attention.register_forward_hook(lambda _, inputs, output: kept.append(output[1]))
    with torch.no_grad(), faithful.hidden(model, aifi, [1], [4, 7]):
        model(batch)
    hook.remove()
    assert kept[0][0, 1, [4, 7]].abs().max() == 0 and kept[0][0, 0, [4, 7]].min() > 0


class Copier(nn.Module):
    """Answers with what the strongest key of each place says: the answer hangs on that key alone."""

    def __init__(self):
        super().__init__()
        self.attn = MobileMQA(2, num_heads=1, key_dim=2, value_dim=2)
        with torch.no_grad():
            self.attn.query.proj.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 9.0]])[..., None, None])
            for part in (self.attn.key, self.attn.value, self.attn.output):
                part.proj.weight.copy_(torch.eye(2)[..., None, None])

    def forward(self, x):
        pooled = nn.functional.avg_pool2d(x, 4)
        return 9 * self.attn(torch.stack([pooled[:, 0], pooled[:, 1]], 1))


def test_the_check_tells_a_key_that_matters_from_keys_that_do_not():
    picture = np.full((32, 32, 3), 30, np.uint8)
    picture[8:12, 20:24, 0] = 0
    picture[:, :, 1] = 20
    picture[8:12, 20:24, 1] = 255
    picture[24:28, 4:8] = (30, 255, 0)
    check = explorer.mask_check(Copier(), picture, 0, 6 * 8 + 1, counts=(1, 2, 5), draws=4)
    assert (
        check.counts == (1, 2, 5)
        and check.queries == (49,)
        and check.score == "Probability of class 1 (counted from 0)"
    )
    assert check.before > 0.9 and check.strongest[1] < check.before - 0.3
    assert min(check.random) > check.strongest[1] + 0.2


def test_a_detection_is_followed_and_its_queries_are_those_in_its_box():
    model = rtdetr.load(NANO)
    seen = explorer.look(model, SCENE)
    layer = seen.layers[0]
    query = layer.query_at(*seen.points.middle(1))
    check = explorer.mask_check(model, SCENE, 0, query, counts=(3,), draws=2)
    assert check.before == pytest.approx(float(seen.points.scores[1]), abs=1e-4)
    top, left, bottom, right = seen.points.box(1)
    for at in range(layer.q.shape[1]):
        row, column = (np.array(layer.query_cell_of(at)).reshape(2, 2)).mean(0)
        within = top <= row <= bottom and left <= column <= right
        assert (at in check.queries) == (within or at == query)


def test_what_cannot_be_checked_is_refused():
    model = network(LAYERS["Mobile MQA"])
    with pytest.raises(ValueError, match=r"`layer` \(=3\) must be from 0 to 0"):
        explorer.mask_check(model, image(), 3)
    pooled = nn.Sequential(*model, nn.MaxPool2d(2))
    with pytest.raises(ValueError, match="neither a score per class nor a map"):
        explorer.mask_check(pooled, image())
