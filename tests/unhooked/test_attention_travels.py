"""The layer survives what is done to layers: copying, compiling, exporting, differentiating, other number formats."""

import copy
import io
import pickle
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from mqa_lib import MobileMQA, MobileMQABlock, kernels
from mqa_lib.fold import fold

SIZES = {"num_heads": 2, "key_dim": 3, "value_dim": 7}
VARIANTS = [
    {"kv_stride": 2},
    {"query_strides": (2, 1), "kv_stride": 2},
    {"kv_stride": 2, "padding": "same"},
    {},
]
OTHER_MAPS = [(19, 11), (12, 16), (13, 8), (3, 64)]  # odd, even, mixed, flat


def named(options):
    return "-".join(f"{name}={value}" for name, value in options.items()) or "plain"


def layer_and_map(**options):
    torch.manual_seed(0)
    layer = MobileMQA(10, **{**SIZES, "query_strides": (2, 1), "kv_stride": 2, **options}).eval()
    return layer, torch.randn(2, 10, 13, 17)


def dynamic():
    sizes = torch.export.Dim("height", min=3, max=64), torch.export.Dim("width", min=3, max=64)
    return {"x": {2: sizes[0], 3: sizes[1]}}


def pickled(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def loaded(layer):
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    fresh = MobileMQA(10, **SIZES, query_strides=(2, 1), kv_stride=2).eval()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    return fresh


@pytest.mark.parametrize("travel", [copy.deepcopy, pickled, loaded], ids=["deepcopy", "pickle", "state_dict"])
def test_a_copy_gives_the_same_output_and_owns_its_weights(travel):
    layer, x = layer_and_map()
    again, expected = travel(layer), layer(x)
    assert torch.equal(again(x), expected)
    layer.value.proj.weight.data.zero_()
    assert torch.equal(again(x), expected)


def test_a_layer_pickled_before_it_had_all_its_attributes_still_runs():
    layer, x = (
        MobileMQA(10, num_heads=2, key_dim=5, kv_stride=2, query_strides=2).eval(),
        torch.randn(2, 10, 7, 11),
    )
    expected = layer(x)
    for name in ("merged", "padding"):
        del layer.__dict__[name]
    again = pickle.loads(pickle.dumps(layer))
    assert torch.equal(again(x), expected)


@pytest.mark.parametrize("options", [VARIANTS[1], VARIANTS[2]], ids=named)
def test_it_compiles_as_one_graph_for_any_size_and_differentiates(options):
    torch._dynamo.reset()
    layer, x = layer_and_map(**{"query_strides": 1, "kv_stride": 1, **options})
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for height, width in OTHER_MAPS[:2]:
        x = torch.randn(2, 10, height, width)
        torch.testing.assert_close(compiled(x), layer(x))
    layer.zero_grad()
    compiled(x).square().sum().backward()
    through = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    layer(x).square().sum().backward()
    for parameter, gradient in zip(layer.parameters(), through, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_inductors_kernels_give_the_same_output():
    torch._dynamo.reset()
    layer, x = layer_and_map()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(layer, fullgraph=True)(x), layer(x))


@pytest.mark.parametrize("options", [o for o in VARIANTS if "query_strides" not in o], ids=named)
def test_torch_export_gives_the_same_output_at_any_size(options):
    layer, x = layer_and_map(**{"query_strides": 1, "kv_stride": 1, **options})
    program = torch.export.export(layer, (x,), dynamic_shapes=dynamic())
    for height, width in OTHER_MAPS:
        other = torch.randn(2, 10, height, width)
        torch.testing.assert_close(program.module()(other), layer(other))


def test_torch_export_with_strided_queries_takes_any_multiple_of_the_stride():
    layer, _ = layer_and_map(query_strides=(3, 2))
    height, width = (torch.export.Dim(name, min=2, max=64) for name in ("height", "width"))
    sizes = {"x": {2: 3 * height, 3: 2 * width}}
    program = torch.export.export(layer, (torch.randn(2, 10, 21, 10),), dynamic_shapes=sizes)
    for rows, columns in [(2, 32), (5, 3), (4, 8)]:
        other = torch.randn(2, 10, 3 * rows, 2 * columns)
        torch.testing.assert_close(program.module()(other), layer(other))


@pytest.mark.parametrize("options", VARIANTS, ids=named)
def test_onnx_gives_the_same_output_at_any_size(options, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    layer, x = layer_and_map(**{"query_strides": 1, "kv_stride": 1, **options})
    path = tmp_path / "layer.onnx"
    torch.onnx.export(layer, (x,), path, dynamo=True, dynamic_shapes=dynamic(), verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for height, width in OTHER_MAPS:
        other = torch.randn(2, 10, height, width)
        (output,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
        np.testing.assert_allclose(output, layer(other).detach().numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{"kv_stride": 2}, {"kv_stride": 2, "query_strides": 2}], ids=named)
def test_a_folded_block_goes_to_onnx_for_any_size(options, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    torch.manual_seed(0)
    block = MobileMQABlock(10, 2, 3, layer_scale=1.0, **options)
    block(torch.randn(5, 10, 13, 17))  # gives its norms statistics
    folded = fold(block)
    torch.onnx.export(
        folded,
        (torch.randn(2, 10, 13, 17),),
        tmp_path / "block.onnx",
        dynamo=True,
        dynamic_shapes=dynamic(),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "block.onnx", providers=["CPUExecutionProvider"])
    for height, width in OTHER_MAPS:
        other = torch.randn(2, 10, height, width)
        (output,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
        np.testing.assert_allclose(output, block.eval()(other).detach().numpy(), rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_jit_trace_gives_the_same_output():
    layer, x = layer_and_map()
    traced = torch.jit.trace(layer, x)
    for other in (x, torch.randn(3, 10, 14, 8)):
        torch.testing.assert_close(traced(other), layer(other))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", VARIANTS, ids=named)
def test_autocast_stays_near_single_precision(dtype, options):
    layer, x = layer_and_map(**{"query_strides": 1, "kv_stride": 1, **options})
    with torch.autocast("cpu", dtype=dtype):
        half = layer(x)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), layer(x), rtol=0.05, atol=0.03)


def test_a_layer_in_bfloat16_takes_a_map_in_bfloat16():
    layer, x = layer_and_map()
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(x), rtol=0.05, atol=0.03)


@torch.no_grad()
@pytest.mark.parametrize("options", VARIANTS, ids=named)
@pytest.mark.parametrize("whole", [MobileMQA, MobileMQABlock], ids=["layer", "block"])
def test_channels_last_in_gives_channels_last_out(options, whole):
    options = {key: value for key, value in options.items() if whole is MobileMQA or key != "padding"}
    layer = whole(10, **SIZES, **options).eval()
    x = torch.randn(2, 10, 13, 17)
    output = layer(x.to(memory_format=torch.channels_last))
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, layer(x))


def test_on_the_meta_device_only_shapes_are_computed():
    with torch.device("meta"):
        layer = MobileMQA(10, num_heads=2, kv_stride=2, query_strides=2)
    assert layer(torch.empty(3, 10, 13, 17, device="meta")).shape == (3, 10, 13, 17)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("few", [1, kernels.FEW], ids=["as a large map", "as a small map"])
@pytest.mark.parametrize("options", VARIANTS, ids=named)
def test_torch_func_gives_every_samples_output_and_gradients(options, few, monkeypatch):
    monkeypatch.setattr(kernels, "FEW", few)
    monkeypatch.setattr(kernels, "KEPT", 1)
    layer, _ = layer_and_map(**{"query_strides": 1, "kv_stride": 1, **options})
    maps = torch.randn(3, 10, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(vmap(lambda x: layer(x[None])[0])(maps), layer(maps))
    weights = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(weights, x):
        return functional_call(layer, weights, (x[None],)).square().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0))(weights, maps)
    for place, x in enumerate(maps):
        layer.zero_grad()
        layer(x[None]).square().sum().backward()
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(per_sample[name][place], parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_jit_script_is_not_for_it_and_the_docstring_says_so():
    with pytest.raises((RuntimeError, OSError)):
        torch.jit.script(layer_and_map()[0])
    assert "torch.jit.script" in MobileMQA.__doc__


def test_a_model_around_it_loads_its_state_by_the_usual_names():
    model = nn.Sequential(MobileMQABlock(10, 2, 3, 2))
    other = nn.Sequential(MobileMQABlock(10, 2, 3, 2))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(torch.ones(1, 10, 5, 7)), model.eval()(torch.ones(1, 10, 5, 7)))
