"""Several GPUs, as far as two CPU processes tell: the file for each process, a whole epoch, the gradients."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ultralytics.engine import trainer as engine
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.dist import ddp_cleanup, find_free_network_port, generate_ddp_file

from mqa_lib import rtdetr
from mqa_lib.datasets import keys_and_locks
from mqa_lib.rtdetr import train as trains
from mqa_lib.rtdetr.train import Recipe, train
from mqa_lib.rtdetr.trainer import SafeRTDETRTrainer

ROOT = Path(__file__).parents[2]
NAME = "rtdetr-nano-mobile-mqa"
RECIPE = Recipe(NAME, epochs=1, imgsz=64, batch=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return keys_and_locks.generate(tmp_path_factory.mktemp("set"), train=16, val=8, seed=3)


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """Return a function that runs two_cpus.py in two processes and returns what each of them found.

    The two stand on one machine with two GPUs, or on two machines with one each, which share their folders.
    """

    def run(task, *arguments, machines=1):
        folder = tmp_path_factory.mktemp(task)
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(machines)]
        command += ["--nproc_per_node", str(2 // machines), "--master_addr", "127.0.0.1"]
        command += ["--master_port", str(find_free_network_port()), "--node_rank"]
        script = [str(Path(__file__).with_name("two_cpus.py")), task, *arguments, str(folder)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        launched = [
            subprocess.Popen([*command, str(rank), *script], stderr=subprocess.PIPE, text=True, env=env)
            for rank in range(machines)
        ]
        for launcher in launched:
            said = launcher.communicate(timeout=300)[1]
            assert launcher.returncode == 0, said[-3000:]
        return folder, [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]

    return run


def test_a_process_s_file_builds_and_trains_our_model_with_the_stock_trainer(data, tmp_path):
    wanted = {"model": str(rtdetr.MODELS[NAME]), "data": str(data), "epochs": 1, "imgsz": 64, "batch": 8}
    wanted |= {"device": "cpu", "plots": False, "val": False, "pretrained": False, "project": str(tmp_path)}
    trainer = RTDETRTrainer(overrides=wanted)
    file = generate_ddp_file(trainer)
    try:
        subprocess.run([sys.executable, file], capture_output=True, check=True, cwd=tmp_path)
    finally:
        ddp_cleanup(trainer, file)
    trained = load_checkpoint(trainer.best)[0]
    assert "model.5.attn.query.proj.weight" in trained.state_dict()


def test_a_training_handed_to_other_processes_keeps_its_folder_and_gets_its_record(
    data, tmp_path, monkeypatch
):
    """The child's file is run once, without a launcher; the parent believes that it has two GPUs."""
    build, start, launched = SafeRTDETRTrainer.__init__, subprocess.run, []

    def with_two_gpus(trainer, *args, **kwargs):
        build(trainer, *args, **kwargs)
        trainer.ddp, trainer.world_size = True, 2

    def without_launcher(command, **options):
        if command[1:3] == ["-m", "torch.distributed.run"]:
            launched.append(command[command.index("--nproc_per_node") + 1])
            command = [sys.executable, command[-1]]
        return start(command, **options)

    monkeypatch.setattr(SafeRTDETRTrainer, "__init__", with_two_gpus)
    monkeypatch.setattr(engine.subprocess, "run", without_launcher)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("kept")
    record = train(RECIPE, data, tmp_path / "run", one_bar=True, device="cpu")
    assert launched == ["2"]
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1] and record["finished"]
    assert json.loads((tmp_path / "run/record.json").read_text()) == record
    assert (tmp_path / "run/mine.txt").read_text() == "kept"


@pytest.mark.parametrize("machines", [1, 2])
def test_two_processes_share_the_pictures_and_end_with_the_same_weights(machines, data, twice):
    folder, (first, second) = twice("train", str(data), machines=machines)
    assert first["sums"] == second["sums"]
    assert first["means"] != second["means"]  # each saw pictures of its own
    assert first["pictures"] == second["pictures"] == 8
    assert sorted(file.name for file in (folder / "weights").iterdir()) == ["best.pt", "last.pt"]
    trained = load_checkpoint(folder / "weights/best.pt")[0]
    assert all(bool(value.isfinite().all()) for value in trained.state_dict().values())


def test_of_several_processes_the_first_one_alone_writes_the_record(tmp_path, monkeypatch):
    for rank, writes in ((1, False), (0, True), (-1, True)):  # -1: there is only this process
        monkeypatch.setattr(trains, "RANK", rank)
        recorder = trains._Recorder(tmp_path / f"rank{rank}.json", {"epochs": []})
        recorder.write()
        assert recorder.path.exists() is writes


def test_the_gradients_of_two_processes_are_those_of_one_that_sees_all_pictures(twice):
    _, found = twice("gradients")
    for rank in found:
        assert rank["ranks"] == 0.0
        assert rank["largest"] > 1e-3
        assert rank["alone"] < 1e-5 * max(1.0, rank["largest"])  # sums in another order


def test_the_package_that_ultralytics_hands_trainers_on_with_is_declared():
    from mqa_lib import bootstrap

    assert "cloudpickle" in {requirement.name for requirement in bootstrap.declared("lab")}
    assert torch.distributed.is_gloo_available()
