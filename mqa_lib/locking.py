"""One at a time: a lock on a file that the system takes back by itself, whichever way its holder ends."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Busy(OSError):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def hold(path: str | Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file while the block runs. A file that a crash left behind holds nobody up.

    Args:
        path: The file, made if it is not there; it stays, and says who held it last.
        wait: Wait for whoever holds it, instead of refusing.

    Raises:
        Busy: Another process holds it. The message says which, as far as it can be told.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            _take(file, wait)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                said = "The disk of this file has no locks. Use a folder on another one"
                raise OSError(error.errno, said, str(path)) from error
            file.seek(0)
            raise Busy(f"{path} is held by {file.read().strip() or 'another process'}.") from error
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    _FAR_BYTE = 2**30  # behind what is written, so that others can read who holds it

    def _take(file: IO[str], wait: bool) -> None:
        file.seek(_FAR_BYTE)
        mode = msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK
        while True:
            try:
                return msvcrt.locking(file.fileno(), mode, 1)
            except OSError:  # it gives up after ten seconds
                if not wait:
                    raise

else:
    import fcntl

    def _take(file: IO[str], wait: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
