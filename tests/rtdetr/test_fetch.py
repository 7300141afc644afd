"""A file is fetched whole or not at all, and its name's promise is kept."""

import hashlib
import socket
import threading

import pytest
from ultralytics.utils import downloads

from mqa_lib.rtdetr import fetch

CONTENT = b"weights " * 1009
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(tmp_path):
    """Return the address of a file whose name begins to say its SHA-256, as torchvision's do."""
    file = tmp_path / "from" / f"resnet50-{DIGEST[:8]}.pth"
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    return file


def test_a_file_is_fetched_once_with_size_and_hash_told(published, tmp_path):
    first = fetch.fetch(published.as_uri(), tmp_path / "kept")
    published.unlink()
    again = fetch.fetch(published.as_uri(), tmp_path / "kept")
    assert first == again and first.path.read_bytes() == CONTENT and first.as_named
    assert str(first) == f"{published.name}: 8,072 bytes, sha256 {DIGEST} (as its name promises)"


def test_a_file_that_is_not_what_its_name_promises_is_refused_and_not_kept(published, tmp_path):
    published.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"has another SHA-256 \([0-9a-f]{64}\) than its name promises"):
        fetch.fetch(published.as_uri(), tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_name_without_a_hash_vouches_for_nothing(published):
    plain = published.rename(published.with_name("rtdetr-l.pt"))
    told = fetch.coco_checkpoint(plain.parent)  # it is there, so nothing is asked
    assert told.sha256 == DIGEST and not told.as_named and "its name promises none" in str(told)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\npart", b""], ids=["cut", "silent"]
)
def test_a_connection_that_stops_leaves_nothing_and_says_what_to_do(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
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
        with pytest.raises(
            ConnectionError, match=r"weights\.pt could not be fetched .*put it at .*weights\.pt, and run"
        ):
            fetch.fetch(url, tmp_path, timeout=0.2)
        done.set()
        thread.join()
    assert list(tmp_path.iterdir()) == []


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
