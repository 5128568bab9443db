"""Downloads from a server on this machine that cuts connections, changes files and lies about sizes."""

import gzip
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from medvlp.errors import UserError
from medvlp.prepare.download import TRIES, UnreachableError, download, unpack_images

DATA = bytes(range(256)) * 4000


class Server:
    """What the server does next, and what it was asked.

    Attributes:
        data: The file.
        tag: Its ETag; empty for none.
        cut: Number of bytes after which each connection is cut; None for no cut.
        ranges: Whether it knows ranges.
        status: Answer to every request, if not 200 or 206.
        length: Content-Length, if not the right one; empty for none.
        kind: Content-Type.
        asked: Range of each request, or None.
    """

    def __init__(self):
        self.data, self.tag, self.cut, self.ranges = DATA, '"1"', None, True
        self.status, self.length, self.kind = 0, None, "application/gzip"
        self.asked = []

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.status:
            handler.send_error(self.status)
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        is_part = self.ranges and wanted and handler.headers.get("If-Range") == self.tag
        if is_part and first >= len(self.data):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.data[first if is_part else 0 :]
        handler.send_response(206 if is_part else 200)
        if is_part:
            handler.send_header("Content-Range", f"bytes {first}-{len(self.data) - 1}/{len(self.data)}")
        if self.length != "":
            handler.send_header("Content-Length", self.length or str(len(body)))
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.send_header("Content-Type", self.kind)
        handler.end_headers()
        handler.wfile.write(body[: self.cut])
        handler.close_connection = True


@pytest.fixture
def server():
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{web.server_port}/file.tgz"
        yield state
        web.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "raw" / "file.tgz"


def fetch(server, target, **options):
    download(server.url, target, pause=0.0, **options)
    assert target.read_bytes() == server.data
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_file_comes_once(server, target):
    fetch(server, target, sha256=hashlib.sha256(DATA).hexdigest())
    fetch(server, target)
    assert server.asked == [None]


def test_cut_connections_go_on_where_they_were_cut(server, target):
    server.cut = 300_000
    fetch(server, target)
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_the_next_run_goes_on(server, target):
    server.cut = 0
    with pytest.raises(UnreachableError, match=r"0 of 1,024,000 bytes came\. What came is kept"):
        download(server.url, target, pause=0.0)
    assert len(server.asked) == TRIES
    target.with_name("file.tgz.part").write_bytes(DATA[:500_000])
    server.cut, server.asked = None, []
    fetch(server, target)
    assert server.asked == ["bytes=500000-"]


def test_a_run_that_was_stopped_before_the_last_step(server, target):
    target.parent.mkdir()
    target.with_name("file.tgz.part").write_bytes(DATA)
    target.with_name("file.tgz.version").write_text(server.tag)
    fetch(server, target)
    assert server.asked == [f"bytes={len(DATA)}-"]


@pytest.mark.parametrize("change", ["file", "no ranges", "no tag", "part of unknown version"])
def test_what_cannot_be_continued_is_fetched_anew(server, target, change):
    target.parent.mkdir()
    target.with_name("file.tgz.part").write_bytes(b"old" * 1000)
    if change != "part of unknown version":
        target.with_name("file.tgz.version").write_text('"0"' if change == "file" else server.tag)
    if change == "no ranges":
        server.ranges = False
    if change == "no tag":
        server.tag = ""
    fetch(server, target)


def test_a_weak_tag_promises_nothing(server, target):
    server.tag, server.cut = 'W/"1"', 600_000
    with pytest.raises(UnreachableError, match=r"600,000 of 1,024,000"):
        download(server.url, target, pause=0.0)
    assert set(server.asked) == {None}


def test_a_server_without_length(server, target):
    server.length = ""
    fetch(server, target)


def test_more_bytes_than_promised(server, target):
    """They are not read: the checksum tells that the file is another one."""
    server.length = "1000"
    with pytest.raises(UserError, match="another checksum than published: run the same command again"):
        download(server.url, target, hashlib.sha256(DATA).hexdigest(), pause=0.0)
    assert not list(target.parent.glob("*.part"))


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, TRIES), (429, TRIES)])
def test_answers_that_are_errors(server, target, status, asked):
    server.status = status
    with pytest.raises(UnreachableError, match=f"{server.url}' cannot be fetched: the server answers {status} "):
        download(server.url, target, pause=0.0)
    assert len(server.asked) == asked
    assert not target.exists()


def test_a_page_of_maintenance_is_no_file(server, target):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(UnreachableError, match="the server answers with a web page"):
        download(server.url, target, pause=0.0)
    assert not list(target.parent.iterdir())


def test_no_network(target):
    with pytest.raises(UnreachableError, match=r"cannot be fetched: .*[Rr]efused"):
        download("http://127.0.0.1:9/file.tgz", target, pause=0.0)


def pack(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_unpacking(tmp_path):
    images = {"x/a.png": b"1", "../../b.PNG": b"2", "/etc/c.dcm": b"3", "notes.txt": b"4", "._a.png": b"5"}
    archive = pack(tmp_path / "images.tgz", images)
    unpack_images(archive, tmp_path / "out/images")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"a.png": b"1", "b.PNG": b"2", "c.dcm": b"3"}
    archive.unlink()
    unpack_images(archive, tmp_path / "out/images")


def test_links_are_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / "images.tgz", "w:gz") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    unpack_images(tmp_path / "images.tgz", tmp_path / "images")
    assert not list((tmp_path / "images").iterdir())


@pytest.mark.parametrize("damage", ["cut", "cut between members", "bits", "web page"])
def test_a_damaged_archive_is_never_half_unpacked(tmp_path, damage):
    import random

    noise = random.Random(0).randbytes
    archive = pack(tmp_path / "images.tgz", {f"{i}.png": noise(5000) for i in range(20)})
    whole = archive.read_bytes()
    if damage == "cut between members":
        archive.write_bytes(gzip.compress(gzip.decompress(whole)[: 512 * 11 * 3])[:-8])
    else:
        bits = bytearray(whole)
        bits[len(whole) // 2] ^= 255
        archive.write_bytes({"cut": whole[: len(whole) // 2], "bits": bytes(bits)}.get(damage, b"<html>sorry</html>"))
    with pytest.raises(UserError, match=r"images\.tgz' cannot be read to its end"):
        unpack_images(archive, tmp_path / "images")
    assert not (tmp_path / "images").exists()
    archive.write_bytes(whole)
    unpack_images(archive, tmp_path / "images")
    assert len(list((tmp_path / "images").iterdir())) == 20
