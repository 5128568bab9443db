"""The bytes of an archive in parts: joined, decompressed, and with errors that name the part and the byte.

Zstandard and gzip are recognised by their first bytes, and may consist of several frames. Of Zstandard's long windows
those up to 128 MiB are read, `--long` or `--long=27`: Arrow does not let its decompressor take more.

Source: RFC 8878, 3.1 (frames of Zstandard); RFC 1952, 2.2 (members of gzip).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa
from typing_extensions import Self

from medvlp.errors import UserError

MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b": "gzip"}
# Read at once where bytes are passed over.
PIECE = 1 << 20
# What Arrow's messages mean.
CUT, CHECKSUM = "its compressed data are cut", "the checksum shows a wrong byte in this or an earlier part"
TOO_LONG = "Frame requires too much memory"


class Joined(RawIOBase):
    """Files one after the other."""

    def __init__(self, parts: Sequence[Path]) -> None:
        """Begin with the first one.

        Args:
            parts: The files.
        """
        self.parts = parts
        self.number = 0
        self._file: BinaryIO | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most some bytes; none at the end of the last file.

        Raises:
            UserError: If a file cannot be read.
        """
        try:
            while True:
                self._file = self._file or open(self.parts[self.number], "rb")  # noqa: SIM115
                data = self._file.read(size)
                if data or self.number + 1 == len(self.parts):
                    return data
                self._file.close()
                self._file, self.number = None, self.number + 1
        except OSError as error:
            raise UserError(f"'{self.parts[self.number]}' cannot be read: {error.strerror or error}.") from error

    def close(self) -> None:
        """Close the open file."""
        if self._file:
            self._file.close()
        super().close()

    @property
    def place(self) -> str:
        """The part that is being read, and the byte."""
        byte = self._file.tell() if self._file else 0
        return f"byte {byte:,} of '{self.parts[self.number]}'"


class Unpacked:
    """The bytes of an archive without its compression."""

    def __init__(self, parts: Sequence[Path]) -> None:
        """Open the archive.

        Args:
            parts: Its files, in order.

        Raises:
            UserError: If a file cannot be read.
        """
        self._joined = Joined(parts)
        head = self._joined.read(4)
        while len(head) < 4 and (more := self._joined.read(4 - len(head))):
            head += more
        codec = next((codec for magic, codec in MAGIC.items() if head.startswith(magic)), None)
        self._joined.close()
        self._joined = Joined(parts)
        self._stream = pa.CompressedInputStream(pa.PythonFile(self._joined, "r"), codec) if codec else self._joined
        self.position = 0

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the open file."""
        self._joined.close()

    def read(self, size: int) -> bytes:
        """Return this number of bytes.

        Raises:
            UserError: If the archive ends before them, or is damaged.
        """
        data = self._some(size)
        # A part may end anywhere.
        while len(data) < size and (more := self._some(size - len(data))):
            data += more
        if len(data) < size:
            raise self.fault("it ends before the end mark of tar", ends=True)
        return data

    def skip(self, size: int) -> None:
        """Pass over this number of bytes; for what is raised see `read`."""
        while size:
            size -= len(self.read(min(size, PIECE)))

    def drain(self) -> None:
        """Pass over all bytes to the end, where the checksum is compared.

        Raises:
            UserError: If the archive is damaged.
        """
        while self._some(PIECE):
            pass

    def fault(self, reason: str, ends: bool = False) -> UserError:
        """Return the error for a fault at or a little before the present byte.

        Args:
            reason: The fault.
            ends: Whether bytes are missing at the end.
        """
        parts = self._joined.parts
        sizes = Counter(path.stat().st_size for path in parts[:-1])
        ((usual, count),) = sizes.most_common(1) or [(0, 0)]
        odd = [path for path in parts[:-1] if path.stat().st_size != usual] if 2 * count > len(parts) else []
        if odd:
            names = ", ".join(f"'{path.name}' has {path.stat().st_size:,} bytes" for path in odd)
            advice = f"{names}, but most parts have {usual:,}"
        elif ends:
            advice = f"'{parts[-1].name}' or an earlier part is truncated, or a part behind it is missing"
        else:
            advice = "Compare the size and hash of this part, and of the one before it, with the download page's"
        return UserError(
            f"The archive cannot be read at {self._joined.place} or shortly before it: {reason}. {advice}. "
            "Download what is wrong again; then the same command goes on where this one stopped."
        )

    def _some(self, size: int) -> bytes:
        """Return at most this number of bytes; none at the end."""
        try:
            data = bytes(self._stream.read(size))
        except OSError as error:
            message = str(error)
            if TOO_LONG in message:
                names = " ".join(f"'{path.name}'" for path in self._joined.parts)
                raise UserError(
                    f"'{self._joined.parts[0]}' was compressed with a window of more than 128 MiB, which is not read "
                    f"as a stream. Unpack it with: cat {names} | zstd -d --long=31 | tar -x"
                ) from error
            ends = message.startswith("Truncated")
            reason = CHECKSUM if "checksum" in message else CUT if ends else "these are no bytes of its compression"
            raise self.fault(reason, ends) from error
        self.position += len(data)
        return data
