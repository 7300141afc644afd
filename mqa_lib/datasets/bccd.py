"""BCCD: 364 photographs of blood, 640×480, with boxes around red cells, white cells and platelets; MIT licence.

It is fetched from its public repository at one commit, every file compared with its SHA-256, and written in YOLO format
with the splits of its makers. The hashes in bccd.sha256 were taken from a copy whose files are those of that commit by
their git hashes.

Source: github.com/Shenggan/BCCD_Dataset
"""

import errno
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import zlib
from collections import Counter
from pathlib import Path

from mqa_lib import download
from mqa_lib.datasets import voc
from mqa_lib.datasets.yolo import DataError

COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
URL = f"https://github.com/Shenggan/BCCD_Dataset/archive/{COMMIT}.tar.gz"
CLASSES = ("RBC", "WBC", "Platelets")
_MANIFEST = Path(__file__).with_suffix(".sha256")
_NEEDED_BYTES = 40_000_000  # the archive, what is in it, and the set that is made of it
_NAMED = 3


def manifest() -> dict[str, str]:
    """Return the SHA-256 of every file of the set, by its path in the repository."""
    lines = _MANIFEST.read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def prepare(root: str | Path, source: str | Path | None = None) -> Path:
    """Return the YAML file of BCCD in YOLO format under `root`, which is made if it is not there yet.

    Args:
        root: Folder to write.
        source: Folder with the set as its repository has it. If it is not given, the environment variable MQA_BCCD
            names it, and otherwise it is fetched.

    Raises:
        DataError: A file is missing, or is not the one of the commit.
        ConnectionError: There is no network, or it stopped.
        OSError: The disk has too little room.
    """
    root = Path(root)
    done, card = root / "data.yaml", root / "card.json"
    if done.exists() and card.exists():
        return done
    _check_room(root)
    try:
        source = source or os.environ.get("MQA_BCCD")
        folder = Path(source) if source else fetch(root / "source")
        check(folder)
        report = voc.write(voc.read(folder / "BCCD", CLASSES).raise_if_bad(), root)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_room(root, shutil.disk_usage(root).free) from error
        raise
    objects: dict[str, Counter[str]] = {}
    for (split, index), count in report.objects.items():
        objects.setdefault(split, Counter())[CLASSES[index]] = count
    said = {
        **{"name": "BCCD", "commit": COMMIT, "licence": "MIT", "pictures": dict(report.pictures)},
        **{"classes": list(CLASSES), "objects": objects, "left out": report.notes},
        "source": "github.com/Shenggan/BCCD_Dataset",
    }
    draft = card.with_suffix(".part")
    draft.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    draft.replace(card)
    return done


def fetch(folder: str | Path, url: str = URL) -> Path:
    """Return `folder` with the set as its repository has it, fetched if it is not there yet.

    Args:
        folder: Where to put it.
        url: Address of the archive, a tar file of the repository.

    Raises:
        DataError: The archive is cut off or broken; it has been removed, so that the same call fetches it again.
        ConnectionError: There is no network, or it stopped.
    """
    folder = Path(folder)
    wanted = manifest()
    if all((folder / path).exists() for path in wanted):
        return folder
    archive = download.fetch(url, folder / "bccd.tar.gz")
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                path = member.name.partition("/")[2]  # the first folder is named after the commit
                if path in wanted and (content := packed.extractfile(member)) is not None:
                    _write(folder / path, content.read())
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        archive.unlink()
        raise DataError(f"What came from {url} is no whole archive ({error}). Run the same again.") from error
    try:
        check(folder)
    finally:
        archive.unlink()
    return folder


def check(folder: str | Path) -> None:
    """Accept a folder that has every file of the commit.

    Raises:
        DataError: Files are missing or others than those of the commit; the first are named.
    """
    folder = Path(folder)
    missing, other = [], []
    for path, digest in manifest().items():
        file = folder / path
        if not file.exists():
            missing.append(path)
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            other.append(path)
            if folder.name == "source":  # our own, so that the next call fetches it again
                file.unlink()
    for paths, rule in ((missing, "are missing"), (other, "have another SHA-256 than those of the commit")):
        if paths:
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            raise DataError(
                f"{len(paths)} files of BCCD {rule}: {', '.join(paths[:_NAMED])}{more}. "
                "Fetch them again, or name a folder that has them."
            )


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.part")
    draft.write_bytes(content)
    draft.replace(file)


def _check_room(root: Path) -> None:
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < _NEEDED_BYTES:
        raise _no_room(root, free)


def _no_room(root: Path, free: int) -> OSError:
    return OSError(
        errno.ENOSPC,
        f"`root` (={root}) needs about {_NEEDED_BYTES / 1e6:.0f} MB and its disk has {free / 1e6:.0f} MB free. "
        "Free some room or name a folder on another disk",
    )
