import multiprocessing
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import NotFoundError, UserError
from medvlp.prepared import Prepared
from medvlp.storage import mirror
from tests.support.compressed import compress
from tests.support.tiny import make_prepared


@pytest.fixture
def remote(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "cache"))
    return compress(make_prepared(tmp_path / "remote"))


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were read from elsewhere."""
    names, original = [], mirror._open

    def count(url, name):
        names.append(name)
        return original(url, name)

    monkeypatch.setattr(mirror, "_open", count)
    return names


def copies(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*/images/*"))


@pytest.mark.parametrize(
    ("root", "url"),
    [
        (Path("s3://bucket/a/b"), "s3://bucket/a/b"),
        ("gs://bucket/a/", "gs://bucket/a"),
        (Path("file:///nfs/a"), "file:///nfs/a"),
        (Path("/nfs/a"), None),
        ("data/a", None),
        ("C:/data", None),
    ],
)
def test_addresses(root, url):
    assert mirror.address(root) == url


def test_files_are_copied_when_they_are_wanted_and_once(remote, tmp_path, opened):
    expected = Prepared.open(remote)
    prepared = Prepared.open(Path(f"file://{remote}"))
    assert prepared.root.parent == tmp_path / "cache"
    assert prepared.index == expected.index
    assert copies(tmp_path) == []
    np.testing.assert_array_equal(prepared.images[20], expected.images[20])
    np.testing.assert_array_equal(prepared.images[21], expected.images[21])
    assert copies(tmp_path) == ["000000016.arrow"]
    np.testing.assert_array_equal(prepared.masks[20], expected.masks[20])
    again = Prepared.open(Path(f"file://{remote}"))
    np.testing.assert_array_equal(np.stack(list(again.images)), np.stack(list(expected.images)))
    # Each opening asks for the manifest.
    assert sorted(opened).count("manifest.json") == 2
    others = [name for name in opened if name != "manifest.json"]
    assert len(others) == len(set(others)) == 2 + 3 + 1
    shutil.rmtree(remote)
    np.testing.assert_array_equal(Prepared.open(prepared.root).images[3], again.images[3])


def read_all(url, queue):
    queue.put(np.stack(list(Prepared.open(url).images)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_the_copies(remote, tmp_path, method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    url = Path(f"file://{remote}")
    processes = [context.Process(target=read_all, args=(url, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {int(queue.get(timeout=120)) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {int(np.stack(list(Prepared.open(remote).images)).sum())}
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert copies(tmp_path) == ["000000000.arrow", "000000016.arrow", "000000032.arrow"]


def test_another_file_system(remote, tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.put(str(remote), "/bucket/tiny", recursive=True)
    prepared = Prepared.open(Path("memory://bucket/tiny"))
    np.testing.assert_array_equal(prepared.images[40], Prepared.open(remote).images[40])
    memory.rm("/bucket", recursive=True)


def test_a_training_reads_from_elsewhere(remote, tmp_path):
    data = CXRDataModule(Path(f"file://{remote}"), batch_size=4, crop=32, num_workers=0)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 2, 32, 32)
    assert any(batch["findings"])
    assert data.text_cache.is_relative_to(tmp_path / "cache")


def test_new_data_is_copied_anew(remote, tmp_path):
    url = Path(f"file://{remote}")
    old = Prepared.open(url).images[0]
    shutil.rmtree(remote)
    compress(make_prepared(remote, seed=1))
    assert not np.array_equal(Prepared.open(url).images[0], old)


def test_an_interrupted_copy_is_begun_again(remote, tmp_path, monkeypatch):
    url = Path(f"file://{remote}")
    prepared = Prepared.open(url)

    def half(source, target, length):
        target.write(source.read(100))
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", half)
        with pytest.raises(UserError, match=r"root='file:///.*': 'images/000000000.arrow' cannot be copied to .*reset"):
            prepared.images[0]
    assert copies(tmp_path) == ["000000000.arrow.tmp"]
    np.testing.assert_array_equal(prepared.images[0], Prepared.open(remote).images[0])


def test_what_is_not_there(remote, tmp_path):
    with pytest.raises(NotFoundError, match=r"root='file:///.*/none' is not a complete prepared folder: no manifest"):
        Prepared.open(Path(f"file://{tmp_path}/none"))
    prepared = Prepared.open(Path(f"file://{remote}"))
    (remote / "images/000000032.arrow").unlink()
    with pytest.raises(NotFoundError, match=r"'images/000000032.arrow' is not there. Copy the folder there again"):
        prepared.images[40]


def test_urls_that_nothing_reads(tmp_path):
    with pytest.raises(UserError, match=r"root='nothing://a/b': Protocol not known: nothing"):
        Prepared.open(Path("nothing://a/b"))


def test_an_array_is_not_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "cache"))
    make_prepared(tmp_path / "array")
    with pytest.raises(UserError, match=r"holds one large array.*--store compressed"):
        Prepared.open(Path(f"file://{tmp_path}/array"))
