"""What is recorded of any RT-DETR makes the very output of its layers, its own users' stock models included."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from ultralytics import RTDETR

from mqa_lib import pictures, record, rtdetr
from mqa_lib.decoder import SamplingRecord

DATA = Path(__file__).parents[2] / "data"
PICTURE = DATA / "keys_and_locks/images/val/000000.png"
SIZE = 160  # pixels the picture is stretched to; a multiple of the stride
TOLERANCE = 5e-3  # q and k are kept in float16


def trained() -> RTDETR:
    return rtdetr.load(DATA / "weights/rtdetr-nano-mobile-mqa.safetensors")


def stock(name: str = "rtdetr-l.yaml") -> RTDETR:
    """Return a stock model whose heads, queries and cells all differ; in a new one they are next to alike."""
    torch.manual_seed(0)
    model = RTDETR(name)
    for key, value in model.model.named_parameters():
        if "sampling_offsets" in key or "attention_weights" in key or "bbox_head" in key:
            nn.init.normal_(value, std=0.05)
        if "in_proj" in key:
            nn.init.normal_(value, std=0.15)
    norms = [module.train() for module in model.model.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.model(pictures.tensor(oblong(), (SIZE, SIZE)))  # sets the statistics to this picture's
    model.model.eval().requires_grad_(False)
    return model


def oblong() -> np.ndarray:
    """Return a picture that no size of a model fits: 97 rows, 211 columns."""
    coarse = np.random.RandomState(1).randint(0, 256, (7, 13, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((14, 17, 1), np.uint8))[:97, :211]


MODELS = {
    "ours": trained,
    "ours in the encoder": lambda: stock(str(rtdetr.MODELS["rtdetr-nano-mqa-encoder"])),
    "stock l": stock,
    "stock resnet50": lambda: stock("rtdetr-resnet50.yaml"),
}


@pytest.fixture(scope="module", params=MODELS)
def seen(request) -> tuple[nn.Module, list[record.AttentionRecord], SamplingRecord, dict]:
    """Return a network, its records of an oblong picture, and what went in and out of every module named in them."""
    model, image = MODELS[request.param](), oblong()
    layers = record.capture(model, image, size=SIZE)
    points = record.capture_decoder(model, image, size=SIZE, count=3, at_least=0.0)
    passed = {}
    names = {entry.layer for entry in layers} | set(points.layers)
    names |= {f"{entry.layer}.ma" for entry in layers if entry.kind == "AIFI"}
    hooks = [
        model.model.get_submodule(name).register_forward_hook(
            lambda _, inputs, named, output, name=name: passed.update({name: (inputs, named, output)}),
            with_kwargs=True,
        )
        for name in names
    ]
    core, batch = record.core_and_batch(model, image, SIZE)
    with torch.no_grad():
        core.eval()(batch)
    for hook in hooks:
        hook.remove()
    return core, layers, points, passed


def mixed(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return what heads read, their channels side by side: (queries, heads × channels)."""
    return torch.einsum("hqk,hkd->qhd", weights, values).flatten(1)


def test_weights_of_mobile_mqa_make_its_output(seen):
    core, layers, _, passed = seen
    for entry in (entry for entry in layers if entry.kind == "Mobile MQA"):
        layer, ((x, *others), _, output) = core.get_submodule(entry.layer), passed[entry.layer]
        read_from = others[0] if others else x  # an encoder adds the positions to queries and keys alone
        values = layer.value(read_from)[0].flatten(1).T.expand(layer.num_heads, -1, -1)
        read = mixed(torch.from_numpy(entry.weights()), values).T.unflatten(-1, x.shape[-2:])
        assert float((layer.output(read[None]) - output).abs().max()) < 0.02 * float(output.std())
        alike = torch.from_numpy(entry.weights().mean(0)).expand(layer.num_heads, -1, -1)
        same = mixed(alike, values).T.unflatten(-1, x.shape[-2:])
        assert float((layer.output(same[None]) - output).abs().max()) > 0.1 * float(output.std())


def aifi_output(attention: nn.MultiheadAttention, weights: np.ndarray, value: torch.Tensor) -> torch.Tensor:
    heads = attention.num_heads
    projection, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
    values = F.linear(value[0], projection, bias).unflatten(-1, (heads, -1)).transpose(0, 1)
    return attention.out_proj(mixed(torch.from_numpy(weights), values))


def test_weights_of_every_head_of_aifi_make_its_output_and_their_average_does_not(seen):
    core, layers, _, passed = seen
    for entry in (entry for entry in layers if entry.kind == "AIFI"):
        name = f"{entry.layer}.ma"
        attention, (inputs, named, (output, averaged)) = core.get_submodule(name), passed[name]
        value, weights = named["value"] if "value" in named else inputs[2], entry.weights()
        alike = np.broadcast_to(weights.mean(0), weights.shape).copy()
        off, off_alike = (
            float((aifi_output(attention, shares, value) - output[0]).abs().max())
            for shares in (weights, alike)
        )
        spread = float(output.std())
        assert off < 0.02 * spread and off_alike > 0.1 * spread
        np.testing.assert_allclose(weights.mean(0), averaged[0].numpy(), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("ours", ["Mobile MQA", "Mobile MQA", "AIFI"]),
        ("ours in the encoder", ["Mobile MQA"]),
        ("stock l", ["AIFI"]),
    ],
)
def test_every_attention_over_a_grid_is_found(name, kinds):
    found = record.capture(MODELS[name](), oblong(), size=SIZE)
    assert [(entry.kind, entry.num_heads > 1) for entry in found] == [(kind, True) for kind in kinds]


def sampled(maps: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """Return a map (height, width, channels) read between its cells at a place given in cells; zero outside."""
    top, left = int(np.floor(rows - 0.5)), int(np.floor(columns - 0.5))
    down, across = rows - 0.5 - top, columns - 0.5 - left
    read = np.zeros(maps.shape[2])
    for row, by_row in ((top, 1 - down), (top + 1, down)):
        for column, by_column in ((left, 1 - across), (left + 1, across)):
            if 0 <= row < maps.shape[0] and 0 <= column < maps.shape[1]:
                read += by_row * by_column * maps[row, column]
    return read


def decoder_output(layer: nn.Module, points: SamplingRecord, number: int, feats: torch.Tensor) -> np.ndarray:
    """Return what one layer reads at the recorded places with the recorded weights, a loop over all of them."""
    value = layer.value_proj(feats)[0].numpy()
    edges = np.cumsum([rows * columns for rows, columns in points.grids])[:-1]
    maps = [
        part.reshape(*grid, layer.n_heads, -1)
        for part, grid in zip(np.split(value, edges), points.grids, strict=True)
    ]
    read = np.zeros((len(points.scores), layer.n_heads, maps[0].shape[-1]))
    height, width = points.image.shape[:2]
    for place in np.ndindex(points.weights.shape[1:]):
        detection, head, level, _ = place
        row, column = points.points[(number, *place)] / (height, width) * points.grids[level]
        read[detection, head] += points.weights[(number, *place)] * sampled(
            maps[level][:, :, head], row, column
        )
    return layer.output_proj(torch.from_numpy(read).float().flatten(1)).numpy()


def test_points_and_weights_make_the_output_of_every_layer_of_the_decoder(seen):
    core, _, points, passed = seen
    assert len(points.layers) == len(core.model[-1].decoder.layers)
    for number, name in enumerate(points.layers):
        (_, _, feats, *_), _, output = passed[name]
        expected = output[0, list(points.queries)].numpy()
        made = decoder_output(core.get_submodule(name), points, number, feats)
        np.testing.assert_allclose(made, expected, atol=1e-3 * np.abs(expected).max())


def test_a_head_of_the_decoder_gives_weights_that_sum_to_one_and_heads_differ(seen):
    weights = seen[2].weights
    np.testing.assert_allclose(weights.sum((-1, -2)), 1, atol=1e-5)
    assert np.abs(weights[:, :, 0] - weights[:, :, 1]).max() > 0.01


def test_each_layer_starts_from_the_box_that_the_one_before_ended_with(seen):
    _, _, points, passed = seen
    tops, lefts = points.references[-1, :, 0], points.references[-1, :, 1]
    refer = passed[points.layers[-1]][0][1][0, list(points.queries), 0].numpy()
    np.testing.assert_allclose(tops, (refer[:, 1] - refer[:, 3] / 2) * 97, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(lefts, (refer[:, 0] - refer[:, 2] / 2) * 211, rtol=1e-4, atol=1e-3)


def predicted(model: RTDETR, picture: Path, size: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    found = model.predict(picture, imgsz=size, conf=0.25, verbose=False, device="cpu")[0].boxes
    corners = found.xyxy.numpy()[:, [1, 0, 3, 2]]
    return corners, found.conf.numpy(), [model.names[int(number)] for number in found.cls]


def test_detections_are_those_that_the_model_predicts():
    model = trained()
    points = record.capture_decoder(model, PICTURE)
    corners, scores, labels = predicted(trained(), PICTURE, 128)
    assert len(scores) >= 8 and list(points.labels) == labels
    np.testing.assert_allclose(points.scores, scores, atol=1e-3)
    np.testing.assert_allclose(points.boxes, corners, atol=0.05)


def run(model: RTDETR) -> None:
    """Run the network itself as a prediction does, after which its head keeps anchors that take no gradients."""
    with torch.inference_mode():
        model.model(pictures.tensor(pictures.read(PICTURE), (128, 128)))


def turned(change: str) -> RTDETR:
    model = trained()
    if change == "predicted with":
        predicted(model, PICTURE, 128)
    elif change == "run, then half":
        run(model)
        model.model.half()
    elif change == "channels last":
        model.model.to(memory_format=torch.channels_last)
    else:
        getattr(model.model, change)()
    return model


SURE = 7  # detections of the picture whose scores differ by more than half precision's error


@pytest.mark.parametrize(
    "change",
    ["fuse", "half", "bfloat16", "channels last", "predicted with", "run, then half", "train"],
)
def test_a_model_in_any_state_shows_the_same_and_stays_as_it_was(change):
    model, rough = turned(change), 0.1 if change == "bfloat16" else 0.02
    head = model.model.model[-1]
    before = (model.model.training, head.shapes, head.anchors, head.anchors.dtype)
    layers, points = record.capture(model, PICTURE), record.capture_decoder(model, PICTURE, count=SURE)
    for ours, theirs in zip(layers, record.capture(trained(), PICTURE), strict=True):
        assert np.abs(ours.weights() - theirs.weights()).mean() < rough / 10
    as_it_is = record.capture_decoder(trained(), PICTURE, count=SURE)
    # In half precision the encoder may hand the same places to the decoder in another order.
    order = [np.abs(points.boxes - box).max(-1).argmin() for box in as_it_is.boxes]
    assert sorted(points.labels) == sorted(as_it_is.labels) and len(set(order)) == len(order)
    assert np.abs(points.boxes[order] - as_it_is.boxes).max() < 128 * rough
    assert np.abs(points.weights[:, order] - as_it_is.weights).mean() < rough
    after = (model.model.training, head.shapes, head.anchors, head.anchors.dtype)
    assert all(now is then for now, then in zip(after, before, strict=True))


def test_what_a_key_knows_of_can_be_asked_after_a_prediction():
    model = trained()
    run(model)
    top, left, bottom, right = record.reach(model, PICTURE, "model.5.attn", 9)
    assert 0 <= top < bottom <= 128 and 0 <= left < right <= 128


@pytest.mark.parametrize(
    ("size", "grid"),
    [(100, (4, 4)), (129, (5, 5)), ((97, 160), (4, 5)), (None, (4, 4))],
)
def test_a_size_is_rounded_up_to_the_stride_as_in_prediction(size, grid):
    assert record.capture(trained(), PICTURE, size=size)[-1].query_grid == grid


def test_of_no_detection_that_scores_enough_the_best_is_kept():
    points = record.capture_decoder(stock(), oblong(), size=SIZE, at_least=0.999)
    assert len(points.scores) == 1
    every = record.capture_decoder(stock(), oblong(), size=SIZE, at_least=0.0, count=7)
    assert every.scores[0] == points.scores[0] and list(every.scores) == sorted(every.scores, reverse=True)


def test_shares_and_strongest_points_are_sums_of_the_weights():
    points = record.capture_decoder(trained(), PICTURE, count=3)
    weights, places = points.weights[1, 2], points.points[1, 2]
    best = points.top(1, 2, 4)
    assert [point.share for point in best] == sorted(weights.ravel().tolist(), reverse=True)[:4]
    first = np.argwhere(weights == weights.max())[0]
    assert [best[0].row, best[0].column] == places[tuple(first)].tolist()
    assert (best[0].head, best[0].level) == tuple(first[:2])
    box = points.box(2)
    inside = [
        weights[at]
        for at in np.ndindex(weights.shape)
        if box.top <= places[at][0] < box.bottom and box.left <= places[at][1] < box.right
    ]
    assert points.share_within(1, 2, box) == pytest.approx(sum(inside) / len(weights), rel=1e-5)


def test_the_surroundings_of_a_detection_hold_its_box_and_its_points_and_are_no_strip():
    points = record.capture_decoder(stock(), oblong(), size=SIZE, at_least=0.0, count=5)
    for number in range(5):
        top, left, bottom, right = points.surroundings(number)
        assert 0 <= top < bottom <= 97 and 0 <= left < right <= 211
        assert 0.49 < (bottom - top) / (right - left) < 2.1
        rows, columns = np.moveaxis(points.points[:, number], -1, 0)
        inside = (rows >= 0) & (rows < 97) & (columns >= 0) & (columns < 211)
        assert inside.any()
        assert top <= rows[inside].min() and rows[inside].max() <= bottom
        assert left <= columns[inside].min() and columns[inside].max() <= right
        box = points.box(number)
        assert top <= max(box.top, 0) and min(box.bottom, 97) <= bottom


def test_a_record_of_points_that_do_not_fit_is_refused():
    points = record.capture_decoder(trained(), PICTURE, count=2)
    with pytest.raises(ValueError, match=r"`labels`.*must hold 2.*capture_decoder"):
        replace(points, labels=("key",))
    with pytest.raises(ValueError, match=r"`layer` \(=3\) must be from 0 to 2"):
        points.reference(3, 0)


def test_a_record_of_points_comes_back_from_its_file_unchanged(tmp_path):
    points = record.capture_decoder(trained(), PICTURE, count=2)
    back = SamplingRecord.load(points.save(tmp_path / "points.npz"))
    for name, value in vars(points).items():
        np.testing.assert_array_equal(getattr(back, name), value)
        assert type(getattr(back, name)) is type(value)
