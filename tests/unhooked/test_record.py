"""What records refuse, with its way out; and RT-DETR's own encoder layer, seen head by head."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mqa_lib import MobileMQA, pictures
from mqa_lib.record import AttentionRecord, capture

GREY = np.full((29, 31, 3), 128, np.uint8)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), MobileMQA(8, num_heads=2, key_dim=5))


@pytest.fixture(scope="module")
def taken() -> AttentionRecord:
    return capture(network(), GREY)[0]


REFUSED_PICTURES = [
    (np.zeros((29, 31, 3)), "array of float64.*uint8"),
    (np.zeros((29, 31, 2), np.uint8), "shape \\(29, 31, 2\\)"),
    (np.zeros((29, 0, 3), np.uint8), "shape \\(29, 0, 3\\)"),
    (np.zeros((1, 3, 29, 31), np.uint8), "height × width"),
    (torch.zeros(3, 29, 31), "Tensor.*is not a picture"),
    ("nowhere.png", "nowhere.png.*is not there.*Give a path"),
    (Image.new("F", (31, 29)), "floating-point"),
]


@pytest.mark.parametrize(("image", "said"), REFUSED_PICTURES)
def test_what_is_no_picture_is_refused_with_its_way_out(image, said):
    with pytest.raises(ValueError, match=said):
        capture(network(), image)


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_a_file_that_holds_no_picture_is_refused_by_name(content, tmp_path):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png.*cannot be read as a picture"):
        pictures.read(tmp_path / "broken.png")


def test_a_picture_that_was_cut_off_is_refused_by_name(tmp_path):
    whole, cut = tmp_path / "whole.png", tmp_path / "cut.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (29, 31, 3)).astype(np.uint8)).save(whole)
    cut.write_bytes(whole.read_bytes()[:-900])
    with pytest.raises(ValueError, match=r"cut\.png.*cannot be read as a picture"):
        pictures.read(cut)


def test_a_model_without_attention_is_refused_with_what_was_looked_for():
    with pytest.raises(ValueError, match=r"`model` \(=Sequential\).*MobileMQA.*AIFI.*2 modules"):
        capture(nn.Sequential(nn.Conv2d(3, 8, 1)), GREY)


def test_a_model_that_does_not_run_its_attention_is_refused():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare = MobileMQA(8, num_heads=2)

        def forward(self, x):
            return x

    with pytest.raises(ValueError, match="did not run its attention \\(spare\\)"):
        capture(Idle(), GREY)


def test_hooks_and_modes_are_put_back_after_an_error():
    model = network().train()
    model.append(nn.Conv2d(99, 1, 1))
    with pytest.raises(RuntimeError):
        capture(model, GREY)
    assert model.training and not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: r.row(240, 0), "`query` \\(=240\\).*0 to 239"),
        (lambda r: r.row(-1, 0), "`query` \\(=-1\\)"),
        (lambda r: r.weights(2), "`head` \\(=2\\).*0 to 1"),
        (lambda r: r.footprint(240), "`key` \\(=240\\)"),
        (lambda r: r.top(0, 0, 0), "`count` \\(=0\\)"),
        (lambda r: r.query_at(29, 0), "outside the picture of 29×31"),
        (lambda r: replace(r, key_grid=(3, 5)), "`key_grid`.*does not hold 240"),
        (lambda r: replace(r, k=r.q[:0]), "`k`.*one set of keys, or one for each of 2 heads"),
    ],
)
def test_a_place_that_is_not_there_is_refused(taken, call, said):
    with pytest.raises(ValueError, match=said):
        call(taken)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_record_is_refused_by_name(content, tmp_path):
    path = tmp_path / "one.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"one\.npz.*does not hold an attention record"):
        AttentionRecord.load(path)


def test_a_file_with_pickled_objects_is_not_opened(tmp_path):
    path = tmp_path / "one.npz"
    np.savez(path, q=np.array([{}], dtype=object), k=1, image=1, about="{}")
    with pytest.raises(ValueError, match="does not hold an attention record"):
        AttentionRecord.load(path)


def test_records_need_neither_ultralytics_nor_pil_until_a_picture_is_read():
    code = (
        "import sys, mqa_lib.record; print(sorted({'ultralytics', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


class Attended(nn.Module):
    """Keeps what `nn.MultiheadAttention` itself returns for the tokens that it is given."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.attention, self.weights = attention, {}

    def forward(self, *inputs, **named):
        for averaged in (True, False):
            _, self.weights[averaged] = self.attention(*inputs, **named, average_attn_weights=averaged)
        return self.attention(*inputs, **named)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("attention"), name)


class AIFI(nn.Module):
    """Another library's layer of that name, whose attention has another one."""

    def __init__(self):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(8, 2)

    def forward(self, x):
        tokens = x.flatten(2).permute(2, 0, 1)
        return self.self_attn(tokens, tokens, tokens)[0].permute(1, 2, 0).view_as(x)


def test_a_foreign_layer_of_the_same_name_is_passed_over():
    model = network()
    model.append(AIFI())
    assert [record.kind for record in capture(model, GREY)] == ["Mobile MQA"]
    with pytest.raises(ValueError, match="holds no attention over a grid"):
        capture(nn.Sequential(nn.Conv2d(3, 8, 4, 4), AIFI()), GREY)


@pytest.mark.parametrize("norm_first", [False, True])
def test_heads_of_aifi_are_those_of_its_attention_and_average_to_its_weights(norm_first):
    modules = pytest.importorskip("ultralytics.nn.modules.transformer")
    torch.manual_seed(0)
    aifi = modules.AIFI(16, 32, num_heads=2, normalize_before=norm_first)
    nn.init.normal_(aifi.ma.in_proj_weight)
    nn.init.normal_(aifi.ma.in_proj_bias)  # the pretrained detectors have biases; a new layer's are zero
    aifi.ma = Attended(aifi.ma)
    image = np.random.RandomState(0).randint(0, 256, (20, 28, 3)).astype(np.uint8)
    record = capture(nn.Sequential(nn.Conv2d(3, 16, 4, 4), aifi), image)[0]
    seen = {averaged: weights[0].numpy() for averaged, weights in aifi.ma.weights.items()}
    assert (record.query_grid, record.key_grid, record.shares_keys) == ((5, 7), (5, 7), False)
    np.testing.assert_allclose(record.weights(), seen[False], atol=5e-3)  # q and k are kept in float16
    np.testing.assert_allclose(record.weights().mean(0), seen[True], atol=5e-3)
    assert np.abs(record.weights()[0] - seen[True]).max() > 0.1


def test_capture_sees_in_rtdetr_what_its_own_prediction_computes():
    rtdetr = pytest.importorskip("mqa_lib.rtdetr")
    torch.manual_seed(0)
    model = rtdetr.load("rtdetr-nano-mobile-mqa")
    image = np.random.RandomState(0).randint(0, 256, (90, 150, 3)).astype(np.uint8)
    ours = capture(model, image, size=128)
    seen = {}
    for record in ours:
        layer = model.model.get_submodule(record.layer)
        layer.register_forward_pre_hook(
            lambda _, inputs, name=record.layer: seen.update({name: inputs[0].clone()})
        )
    model.predict(image[..., ::-1], imgsz=128, verbose=False, device="cpu")  # ultralytics takes arrays as BGR
    theirs = [r for r in ours if r.kind == "Mobile MQA"]
    assert [r.kind for r in ours] == ["Mobile MQA", "Mobile MQA", "AIFI"]
    for record in theirs:
        with torch.inference_mode():
            expected = model.model.get_submodule(record.layer).weights(seen[record.layer])[0].numpy()
        np.testing.assert_allclose(record.weights(), expected, atol=5e-3)
