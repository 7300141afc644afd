"""A file from an address: whole or not at all, and a sentence that says what to do without a network."""

import http.client
import socket
import sys
import urllib.error
from pathlib import Path

import torch.hub

from mqa_lib import checks

_SILENT_SECONDS = 30.0


def fetch(url: str, path: str | Path, sha256: str = "") -> Path:
    """Return `path`, which holds what the address gives; a file that is there is taken as it is.

    Args:
        url: The address.
        path: Where to put the file.
        sha256: How its SHA-256 begins. Without it, whoever reads the file has to see that it is not cut off.

    Raises:
        ConnectionError: There is no network, or it stopped.
        ValueError: What came has another SHA-256.
        OSError: The disk is full.
    """
    path, before = Path(path), socket.getdefaulttimeout()
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    socket.setdefaulttimeout(_SILENT_SECONDS)
    try:
        torch.hub.download_url_to_file(url, str(path), sha256 or None, progress=sys.stderr.isatty())
    except RuntimeError as error:
        raise checks.refuse(
            "file", path.name, f"came with another SHA-256 ({error})", "Run it again."
        ) from error
    except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        raise offline(path, error) from error
    finally:
        socket.setdefaulttimeout(before)
    return path


def offline(path: Path, reason: object) -> ConnectionError:
    """Return the error of a file that could not be fetched."""
    return ConnectionError(
        f"{path.name} could not be fetched ({reason}). Run the same again, or, if there is no network here, fetch it "
        f"where there is one and put it at {path}; nothing else needs the network."
    )
