"""Trained weights from their makers, fetched whole or not at all, and told by their SHA-256."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ultralytics.utils import downloads

from mqa_lib import checks, download
from mqa_lib.rtdetr.build import quietly


@dataclass(frozen=True)
class Fetched:
    """A file that is there, its SHA-256, and whether its name promises how that begins."""

    path: Path
    sha256: str
    as_named: bool

    def __str__(self) -> str:
        """Return name, size and hash."""
        vouched = (
            "as its name promises" if self.as_named else "its name promises none, so compare it yourself"
        )
        return f"{self.path.name}: {self.path.stat().st_size:,} bytes, sha256 {self.sha256} ({vouched})"


def imagenet_resnet50(folder: str | Path, version: str = "IMAGENET1K_V1") -> Fetched:
    """Return torchvision's ImageNet weights of ResNet-50 in `folder`, fetched if they are not there yet.

    `version` is one of torchvision's `ResNet50_Weights`. Raises ValueError if it is not known, or if the file is not
    the one that its name promises; ConnectionError without a network.
    """
    from torchvision.models import ResNet50_Weights

    url = ResNet50_Weights[checks.one_of("version", version, ResNet50_Weights.__members__)].url
    promised = url.rpartition("-")[2].removesuffix(".pth")  # as in resnet50-0676ba61.pth
    return _told(download.fetch(url, Path(folder) / url.rpartition("/")[2], promised), promised)


def coco_checkpoint(folder: str | Path, name: str = "rtdetr-l.pt") -> Fetched:
    """Return a COCO-trained RT-DETR that ultralytics publishes, fetched by its downloader if `folder` has none.

    Raises ValueError if the name is not known, ConnectionError without a network.
    """
    path = Path(folder) / checks.one_of("name", name, coco_names())
    path.parent.mkdir(parents=True, exist_ok=True)
    found, reason = path, "nothing came"
    if not path.exists():
        try:
            with quietly():
                found = Path(downloads.attempt_download_asset(path))
        except ConnectionError as error:
            reason = str(error)
    if not found.exists():
        raise download.offline(path, reason)
    return _told(found)  # which may lie in a folder of weights that ultralytics keeps


def coco_names() -> list[str]:
    """Return the names of the checkpoints of RT-DETR that ultralytics publishes."""
    return sorted(asset for asset in downloads.GITHUB_ASSETS_NAMES if asset.startswith("rtdetr-"))


def _told(path: Path, promised: str = "") -> Fetched:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(promised):
        rule = f"has another SHA-256 ({digest}) than its name promises"
        raise checks.refuse("file", path.name, rule, "Remove it and fetch it again.")
    return Fetched(path, digest, bool(promised))
