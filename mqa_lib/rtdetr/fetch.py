"""Trained weights from their makers: whole files or none, their size and SHA-256 told, and checked where named."""

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ultralytics.utils import downloads

from mqa_lib import checks
from mqa_lib.rtdetr.build import quietly

TIMEOUT_SECONDS = 30.0  # without a byte, not for all of them
_CHUNK_BYTES = 2**20
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # as in resnet50-0676ba61.pth


@dataclass(frozen=True)
class Fetched:
    """A file that is there now, and what it is.

    Args:
        path: The file.
        size_bytes: Its size.
        sha256: Its SHA-256.
        as_named: Whether the name promises the beginning of the SHA-256, which was then compared. Otherwise nothing
            but the connection vouches for the file.
    """

    path: Path
    size_bytes: int
    sha256: str
    as_named: bool

    def __str__(self) -> str:
        """Return name, size and hash."""
        vouched = (
            "as its name promises" if self.as_named else "its name promises none, so compare it yourself"
        )
        return f"{self.path.name}: {self.size_bytes:,} bytes, sha256 {self.sha256} ({vouched})"


def imagenet_resnet50(folder: str | Path, version: str = "IMAGENET1K_V1") -> Fetched:
    """Return torchvision's ImageNet weights of ResNet-50, fetched if they are not in `folder` yet.

    Args:
        folder: Where the file is kept.
        version: One of torchvision's `ResNet50_Weights`, which also knows the address.

    Raises:
        ValueError: The version is not known, or the file is not the one that its name promises.
        ConnectionError: There is no network, or it stopped.
    """
    from torchvision.models import ResNet50_Weights

    known = ResNet50_Weights.__members__
    return fetch(known[checks.one_of("version", version, known)].url, folder)


def coco_checkpoint(folder: str | Path, name: str = "rtdetr-l.pt") -> Fetched:
    """Return a COCO-trained checkpoint that ultralytics publishes, fetched by its own downloader if it is not there.

    Args:
        folder: Where the file is kept.
        name: One of the checkpoints of RT-DETR that ultralytics knows.

    Raises:
        ValueError: The name is not known.
        ConnectionError: There is no network, or it stopped.
    """
    path = Path(folder) / checks.one_of("name", name, coco_names())
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        try:
            with quietly():
                found = Path(downloads.attempt_download_asset(path))
        except ConnectionError as error:
            raise _offline(name, path, error) from error
        if found != path and found.exists():  # ultralytics keeps a folder of weights of its own
            return _told(found)
        if not path.exists():
            raise _offline(name, path, "nothing came")
    return _told(path)


def coco_names() -> list[str]:
    """Return the names of the checkpoints of RT-DETR that ultralytics publishes."""
    return sorted(asset for asset in downloads.GITHUB_ASSETS_NAMES if asset.startswith("rtdetr-"))


def fetch(url: str, folder: str | Path, timeout: float = TIMEOUT_SECONDS) -> Fetched:
    """Return the file of an address, fetched if it is not in `folder` yet; a part of it never takes its place.

    Args:
        url: The address; if its name ends in the beginning of a SHA-256, as torchvision's do, it is compared.
        folder: Where the file is kept.
        timeout: Seconds without a byte after which it is given up.

    Raises:
        ValueError: The file is not the one that its name promises.
        ConnectionError: There is no network, or it stopped.
    """
    path = Path(folder) / url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return _told(path)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=timeout) as answer:
            wanted = answer.headers.get("Content-Length")
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
            if wanted is not None and file.tell() != int(wanted):
                raise ConnectionError(f"{file.tell()} of {wanted} bytes came")
        _told(Path(draft), path.name)
        Path(draft).chmod(0o644)  # temporary files are their maker's alone
        Path(draft).replace(path)
    except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        raise _offline(path.name, path, error) from error
    finally:
        Path(draft).unlink(missing_ok=True)
    return _told(path)


def _told(path: Path, name: str | None = None) -> Fetched:
    """Return size and hash of a file.

    Raises:
        ValueError: The hash is not the one that the name promises.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    promised = _HASH_IN_NAME.search(name or path.name)
    if promised and not digest.startswith(promised[1]):
        rule = f"has another SHA-256 ({digest}) than its name promises"
        raise checks.refuse("file", name or path.name, rule, "Remove it and fetch it again.")
    return Fetched(path, path.stat().st_size, digest, promised is not None)


def _offline(name: str, path: Path, reason: object) -> ConnectionError:
    return ConnectionError(
        f"{name} could not be fetched ({reason}). If there is no network here, fetch it where there is one, put it at "
        f"{path}, and run this again; nothing else needs the network."
    )
