"""Folders that several machines prepare in parts: the same bytes as from one machine."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys

import pytest

from medvlp.errors import UserError
from medvlp.prepare import decoding
from medvlp.prepare.chunks import Decoder
from medvlp.prepare.compressed import ChunkFiles
from medvlp.prepare.journal import Journal
from medvlp.prepare.parts import Part
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.storing import Storing
from tests.prepare.test_annotations import Squares

STORES = pytest.mark.parametrize("store", ["array", "compressed"])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Prepares 100 images and masks, 4 chunks, or a part of them."""
    monkeypatch.setattr(decoding, "ROWS", 64)
    (tmp_path / "raw").mkdir()
    data = Squares(tmp_path / "raw")

    def prepare_squares(name, part=None, store="array", workers=1, size=32):
        out = tmp_path / name
        storing = Storing(store, Part.parse(part) if part and part != "join" else part)
        prepare(data, out, Options(size, "pad", ["FRONTAL"]), workers, storing)
        return out

    return prepare_squares


@STORES
@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_parts_are_the_whole(run, folder_bytes, store, count):
    for number in reversed(range(1, count + 1)):
        run("out", f"{number}/{count}", store)
    assert folder_bytes(run("out", "join", store)) == folder_bytes(run("whole", store=store))


@pytest.mark.slow
def test_processes_do_not_change_bytes(run, folder_bytes):
    for part in ("1/2", "2/2", "join"):
        run("out", part, workers=2)
    assert folder_bytes(run("whole").with_name("out")) == folder_bytes(run("whole"))


@STORES
def test_machines_without_a_common_folder(run, folder_bytes, tmp_path, store):
    for number in (1, 2, 3):
        run(f"machine{number}", f"{number}/3", store)
    for number in (1, 2, 3):
        shutil.copytree(tmp_path / f"machine{number}/work/parts", tmp_path / "out/work/parts", dirs_exist_ok=True)
    assert folder_bytes(run("out", "join", store)) == folder_bytes(run("whole", store=store))


def test_missing_parts_are_named(run, folder_bytes):
    with pytest.raises(UserError, match=r"4 of 4 chunks are missing, of all parts, for none was begun: run these"):
        run("out", "join")
    run("out", "2/4")
    run("out", "3/4")
    with pytest.raises(UserError, match=r"--shard join: 2 of 4 chunks are missing, of the parts 1/4, 4/4: run these"):
        run("out", "join")
    run("out", "1/4")
    with pytest.raises(UserError, match=r"1 of 4 chunks are missing, of the parts 4/4: run"):
        run("out", "join")
    run("out", "4/4")
    assert folder_bytes(run("out", "join")) == folder_bytes(run("whole"))


@STORES
def test_without_the_option_the_rest_is_decoded(run, folder_bytes, monkeypatch, store):
    run("out", "1/2", store)
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "__call__", lambda *arguments: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run("out", store=store)
    decoded, call = [], Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda self, chunk: decoded.append(chunk.first) or call(self, chunk))
    run("out", store=store)
    assert decoded == [64, 96]
    assert folder_bytes(run("whole", store=store).with_name("out")) == folder_bytes(run("whole", store=store))


@STORES
def test_an_interrupted_part_goes_on(run, folder_bytes, monkeypatch, store):
    append, done = Journal.append, []

    def interrupted(self, result):
        if done:
            raise KeyboardInterrupt
        done.append(append(self, result))

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("out", "1/1", store)
    with pytest.raises(UserError, match=r"3 of 4 chunks are missing, of the parts 1/1"):
        run("out", "join", store)
    run("out", "1/1", store)
    with monkeypatch.context() as patch:
        patch.setattr("medvlp.prepare.pipeline.write_index", lambda *arguments: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run("out", "join", store)
    assert folder_bytes(run("out", "join", store)) == folder_bytes(run("whole", store=store))


@STORES
@pytest.mark.parametrize("damage", ["missing", "truncated", "other pixels"])
def test_a_damaged_part_is_named_and_mended(run, folder_bytes, tmp_path, store, damage):
    for part in ("1/2", "2/2"):
        run("out", part, store)
    parts = tmp_path / "out/work/parts"
    path = parts / "2-of-2/masks/000000096.arrow"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    else:
        shutil.copyfile(parts / "2-of-2/masks/000000064.arrow", path)
    with pytest.raises(UserError, match=r"1 of 4 chunks are missing, of the parts 2/2"):
        run("out", "join", store)
    run("out", "2/2", store)
    assert folder_bytes(run("out", "join", store)) == folder_bytes(run("whole", store=store))


def test_other_options_are_refused(run, tmp_path):
    run("out", "1/2")
    with pytest.raises(UserError, match=r"other options: size is 32 there and 16 now"):
        run("out", "2/2", size=16)
    run("other", "2/2", size=16)
    shutil.copytree(tmp_path / "other/work/parts", tmp_path / "out/work/parts", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"part 2/2 in '.*2-of-2' was made with other options: size 16, not 32\. Give"):
        run("out", "join")
    with pytest.raises(UserError, match=r"other options: size is 32 there and 16 now"):
        run("out", "join", size=16)


def test_other_tables_are_refused(run, tmp_path):
    run("out", "1/2")
    head = tmp_path / "out/work/parts/1-of-2/part.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "plan": "0" * 64}))
    for part in ("1/2", "join"):
        with pytest.raises(UserError, match=r"part 1/2 in '.*' read other tables or reports: its list of images"):
            run("out", part)


def test_a_storage_that_fails_damages_no_part(run, tmp_path, monkeypatch):
    run("out", "1/1")

    def fail(self, first, size):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(ChunkFiles, "read", fail)
        with pytest.raises(UserError, match="Stale file handle"):
            run("out", "join")
    assert len([*(tmp_path / "out/work/parts").rglob("*.arrow")]) == 2 * 4
    run("out", "join")


def test_a_damaged_head_is_named(run, tmp_path):
    run("out", "1/2")
    (tmp_path / "out/work/parts/1-of-2/part.json").write_text('{"settings": {"si')
    for part in ("1/2", "join"):
        with pytest.raises(UserError, match=r"--shard: '.*1-of-2/part.json' of part 1/2 is damaged\. Copy that folder"):
            run("out", part)


def test_locks_on_nfs(run, monkeypatch):
    """There a lock is one of bytes, which needs a file that is open for reading or writing, by the kind of lock."""
    flock = fcntl.flock

    def of_nfs(file, kind):
        if not (file.readable() if kind & fcntl.LOCK_SH else file.writable()):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    run("out", "1/1")
    run("out", "join")


def test_a_part_is_made_once_at_a_time(run, monkeypatch):
    call, errors = Decoder.__call__, []

    def again(self, chunk):
        monkeypatch.setattr(Decoder, "__call__", call)
        for part in ("1/2", None, "join"):
            with pytest.raises(UserError, match="being written by another process") as caught:
                run("out", part)
            errors.append(caught)
        run("out", "2/2")  # Another part may be.
        return call(self, chunk)

    monkeypatch.setattr(Decoder, "__call__", again)
    run("out", "1/2")
    assert len(errors) == 3
    run("out", "join")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "a/b", "1/2/3", "-1/2", ""])
def test_what_is_no_part(text):
    with pytest.raises(UserError, match=rf"--shard='{text}': give the number of this part.*1/16 to 16/16, or 'join'"):
        Part.parse(text)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 100])
@pytest.mark.parametrize("rows", [1, 31, 32, 33, 1000])
def test_each_chunk_is_in_one_part(rows, count):
    chunks = [first for number in range(1, count + 1) for first in Part(number, count).chunks(rows)]
    assert chunks == list(range(0, rows, 32))


@pytest.mark.slow
def test_parts_of_the_command_line_run_at_once(many, tmp_path, folder_bytes):
    def start(*options):
        out = tmp_path / ("out" if options else "whole")
        given = {"images": many.images, "reports": many.reports, "scene_graphs": many.graphs, "out": out, "size": 32}
        arguments = [f"--{name}={value}" for name, value in given.items()]
        command = [sys.executable, "-m", "medvlp", "prepare", "mimic_cxr", *arguments, "--workers=1", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": "7"})

    processes = [start(f"--shard={number}/2") for number in (1, 2)] + [start()]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert "Part 1/2 has ended: 96 of 200 images. When all have, give --shard join." in outputs[0]
    last = start("--shard=join")
    assert "198" in last.communicate(timeout=300)[0]
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "whole")
