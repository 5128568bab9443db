"""Images out of an archive, in each store, in one piece and in parts: the same bytes, however interrupted."""

import shutil
from collections import namedtuple

import pytest

from medvlp.errors import UserError
from medvlp.prepare import decoding
from medvlp.prepare.chunks import Decoder
from medvlp.prepare.datasets import COMMANDS
from medvlp.prepare.journal import Journal
from tests.support.archives import cut, tar, tree_members, write_large, zstd

STORES = pytest.mark.parametrize("store", ["array", "compressed"])
JOURNALS = ("arrived.jsonl", "journal.jsonl")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """100 images, 4 chunks, as an archive and unpacked."""
    root = tmp_path_factory.mktemp("large")
    write_large(root, 100, 64)
    return root


@pytest.fixture
def run(large, monkeypatch, tmp_path):
    """Prepares them, in files of 64, or a part of them."""
    monkeypatch.setattr(decoding, "ROWS", 64)

    def prepare_images(name, shard=None, store="array", root=large / "stream", workers=1):
        given = {"size": 32, "workers": workers, "regions": "none", "store": store, "shard": shard}
        COMMANDS["rexgradient"](root=root, out=tmp_path / name, **given)
        return tmp_path / name

    return prepare_images


@pytest.fixture
def expected(run, large, folder_bytes):
    """The bytes out of the unpacked tree, by store."""

    def tree(store, root=large / "tree"):
        return folder_bytes(run(f"tree_{store}", store=store, root=root))

    return tree


def interrupt(patch, count, name):
    """Interrupt the run before this many lines of a journal are written."""
    append, left = Journal.append, [count]

    def interrupted(self, result):
        if self.path.name == name:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        append(self, result)

    patch.setattr(Journal, "append", interrupted)


@STORES
@pytest.mark.parametrize("count", [1, 3, 7])
def test_parts_are_the_whole(run, expected, folder_bytes, capsys, tmp_path, store, count):
    for number in reversed(range(1, count + 1)):
        run("out", f"{number}/{count}", store)
    output = capsys.readouterr().out
    # Parts are copied from machine to machine.
    assert not [*(tmp_path / "out").rglob("images.npy"), *(tmp_path / "out").rglob("*.sqlite")]
    if count == 3:
        assert "Files in the archive: 32 taken, 68 not wanted now.\n" in output
    assert folder_bytes(run("out", "join", store)) == expected(store)


@STORES
@pytest.mark.parametrize("part", [None, "1/1", "2/2"])
def test_interrupted_at_each_step(run, expected, folder_bytes, monkeypatch, store, part):
    decoded, decode = [], Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda *args: decoded.append(args[1].image_id) or decode(*args))
    for name, count in ((JOURNALS[0], 20), (JOURNALS[0], 15), (JOURNALS[1], 0), (JOURNALS[1], 1)):
        with monkeypatch.context() as patch:
            interrupt(patch, count, name)
            with pytest.raises(KeyboardInterrupt):
                run("out", part, store)
    run("out", part, store)
    # Of a group that was under way only the images in the journal are done.
    assert len(decoded) <= len({*decoded}) + 2 * 32
    if part == "2/2":
        run("out", "1/2", store)
    assert folder_bytes(run("out", part and "join", store)) == expected(store)


@pytest.mark.slow
@STORES
def test_processes_do_not_change_bytes(run, expected, folder_bytes, store):
    for part in ("1/2", "2/2", "join"):
        run("out", part, store, workers=2)
    assert folder_bytes(run("whole", None, store, workers=2)) == expected(store)
    assert folder_bytes(run("out", None, store)) == expected(store)


@STORES
def test_the_rest_is_decoded_here(run, expected, folder_bytes, store, capsys):
    run("out", "2/3", store)
    capsys.readouterr()
    assert folder_bytes(run("out", None, store)) == expected(store)
    assert "Files in the archive: 68 taken, 32 not wanted now.\n" in capsys.readouterr().out


@STORES
def test_a_part_without_any_image(run, expected, folder_bytes, large, tmp_path, store):
    """The last four images of the tables, the only ones in their chunk, are missing in the archive."""
    tree = shutil.copytree(large / "tree", tmp_path / "tree")
    for number in range(96, 100):
        next(tree.rglob(f"1.2.3.{number}.png")).unlink()
    stream = shutil.copytree(large / "stream", tmp_path / "stream")
    cut(zstd(tar(tree_members(tree))), stream)
    for number in range(1, 5):
        run("out", f"{number}/4", store, stream)
    assert folder_bytes(run("out", "join", store, stream)) == expected(store, tree)


def test_a_part_needs_room_for_its_own_images(run, monkeypatch):
    usage = namedtuple("usage", "total used free")
    # 32 images of 32 x 32, and what the journals and tables say of each, but not 100.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 170_000))
    run("out", "2/3")
    words = (
        r"work/parts/3-of-3/arrived' needs 1\d\d,\d{3} more bytes for 36 images of 32x32, but only 160,000 are free "
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 160_000))
    with pytest.raises(UserError, match=words + r"there\. Images out of an archive are not compressed before all have"):
        run("out", "3/3")
    # What is complete needs no room.
    run("out", "2/3")
