"""Compressed images in files of 1,024, each of which is read without its neighbours.

A file is an Arrow IPC file (https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format) with one column of PNG
images, in record batches of as many as were written at once. The file is mapped into memory; its table of offsets gives
the bytes of any image. PNG is lossless, so the array that comes back is the array that was written. An image that is
black all over, such as the mask of a normal image or the row of a skipped one, is a null.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medvlp.errors import NotFoundError, UserError

# Number of images in a file.
ROWS = 1024
# Files of a folder that a process holds open: most systems allow it 1,024, and a training may read several folders.
OPEN = 64
SUFFIX = ".arrow"
SCHEMA = pa.schema([pa.field("image", pa.binary(), metadata={"encoding": "image/png"})])
# Run lengths after a filter: on radiographs smaller and faster than zlib's search for repetitions.
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)

Pixels = npt.NDArray[np.uint8]


def encode(image: Pixels) -> bytes | None:
    """Return an image (S, S) as PNG; None if it is black all over."""
    if not image.any():
        return None
    return cv2.imencode(".png", image, PNG)[1].tobytes()


def decode(data: pa.BinaryScalar, size: int) -> Pixels:
    """Return the image (S, S) of an entry.

    Args:
        data: The entry.
        size: Side S of the image in pixels.

    Raises:
        ValueError: If it holds no image of this size.
    """
    buffer = data.as_buffer()
    if buffer is None:
        return np.zeros((size, size), np.uint8)
    try:
        image = cv2.imdecode(np.frombuffer(buffer, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # Its header speaks of an image beyond all limits.
        image = None
    if image is None or image.shape != (size, size) or image.dtype != np.uint8:
        raise ValueError(f"no grey image of {size}x{size}")
    return image.astype(np.uint8, copy=False)


def write_images(path: Path, images: Iterable[Pixels]) -> None:
    """Write images as one record batch, into a file that is either whole and on the disk or not there."""
    batch = pa.record_batch([pa.array(map(encode, images), SCHEMA.field(0).type)], schema=SCHEMA)
    _write(path, lambda: [batch])


def read_images(path: Path, size: int) -> Pixels:
    """Return all images (N, S, S) of a file.

    Args:
        path: The file.
        size: Side S of the images in pixels.

    Raises:
        ValueError: If the file is damaged.
    """
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        return np.stack([decode(data, size) for batch in batches for data in batch["image"]])


def join_files(sources: Iterable[Path], path: Path) -> None:
    """Write the record batches of files into one file that is either whole and on the disk or not there.

    Args:
        sources: The files, in order.
        path: The file to be written.
    """

    def batches() -> Iterable[pa.RecordBatch]:
        for source in sources:
            with pa.memory_map(str(source)) as file, pa.ipc.open_file(file) as reader:
                yield from (reader.get_batch(number) for number in range(reader.num_record_batches))

    _write(path, batches)


def file_name(first: int) -> str:
    """Return the name of the file whose first image has this row; names sort as rows do."""
    return f"{first:09}{SUFFIX}"


class Shards:
    """The images (N, S, S) in a folder of such files, as an array that is read by rows.

    Args:
        folder: The folder.
        shape: N, S, S.
        rows: Number of images in a file.
        fetch: Makes sure that a file is in the folder, where files come from elsewhere; called before each is opened.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, folder: Path, shape: tuple[int, int, int], rows: int, fetch: Callable[[Path], None] | None = None
    ) -> None:
        self.folder, self.shape = folder, shape
        self._rows, self._fetch = rows, fetch
        self._file: Any = lru_cache(OPEN)(self._open)

    def __len__(self) -> int:
        """Return the number N of images."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> Pixels:
        """Return the image (S, S) of a row; of a slice or list of M rows the images (M, S, S).

        Raises:
            IndexError: If there is no such row.
            UserError: If the file is missing or damaged.
            NotFoundError: If it is not where `fetch` looks for it.
        """
        if not isinstance(key, (int, np.integer)):
            rows = np.arange(len(self))[key]
            return np.stack([self[row] for row in rows]) if len(rows) else np.zeros((0, *self.shape[1:]), np.uint8)
        row = int(key) + len(self) * (key < 0)
        if not 0 <= row < len(self):
            raise IndexError(f"row {key} of {len(self)}")
        first = row - row % self._rows
        path = self.folder / file_name(first)
        try:
            reader, starts = self._file(path)
            batch = int(np.searchsorted(starts, row - first, "right")) - 1
            return decode(reader.get_batch(batch)["image"][row - first - int(starts[batch])], self.shape[1])
        except NotFoundError:
            raise
        except (OSError, ValueError, IndexError) as error:
            raise UserError(
                f"row {row} of the images in '{path}' cannot be read: {error}. Copy the file again, or prepare the "
                "data anew."
            ) from error

    def _open(self, path: Path) -> tuple[pa.RecordBatchFileReader, npt.NDArray[np.int64]]:
        """Open a file.

        Returns:
            Its reader, and the number of the first image of each record batch.
        """
        if self._fetch is not None:
            self._fetch(path)
        # A process that is forked has no threads to read with.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        reader = pa.ipc.open_file(pa.memory_map(str(path)), options=options)
        counts = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
        return reader, np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def _write(path: Path, batches: Callable[[], Iterable[pa.RecordBatch]]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            with pa.ipc.new_file(file, SCHEMA) as writer:
                for batch in batches():
                    writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
