"""What is taken out of a detector is gone while the block runs, is that alone, and is back afterwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.nn.modules import transformer

from mqa_lib import MobileMQABlock, rtdetr
from mqa_lib.rtdetr.interventions import PARTS, without

NANO = "rtdetr-nano-mobile-mqa"
LAYERS = [  # of each part, by model
    (NANO, {"backbone attention": 2, "AIFI": 1, "decoder self-attention": 3, "far sampling points": 3}),
    ("rtdetr-nano-no-encoder", {"decoder self-attention": 3, "far sampling points": 3}),
    ("yolo-nano-mobile-mqa", {"backbone attention": 2}),
    ("yolo-nano-mha", {"backbone attention": 2}),
]


def drawn(name):
    """An untrained model, in which sampling points lie anywhere and not all weigh the same."""
    model = rtdetr.load(name)
    for module in model.model.eval().modules():
        if isinstance(module, transformer.MSDeformAttn):
            nn.init.normal_(module.sampling_offsets.bias, std=5.0)
            nn.init.normal_(module.attention_weights.bias)
    return model


@torch.no_grad()
def output(model):
    picture = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    return model.model(picture)[0]


def hooks(model):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.model.modules()
    )


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_each_part_that_a_model_has_changes_its_output_and_leaves_no_trace(name, layers):
    model, read = drawn(name), transformer.multi_scale_deformable_attn_pytorch
    before = output(model)
    for part in PARTS:
        with without(model, part) as count:
            assert count == layers.get(part, 0)
            assert torch.equal(output(model), before) is (count == 0)
        assert torch.equal(output(model), before) and hooks(model) == 0
        assert transformer.multi_scale_deformable_attn_pytorch is read


@pytest.mark.parametrize("part", PARTS)
def test_after_an_error_all_is_as_it_was(part):
    model, read = drawn(NANO), transformer.multi_scale_deformable_attn_pytorch
    before = output(model)
    with pytest.raises(ZeroDivisionError), without(model, part):
        output(model)
        raise ZeroDivisionError
    assert hooks(model) == 0 and transformer.multi_scale_deformable_attn_pytorch is read
    assert torch.equal(output(model), before)


def test_several_parts_can_be_taken_out_at_once():
    model = drawn(NANO)
    before = output(model)
    with without(model, "AIFI"):
        one = output(model)
        with without(model, "far sampling points"):
            both = output(model)
        assert torch.equal(output(model), one)
    assert not torch.equal(both, one) and torch.equal(output(model), before)


def test_a_detector_without_its_blocks_is_its_twin_that_never_had_any():
    model, twin = drawn("yolo-nano-mobile-mqa"), drawn("yolo-nano-stock")
    kept = [row for row in model.model.model if not isinstance(row, MobileMQABlock)]
    for own, theirs in zip(twin.model.model, kept, strict=True):
        own.load_state_dict(theirs.state_dict())
    with without(model, "backbone attention"):
        torch.testing.assert_close(output(model), output(twin), rtol=0, atol=0)


@pytest.mark.parametrize("part", ["AIFI", "decoder self-attention"])
@torch.no_grad()
def test_a_token_that_attends_to_itself_alone_moves_no_other_and_reads_its_own_value(part):
    model = drawn(NANO)
    if part == "AIFI":
        (attention,) = (row.ma for row in model.model.model if isinstance(row, transformer.AIFI))
    else:
        attention = model.model.model[-1].decoder.layers[1].self_attn
    query, value = torch.randn(2, 7, 2, attention.embed_dim)
    if attention.batch_first:
        query, value = query.transpose(0, 1), value.transpose(0, 1)

    def moved():
        """Return which of the seven tokens differ when the fourth one's embedding does."""
        outputs = []
        for shift in (0.0, 1.0):
            own, read = query.clone(), value.clone()
            for tokens in (own, read):
                tokens[(slice(None), 3) if attention.batch_first else 3] += shift
            found = attention(own, own, value=read, attn_mask=None)[0]
            outputs.append(found if attention.batch_first else found.transpose(0, 1))
        return outputs[0], (outputs[0] != outputs[1]).any(-1).any(0).tolist()

    assert moved()[1] == [True] * 7
    with without(model, part):
        found, alone = moved()
    assert alone == [place == 3 for place in range(7)]
    weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
    expected = attention.out_proj(F.linear(value, weight, bias))
    torch.testing.assert_close(found, expected if attention.batch_first else expected.transpose(0, 1))


def test_sampling_points_outside_the_box_get_no_weight_and_the_others_all_of_it(monkeypatch):
    model, read, seen, boxes = drawn(NANO), transformer.multi_scale_deformable_attn_pytorch, [], []

    def watched(value, shapes, places, weights):
        seen.append((places, weights))
        return read(value, shapes, places, weights)

    monkeypatch.setattr(transformer, "multi_scale_deformable_attn_pytorch", watched)
    for layer in model.model.model[-1].decoder.layers:
        layer.register_forward_pre_hook(lambda _, inputs: boxes.append(inputs[1]))  # centre and size
    output(model)
    whole = seen.copy()
    seen.clear(), boxes.clear()
    with without(model, "far sampling points"):
        output(model)
    assert transformer.multi_scale_deformable_attn_pytorch is watched
    # the first layer is given the same by both, so its weights can be compared one by one
    assert torch.equal(whole[0][0], seen[0][0])
    far = []
    for (places, weights), box in zip(seen, boxes, strict=True):
        low, high = ((box[..., :2] + sign * box[..., 2:] / 2)[:, :, None, None] for sign in (-1, 1))
        margin = 1e-6  # a point on the very edge may count as either
        outside = ((places < low - margin) | (places > high + margin)).any(-1)
        inside = ((places > low + margin) & (places < high - margin)).all(-1)
        assert (weights[outside] == 0).all() and (weights[inside] > 0).all()
        total = weights.sum(-1)[inside.any(-1)]
        torch.testing.assert_close(total, torch.ones_like(total))
        far.append(outside)
    kept = whole[0][1] * (seen[0][1] > 0)
    torch.testing.assert_close(seen[0][1], kept / kept.sum(-1, keepdim=True).clamp_min(1e-9))
    assert all(0.1 < outside.float().mean() < 0.9 for outside in far)


def test_a_part_that_is_not_known_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"`part` \(='neck'\) is not known\. Use one of: AIFI, backbone attention"
    ):
        without(rtdetr.load("yolo-nano-stock"), "neck").__enter__()
