"""BCCD comes whole or not at all: from a folder, from an archive, and what is wrong with either is named."""

import errno
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from mqa_lib.datasets import bccd, voc, yolo
from mqa_lib.datasets.yolo import DataError
from tests.datasets.voc import write_voc

_PLACES = (os.environ.get("MQA_BCCD"), Path(__file__).parents[3] / "shared/data/bccd")
REAL = next((Path(place) for place in _PLACES if place and Path(place, "BCCD").is_dir()), None)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a small set in the place of BCCD, whose hashes stand for the manifest."""
    root = tmp_path / "theirs"
    write_voc(root / "BCCD")
    for file in (root / "BCCD/Annotations").glob("*.xml"):
        file.write_text(file.read_text().replace("hen", "RBC").replace("egg", "WBC"))
    files = [file for file in root.rglob("*") if file.is_file()]
    hashes = {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    monkeypatch.setattr(bccd, "manifest", lambda: hashes)
    return root


@pytest.fixture
def archive(source):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(source, f"BCCD_Dataset-{bccd.COMMIT}")
    return packed.getvalue()


@pytest.fixture
def serve():
    """Return a function that serves bytes, the first `breaks` answers cut off in the middle."""
    servers = []

    def start(content, breaks=0):
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2 if len(asked) <= breaks else None])

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/bccd.tar.gz", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_folder_becomes_a_set_with_a_card(source, tmp_path):
    path = bccd.prepare(tmp_path / "out", source)
    report = yolo.checked(path)
    assert [*report.names.values()] == ["RBC", "WBC", "Platelets"] and report.pictures.total() == 3
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["commit"] == bccd.COMMIT and card["pictures"] == {"train": 1, "val": 1, "test": 1}
    assert card["objects"] == {"train": {"RBC": 1, "WBC": 1}, "val": {"WBC": 1}, "test": {"RBC": 1}}
    assert bccd.prepare(tmp_path / "out", tmp_path / "gone") == path  # it is there: nothing is read again


def test_an_interrupted_download_is_told_and_begun_again(archive, serve, tmp_path):
    url, asked = serve(archive, breaks=1)
    with pytest.raises(DataError, match=r"is no whole archive .*Run the same again"):
        bccd.fetch(tmp_path / "source", url)
    assert not (tmp_path / "source/bccd.tar.gz").exists()
    for _ in range(2):
        bccd.check(bccd.fetch(tmp_path / "source", url))
    # what is there is not fetched again
    assert len(asked) == 2


def test_an_archive_with_a_wrong_byte_is_refused_and_fetched_again(archive, serve, tmp_path):
    broken = bytearray(archive)
    broken[len(archive) // 2] ^= 255
    url, _ = serve(bytes(broken))
    with pytest.raises(DataError, match=r"no whole archive|another SHA-256|are missing"):
        bccd.fetch(tmp_path / "source", url)
    url, asked = serve(archive)
    bccd.check(bccd.fetch(tmp_path / "source", url))
    assert len(asked) == 1


def test_without_a_network_it_says_what_to_do(tmp_path):
    with pytest.raises(
        ConnectionError,
        match=r"bccd\.tar\.gz could not be .*no network here, fetch it where there is one and put it at",
    ):
        bccd.fetch(tmp_path, "http://127.0.0.1:9/bccd.tar.gz")


def test_files_that_are_missing_or_others_are_named(source, tmp_path):
    (source / "BCCD/Annotations/b.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match=r"1 files of BCCD have another SHA-256 .*Annotations/b\.xml"):
        bccd.prepare(tmp_path / "out", source)
    (source / "BCCD/Annotations/b.xml").unlink()
    with pytest.raises(DataError, match=r"1 files of BCCD are missing: BCCD/Annotations/b\.xml"):
        bccd.prepare(tmp_path / "out", source)
    assert not (tmp_path / "out/data.yaml").exists()


def test_a_file_of_our_own_that_is_damaged_is_fetched_again_and_anothers_is_left_alone(
    archive, serve, tmp_path
):
    url, asked = serve(archive)
    for name, fetched in (("source", 2), ("mine", 3)):
        file = bccd.fetch(tmp_path / name, url) / "BCCD/Annotations/b.xml"
        file.write_text("<annotation/>")
        with pytest.raises(DataError, match="1 files of BCCD have another SHA-256"):
            bccd.check(tmp_path / name)
        assert file.exists() is (name == "mine")
        bccd.fetch(tmp_path / name, url)
        assert len(asked) == fetched


def test_a_set_whose_writing_was_stopped_is_written_again(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bccd.json, "dumps", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        bccd.prepare(tmp_path / "out", source)
    label = tmp_path / "out/labels/train/a.txt"
    label.unlink()
    monkeypatch.setenv("MQA_BCCD", str(source))
    bccd.prepare(tmp_path / "out")
    assert label.exists() and (tmp_path / "out/card.json").exists()


def test_a_disk_that_fills_up_on_the_way_is_said_as_one_that_was_full(source, tmp_path, monkeypatch):
    def full(number):
        def raises(*_):
            raise OSError(number, os.strerror(number))

        return raises

    monkeypatch.setattr(voc.os, "link", full(errno.EXDEV))
    monkeypatch.setattr(voc.shutil, "copyfile", full(errno.ENOSPC))
    with pytest.raises(OSError, match=r"`root` \(=.*out\) needs about 40 MB .*name a folder on another disk"):
        bccd.prepare(tmp_path / "out", source)
    monkeypatch.setattr(voc.shutil, "copyfile", full(errno.EACCES))
    with pytest.raises(PermissionError, match="Permission denied"):
        bccd.prepare(tmp_path / "out", source)


def test_a_full_disk_is_said_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(bccd.shutil, "disk_usage", lambda _: SimpleNamespace(free=7_000_000))
    monkeypatch.setattr(bccd, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(OSError, match=r"needs about 40 MB and its disk has 7 MB free"):
        bccd.prepare(tmp_path / "out")


def test_the_manifest_has_every_picture_of_the_splits():
    paths = bccd.manifest()
    for folder, suffix in (("Annotations", "xml"), ("JPEGImages", "jpg")):
        assert sum(path.startswith(f"BCCD/{folder}/") and path.endswith(suffix) for path in paths) == 364
    assert {len(digest) for digest in paths.values()} == {64}


@pytest.mark.skipif(REAL is None, reason="no copy of BCCD here; MQA_BCCD may name one")
def test_the_real_set_has_the_splits_that_its_makers_say(tmp_path):
    report = yolo.checked(bccd.prepare(tmp_path / "out", REAL))
    assert report.pictures == {"train": 205, "val": 87, "test": 72}
    assert sum(report.objects.values()) == 4155 + 372 + 361 - 2  # two boxes are points
