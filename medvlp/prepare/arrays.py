"""The files of pixels, images.npy and masks.npy, while a preparation fills them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np

from medvlp.errors import UserError
from medvlp.prepare.chunks import CHUNK
from medvlp.prepare.journal import Journal
from medvlp.prepare.progress import progress

# Rough size of one image's rows in the plan, the journal and the index, in bytes.
ROW_BYTES = 4096


def allocate(paths: Sequence[Path], rows: int, size: int) -> int:
    """Give each file its header and its final size.

    Args:
        paths: Files of one folder, which need not exist yet.
        rows: Number of images.
        size: Side of the prepared images in pixels.

    Returns:
        Offset of the first row, in bytes.

    Raises:
        UserError: If the disk has too little room.
    """
    buffer = BytesIO()
    shape = (rows, size, size)
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    header = buffer.getvalue()
    length = len(header) + rows * size * size
    allocated = sum(min(length, path.stat().st_blocks * 512) for path in paths if path.exists())
    needed = len(paths) * length - allocated + rows * ROW_BYTES
    out = paths[0].parent
    free = shutil.disk_usage(out).free
    if needed > free:
        raise UserError(
            f"--out='{out}' needs {needed:,} more bytes for {rows:,} images of {size}x{size}, but only "
            f"{free:,} are free there. Free some, give another --out or a smaller --size, and run again to go on."
        )
    for path in paths:
        with open(path, "r+b" if path.exists() else "w+b") as file:
            file.write(header)
            file.truncate(length)
    return len(header)


def forget_lost(journal: Journal, paths: Sequence[Path], offset: int, size: int) -> None:
    """Remove from the journal the chunks whose pixels did not reach the disk before the machine stopped.

    Args:
        journal: Results of the chunks.
        paths: The files of pixels.
        offset: Offset of their first row, in bytes.
        size: Side of the prepared images in pixels.
    """
    if not journal.offsets:
        return
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "rb")) for path in paths]
        advance = stack.enter_context(progress("chunks checked", len(journal.offsets)))
        for first in sorted(journal.offsets):
            advance(1)
            result = journal.read(first)
            hashes = []
            for file in files:
                file.seek(offset + first * size * size)
                hashes.append(hashlib.sha256(file.read(len(result["images"]) * size * size)).hexdigest())
            if hashes != result["sha256"]:
                journal.forget(first)


def synchronise(paths: Sequence[Path]) -> None:
    """Return when all pixels are on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def digests(journal: Journal, paths: Sequence[Path], rows: int) -> dict[str, dict[str, object]]:
    """Return the entry of each file in the manifest's `sha256`.

    It is the digest of the digests of all chunks, which the journal holds: the files need not be read again.

    Args:
        journal: Results of all chunks.
        paths: The files of pixels.
        rows: Number of images.
    """
    totals = {path.name: hashlib.sha256() for path in paths}
    for first in range(0, rows, CHUNK):
        for total, digest in zip(totals.values(), journal.read(first)["sha256"], strict=True):
            total.update(bytes.fromhex(digest))
    return {name: {"rows": CHUNK, "sha256_of_sha256": total.hexdigest()} for name, total in totals.items()}
