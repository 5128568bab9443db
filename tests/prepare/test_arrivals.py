"""Images out of an archive: the same bytes as from the unpacked tree, in whatever order and however interrupted."""

import json
import shutil

import cv2
import numpy as np
import pytest

from medvlp.errors import UserError
from medvlp.prepare.archives import arrivals
from medvlp.prepare.chunks import Decoder
from medvlp.prepare.datasets.rexgradient import rexgradient
from medvlp.prepare.journal import Journal
from tests.support.archives import NAME, cut, tar, tree_members, write_large, zstd


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """100 images, 4 chunks, unpacked."""
    root = tmp_path_factory.mktemp("large")
    write_large(root, 100, 64)
    return root


@pytest.fixture(scope="module")
def expected(large, folder_bytes):
    run(large / "tree", large / "out")
    return folder_bytes(large / "out")


@pytest.fixture
def stream(large, tmp_path):
    """The archive, in a folder of its own."""
    return shutil.copytree(large / "stream", tmp_path / "stream")


def run(root, out, **options):
    rexgradient(root, out, **{"size": 32, "workers": 1, "regions": "none", **options})


def pack(root, members, **options):
    return cut(zstd(tar(members), 3), root, **options)


@pytest.fixture
def decoded(monkeypatch):
    """The images that were decoded."""
    names = []
    decode = Decoder.decode

    def counting(self, picture, *args):
        names.append(picture.image_id)
        return decode(self, picture, *args)

    monkeypatch.setattr(Decoder, "decode", counting)
    return names


@pytest.fixture
def interrupt(monkeypatch):
    """Interrupt the run before this many lines of a journal are written."""

    def begin(count, name="arrived.jsonl"):
        append, left = Journal.append, [count]

        def interrupted(self, result):
            if self._file.name.endswith(name):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            append(self, result)

        monkeypatch.setattr(Journal, "append", interrupted)
        return lambda: monkeypatch.setattr(Journal, "append", append)

    return begin


def test_the_bytes_are_those_of_the_unpacked_tree(stream, tmp_path, expected, folder_bytes, capsys):
    run(stream, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected
    assert "Files in the archive: 100 taken.\n" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_and_order_do_not_change_bytes(large, stream, tmp_path, expected, folder_bytes):
    for seed in range(2):
        pack(stream, tree_members(large / "tree", seed), seed=seed)
        run(stream, tmp_path / f"out{seed}", workers=1 + 2 * seed)
        assert folder_bytes(tmp_path / f"out{seed}") == expected


def test_interrupted_twice(stream, tmp_path, expected, folder_bytes, interrupt, decoded, capsys):
    for count in (40, 33):
        end = interrupt(count)
        with pytest.raises(KeyboardInterrupt):
            run(stream, tmp_path / "out")
        end()
    run(stream, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected
    assert "73 of 100 images in the archive are decoded." in capsys.readouterr().out
    # Of a group that was under way only the images in the journal are done.
    assert len(decoded) <= 100 + 2 * 32
    assert len(set(decoded)) == 100


def test_interrupted_when_the_archive_has_passed(stream, tmp_path, expected, folder_bytes, interrupt, decoded):
    end = interrupt(2, "journal.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run(stream, tmp_path / "out")
    end()
    for part in stream.glob(f"{NAME}.part*"):
        part.write_bytes(b"no longer needed")
    run(stream, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected
    assert len(decoded) == 100


def test_pixels_that_did_not_reach_the_disk(stream, tmp_path, expected, folder_bytes, interrupt, decoded):
    end = interrupt(90)
    with pytest.raises(KeyboardInterrupt):
        run(stream, tmp_path / "out")
    end()
    journal = tmp_path / "out/work/arrived.jsonl"
    row = json.loads(journal.read_text().splitlines()[5])["first"]
    with (tmp_path / "out/images.npy").open("r+b") as file:
        file.seek(128 + row * 32 * 32 + 300)
        file.write(bytes([1, 2, 3]))
    with journal.open("ab") as file:
        file.write(b'{"first":0,"ma')
    before = len(decoded)
    run(stream, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected
    assert len(decoded) - before == 11


def test_an_image_out_of_a_damaged_part_is_decoded_again(large, stream, tmp_path, expected, folder_bytes, decoded):
    """A plain tar has no checksum of contents; the run stops for the end that is missing."""
    members = tree_members(large / "tree")
    name, content = members[20]
    data = tar(members)
    wrong = data.replace(content, content[:-900] + bytes(800) + content[-100:])
    cut(wrong[:-20_000], stream)
    with pytest.raises(UserError, match="the end mark of tar"):
        run(stream, tmp_path / "out")
    cut(data, stream)
    run(stream, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected
    twice = [image for image in decoded if decoded.count(image) == 2]
    assert {*twice} == {name.rpartition("/")[2].removesuffix(".png")}


def test_the_rest_may_come_from_the_unpacked_tree(large, stream, tmp_path, expected, folder_bytes, interrupt):
    end = interrupt(50)
    with pytest.raises(KeyboardInterrupt):
        run(stream, tmp_path / "out")
    end()
    (stream / NAME).symlink_to(large / "tree" / NAME)
    run(stream, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == expected


def test_missing_strange_and_double_members(large, stream, tmp_path, folder_bytes, skipped, capsys):
    """As in a tree that lacks the missing file, whatever else there is."""
    members = tree_members(large / "tree")
    (missing, _), (double, content) = members.pop(30), members[60]
    strangers = [(f"{NAME}/other{n}.png", content) for n in range(3)]
    pack(stream, [*members[:5], *strangers, *members[5:], (double, b"another one"), (f"{NAME}/x", "link")])
    run(stream, tmp_path / "out")
    assert "Files in the archive: 99 taken, 1 twice, 3 in no table, the first one 'deid_png/other0.png'." in (
        capsys.readouterr().out
    )
    name = missing.rpartition("/")[2].removesuffix(".png")
    assert skipped(tmp_path / "out") == [(name, "missing file")]
    tree = shutil.copytree(large / "tree", tmp_path / "tree")
    (tree / missing).unlink()
    run(tree, tmp_path / "out2")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "out2")


def test_images_that_cannot_be_decoded(large, stream, tmp_path, folder_bytes, skipped, monkeypatch):
    tree = shutil.copytree(large / "tree", tmp_path / "tree")
    paths = sorted((tree / NAME).rglob("*.png"))
    paths[3].write_bytes(b"")
    paths[40].write_bytes(paths[40].read_bytes()[:500])
    paths[41].write_bytes(b"no picture at all")
    pack(stream, tree_members(tree))
    run(tree, tmp_path / "out")
    run(stream, tmp_path / "out2")
    reasons = sorted(reason for _, reason in skipped(tmp_path / "out"))
    assert len(reasons) == 3
    assert reasons[0] == "empty file"
    assert all(reason.startswith(("truncated image", "unreadable image")) for reason in reasons[1:])
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "out2")
    monkeypatch.setattr(arrivals, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"No image is left .*unreadable image \(\d+\)"):
        run(stream, tmp_path / "out3")


def test_an_archive_of_something_else(stream, tmp_path):
    pack(stream, [(f"scans/{n}.png", b"x" * 5000) for n in range(9)])
    words = r"has no image of the tables: they name 'deid_png/P00000/.*', and its files are named as 'scans/0.png'"
    with pytest.raises(UserError, match=words):
        run(stream, tmp_path / "out")
    pack(stream, [("scans", None), ("links", "x" * 90)], parts=2)
    with pytest.raises(UserError, match=r"and it has no other files\. Give the archive"):
        run(stream, tmp_path / "out")


def test_a_damaged_archive_is_no_fault_of_the_output(stream, tmp_path):
    last = stream / f"{NAME}.part09"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"^The archive cannot be read at byte"):
        run(stream, tmp_path / "out")


@pytest.mark.slow
def test_colours_of_16_bits_and_turned_images(large, stream, tmp_path, folder_bytes):
    """Images for which the file is read a second time."""
    tree = shutil.copytree(large / "tree", tmp_path / "tree")
    paths = sorted((tree / NAME).rglob("*.png"))
    wide = np.random.default_rng(0).integers(0, 1 << 16, (60, 50, 3)).astype(np.uint16)
    paths[7].write_bytes(cv2.imencode(".png", wide)[1].tobytes())
    paths[8].write_bytes(cv2.imencode(".png", wide[..., 0])[1].tobytes())
    paths[9].write_bytes(cv2.imencode(".png", (wide >> 8).astype(np.uint8))[1].tobytes())
    pack(stream, tree_members(tree))
    run(tree, tmp_path / "out")
    run(stream, tmp_path / "out2")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "out2")
