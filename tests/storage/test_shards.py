import multiprocessing
import os

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from medvlp.data.dataset import PreparedDataset, collate
from medvlp.data.transforms import EvaluationTransform
from medvlp.errors import UserError
from medvlp.prepared import IMAGES, MASKS, Prepared
from medvlp.storage.shards import Shards, decode, file_name, join_files, read_images, write_images
from tests.support.compressed import compress
from tests.support.tiny import make_prepared

SIZE = 24


def pictures(count=70, size=SIZE):
    """Return noise, ramps, flat images, and images that are black all over or but for one pixel."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size)).astype(np.uint8)
    images[::5] = np.arange(size)[None, :]
    images[1::7] = 255
    images[2::7] = 0
    images[3] = 0
    images[3, -1, -1] = 1
    return images


@pytest.fixture
def images():
    return pictures()


@pytest.fixture
def shards(tmp_path, images):
    """70 images in a file of 64 and one of 6, each of chunks of 32."""
    for first in (0, 32, 64):
        write_images(tmp_path / f"chunk{first}", images[first : first + 32])
    join_files([tmp_path / "chunk0", tmp_path / "chunk32"], tmp_path / file_name(0))
    join_files([tmp_path / "chunk64"], tmp_path / file_name(64))
    return Shards(tmp_path, images.shape, 64)


def places(path):
    """Return where the bytes of each image of a file lie in it; None for a black one."""
    with pa.memory_map(str(path)) as source:
        start = source.read_buffer(source.size()).address
        reader = pa.ipc.open_file(source)
        found = []
        for column in (reader.get_batch(number)["image"] for number in range(reader.num_record_batches)):
            _, ends, values = column.buffers()
            ends = np.frombuffer(ends, np.int32)[: len(column) + 1].astype(np.int64) + (values.address - start)
            found += [slice(*ends[row : row + 2]) if column[row].is_valid else None for row in range(len(column))]
        return found


@pytest.mark.parametrize("size", [1, 7, 64])
def test_images_come_back_bit_by_bit(tmp_path, size):
    images = pictures(9, size)
    write_images(tmp_path / "file", images)
    np.testing.assert_array_equal(read_images(tmp_path / "file", size), images)


def test_it_is_read_like_an_array(shards, images):
    assert len(shards) == 70
    assert shards.shape == images.shape
    assert shards.dtype == images.dtype
    for key in (0, -1, 31, 32, 63, 64, np.int64(69)):
        np.testing.assert_array_equal(shards[key], images[key])
    for key in (slice(60, 68), [3, 64, 1], np.array([5, 5]), slice(0, 0)):
        np.testing.assert_array_equal(shards[key], images[key])
    np.testing.assert_array_equal(np.stack(list(shards)), images)
    for key in (70, -71):
        with pytest.raises(IndexError, match=f"row {key} of 70"):
            shards[key]


def test_an_image_is_read_without_its_neighbours(shards, images, tmp_path):
    path = tmp_path / file_name(0)
    kept = places(path)[40]
    data = bytearray(path.read_bytes())
    for row, place in enumerate(places(path)):
        if row != 40 and place is not None:
            data[place] = b"\xa5" * (place.stop - place.start)
    assert sum(place.stop - place.start for place in places(path) if place) > 20 * (kept.stop - kept.start)
    path.write_bytes(data)
    np.testing.assert_array_equal(shards[40], images[40])
    with pytest.raises(UserError, match=r"row 41 of the images in .* cannot be read: no grey image of 24x24"):
        shards[41]


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "other size", "fewer rows"])
def test_damaged_files(tmp_path, images, damage):
    path = tmp_path / file_name(0)
    write_images(path, images[:2] if damage == "fewer rows" else images[:32])
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-9]}.get(damage, content))
    side = SIZE + 1 if damage == "other size" else SIZE
    with pytest.raises(UserError, match=rf"row 4 of the images in '{path}' cannot be read: .+ Copy the file again"):
        Shards(tmp_path, (32, side, side), 64)[4]


def test_black_images_take_no_room(tmp_path):
    write_images(tmp_path / "black", np.zeros((32, 512, 512), np.uint8))
    assert (tmp_path / "black").stat().st_size < 1_000
    assert not decode(pa.scalar(None, pa.binary()), 3).any()


def test_a_file_is_whole_or_not_there(tmp_path, images, monkeypatch):
    def stop(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_images(tmp_path / "file", images)
    assert not list(tmp_path.iterdir())


def test_prepared_folders_are_read_alike(tmp_path):
    array, packed = (make_prepared(tmp_path / name) for name in ("array", "packed"))
    expected, prepared = Prepared.open(array), Prepared.open(compress(packed))
    assert not (packed / IMAGES).exists()
    assert not (packed / MASKS).exists()
    assert prepared.size == expected.size == 40
    np.testing.assert_array_equal(np.stack(list(prepared.images)), expected.images)
    np.testing.assert_array_equal(np.stack(list(prepared.masks)), expected.masks)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers(tmp_path, method):
    make_prepared(tmp_path / "array")
    compress(make_prepared(tmp_path / "packed"))
    batches = []
    for name, workers in (("array", 0), ("packed", 2)):
        dataset = PreparedDataset(tmp_path / name, ["train"], EvaluationTransform(32), targets="mask")
        dataset[0]  # Files that this process has open go to those that are forked.
        context = multiprocessing.get_context(method) if workers else None
        loader = DataLoader(dataset, 8, num_workers=workers, multiprocessing_context=context, collate_fn=collate)
        batches.append(list(loader))
    assert len(batches[0]) == len(batches[1]) == 3
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])
        assert one["findings"] == other["findings"]
