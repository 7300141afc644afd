"""A real consumer: models of timm in which every Mobile MQA is ours give the logits that they gave before."""

import copy
from functools import partial

import numpy as np
import pytest
import timm
import torch
from timm.layers import MultiQueryAttention2d
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from mqa_lib import MobileMQA, record, transfer


def drawn(name, **options):
    """A model of timm with random weights, whose norms have seen pictures and whose branches count."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=11, **options).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5), module.bias.data.normal_(0, 0.1)
            module.momentum = 1.0
        if type(module).__name__ == "LayerScale2d":  # 1e-5 would hide the attention from the logits
            module.gamma.data.fill_(1.0)
    with torch.no_grad():
        model(torch.rand(8, 3, 96, 96))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.03
    return model.eval()


@pytest.fixture(scope="module")
def medium():
    return drawn("mobilenetv4_hybrid_medium")


def swapped(model):
    ours = copy.deepcopy(model)
    return ours, transfer.replace_in(ours)


@torch.no_grad()
@pytest.mark.parametrize(("name", "layers"), [("medium", 8), ("mobilenetv4_hybrid_large", 8)])
def test_the_logits_are_the_same_with_every_mobile_mqa_replaced(name, layers, request):
    model = request.getfixturevalue("medium") if name == "medium" else drawn(name)
    ours, count = swapped(model)
    assert count == layers == sum(type(module) is MobileMQA for module in ours.modules())
    assert not any(isinstance(module, MultiQueryAttention2d) for module in ours.modules())
    x = torch.rand(2, 3, 96, 160)  # at stride 32 a map of 3 × 5
    expected = model(x)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@torch.no_grad()
def test_the_logits_of_the_test_above_depend_on_the_attention(medium):
    ours, _ = swapped(medium)
    for layer in ours.modules():
        if isinstance(layer, MobileMQA):
            layer.value.proj.weight.zero_()
    x = torch.rand(2, 3, 96, 160)
    assert (ours(x) - medium(x)).abs().max() > 0.01 * medium(x).abs().max()


def test_a_training_step_moves_the_replaced_model_as_timms(medium):
    theirs = copy.deepcopy(medium).double().train()
    ours, _ = swapped(theirs)
    for model in (theirs, ours):
        model(torch.ones(2, 3, 64, 64).double().cumsum(2) / 64).square().sum().backward()
    states = ours.state_dict(), theirs.state_dict()
    assert states[0].keys() == states[1].keys()
    for key in states[0]:
        torch.testing.assert_close(states[0][key], states[1][key], rtol=1e-7, atol=1e-8)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-6, atol=1e-8)


def test_its_attention_can_be_recorded(medium):
    ours, count = swapped(medium)
    image = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    seen = record.capture(ours, image, weights_are="random")
    assert len(seen) == count
    assert {(each.num_heads, each.query_grid, each.key_grid) for each in seen} == {
        (4, (8, 12), (4, 6)),
        (4, (4, 6), (4, 6)),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"kv_stride": 2, "padding": "same"},
        {"kv_stride": 3, "dw_kernel_size": 5, "query_strides": (2, 1)},
        {"key_dim": 3, "value_dim": 7, "dim_out": 11, "attn_drop": 0.25, "proj_drop": 0.5},
        {"kv_stride": 2, "norm_layer": partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_one_layer_keeps_its_sizes_drops_norms_mode_and_dtype(options):
    theirs = MultiQueryAttention2d(10, num_heads=2, **options).double().eval()
    ours, x = transfer.from_timm(theirs), torch.randn(2, 10, 12, 16, dtype=torch.double)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-10)
    assert (ours.attn_drop, ours.output.drop.p) == (theirs.attn_drop.p, theirs.output.drop.p)
    if hasattr(theirs.key, "norm"):
        assert (ours.key.norm.eps, ours.key.norm.momentum) == (theirs.key.norm.eps, theirs.key.norm.momentum)
    theirs.query.proj.weight.data.zero_()
    assert ours.query.proj.weight.abs().max() > 0  # weights of its own


def test_a_layer_in_training_mode_stays_in_it():
    assert transfer.from_timm(MultiQueryAttention2d(8).train()).training


def test_what_is_frozen_or_in_evaluation_on_its_own_stays_so():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), MultiQueryAttention2d(8, kv_stride=2, proj_drop=0.5)).train()
    model.requires_grad_(False)
    model[1].query.proj.weight.requires_grad_(True)
    model[1].value.norm.eval()
    before = {name: part.training for name, part in model[1].named_modules()}
    transfer.replace_in(model)
    wanting = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert wanting == ["1.query.proj.weight"]
    after = {name: part.training for name, part in model[1].named_modules()}
    assert after == {name: before[name] for name in after} and not after["value.norm"]


def test_a_layer_used_in_two_places_stays_one_layer():
    shared = MultiQueryAttention2d(8)
    model = nn.Sequential(shared, nn.Identity(), shared)
    assert transfer.replace_in(model) == 1
    assert type(model[0]) is MobileMQA and model[0] is model[2]


REFUSED = [
    (nn.Sequential(nn.Conv2d(3, 5, 1)), r"holds no Mobile MQA of timm \(2 modules were looked at\).*hybrid"),
    (nn.Sequential(MultiQueryAttention2d(8, use_bias=True)), r"has `use_bias`, which Mobile MQA has not"),
    (nn.Sequential(MultiQueryAttention2d(8, kv_stride=2, dilation=2)), r"has `dilation`"),
    (
        nn.Sequential(MultiQueryAttention2d(8, kv_stride=2, dw_kernel_size=4)),
        r"`dw_kernel_size` \(=4\) must be odd",
    ),
    (MultiQueryAttention2d(8), r"is itself the layer.*`transfer.from_timm\(layer\)`"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED)
def test_a_model_with_nothing_to_replace_or_what_ours_cannot_be_is_refused_and_left_as_it_was(model, message):
    before = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        transfer.replace_in(model)
    assert [type(module) for module in model.modules()] == before


def test_another_module_is_no_layer_of_timm():
    with pytest.raises(ValueError, match=r"`layer` \(=Conv2d\) must be timm's `MultiQueryAttention2d`"):
        transfer.from_timm(nn.Conv2d(3, 5, 1))


REFUSED_ARRAYS = [
    ({"_output_proj/bias": np.zeros(3)}, r"`arrays` \(=_output_proj/bias\) is no variable of a Mobile MQA"),
    (
        {"_query_proj/kernel": np.zeros((1, 1, 3, 5))},
        r"all four projections \(_key_proj, _value_proj, _output_proj",
    ),
    (
        {f"{layer}/_query_proj/kernel": np.zeros((1, 1, 3, 5)) for layer in ("a", "b")},
        r"`arrays` \(=b/_query_proj/kernel\) is a second array for `query.proj.weight`.*one layer at a time",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), REFUSED_ARRAYS)
def test_arrays_of_something_else_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        transfer.from_tensorflow(arrays)


def test_torchvision_extracts_features_from_a_timm_model_with_our_layers(medium):
    ours, _ = swapped(medium)
    extractor = create_feature_extractor(
        ours, {"blocks.3": "map"}, tracer_kwargs={"leaf_modules": [MobileMQA]}
    )
    theirs = create_feature_extractor(copy.deepcopy(medium), {"blocks.3": "map"})
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(extractor(x)["map"], theirs(x)["map"], rtol=1e-4, atol=1e-4)
