"""A file from an address: whole or not at all, with a sentence that says what to do without a network."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 30.0  # without a byte, not for all of them
_CHUNK_BYTES = 2**20


def fetch(url: str, path: str | Path, timeout: float = TIMEOUT_SECONDS) -> Path:
    """Return `path`, which holds what the address gives; what came of it before is kept and gone on with.

    A part of a file lies beside its place under a name ending in .part. Where the server can go on in the middle, it is
    asked to; otherwise it begins again.

    Args:
        url: The address.
        path: Where to put the file. If it is there already, nothing is fetched.
        timeout: Seconds without a byte after which it is given up.

    Raises:
        ConnectionError: There is no network, or it stopped. The same call goes on.
        OSError: The disk is full.
    """
    path = Path(path)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            goes_on = have > 0 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            with part.open("ab" if goes_on else "wb") as file:
                shutil.copyfileobj(answer, file, _CHUNK_BYTES)
                came = file.tell() - (have if goes_on else 0)
            wanted = answer.headers.get("Content-Length")
            if wanted is not None and came != int(wanted):
                raise ConnectionError(f"{came} of {wanted} bytes came")
    except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # the part is of another file
            part.unlink()
        raise ConnectionError(
            f"{path.name} could not be fetched from {url} ({error}). Run the same again to go on. If there is no "
            f"network here, fetch it where there is one and put it at {path}."
        ) from error
    part.replace(path)
    return path
