"""Every trained tensor finds its place, and the model starts with the answers of the one it was carried from."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import ResNet50_Weights
from ultralytics import RTDETR, YOLO
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.modules.block import ResNetLayer
from ultralytics.nn.tasks import load_checkpoint

from mqa_lib import MobileMQABlock, rtdetr
from mqa_lib.__main__ import main
from mqa_lib.rtdetr import audit, carry, train, trainer
from mqa_lib.rtdetr.carry import carry_over
from tests.rtdetr.test_weights import DATA

NANO, STOCK = "rtdetr-nano-mobile-mqa", "rtdetr-nano-stock"


def as_published(model_file, path, names=None):
    """Write random weights the way ultralytics writes a trained model: the whole module, in half precision."""
    model = RTDETR(str(model_file))
    for module in model.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    model.model.names = names or {index: f"thing {index}" for index in range(len(model.model.names))}
    model.ckpt = {"train_args": {"imgsz": 640}, "epoch": -1}
    model.save(path)
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return as_published(rtdetr.MODELS[STOCK], tmp_path_factory.mktemp("published") / "nano.pt")


@pytest.mark.parametrize("size", ["l", "x"])
def test_a_published_checkpoint_is_carried_whole_and_answers_to_the_bit_as_before(size, tmp_path):
    file = as_published(f"rtdetr-{size}.yaml", tmp_path / f"rtdetr-{size}.pt")
    carried = carry_over(file, f"rtdetr-{size}-mobile-mqa")
    stock, x = load_checkpoint(file)[0], torch.rand(1, 3, 96, 64)
    said = carried.carried
    assert len(said.placed) == len(stock.state_dict()) > 900 and said.left == () and said.starts_equal
    assert len(said.placed) + len(said.new) == len(carried.model.state_dict())
    with torch.inference_mode():
        assert torch.equal(carried.model(x)[0], stock(x)[0])
        halved = (carried.model.half().float(), stock.half().float())  # as in a checkpoint of the first epoch
        assert torch.equal(*(network(x)[0] for network in halved))
    assert carried.model.names == stock.names


def test_a_tensor_is_carried_as_it_is_to_its_row_s_new_number(published):
    stock, carried = load_checkpoint(published)[0], carry_over(published, NANO)
    moved, _ = carry.place_rows(stock, rtdetr.load(NANO).model)
    there, here = stock.state_dict(), carried.model.state_dict()
    assert moved["model.5.conv.weight"] == "model.6.conv.weight" and len(moved) == len(there)
    assert all(torch.equal(there[old], here[new]) for old, new in moved.items())


def test_a_checkpoint_in_the_middle_of_a_training_is_carried_too(published, tmp_path):
    running = torch.load(published, weights_only=False)
    running |= {"ema": running["model"], "model": None, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(running, tmp_path / "last.pt")
    assert carry_over(tmp_path / "last.pt", NANO).carried.starts_equal


def test_with_other_classes_only_what_counts_them_is_left(published):
    carried = carry_over(published, NANO, classes=7)
    left, decoder = carried.carried.left, len(load_checkpoint(published)[0].model) - 1
    assert {name.split(".")[2] for name in left} == {
        "denoising_class_embed",
        "enc_score_head",
        "dec_score_head",
    }
    assert {name.split(".")[1] for name in left} == {str(decoder)}
    assert not carried.carried.starts_equal and len(carried.names) == 7
    x = torch.rand(1, 3, 96, 64)
    pairs = zip(
        *(audit.decoder_maps(net, x) for net in (load_checkpoint(published)[0], carried.model)), strict=True
    )
    assert all(torch.equal(theirs, own) for theirs, own in pairs)


def caught_by_trainer(model, folder):
    """Return the network that ultralytics' own trainer would train."""

    class Started(Exception):
        pass

    class Stops(RTDETRTrainer):
        def train(self):
            raise Started(self.model)

    with pytest.raises(Started) as caught:
        data = DATA / "keys_and_locks" / "data.yaml"
        model.train(trainer=Stops, data=str(data), project=str(folder), device="cpu")
    return caught.value.args[0].eval()


def test_ultralytics_trains_from_what_was_carried_with_the_data_s_classes(published, tmp_path):
    network, x = caught_by_trainer(carry_over(published, NANO), tmp_path), torch.rand(1, 3, 96, 64)
    stock = load_checkpoint(published)[0]
    pairs = zip(audit.decoder_maps(stock, x), audit.decoder_maps(network, x), strict=True)
    assert all(torch.equal(theirs, own) for theirs, own in pairs) and network.model[-1].nc == 5


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_our_own_training_starts_from_the_file_that_was_written(ending, published, tmp_path, monkeypatch):
    class Started(Exception):
        pass

    def stops(started):
        raise Started(started.model)

    monkeypatch.setattr(trainer.SafeRTDETRTrainer, "train", stops)
    start = tmp_path / f"start.{ending}"
    carry.to_file(str(published), NANO, start)
    with pytest.raises(Started) as caught:
        train.train(
            train.Recipe(str(start), epochs=1),
            DATA / "keys_and_locks/data.yaml",
            tmp_path / "run",
            device="cpu",
        )
    stock, network = load_checkpoint(published)[0], caught.value.args[0]
    assert torch.equal(network.model[6].conv.weight, stock.model[5].conv.weight)


def test_a_scale_of_zero_delays_the_attention_by_one_step_and_no_more():
    block, x = MobileMQABlock(5, 2, 3, kv_stride=2, layer_scale=0.0), torch.randn(2, 5, 7, 11)
    optimiser = torch.optim.AdamW(block.parameters(), lr=1e-3)
    inner = block.attn.query.proj.weight
    for step, moves in enumerate((False, True)):
        optimiser.zero_grad()
        (block(x) - torch.ones_like(x)).square().mean().backward()
        assert block.layer_scale.gamma.grad.abs().min() > 0
        assert bool(inner.grad.any()) is moves, step
        optimiser.step()


def test_a_tiny_scale_does_not_survive_half_precision_as_it_was_and_zero_does():
    tiny, zero = torch.tensor(1e-5), torch.tensor(0.0)
    assert abs(tiny.half().float() / tiny - 1) > 1e-3 and zero.half() == zero


@pytest.mark.parametrize("scale", [None, 0.5])
def test_another_start_of_the_scale_can_be_asked_for(scale, published):
    carried = carry_over(published, NANO, layer_scale=scale)
    found = {m.layer_scale.gamma[0].item() for m in carried.model.modules() if isinstance(m, MobileMQABlock)}
    written = {
        m.layer_scale.gamma[0].item()
        for m in rtdetr.load(NANO).model.modules()
        if isinstance(m, MobileMQABlock)
    }
    assert found == ({scale} if scale else written) and not carried.carried.starts_equal


def test_another_attention_in_the_encoder_is_refused_unless_the_old_one_may_be_left(published):
    with pytest.raises(
        ValueError, match=r"nano\.pt does not fit.* 4 tensors.*`model\.10\.ma\.\S+` .*`partly=True`"
    ):
        carry_over(published, "rtdetr-nano-mqa-encoder")
    said = carry_over(published, "rtdetr-nano-mqa-encoder", partly=True).carried
    assert {name.rpartition(".ma.")[0] for name in said.left} == {"model.10"} and not said.starts_equal
    assert str(said).startswith(
        f"nano.pt → rtdetr-nano-mqa-encoder: {len(said.placed)} of {len(said.placed) + 4} "
    )


def test_what_cannot_be_carried_is_refused(published, tmp_path):
    fused = RTDETR(published)
    fused.model.fuse(verbose=False)
    yolo = YOLO("yolo11n.yaml")
    yolo.ckpt = {}
    yolo.save(tmp_path / "yolo.pt")
    (tmp_path / "cut.pt").write_bytes(published.read_bytes()[:9999])
    torch.save({"conv2.weight": torch.zeros(5)}, tmp_path / "other.pth")
    wrong = {
        "has its norms folded": fused,
        r"must hold an RT-DETR of ultralytics, and holds a DetectionModel": tmp_path / "yolo.pt",
        "is no whole checkpoint": tmp_path / "cut.pt",
        "is a model file and has no weights": rtdetr.MODELS[STOCK],
        "must be the state dictionary of one of torchvision's ResNets": tmp_path / "other.pth",
    }
    for message, source in wrong.items():
        with pytest.raises(ValueError, match=message):
            carry_over(source, NANO)
    with pytest.raises(ValueError, match=r"must have as many rows"):
        carry_over(published, "rtdetr-resnet50-mobile-mqa")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        carry_over("nowhere.pth", NANO)
    for classes in (0, -1):
        with pytest.raises(ValueError, match=rf"`classes` \(={classes}\) must be .*Leave it out"):
            carry_over(published, NANO, classes)


@pytest.fixture(scope="module")
def resnet():
    """Return torchvision's ResNet-50 with random weights and statistics, some channels nearly dead."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.running_var[:3] = 1e-4
            module.bias.data.normal_(0, 0.1)
    return model.eval()


def theirs(model, x):
    """Return the maps of torchvision's stem and stages."""
    maps = [model.maxpool(model.relu(model.bn1(model.conv1(x))))]
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        maps.append(stage(maps[-1]))
    return maps


def ours(network, x):
    """Return the maps of a detector's ResNet rows, each through the blocks that follow it."""
    maps = []
    for row in network.model[: len(network.yaml["backbone"])]:
        x = row(x)
        maps = [*maps, x] if isinstance(row, ResNetLayer) else [*maps[:-1], x]
    return maps


def furthest(pairs):
    return max((own - their).abs().max() / their.abs().max() for their, own in pairs)


@pytest.mark.parametrize("variant", ["stock", "mobile-mqa", "article-corrected"])
@torch.inference_mode()
def test_imagenet_weights_give_torchvision_s_feature_maps(variant, resnet, tmp_path):
    file = tmp_path / "resnet50.pth"
    torch.save(resnet.state_dict(), file)
    carried = carry_over(file, f"rtdetr-resnet50-{variant}", fold_normalisation=False)
    x = torch.randn(1, 3, 96, 64)
    assert furthest(zip(theirs(resnet, x), ours(carried.model, x), strict=True)) < 1e-4  # kernels differ
    assert len(carried.carried.placed) == 318 and carried.carried.left == ("fc.weight", "fc.bias")


@torch.inference_mode()
def test_imagenet_s_normalisation_is_folded_into_the_stem(resnet):
    given, x = ResNet50_Weights.IMAGENET1K_V1.transforms(), torch.rand(1, 3, 96, 64)
    normalised = torchvision.transforms.functional.normalize(x, given.mean, given.std)
    network = carry_over(resnet.state_dict(), "rtdetr-resnet50-stock").model
    inside = [m[..., 2:-2, 2:-2] for m in (theirs(resnet, normalised)[0], ours(network, x)[0])]
    assert furthest([inside]) < 1e-5


def test_the_activation_is_the_backbone_s_alone_and_lasts(resnet, tmp_path):
    carried = carry_over(resnet.state_dict(), "rtdetr-resnet50-mobile-mqa")
    kept = rtdetr.load(
        rtdetr.save_weights(carried, tmp_path / "w.safetensors", {"weights_are": "ImageNet's"})
    )
    carried.save(tmp_path / "w.pt")
    for network in (
        carried.model,
        kept.model,
        RTDETR(tmp_path / "w.pt").model,
        caught_by_trainer(kept, tmp_path),
    ):
        inside = len(network.yaml["backbone"])
        found = [
            {type(m).__name__ for m in rows.modules()} & {"SiLU", "ReLU"}
            for rows in (network.model[:inside], network.model[inside:-1])
        ]
        assert found == [{"ReLU"}, {"SiLU"}]


@pytest.mark.parametrize("key", ["backbone_activation: ReLU", "activation: nn.ReLU()"])
def test_weights_that_were_trained_with_another_activation_keep_it(key, tmp_path):
    (tmp_path / "relu.yaml").write_text(f"{key}\n{rtdetr.MODELS[STOCK].read_text()}")
    source, x = rtdetr.load(tmp_path / "relu.yaml"), torch.rand(1, 3, 96, 64)
    carried = carry_over(source, NANO)
    assert carried.carried.starts_equal
    with torch.inference_mode():
        assert torch.equal(carried.model.eval()(x)[0], source.model.eval()(x)[0])


def test_imagenet_weights_need_a_resnet_as_deep(resnet):
    with pytest.raises(ValueError, match=r"must begin with ultralytics' ResNet rows"):
        carry_over(resnet.state_dict(), NANO)
    deeper = {**resnet.state_dict(), "layer3.6.conv1.weight": torch.zeros(256, 1024, 1, 1)}
    with pytest.raises(
        ValueError, match=r"does not fit the ResNet rows: `layer3\.6\.conv1\.weight` has no place"
    ):
        carry_over(deeper, "rtdetr-resnet50-stock")
    fewer = {key: value for key, value in resnet.state_dict().items() if key != "layer4.2.bn3.bias"}
    with pytest.raises(ValueError, match=r"`model\.4\.layer\.2\.cv3\.bn\.bias` \(2048\) is missing"):
        carry_over(fewer, "rtdetr-resnet50-stock")


def test_the_command_carries_writes_and_tells(published, tmp_path, capsys):
    out = tmp_path / "start.pt"
    assert main(["carry", str(published), "--to", NANO, "--classes", "7", "-o", str(out)]) == 0
    said, written = capsys.readouterr().out.splitlines()
    assert said.startswith(f"nano.pt → {NANO}: ") and written == str(out)
    assert len(RTDETR(out).names) == 7
    assert main(["carry", str(published), "--to", NANO, "-o", str(tmp_path / "w.safetensors")]) == 0
    assert "carried over from nano.pt" in rtdetr.load(tmp_path / "w.safetensors").card["weights_are"]
    assert main(["carry", str(published), "--to", NANO, "-o", str(tmp_path / "w.onnx")]) == 2
    assert "must end in .pt or .safetensors" in capsys.readouterr().err
