"""A prepared folder in object storage: a server on this machine that answers as S3 does."""

import multiprocessing
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from medvlp.prepared import Prepared
from tests.support.compressed import compress
from tests.support.tiny import make_prepared

ERROR = '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>none</Message></Error>'


def serve(folder, asked):
    """Return a server of the objects bucket/PATH of a folder, which lists what was read."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body):
            path = folder / self.path.partition("?")[0].removeprefix("/bucket/")
            data, status = (path.read_bytes(), 200) if path.is_file() else (ERROR.encode(), 404)
            first, total = 0, len(data)
            if status == 200 and (wanted := self.headers.get("Range")):
                first, last = wanted.removeprefix("bytes=").split("-")
                data, first, status = data[int(first) : int(last) + 1], int(first), 206
            if body and status != 404:
                asked.append((path.name, first))
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Last-Modified", "Wed, 12 Oct 2022 17:50:00 GMT")
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{total}")
            self.end_headers()
            if body:
                self.wfile.write(data)

        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def log_message(self, *arguments):
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """URL of a prepared folder, and the objects that were read of it."""
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "cache"))
    settings = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "EC2_METADATA_DISABLED": "true"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    compress(make_prepared(tmp_path / "bucket/tiny"))
    asked = []
    server = serve(tmp_path / "bucket", asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    yield f"s3://bucket/tiny?region=us-east-1&scheme=http&endpoint_override={address}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_images_come_from_object_storage(bucket, tmp_path):
    url, asked = bucket
    prepared, expected = Prepared.open(url), Prepared.open(tmp_path / "bucket/tiny")
    assert prepared.index == expected.index
    assert {name for name, _ in asked} == {"manifest.json", "index.parquet", "triplets.parquet"}
    asked.clear()
    for row in (3, 4, 17):
        np.testing.assert_array_equal(prepared.images[row], expected.images[row])
    assert [name for name, first in asked if first == 0] == ["000000000.arrow", "000000016.arrow"]


def read(prepared, rows, queue):
    queue.put(np.stack([prepared.images[row] for row in rows]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_a_loader_read_from_object_storage(bucket, tmp_path, method):
    url, asked = bucket
    prepared, expected = Prepared.open(url), Prepared.open(tmp_path / "bucket/tiny")
    assert len(prepared.images[40]) == 40
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=read, args=(prepared, range(24), queue)) for _ in range(2)]
    for process in processes:
        process.start()
    for _ in processes:
        np.testing.assert_array_equal(queue.get(timeout=120), expected.images[:24])
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    read_of = [name for name, first in asked if first == 0 and name.endswith(".arrow")]
    assert sorted(read_of) == ["000000000.arrow", "000000016.arrow", "000000032.arrow"]
