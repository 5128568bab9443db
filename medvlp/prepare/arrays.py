"""The files of pixels, images.npy and masks.npy, while a preparation fills them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.errors import UserError
from medvlp.prepare.chunks import pixel_digests
from medvlp.prepare.job import synchronise
from medvlp.prepare.journal import Journal
from medvlp.prepare.progress import progress
from medvlp.prepared import IMAGES, MASKS

# Rough size of one image's rows in the plan, the journal and the index, in bytes.
ROW_BYTES = 4096


@dataclass(frozen=True)
class Arrays:
    """The store that one memory map reads: each image stands uncompressed in its row. It is pickled into the workers.

    Attributes:
        out: The folder.
        rows: Number of images.
        size: Side of the prepared images in pixels.
        masks: Whether there are masks.
    """

    out: Path
    rows: int
    size: int
    masks: bool

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.out / name for name in ((IMAGES, MASKS) if self.masks else (IMAGES,))]

    @property
    def header(self) -> bytes:
        """What stands before the first row."""
        buffer = BytesIO()
        shape = (self.rows, self.size, self.size)
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return buffer.getvalue()

    @property
    def entry(self) -> dict[str, object]:
        """What the manifest says of this store: nothing, for a folder without a word of it has this one."""
        return {}

    def open(self, images: int, advice: str) -> None:
        """Give each file its header and its final size.

        Args:
            images: Number of rows that will be written, those of earlier runs included; the others take no room.
            advice: What to do if the disk has too little room.

        Raises:
            UserError: If the disk has too little room.
        """
        length = len(self.header) + self.rows * self.size * self.size
        wanted = len(self.header) + images * self.size * self.size
        allocated = sum(min(wanted, path.stat().st_blocks * 512) for path in self.paths if path.exists())
        needed = len(self.paths) * wanted - allocated + images * ROW_BYTES
        free = shutil.disk_usage(self.out).free
        if needed > free:
            raise UserError(
                f"--out: '{self.out}' needs {needed:,} more bytes for {images:,} images of {self.size}x{self.size}, "
                f"but only {free:,} are free there. {advice}, and run again to go on."
            )
        for path in self.paths:
            with open(path, "r+b" if path.exists() else "w+b") as file:
                file.write(self.header)
                file.truncate(length)

    def write(self, first: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write a chunk; see `PixelWriter`."""
        offset = len(self.header) + first * self.size * self.size
        for path, output in zip(self.paths, pixels, strict=True):
            write_at(path, output.reshape(-1).data, offset)

    def read(self, first: int, count: int) -> npt.NDArray[np.uint8]:
        """Return the images and, if there are masks, the masks of so many rows, (1 or 2, M, S, S)."""
        offset, pixels = len(self.header) + first * self.size * self.size, count * self.size * self.size
        rows = [np.fromfile(path, np.uint8, pixels, offset=offset) for path in self.paths]
        return np.stack(rows).reshape(-1, count, self.size, self.size)

    def forget_lost(self, journal: Journal) -> None:
        """Remove from the journal the chunks whose pixels did not reach the disk before the machine stopped."""
        if not journal.offsets:
            return
        with progress("chunks checked", len(journal.offsets)) as advance:
            for first in sorted(journal.offsets):
                advance(1)
                result = journal.read(first)
                if pixel_digests(self.read(first, len(result["images"]))) != result["sha256"]:
                    journal.forget(first)

    def finish(self, workers: int) -> None:
        """Return when all pixels are on the disk."""
        for path in self.paths:
            synchronise(path)

    def remove(self) -> None:
        """Remove the files."""
        for path in self.paths:
            path.unlink()


def digests(journal: Journal, names: Collection[str], chunks: range) -> dict[str, dict[str, object]]:
    """Return the entries of the pixels in the manifest's `sha256`.

    It is the digest of the digests of all chunks, which the journal holds: the files need not be read again. It is the
    same in all stores.

    Args:
        journal: Results of all chunks.
        names: images.npy and, if there are masks, masks.npy.
        chunks: First row of each chunk.
    """
    totals = {name: hashlib.sha256() for name in names}
    for first in chunks:
        for total, digest in zip(totals.values(), journal.read(first)["sha256"], strict=True):
            total.update(bytes.fromhex(digest))
    return {name: {"rows": chunks.step, "sha256_of_sha256": total.hexdigest()} for name, total in totals.items()}


def write_at(path: Path, data: memoryview, offset: int) -> None:
    """Write bytes into a file at a position.

    On a full disk this raises OSError, while a memory map would end the process with SIGBUS.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
    finally:
        os.close(descriptor)
