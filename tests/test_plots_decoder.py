"""Pictures of the decoder show its points where they lie, with areas that are their weights."""

import numpy as np
import pytest
import torch

from mqa_lib import decoder, plots
from mqa_lib.decoder import SamplingRecord

LAYERS, HEADS, LEVELS, POINTS = 3, 2, 2, 5


@pytest.fixture
def points() -> SamplingRecord:
    """Return a record of two detections in a picture of 31 rows and 43 columns."""
    random = np.random.RandomState(0)
    scores = random.rand(LAYERS, 2, HEADS, LEVELS, POINTS).astype(np.float32)
    boxes = np.array([[5, 7, 17, 30], [1, 2, 11, 13]], np.float32)
    return SamplingRecord(
        points=(random.rand(LAYERS, 2, HEADS, LEVELS, POINTS, 2) * (31, 43)).astype(np.float32),
        weights=scores / scores.sum((-1, -2), keepdims=True),
        references=np.broadcast_to(boxes + 1, (LAYERS, 2, 4)).copy(),
        boxes=boxes,
        scores=np.array([0.9, 0.3], np.float32),
        queries=(11, 2),
        classes=(1, 0),
        labels=("a $ sign", "lock"),
        grids=((8, 11), (4, 6)),
        image=random.randint(0, 256, (31, 43, 3)).astype(np.uint8),
        layers=("one", "two", "three"),
        weights_are="Made by hand.",
    )


@pytest.mark.parametrize("detection", [0, 1])
def test_every_point_is_drawn_in_its_place_with_an_area_that_is_its_weight(points, detection):
    fig = plots.sampling_figure(points, detection)
    shares = []
    for layer, ax in enumerate(fig.axes[:LAYERS]):
        drawn = [part for part in ax.collections if len(part.get_offsets())]
        assert len(drawn) == LEVELS
        for level, part in enumerate(drawn):
            places = points.points[layer, detection, :, level].reshape(-1, 2)
            # matplotlib counts from the middle of the first pixel, and gives the column first
            np.testing.assert_allclose(part.get_offsets()[:, ::-1], places - 0.5, atol=1e-4)
            shares.append(part.get_sizes() / points.weights[layer, detection, :, level].ravel())
    np.testing.assert_allclose(shares, shares[0][0], rtol=1e-4)


def test_the_figure_can_be_written_whatever_a_class_is_called(points):
    assert plots.png(plots.sampling_figure(points)).startswith(b"\x89PNG")


def test_the_sentence_says_the_strongest_point_of_every_layer(points):
    said = plots.sampling_alt(points, 1)
    for layer in range(LAYERS):
        best = points.weights[layer, 1].max()
        head = int(np.argwhere(points.weights[layer, 1] == best)[0][0])
        assert f"layer {layer} reads" in said and f"({best:.1%} of head {head})" in said


def test_the_middle_of_a_detection_is_a_pixel_of_the_picture(points):
    assert points.middle(0) == (11, 18)
    outside = SamplingRecord(**{**vars(points), "boxes": points.boxes + 1000})
    assert outside.middle(1) == (30, 42)


def test_a_class_without_a_name_is_called_by_its_number(points):
    found = decoder.Found(
        torch.rand(LAYERS, 1, HEADS, LEVELS, POINTS, 2),
        torch.rand(LAYERS, 1, HEADS, LEVELS, POINTS),
        torch.rand(LAYERS, 1, 4),
        torch.rand(1, 4),
        torch.rand(1),
        [3],
        [5],
        points.grids,
        points.layers,
    )
    assert decoder.record(found, points.image, ["key"], "").labels == ("class 5",)
