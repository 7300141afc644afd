"""A script that torch.distributed.run starts twice: what two GPUs would do, on two CPU processes under gloo.

ultralytics' trainer asks for GPUs by name in four places, and those alone are stood in for: how many processes there
are, the process group, the device that DDP is told, and the device of the last evaluation. The rest is its own loop.
"""

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import nn
from ultralytics.engine import validator
from ultralytics.utils import DEFAULT_CFG, RANK

from mqa_lib import rtdetr
from mqa_lib.rtdetr.build import content_of
from mqa_lib.rtdetr.trainer import SafeRTDETRTrainer

NAME = "rtdetr-nano-mobile-mqa"


class OnTwoCpus(SafeRTDETRTrainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.world_size = 2

    def _setup_ddp(self):
        dist.init_process_group("gloo", rank=RANK, world_size=2)
        ddp, backend = nn.parallel.DistributedDataParallel, validator.AutoBackend
        nn.parallel.DistributedDataParallel = lambda model, device_ids, **named: ddp(model, **named)
        validator.get_torch_device_backend = lambda _: SimpleNamespace(current_device=lambda: 0)
        validator.AutoBackend = lambda device, **named: backend(device=torch.device("cpu"), **named)


def train(data, folder):
    """Train one epoch; each process says what it holds in the end."""
    folder = Path(folder)
    wanted = {"model": str(rtdetr.MODELS[NAME]), "data": data, "epochs": 1, "imgsz": 64, "batch": 8}
    wanted |= {"device": "cpu", "plots": False, "pretrained": False, "optimizer": "AdamW", "verbose": False}
    wanted |= {"project": str(folder.parent), "name": folder.name, "exist_ok": True}
    trainer = OnTwoCpus(overrides=wanted)
    seen = []
    trainer.add_callback("on_train_batch_start", lambda t: seen.append(0))
    trainer.train()
    network = trainer.model.module
    sums = [parameter.detach().double().sum().item() for parameter in network.parameters()]
    buffers = [b.double().sum().item() for n, b in network.named_buffers() if n.endswith("running_mean")]
    steps = len(seen) * trainer.train_loader.batch_size
    (folder / f"rank{RANK}.json").write_text(json.dumps({"sums": sums, "means": buffers, "pictures": steps}))


def gradients(folder):
    """Compare the gradients of two processes with each other and with those of one that sees all pictures.

    Batch norm is held still and the random denoising left out, which depend on who sees which picture.
    """
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    network = rtdetr.build.tasks.RTDETRDetectionModel(content_of(NAME), nc=5, verbose=False)
    network.nc, network.args, network.model[-1].num_denoising = 5, DEFAULT_CFG, 0
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    boxes = torch.rand(12, 4) * 0.3 + 0.3
    batch = {"img": torch.rand(4, 3, 64, 64), "cls": torch.arange(12.0)[:, None] % 5, "bboxes": boxes}
    batch["batch_idx"] = torch.arange(4.0).repeat_interleave(3)
    own = {"img": batch["img"][2 * RANK :][:2], "batch_idx": torch.arange(2.0).repeat_interleave(3)}
    own |= {name: batch[name][6 * RANK :][:6] for name in ("cls", "bboxes")}
    alone = copy.deepcopy(network)
    alone.loss(batch)[0].sum().backward()
    shared = nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)
    shared(own)[0].sum().backward()
    worst = {"alone": 0.0, "ranks": 0.0, "largest": 0.0}
    for mine, joint in zip(network.parameters(), alone.parameters(), strict=True):
        if joint.grad is None:
            continue
        there = [torch.zeros_like(mine.grad) for _ in range(2)]
        dist.all_gather(there, mine.grad.contiguous())
        worst["ranks"] = max(worst["ranks"], (there[0] - there[1]).abs().max().item())
        worst["alone"] = max(worst["alone"], (mine.grad - joint.grad).abs().max().item())
        worst["largest"] = max(worst["largest"], joint.grad.abs().max().item())
    (Path(folder) / f"rank{RANK}.json").write_text(json.dumps(worst))


if __name__ == "__main__":
    {"train": train, "gradients": gradients}[sys.argv[1]](*sys.argv[2:])
    dist.barrier()  # who leaves first would tear the connection of the other
    dist.destroy_process_group()
