"""The compressed files of pixels, images/ and masks/, while a preparation fills them.

The size of a compressed image is known when it is there, so that chunks, which end in any order, cannot be written to
their place in a large file. Each is a small file first. When all are there, those of 1,024 rows are joined to one file,
and removed. A chunk file and a joined file are each on the disk before they have their name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medvlp.prepare.chunks import CHUNK
from medvlp.prepare.journal import Journal
from medvlp.prepare.progress import progress
from medvlp.prepare.workers import in_parallel
from medvlp.storage.pixels import COMPRESSED, IMAGES, MASKS, folder_of
from medvlp.storage.shards import SUFFIX, file_name, join_files, read_images, write_images


@dataclass(frozen=True)
class ChunkFiles:
    """A file of PNG images for each chunk, and one of its masks.

    Attributes:
        folder: The folder of their folders, images and masks.
        masks: Whether there are masks.
    """

    folder: Path
    masks: bool

    @property
    def folders(self) -> list[Path]:
        """The folder of the images and, if there are masks, that of the masks."""
        return [self.folder / folder_of(name) for name in ((IMAGES, MASKS) if self.masks else (IMAGES,))]

    def paths(self, first: int) -> list[Path]:
        """Return the files of the chunk with this first row."""
        return [folder / file_name(first) for folder in self.folders]

    def has(self, first: int) -> bool:
        """Return whether a chunk is there."""
        return all(path.is_file() for path in self.paths(first))

    def open(self) -> None:
        """Make the folders."""
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, first: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write a chunk; see `PixelWriter`."""
        for path, output in zip(self.paths(first), pixels, strict=True):
            write_images(path, output)

    def read(self, first: int, size: int) -> npt.NDArray[np.uint8]:
        """Return the images and masks of a chunk as they were written, (1 or 2, M, S, S).

        Raises:
            OSError: If a file is missing.
            ValueError: If it is damaged.
        """
        return np.stack([read_images(path, size) for path in self.paths(first)])

    def forget_lost(self, journal: Journal) -> None:
        """Remove from the journal the chunks that are not there."""
        for first in [*journal.offsets]:
            if not self.has(first):
                journal.forget(first)

    def remove(self, first: int) -> None:
        """Remove a chunk."""
        for path in self.paths(first):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Compressed:
    """The store that `medvlp.storage.shards` reads. It is pickled into the workers.

    Attributes:
        out: The folder.
        rows: Number of images.
        size: Side of the prepared images in pixels.
        file_rows: Number of images in a joined file.
        chunks: Where this run writes its chunks.
        others: Chunks of other runs, the parts that are joined.
    """

    out: Path
    rows: int
    size: int
    file_rows: int
    chunks: ChunkFiles
    others: list[ChunkFiles] = field(default_factory=list)

    @property
    def masks(self) -> bool:
        """Whether there are masks."""
        return self.chunks.masks

    @property
    def entry(self) -> dict[str, Any]:
        """What the manifest says of this store; see `medvlp.prepared`."""
        return {"store": {"kind": COMPRESSED, "shape": [self.rows, self.size, self.size], "rows": self.file_rows}}

    def open(self) -> None:
        """Make the folders, and remove what a killed process has left in them."""
        self.chunks.open()
        self._joined.open()
        for folder in self._joined.folders:
            for path in folder.glob(f"*{SUFFIX}.*.tmp"):
                path.unlink()

    def write(self, first: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write a chunk; see `PixelWriter`."""
        self.chunks.write(first, pixels)

    def forget_lost(self, journal: Journal) -> None:
        """Remove from the journal the chunks that are neither in a joined file nor in one of their own."""
        for start in range(0, self.rows, self.file_rows):
            done = [first for first in self._chunks(start) if first in journal.offsets]
            if len(done) < len(self._chunks(start)):
                # Files are joined when all chunks are there: this one is of an earlier preparation.
                self._joined.remove(start)
            if not self._joined.has(start):
                for first in done:
                    if not any(files.has(first) for files in self._all):
                        journal.forget(first)

    def finish(self, workers: int) -> None:
        """Join all chunks, in as many processes."""
        every = range(0, self.rows, self.file_rows)
        starts = [start for start in every if not self._joined.has(start)]
        with progress("files", len(every), len(every) - len(starts)) as advance:
            for _ in in_parallel(self.join, starts, min(workers, len(starts) or 1)):
                advance(1)

    def join(self, start: int) -> None:
        """Join the chunks of the file that starts at this row, and remove them."""
        chunks = self._chunks(start)
        sources = [next(files for files in self._all if files.has(first)) for first in chunks]
        for number, target in enumerate(self._joined.paths(start)):
            paths = (files.paths(first)[number] for files, first in zip(sources, chunks, strict=True))
            join_files(paths, target)
        for files, first in zip(sources, chunks, strict=True):
            files.remove(first)

    def remove(self) -> None:
        """Remove the files."""
        for start in range(0, self.rows, self.file_rows):
            self._joined.remove(start)
        for folder in self._joined.folders:
            # Somebody may have put other files there.
            with suppress(OSError):
                folder.rmdir()

    def _chunks(self, start: int) -> range:
        """Return the first row of each chunk of the file that starts at this row."""
        return range(start, min(start + self.file_rows, self.rows), CHUNK)

    @property
    def _joined(self) -> ChunkFiles:
        """The joined files, which have the names of their first chunks."""
        return ChunkFiles(self.out, self.masks)

    @property
    def _all(self) -> Iterator[ChunkFiles]:
        yield self.chunks
        yield from self.others
