"""The layer survives what is done to layers: copying, pickling, exporting, other number formats."""

import copy
import io

import pytest
import torch

from mqa_lib import MobileMQA


def layer_and_map(query_strides=(2, 1)):
    torch.manual_seed(0)
    layer = MobileMQA(
        10, num_heads=2, key_dim=3, value_dim=7, query_strides=query_strides, kv_stride=2
    ).eval()
    return layer, torch.randn(2, 10, 13, 17)


def pickled(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("travel", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
def test_a_copy_gives_the_same_output(travel):
    layer, x = layer_and_map()
    assert torch.equal(travel(layer)(x), layer(x))


def test_torch_export_gives_the_same_output_at_another_size():
    layer, x = layer_and_map(query_strides=1)  # a query stride fixes the parity of the size when exported
    height, width = torch.export.Dim("height", min=3, max=64), torch.export.Dim("width", min=3, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": {2: height, 3: width}})
    other = torch.randn(2, 10, 19, 11)
    torch.testing.assert_close(program.module()(other), layer(other))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_near_single_precision(dtype):
    layer, x = layer_and_map()
    with torch.autocast("cpu", dtype=dtype):
        half = layer(x)
    torch.testing.assert_close(half.float(), layer(x), rtol=0.05, atol=0.03)


def test_on_the_meta_device_only_shapes_are_computed():
    layer = MobileMQA(10, num_heads=2, kv_stride=2).to("meta")
    assert layer(torch.empty(3, 10, 13, 17, device="meta")).shape == (3, 10, 13, 17)
