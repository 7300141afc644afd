"""The installed ultralytics trains, fuses and keeps our models as it should, and what the doctor tries out can fail."""

import copy
import io

import pytest
import torch
from ultralytics.nn import tasks
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import DEFAULT_CFG

from mqa_lib import MobileMQA, rtdetr
from mqa_lib.rtdetr import build, encoder
from mqa_lib.rtdetr.audit import decoder_maps

BATCH = {
    "img": torch.rand(2, 3, 64, 64),
    "cls": torch.tensor([[0.0], [2.0]]),
    "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.4], [0.4, 0.6, 0.2, 0.2]]),
    "batch_idx": torch.tensor([0.0, 1.0]),
}


@pytest.mark.parametrize(
    ("name", "attentions"),
    [("rtdetr-nano-mobile-mqa", 2), ("rtdetr-nano-mqa-encoder", 1), ("rtdetr-nano-article-corrected", 4)],
)
def test_a_loss_reaches_every_attention_fusing_changes_nothing_and_a_pickle_comes_back(name, attentions):
    torch.manual_seed(0)
    network = RTDETRDetectionModel(str(rtdetr.MODELS[name]), nc=3, verbose=False)
    network.nc, network.args = 3, DEFAULT_CFG  # which the trainer sets
    network.loss(BATCH)[0].sum().backward()
    layers = [module for module in network.modules() if isinstance(module, MobileMQA)]
    gradients = [next(layer.query.parameters()).grad for layer in layers]
    assert len(layers) == attentions and all(grad.isfinite().all() and grad.any() for grad in gradients)

    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        before = decoder_maps(network.eval(), x)
        after = decoder_maps(copy.deepcopy(network).fuse(verbose=False), x)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)

    kept = io.BytesIO()
    torch.save(network, kept)
    kept.seek(0)
    back = torch.load(kept, weights_only=False).state_dict()
    torch.testing.assert_close(back, network.state_dict(), rtol=0, atol=0)
    assert tasks.AIFI is AIFI  # ultralytics' own was put back


def test_what_the_doctor_tries_out_holds_and_can_fail(monkeypatch):
    build.try_out()
    monkeypatch.setattr(encoder.AIFI_MQA, "forward", lambda self, x: x * float("nan"))
    with pytest.raises(RuntimeError, match=r"mqa-encoder answers with .* not with 30 finite detections"):
        build.try_out()
    monkeypatch.setattr(encoder.AIFI_MQA, "forward", lambda self, x: x)
    with pytest.raises(ValueError, match="did not run its attention"):
        build.try_out()
