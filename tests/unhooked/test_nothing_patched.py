"""ultralytics is left as it was: its files, its other models, and the user's own settings."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ultralytics

from mqa_lib.datasets import keys_and_locks

ROOT = Path(__file__).parents[2]
THEIRS = Path(ultralytics.__file__).parent

_TRAIN = """
import hashlib, sys, torch
from ultralytics import RTDETR, YOLO
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel

def seen(when):
    for kind, name in ((RTDETRDetectionModel, "rtdetr-resnet50.yaml"), (DetectionModel, "yolo11n.yaml")):
        torch.manual_seed(0)
        model = kind(name, nc=3, verbose=False).eval()
        with torch.no_grad():
            out = model(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))[0]
        tensors = [out, *(p.detach() for p in model.parameters())]
        print("HASH", when, name, hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest())
    wanted = dict(data=sys.argv[1], epochs=1, imgsz=64, batch=8, device="cpu", plots=False, val=False, workers=0,
                  project=sys.argv[2], name=when, exist_ok=True, verbose=False, pretrained=False)
    model = YOLO("yolo11n.yaml")
    model.train(**wanted)
    weights = torch.cat([p.detach().float().flatten() for p in model.model.parameters()])
    print("HASH", when, "trained", hashlib.sha256(weights.numpy().tobytes()).hexdigest())

seen("before")
import mqa_lib.rtdetr
mqa_lib.rtdetr.register()
for name in ("rtdetr-resnet50-article", "rtdetr-resnet50-mqa-encoder", "rtdetr-nano-article-corrected"):
    mqa_lib.rtdetr.load(name)
seen("after")
mqa_lib.rtdetr.load("rtdetr-nano-article-corrected").train(
    data=sys.argv[1], epochs=1, imgsz=64, batch=8, device="cpu", plots=False, val=False, project=sys.argv[2])
RTDETR("rtdetr-resnet50.yaml").save(sys.argv[2] + "/stock.pt")
"""

_OPEN = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mqa_lib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from ultralytics import YOLO
print([type(YOLO(file).model).__name__ for file in sys.argv[1:]])
"""


def hashes():
    files = sorted(file for file in THEIRS.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(THEIRS)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return what a process said that built and trained before and after our import, and what was there around it."""
    folder = tmp_path_factory.mktemp("run")
    data = keys_and_locks.generate(folder / "set", train=8, val=4, seed=5)
    (folder / "home").mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO", "XDG"))}
    env |= {"HOME": str(folder / "home"), "YOLO_CONFIG_DIR": str(folder / "own"), "YOLO_OFFLINE": "1"}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "YOLO_AUTOINSTALL": "false"}
    before = hashes()
    command = [sys.executable, "-c", _TRAIN, str(data), str(folder / "runs")]
    ended = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout, before, hashes(), folder / "runs", env


def test_other_models_are_built_and_trained_to_the_bit_as_before_in_the_same_process(ran):
    lines = [line.split()[1:] for line in ran[0].splitlines() if line.startswith("HASH")]
    before, after = ([line[1:] for line in lines if line[0] == when] for when in ("before", "after"))
    assert before == after and len(before) == 3


def test_no_file_of_ultralytics_is_edited_by_importing_building_and_training(ran):
    _, before, after, *_ = ran
    assert before == after and len(before) > 300


def test_stock_models_saved_after_our_import_open_where_we_are_not(ran, tmp_path):
    *_, runs, env = ran
    files = [str(runs / "after/weights/best.pt"), str(runs / "stock.pt")]
    opened = subprocess.run(
        [sys.executable, "-c", _OPEN, *files], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert "['DetectionModel', 'RTDETRDetectionModel']" in opened.stdout, opened.stderr[-2000:]


def at_home(folder):
    """Return the environment of a user whose home is `folder` and who has said nothing to ultralytics."""
    theirs = ("YOLO", "XDG", "PYTEST")
    env = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return env | {"HOME": str(folder), "PYTHONPATH": str(ROOT)}


def test_a_user_s_own_settings_are_neither_read_nor_written(tmp_path):
    env = at_home(tmp_path)
    theirs = tmp_path / ".config/Ultralytics"
    theirs.mkdir(parents=True)
    (theirs / "settings.json").write_text('{"runs_dir": "/theirs"}')
    code = "import mqa_lib.rtdetr; mqa_lib.rtdetr.load('rtdetr-nano-stock')\n"
    code += (
        "from ultralytics.utils import SETTINGS, SETTINGS_FILE; print(SETTINGS_FILE, SETTINGS['runs_dir'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, cwd=tmp_path
    )
    assert "/theirs" not in ended.stdout and str(tmp_path / ".cache/mqa_lib") in ended.stdout
    assert [(file.name, file.read_text()) for file in theirs.iterdir()] == [
        ("settings.json", '{"runs_dir": "/theirs"}')
    ]


def test_ultralytics_neither_asks_the_network_nor_installs_unless_the_user_says_so(tmp_path):
    code = "import socket; socket.getaddrinfo = lambda *_: []\n"  # as if there were a network
    code += (
        "import mqa_lib.rtdetr; from ultralytics.utils import AUTOINSTALL, ONLINE; print(AUTOINSTALL, ONLINE)"
    )
    for said, expected in (
        ({}, "False False"),
        ({"YOLO_AUTOINSTALL": "true", "YOLO_OFFLINE": "0"}, "True True"),
    ):
        env = at_home(tmp_path) | said
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
        )
        assert run.stdout.strip() == expected


def test_runs_go_to_the_working_folder_unless_the_user_says_otherwise(tmp_path):
    """Also where ultralytics' files lie within a repository, in which it would keep all runs of this machine."""
    repository = THEIRS.parent / ".git"
    code = (
        "import pathlib, sys; real = pathlib.Path.exists\n"
        f"pathlib.Path.exists = lambda path: str(path) == {str(repository)!r} or real(path)\n"
        "import mqa_lib.rtdetr; from mqa_lib.__main__ import main\n"
        "from types import SimpleNamespace; from ultralytics.cfg import SETTINGS, get_save_dir\n"
        "wanted = SimpleNamespace(project=None, name='new', task='detect', mode='train', exist_ok=False)\n"
        "print(SETTINGS.defaults['runs_dir'], get_save_dir(wanted)); main(sys.argv[1:])"
    )

    def place(*words):
        command = [sys.executable, "-c", code, *words]
        run = subprocess.run(command, capture_output=True, text=True, env=at_home(tmp_path), cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        return run.stdout.split()[:2]

    within = str(repository.with_name("runs"))
    assert place("yolo", "settings", "runs_dir=elsewhere") == [within, str(tmp_path / "runs/detect/new")]
    assert place("yolo", "version") == [within, str(tmp_path / "elsewhere/detect/new")]


@pytest.mark.parametrize("threads", [None, "3"])
def test_processes_that_are_started_later_get_the_threads_that_the_user_gave(threads):
    """Importing ultralytics alone tells them to take one."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    env |= {"PYTHONPATH": str(ROOT), **({"OMP_NUM_THREADS": threads} if threads else {})}
    asked = "import os, mqa_lib.rtdetr; print(os.environ.get('OMP_NUM_THREADS'))"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=env, check=True)
    assert said.stdout.strip() == str(threads)
