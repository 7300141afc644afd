"""The shape tracer shows what ran for the chosen sizes, and says why odd sizes come out as they do."""

import html
import re

import pytest
import torch

from mqa_lib import MobileMQA, cost, labs, trace
from mqa_lib.labs import tracer

MOVES = [
    ("height", 13),
    ("width", 32),
    ("dim", 128),
    ("num_heads", 2),
    ("key_dim", 32),
    ("query_strides", 2),
    ("kv_stride", 3),
]


def texts(lab: labs.ShapeTracer) -> str:
    return html.unescape(re.sub("<[^>]+>", " ", lab.table.value + lab.said.value))


@pytest.mark.parametrize(("name", "value"), MOVES)
def test_every_slider_changes_the_picture_the_table_and_the_sums(name: str, value: int) -> None:
    lab = labs.shape_tracer()
    picture, before, told = lab.picture, lab.picture.value, texts(lab)
    lab.sliders[name].value = value
    assert lab.picture is picture and picture.value != before and texts(lab) != told
    priced = tracer.formula(**lab.chosen)
    for total in (f"{priced.params:,}", f"{priced.macs:,}"):
        assert texts(lab).count(total) >= 2  # what ran, and what the formulas say
    assert not any(slider.continuous_update for slider in lab.sliders.values())


def test_the_memory_format_decides_what_is_copied() -> None:
    lab = labs.shape_tracer(query_strides=1)
    assert "4 copy" in lab.said.value and trace.COPY in lab.table.value
    lab.memory_format.value = "channels_last (NHWC)"
    assert "0 copy" in lab.said.value and trace.COPY not in lab.table.value


def test_views_are_listed_when_asked_for() -> None:
    lab = labs.shape_tracer()
    assert "permute" not in lab.table.value
    lab.every.value = True
    assert lab.table.value.count("<tr>") == len(lab.operations) + 2  # the head, and the sums
    assert "permute" in lab.table.value


@pytest.mark.parametrize("kv_stride", [2, 3, 4])
@pytest.mark.parametrize("extent", [7, 13, 25, 40])
def test_the_words_on_odd_sizes_say_what_the_layer_does(extent: int, kv_stride: int) -> None:
    lab = labs.shape_tracer(height=extent, width=kv_stride * 5, kv_stride=kv_stride)
    keys = MobileMQA(8, num_heads=1, kv_stride=kv_stride).key(torch.zeros(1, 8, extent, 7)).shape[2]
    pattern = r"(\d+) rows at stride (\d+) give (\d+) of keys, .*: \((\d+) - 3 \+ (\d+) of padding\) // (\d+) \+ 1\."
    said = re.search(pattern, lab.said.value)
    if extent % kv_stride == 0:
        assert said is None
    else:
        assert said is not None
        *counts, rows, padding, stride = map(int, said.groups())
        assert counts == [extent, kv_stride, keys]
        assert (rows - 3 + padding) // stride + 1 == keys


def test_a_window_of_pooling_that_the_border_cuts_is_explained() -> None:
    lab = labs.shape_tracer(height=25, width=20, query_strides=3, kv_stride=1)
    assert "25 rows pooled by 3 give 9 of queries" in lab.said.value
    assert "averages the 1 of 3 that it has. Enlarging makes 27" in lab.said.value
    assert "20 columns pooled by 3 give 7" in lab.said.value


def test_the_flow_has_the_shapes_that_the_layer_hands_out() -> None:
    lab = labs.shape_tracer(13, 16, 32, 2, 8, 2, 2)
    boxes = {box.name: box for box in tracer.boxes(lab.operations, 2)}
    layer = MobileMQA(32, num_heads=2, key_dim=8, value_dim=8, query_strides=2, kv_stride=2).eval()
    weights = layer.weights(torch.randn(1, 32, 13, 16))
    assert boxes["scores"].shape == tuple(weights.shape[1:]) and not boxes["scores"].written
    assert boxes["output"].shape == boxes["map"].shape == (32, 13, 16)
    for box in boxes.values():
        assert " by ".join(map(str, box.shape)) in lab.alt
        assert cost.in_thousands(box.numbers) in lab.alt


def test_a_refused_size_is_said_in_the_lab_and_raised() -> None:
    lab = labs.shape_tracer()
    with pytest.raises(ValueError, match="num_heads"):
        lab.sliders["num_heads"].options = (0, 4)
        lab.sliders["num_heads"].value = 0
    assert 'role="alert"' in lab.said.value and "num_heads" in lab.said.value
