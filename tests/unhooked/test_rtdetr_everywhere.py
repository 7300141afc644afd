"""Our variants work wherever ultralytics' own RT-DETR does: train, resume, val, predict, track, export, reload."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mqa_lib import rtdetr
from mqa_lib.__main__ import main
from mqa_lib.datasets import keys_and_locks
from mqa_lib.rtdetr.train import Recipe, train

ROOT = Path(__file__).parents[2]
OURS = ("rtdetr-nano-mobile-mqa", "rtdetr-nano-mqa-encoder")
VARIANTS = (*OURS, "rtdetr-nano-stock")
SMALL = {"imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "verbose": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return keys_and_locks.generate(tmp_path_factory.mktemp("set"), train=16, val=4, seed=3)


@pytest.fixture(scope="module")
def pictures(data):
    return sorted(map(str, (data.parent / "images/val").iterdir()))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Return for each variant the checkpoint of one epoch."""
    folder = tmp_path_factory.mktemp("runs")
    checkpoints = {}
    for name in VARIANTS:
        model = rtdetr.load(name)
        model.train(data=str(data), epochs=1, project=str(folder), name=name, val=False, **SMALL)
        checkpoints[name] = folder / name / "weights" / "best.pt"
    return checkpoints


def answers(checkpoint, x):
    network = rtdetr.load(checkpoint).model.float().eval()
    with torch.no_grad():
        return network(x)[0]


def fresh(code, *arguments, **options):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "YOLO_AUTOINSTALL": "false"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, **options)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_trained_model_validates_predicts_and_tracks(name, trained, data, pictures, tmp_path):
    model = rtdetr.load(trained[name])
    score = model.val(data=str(data), project=str(tmp_path), **SMALL)
    assert 0 <= score.box.map50 <= 1 and np.isfinite(score.fitness)
    results = model.predict(pictures, imgsz=64, conf=0.0, verbose=False)
    assert [len(result.boxes) for result in results] == [30] * 4
    assert all(set(result.names.values()) >= {"key"} for result in results)
    tracked = [
        model.track(picture, imgsz=64, conf=0.01, persist=True, verbose=False)[0] for picture in pictures[:2]
    ]
    assert all(result.boxes is not None for result in tracked)


@pytest.mark.parametrize("name", VARIANTS)
def test_exported_models_answer_as_pytorch_does(name, trained):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    x = torch.rand(1, 3, 64, 64)
    expected = answers(trained[name], x)
    script = torch.jit.load(rtdetr.load(trained[name]).export(format="torchscript", imgsz=64))
    torch.testing.assert_close(script(x), expected, rtol=1e-3, atol=1e-4)
    file = rtdetr.load(trained[name]).export(format="onnx", imgsz=64)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": x.numpy()})
    # Scores and boxes in shares of the picture; the tolerance is that of single precision in another order.
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_a_run_that_was_stopped_is_resumed_by_ultralytics_itself(name, data, tmp_path):
    class Stopped(Exception):
        pass

    def stop(trainer):
        raise Stopped

    model = rtdetr.load(name)
    model.add_callback("on_fit_epoch_end", stop)  # the checkpoint of epoch 1 is there by then
    with pytest.raises(Stopped):
        model.train(data=str(data), epochs=2, project=str(tmp_path), name="run", val=False, **SMALL)
    rtdetr.load(tmp_path / "run/weights/last.pt").train(resume=True)
    rows = list(csv.DictReader((tmp_path / "run/results.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2]


@pytest.mark.parametrize("name", OURS)
def test_a_checkpoint_opens_and_trains_on_in_a_process_that_imports_nothing_of_ours(
    name, trained, data, tmp_path
):
    code = """
import sys, torch
from ultralytics import RTDETR
model = RTDETR(sys.argv[1])
torch.manual_seed(0)
with torch.no_grad():
    print("ANSWER", model.model.float().eval()(torch.rand(1, 3, 64, 64))[0].double().sum().item())
model.train(data=sys.argv[2], epochs=1, imgsz=64, batch=8, device="cpu", plots=False, val=False, project=sys.argv[3])
"""
    ended = fresh(code, trained[name], data, tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    torch.manual_seed(0)
    expected = answers(trained[name], torch.rand(1, 3, 64, 64)).double().sum().item()
    assert float(ended.stdout.split("ANSWER")[1].split()[0]) == pytest.approx(expected, rel=1e-4)


def test_without_our_package_a_checkpoint_says_which_one_is_missing(trained):
    code = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mqa_lib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from ultralytics import RTDETR
RTDETR(sys.argv[1])
"""
    ended = fresh(code, trained[OURS[0]])
    assert ended.returncode == 1
    assert "ModuleNotFoundError: No module named 'mqa_lib'" in ended.stderr
    assert "appears to require 'mqa_lib'" in ended.stderr + ended.stdout


def test_a_checkpoint_is_not_exported_under_the_name_of_another_variant(trained, tmp_path, capsys):
    command = ["export", str(trained["rtdetr-nano-stock"]), "--model", OURS[0], "--weights-are", "wrong"]
    assert main([*command, "-o", str(tmp_path / "w.safetensors")]) == 2
    assert f"is of another variant than {OURS[0]}: row 5 is [-1, 1, Conv" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_resumed_from_a_checkpoint_of_another_variant(data, tmp_path):
    network = rtdetr.load("rtdetr-nano-stock").model
    (tmp_path / "run/weights").mkdir(parents=True)
    torch.save({"model": network, "epoch": 0, "train_args": {}}, tmp_path / "run/weights/last.pt")
    with pytest.raises(ValueError, match=rf"another variant than {OURS[0]}: row 5 is .*Conv.*MobileMQABlock"):
        train(Recipe(OURS[0], epochs=3, imgsz=64, batch=8), data, tmp_path / "run")


def test_a_model_file_without_our_import_fails_by_the_layer_s_name_and_with_it_builds():
    code = "from ultralytics import RTDETR; import sys; RTDETR(sys.argv[1])"
    file = rtdetr.MODELS[OURS[0]]
    assert "KeyError: 'MobileMQABlock'" in fresh(code, file).stderr
    assert fresh(f"import mqa_lib.rtdetr; {code}", file).returncode == 0


def test_yolo_takes_our_names_and_ultralytics_arguments(data, pictures, tmp_path, capsys):
    before = sys.argv[:]
    common = ["imgsz=64", "device=cpu", f"project={tmp_path}", "exist_ok=True"]
    train = [
        "yolo",
        "detect",
        "train",
        f"model={OURS[0]}",
        f"data={data}",
        "epochs=1",
        "batch=8",
        "plots=False",
    ]
    assert main([*train, "val=False", "name=made", *common]) == 0
    checkpoint = tmp_path / "made/weights/best.pt"
    predict = ["yolo", "predict", f"model={checkpoint}", f"source={pictures[0]}", "name=seen", "conf=0.0"]
    assert main([*predict, *common]) == 0
    assert (tmp_path / "seen" / Path(pictures[0]).name).with_suffix(".jpg").exists()
    assert sys.argv == before


def test_yolo_changes_nothing_but_a_name_of_ours(monkeypatch, tmp_path):
    heard = []
    monkeypatch.setattr("mqa_lib.rtdetr.cli.entrypoint", lambda: heard.append(sys.argv[1:]))
    monkeypatch.chdir(tmp_path)
    own = rtdetr.MODELS["rtdetr-nano-article"].read_text()  # a file of the user's, by a name of ours
    (tmp_path / "rtdetr-nano-stock.yaml").write_text(own)
    given = [
        "train",
        "model=rtdetr-nano-stock.yaml",
        "model = x",
        "data=a b.yaml",
        "lr0=0.1",
        "name=rtdetr-nano-stock",
    ]
    assert main(["yolo", *given, f"model={OURS[0]}.yaml"]) == 0
    assert heard == [[*given, f"model={rtdetr.MODELS[OURS[0]]}"]]


def test_yolo_knows_a_new_model_whatever_its_file_is_called(pictures, tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    assert main(["new-model", "--base", "rtdetr-nano-stock", "--after", "4", "-o", str(file)]) == 0
    predict = ["predict", f"model={file}", f"source={pictures[0]}", "imgsz=64", f"project={tmp_path}"]
    assert main(["yolo", *predict, "name=seen"]) == 0 and list((tmp_path / "seen").glob("*.jpg"))
    heard = []
    monkeypatch.setattr("mqa_lib.rtdetr.cli.entrypoint", lambda: heard.append(sys.argv[1:]))
    given = [
        ["detect", *predict],
        ["predict", "model=yolo11n.yaml"],
        ["predict", f"model={tmp_path}/no.yaml"],
    ]
    for arguments in given:
        main(["yolo", *arguments])
    assert heard == given


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["train", f"model={OURS[0]}", "epoch=1"],
            "ValueError: 'epoch' is not a valid YOLO argument. Similar",
        ),
        (["predict", f"model={OURS[0]}", "source=nowhere.png"], "nowhere.png does not exist"),
        (["train", f"model={OURS[0]}", "data=nowhere.yaml"], "Dataset 'nowhere.yaml' error"),
        (["predict", "model=rtdetr-nano-article", "source=nowhere.png", "imgsz=96,160"], "must be square"),
    ],
)
def test_yolo_tells_a_failure_by_its_exit_code(arguments, said):
    command = [sys.executable, "-m", "mqa_lib", "yolo", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2 and said in ended.stderr and "Traceback" not in ended.stderr
