"""Prepared folders whose pixels are compressed: the same pixels, the same bytes after any interruption."""

import json
import os
import shutil

import numpy as np
import pytest

from medvlp.errors import UserError
from medvlp.prepare import compressed, decoding, job
from medvlp.prepare.datasets import COMMANDS
from medvlp.prepare.journal import Journal
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.storing import Storing
from medvlp.prepared import IMAGES, INDEX, MASKS, Prepared
from tests.prepare.test_annotations import Squares

ROWS = 64


class NoSquares(Squares):
    """The same images, none of which can be read."""

    def studies(self, skip):
        for study in super().studies(skip):
            path = self.images / study.pictures[0].path
            path.write_bytes(b"")
            yield study


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def run(raw, tmp_path, monkeypatch):
    """Prepares 100 images and masks in files of 64."""
    monkeypatch.setattr(decoding, "ROWS", ROWS)

    def prepare_squares(name, store="compressed", workers=1, data=Squares):
        out = tmp_path / name
        prepare(data(raw), out, Options(32, "pad", ["FRONTAL"]), workers, Storing(store))
        return out

    return prepare_squares


def test_the_pixels_are_those_of_the_array(run):
    array, packed = Prepared.open(run("array", "array")), Prepared.open(run("packed"))
    for name in (IMAGES, MASKS):
        assert not (packed.root / name).exists()
        folder = packed.root / name.removesuffix(".npy")
        assert [path.name for path in sorted(folder.iterdir())] == ["000000000.arrow", "000000064.arrow"]
    assert packed.images.shape == packed.masks.shape == (100, 32, 32)
    np.testing.assert_array_equal(packed.images[:], array.images)
    np.testing.assert_array_equal(packed.masks[:], array.masks)
    assert packed.manifest.pop("store") == {"kind": "compressed", "shape": [100, 32, 32], "rows": ROWS}
    assert packed.manifest == array.manifest
    assert (packed.root / INDEX).read_bytes() == (array.root / INDEX).read_bytes()
    assert not (packed.root / "work").exists()


@pytest.mark.slow
def test_workers_do_not_change_bytes(run, folder_bytes):
    assert folder_bytes(run("out", workers=2)) == folder_bytes(run("whole"))


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_interrupted_after_some_chunks(run, folder_bytes, monkeypatch, chunks):
    append, done = Journal.append, []

    def interrupted(self, result):
        if len(done) == chunks:
            raise KeyboardInterrupt
        done.append(append(self, result))

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("out")
    with pytest.raises(FileNotFoundError, match="unfinished"):
        Prepared.open(run("whole").with_name("out"))
    assert folder_bytes(run("out")) == folder_bytes(run("whole"))


@pytest.mark.parametrize("write", range(1, 18))
def test_interrupted_in_the_middle_of_a_file(run, folder_bytes, monkeypatch, write):
    """The k-th write to the disk, of a chunk or of the files joined from them, never ends."""
    fsync, calls = os.fsync, []

    def interrupted(descriptor):
        calls.append(descriptor)
        if len(calls) == write:
            os.ftruncate(descriptor, 100)
            raise KeyboardInterrupt
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("out")
    assert folder_bytes(run("out")) == folder_bytes(run("whole"))


def test_interrupted_between_the_images_and_the_masks_of_a_file(run, folder_bytes, monkeypatch):
    join, calls = compressed.join_files, []

    def interrupted(sources, path):
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        join(sources, path)

    with monkeypatch.context() as patch:
        patch.setattr(compressed, "join_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("out")
    assert folder_bytes(run("out")) == folder_bytes(run("whole"))


def test_chunks_that_did_not_reach_the_disk_are_decoded_again(run, folder_bytes, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(compressed.Compressed, "finish", lambda *arguments: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run("out")
    (tmp_path / "out/work/masks/000000032.arrow").unlink()
    assert folder_bytes(run("out")) == folder_bytes(run("whole"))


def test_the_size_of_the_result_decides(run, monkeypatch):
    monkeypatch.setattr(job, "LARGEST_ARRAY", 2 * 100 * 32 * 32)
    assert (run("small", "auto") / IMAGES).exists()
    monkeypatch.setattr(job, "LARGEST_ARRAY", 2 * 100 * 32 * 32 - 1)
    assert (run("large", "auto") / "images").is_dir()
    # A folder stays what it is, but for an option that says otherwise.
    run("small", "auto")
    run("large", "auto")
    with pytest.raises(UserError, match="other options: store is array there and compressed now"):
        run("small", "compressed")


def test_another_store_in_a_folder_that_was_begun(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("medvlp.prepare.pipeline.write_index", lambda *arguments: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run("out")
    with pytest.raises(UserError, match="other options: store is compressed there and array now"):
        run("out", "array")
    assert Prepared.open(run("out", "auto")).manifest["store"]["kind"] == "compressed"


def test_joined_files_of_an_earlier_preparation_are_not_kept(run, folder_bytes):
    out = run("out")
    (out / "manifest.json").unlink()
    shutil.copyfile(out / "masks/000000064.arrow", out / "images/000000064.arrow")
    (out / "images/000000000.arrow.77.tmp").write_bytes(b"left by a process that was killed")
    assert folder_bytes(run("out")) == folder_bytes(run("whole"))


def test_a_folder_that_an_older_version_has_begun(run, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr("medvlp.prepare.pipeline.write_index", lambda *arguments: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run("out", "array")
    plan = tmp_path / "out/work/plan.json"
    plan.write_text(
        json.dumps({name: value for name, value in json.loads(plan.read_text()).items() if name != "store"})
    )
    with pytest.raises(UserError, match=r"begun by an older medvlp, .* Delete the folder, or give another --out"):
        run("out", "array")


def test_nothing_is_left(run, tmp_path):
    (tmp_path / "out/images").mkdir(parents=True)
    (tmp_path / "out/images/mine.png").touch()
    with pytest.raises(UserError, match="No image is left"):
        run("out", data=NoSquares)
    assert [str(path.relative_to(tmp_path / "out")) for path in sorted((tmp_path / "out").rglob("*"))] == [
        "images",
        "images/mine.png",
    ]


def test_every_command_has_the_options(mimic, tmp_path):
    given = {"images": mimic.images, "reports": mimic.reports, "size": 32, "workers": 1, "regions": "none"}
    COMMANDS["mimic_cxr"](**given, out=tmp_path / "array")
    COMMANDS["mimic_cxr"](**given, out=tmp_path / "packed", store="compressed")
    array, packed = (Prepared.open(tmp_path / name) for name in ("array", "packed"))
    np.testing.assert_array_equal(packed.images[:], array.images)
    assert packed.masks is None
    assert json.loads((tmp_path / "packed/manifest.json").read_text())["sha256"] == array.manifest["sha256"]
