"""The source of an image: a file, or its content where it comes out of an archive."""

from __future__ import annotations

from io import BufferedReader, BytesIO
from typing import TypeAlias

# Path, or content.
Source: TypeAlias = "str | bytes"


def open_source(source: Source) -> BufferedReader:
    """Open an image at its beginning.

    Args:
        source: Path of its file, or its content.

    Raises:
        OSError: If it is a file that cannot be opened.
    """
    return open(source, "rb") if isinstance(source, str) else BufferedReader(BytesIO(source))
