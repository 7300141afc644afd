"""A file is fetched whole or not at all, and its name's promise is kept."""

import errno
import hashlib
import os
import socket
import threading

import pytest
from ultralytics.utils import downloads

from mqa_lib import download
from mqa_lib.rtdetr import fetch

CONTENT = b"weights " * 1009
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Return a file that stands for torchvision's, whose name begins to say its SHA-256."""
    from torchvision.models import ResNet50_Weights

    file = tmp_path / "from" / f"resnet50-{DIGEST[:8]}.pth"
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    monkeypatch.setattr(ResNet50_Weights.IMAGENET1K_V1.value, "url", file.as_uri(), raising=False)
    return file


def test_a_file_is_fetched_once_with_size_and_hash_told(published, tmp_path):
    first = fetch.imagenet_resnet50(tmp_path / "kept")
    published.unlink()
    again = fetch.imagenet_resnet50(tmp_path / "kept")
    assert first == again and first.path.read_bytes() == CONTENT and first.as_named
    assert str(first) == f"{published.name}: 8,072 bytes, sha256 {DIGEST} (as its name promises)"
    first.path.write_bytes(CONTENT[:-1])
    with pytest.raises(
        ValueError, match=r"has another SHA-256 \([0-9a-f]{64}\) than its name promises.*Remove it"
    ):
        fetch.imagenet_resnet50(tmp_path / "kept")


def test_a_file_that_is_not_what_its_name_promises_is_refused_and_not_kept(published, tmp_path):
    published.write_bytes(CONTENT[:-1])
    with pytest.raises(
        ValueError, match=rf"`file` \(={published.name}\) came with another SHA-256 .*Run it again"
    ):
        fetch.imagenet_resnet50(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_full_disk_is_not_taken_for_a_network_that_is_not_there(published, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download.torch.hub, "download_url_to_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch.imagenet_resnet50(tmp_path / "kept")
    assert not isinstance(caught.value, ConnectionError)


def test_a_name_without_a_hash_vouches_for_nothing(published):
    plain = published.rename(published.with_name("rtdetr-l.pt"))
    # it is there, so nothing is asked
    told = fetch.coco_checkpoint(plain.parent)
    assert told.sha256 == DIGEST and not told.as_named and "its name promises none" in str(told)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\npart", "came with another SHA-256"),
        (b"HTTP/1.0 503 Busy\r\n\r\n", r"weights\.pt could not be fetched .*503.*Run the same again"),
        (b"", r"weights\.pt could not be fetched .*timed out.*put it at .*weights\.pt"),
    ],
    ids=["cut", "refused", "silent"],
)
def test_a_connection_that_stops_leaves_nothing_and_says_what_to_do(answer, told, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_SILENT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
                if not answer:
                    done.wait(5)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights.pt"
        with pytest.raises((ConnectionError, ValueError), match=told):
            download.fetch(url, tmp_path / "weights.pt", "0123abcd")
        done.set()
        thread.join()
    assert list(tmp_path.iterdir()) == [] and socket.getdefaulttimeout() is None


def test_without_a_network_a_checkpoint_s_name_and_place_are_told(tmp_path, monkeypatch):
    def none(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(downloads, "safe_download", none)
    with pytest.raises(
        ConnectionError, match=r"rtdetr-x\.pt could not be fetched \(no route\).*nothing else needs"
    ):
        fetch.coco_checkpoint(tmp_path, "rtdetr-x.pt")


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(
        ValueError, match=r"`name` \(='rtdetr-s\.pt'\) is not known\. Use one of: rtdetr-l\.pt, rtdetr-x"
    ):
        fetch.coco_checkpoint(tmp_path, "rtdetr-s.pt")
    with pytest.raises(
        ValueError, match=r"`version` \(='V3'\) is not known\. Use one of: DEFAULT, IMAGENET1K_V1"
    ):
        fetch.imagenet_resnet50(tmp_path, "V3")
