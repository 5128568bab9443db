"""The files of a tar archive, plain or in gzip, read once from its beginning to its end."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from medvlp.errors import UserError

GZIP = b"\x1f\x8b"
BLOCK = 1 << 20


@contextmanager
def members(archive: Path) -> Iterator[Iterator[tuple[str, IO[bytes] | None]]]:
    """Open an archive, as an iterator over its members.

    Yields:
        The path in the archive and the content of each member, which can be read until the next one is asked for. The
        content is None for what is no regular file, such as a link; folders are left out.

    Raises:
        UserError: If the archive cannot be read to its end, its checksum included; also while a content is read.
    """
    try:
        with archive.open("rb") as raw:
            yield _members(raw)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"'{archive}' cannot be read to its end ({error}). Download it again.") from error


def _members(raw: IO[bytes]) -> Iterator[tuple[str, IO[bytes] | None]]:
    packed = raw.read(2) == GZIP
    raw.seek(0)
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if not member.isdir():
                yield member.name, tar.extractfile(member) if member.isfile() else None
    # The checksum comes last, and tarfile ends silently at a header that is cut.
    while stream.read(BLOCK):
        pass
