"""One at a time: a lock on a file that the system takes back by itself, whichever way its holder ends."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import filelock


class Busy(OSError):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def hold(path: str | Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file while the block runs, or wait for it, or raise `Busy` with who holds it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # filelock may empty the file itself, so its holder's name lies beside it
    lock, holder = filelock.FileLock(path), path.with_name(f"{path.name}.holder")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout as error:
        who = holder.read_text() if holder.exists() else "another process"
        raise Busy(f"{path} is held by {who}.") from error
    except (OSError, NotImplementedError) as error:
        rule = f"cannot be locked ({error}). Use a folder on another disk"
        raise OSError(errno.ENOLCK, rule, str(path)) from error
    try:
        holder.write_text(f"process {os.getpid()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
