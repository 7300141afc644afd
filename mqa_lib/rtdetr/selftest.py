"""Five seconds that say whether the installed ultralytics builds, runs, trains and keeps our models as it should."""

import copy
import io
import time
from collections.abc import Callable, Iterator

import torch
from ultralytics import __version__
from ultralytics.nn import tasks
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import DEFAULT_CFG

from mqa_lib import hooks
from mqa_lib.attention import MobileMQA
from mqa_lib.blocks import MobileMQABlock
from mqa_lib.rtdetr import article, fit
from mqa_lib.rtdetr.audit import decoder_maps
from mqa_lib.rtdetr.build import MODELS, quietly, register
from mqa_lib.rtdetr.encoder import AIFI_MQA

_NAMES = (
    "rtdetr-nano-stock",
    "rtdetr-nano-mobile-mqa",
    "rtdetr-nano-mqa-encoder",
    "rtdetr-nano-article-corrected",
)
_EXPECTED = {  # what has to be found in each, and how often
    "rtdetr-nano-mobile-mqa": (MobileMQABlock, 2),
    "rtdetr-nano-mqa-encoder": (AIFI_MQA, 1),
    "rtdetr-nano-article-corrected": (article.C3_MQA_Corrected, 4),
}


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:  # not an `assert`: Python can be told to pass over those
        raise RuntimeError(otherwise)


def _network(name: str, nc: int = 3) -> RTDETRDetectionModel:
    with quietly():
        return RTDETRDetectionModel(str(MODELS[name]), nc=nc, verbose=False)


def _names_are_known() -> None:
    register()
    _expect(tasks.MobileMQABlock is MobileMQABlock, "MobileMQABlock is not known to model files")
    before = tasks.parse_model
    register()
    _expect(tasks.parse_model is before, "registering twice wraps twice")


def _models_hold_our_layers() -> None:
    for name, (kind, times) in _EXPECTED.items():
        found = sum(isinstance(module, kind) for module in _network(name).modules())
        _expect(found == times, f"{name} holds {found} {kind.__name__} and should hold {times}")
    _expect(tasks.AIFI is AIFI, "ultralytics' own layers were not put back")


def _channels_are_worked_out() -> None:
    rows = [[-1, 1, "ResNetLayer_MQA", [3, 5, 1, True, 1]], [-1, 1, "ResNetLayer_MQA", [5, 7, 2, False, 2]]]
    network, _ = tasks.parse_model(
        {"nc": 1, "backbone": rows, "head": [[-1, 1, "AIFI_MQA", [11, 4]]]}, 3, False
    )
    found = network[2].fc1.in_features
    _expect(found == 4 * 7, f"a stage of 4 × 7 channels was taken for {found}")


@torch.no_grad()
def _pictures_of_any_shape_are_answered() -> None:
    for name in _NAMES:
        answer = _network(name).eval()(torch.rand(2, 3, 96, 128))[0]
        _expect(answer.shape == (2, 30, 6), f"{name} answers with the shape {tuple(answer.shape)}")
        _expect(bool(answer.isfinite().all()), f"{name} answers with numbers that are not finite")


def _a_loss_reaches_every_attention() -> None:
    for name in _EXPECTED:
        network = _network(name)
        network.nc, network.args = 3, DEFAULT_CFG  # which the trainer sets
        batch = {
            "img": torch.rand(2, 3, 64, 64),
            "cls": torch.tensor([[0.0], [2.0]]),
            "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.4], [0.4, 0.6, 0.2, 0.2]]),
            "batch_idx": torch.tensor([0.0, 1.0]),
        }
        loss = network.loss(batch)[0]
        loss.sum().backward()
        for layer in network.modules():
            if isinstance(layer, MobileMQA):
                gradient = next(layer.query.parameters()).grad
                arrives = gradient is not None and bool(gradient.isfinite().all())
                _expect(arrives, f"no gradient, or one that is not finite, reaches an attention of {name}")


@torch.no_grad()
def _fusing_changes_nothing() -> None:
    x = torch.rand(1, 3, 96, 96)
    for name in _NAMES:
        network = _network(name).eval()
        before = decoder_maps(network, x)
        after = decoder_maps(copy.deepcopy(network).fuse(verbose=False), x)
        same = all(torch.allclose(*pair, rtol=1e-3, atol=1e-4) for pair in zip(before, after, strict=True))
        _expect(same, f"{name} gives its decoder other maps once it is fused")


def _a_pickle_comes_back() -> None:
    for name in _NAMES:
        buffer = io.BytesIO()
        network = _network(name)
        torch.save(network, buffer)
        buffer.seek(0)
        again = torch.load(buffer, weights_only=False).state_dict()
        same = all(torch.equal(value, again[key]) for key, value in network.state_dict().items())
        _expect(same, f"{name} comes back changed")


def _attention_is_seen() -> None:
    x = torch.rand(1, 3, 96, 128)
    kinds = [view.kind for view in hooks.run(_network("rtdetr-nano-mqa-encoder"), x)]
    _expect("Mobile MQA" in kinds, f"the encoder's attention is not seen ({', '.join(kinds)})")
    kinds = [view.kind for view in hooks.run(_network("rtdetr-nano-stock"), x)]
    _expect(any("AIFI" in kind for kind in kinds), f"AIFI's attention is not seen ({', '.join(kinds)})")


CHECKS: dict[str, Callable[[], None]] = {
    "names are known to model files": _names_are_known,
    "models hold our layers": _models_hold_our_layers,
    "channels are worked out": _channels_are_worked_out,
    "pictures of any shape are answered": _pictures_of_any_shape_are_answered,
    "a loss reaches every attention": _a_loss_reaches_every_attention,
    "fusing changes nothing": _fusing_changes_nothing,
    "a pickle comes back": _a_pickle_comes_back,
    "attention is seen": _attention_is_seen,
}


def run() -> Iterator[tuple[str, str]]:
    """Yield (what was tried, what went wrong or nothing) for each check, in order; none of them raises."""
    for name, check in CHECKS.items():
        try:
            with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
                torch.manual_seed(0)
                check()
        except Exception as error:  # whatever an unknown version does is the finding
            yield name, f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            yield name, ""


def main() -> int:
    """Print a line for each check and one for all; return 1 if the integration does not hold, else 0."""
    start, broken = time.perf_counter(), 0
    for name, wrong in run():
        broken += bool(wrong)
        print(f"{'FAIL' if wrong else '  ok'}  {name}{': ' if wrong else ''}{wrong}")
    verdict = f"{broken} of {len(CHECKS)} checks failed" if broken else "the integration holds"
    print(f"ultralytics {__version__}: {verdict} ({time.perf_counter() - start:.1f} s).")
    if said := fit.untested():
        print(said.split(". ")[0] + ".")
    return int(broken > 0)
