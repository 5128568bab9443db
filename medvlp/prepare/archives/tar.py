"""The members of a tar that is read as a stream, one at a time.

`tarfile` keeps all members of a stream in memory, and takes a damaged header for the end of the archive.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar, "Basic Tar Format".
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from medvlp.prepare.archives.stream import Unpacked

BLOCK = 512
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
# Kinds without content, whatever size their header names.
EMPTY = (tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
# Greatest length of a long name or of a pax header; usual ones have some hundred bytes.
LONGEST = 1 << 20
# Bytes of a name that are no UTF-8 become text that can be printed and looked up.
ODD = "backslashreplace"
BEGINNING = "it begins neither as tar nor as Zstandard or gzip (is its first part missing?)"
RECORD = re.compile(rb"([0-9]+) ([^=]+)=")


class Stream(Protocol):
    """Bytes that are read once."""

    def read(self, size: int, /) -> bytes:
        """Return this number of bytes."""


@dataclass
class Member:
    """A file in an archive.

    Attributes:
        name: Its path in the archive, without `./` before it.
        size: In bytes.
        stream: The archive, at the content of this file until the next member is asked for.
    """

    name: str
    size: int
    stream: Stream = field(repr=False)

    def read(self) -> bytes:
        """Return the content, once.

        Raises:
            UserError: If the archive is damaged or truncated.
        """
        return self.stream.read(self.size)


def read_tar(stream: Unpacked) -> Iterator[Member]:
    """Yield the files of a tar, without folders, links, and the companions `._name` that macOS adds.

    Args:
        stream: The tar.

    Raises:
        UserError: If it is damaged or truncated; with the place.
    """
    pax: dict[str, str] = {}
    while any(block := stream.read(BLOCK)):
        header = _header(block, stream)
        if header.type in (*PAX, tarfile.GNUTYPE_LONGNAME):
            if header.size > LONGEST:
                raise stream.fault("a name in the tar has no end")
            data = stream.read(header.size)
            stream.skip(-header.size % BLOCK)
            pax |= _records(data, stream) if header.type in PAX else {"path": _text(data.partition(b"\0")[0])}
            continue
        size = _size(pax.get("size", header.size), stream) if header.type not in EMPTY else 0
        end = stream.position + size + -size % BLOCK
        if header.type in FILES:
            name = posixpath.normpath(pax.get("path", header.name)).lstrip("/")
            if not posixpath.basename(name).startswith("._"):
                yield Member(name, size, stream)
        elif header.type == tarfile.GNUTYPE_SPARSE:
            raise stream.fault(f"the tar has '{header.name}' as a sparse file, which is not read: unpack it")
        stream.skip(end - stream.position)
        # Long links and global headers stand before the headers of a member, and have no name of it.
        if header.type not in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
            pax = {}
    stream.drain()


def _header(block: bytes, stream: Unpacked) -> tarfile.TarInfo:
    first = stream.position == BLOCK
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", ODD)
    except tarfile.HeaderError:
        raise stream.fault(BEGINNING if first else "no header of tar where one is due") from None


def _records(data: bytes, stream: Unpacked) -> dict[str, str]:
    """Return the records `length keyword=value` of a pax header."""
    records = {}
    while match := RECORD.match(data):
        length = int(match[1])
        if length <= match.end():
            raise stream.fault("a header of pax is damaged")
        records[_text(match[2])] = _text(data[match.end() : length - 1])
        data = data[length:]
    return records


def _size(size: int | str, stream: Unpacked) -> int:
    try:
        number = int(size)
    except ValueError:
        number = -1
    if number < 0:
        raise stream.fault("a size in the tar is no number")
    return number


def _text(data: bytes) -> str:
    return data.decode("utf-8", ODD)
