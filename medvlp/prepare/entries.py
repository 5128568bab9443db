"""JSON files of one large object, an entry at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvlp.errors import UserError

# Characters that are read at once; more where an entry is longer.
PIECE = 1 << 20


def read_entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of each entry of a JSON object, in the order of the file.

    The file is never in memory as a whole. A key may come twice.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be read to its end, or is not an object.
    """
    try:
        yield from _Reader(path).entries()
    except (ValueError, OSError) as error:
        raise UserError(f"'{path}' cannot be read: {error}. Download it again.") from error


class _Reader:
    def __init__(self, path: Path) -> None:
        self._file = path.open(encoding="utf-8-sig")
        self._text = ""
        self._place = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def entries(self) -> Iterator[tuple[str, Any]]:
        with self._file:
            self._expect("{")
            if self._next() == "}":
                return
            while True:
                key = self._value()
                if not isinstance(key, str):
                    raise ValueError("a key is no text")  # noqa: TRY004  (it is about the file)
                self._expect(":")
                yield key, self._value()
                if self._next() == "}":
                    return
                self._expect(",")

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decode(self._text, self._place)
                # A number may go on in the next piece.
                if end < len(self._text) or self._ended:
                    self._place = end
                    return value
            except json.JSONDecodeError as error:
                if self._ended:
                    raise ValueError(error.msg) from None
            self._read()

    def _next(self) -> str:
        """Return the next character that is no blank, without passing it; empty at the end."""
        while True:
            rest = self._text[self._place : self._place + 1]
            if rest and not rest.isspace():
                return rest
            if rest:
                self._place += 1
            elif self._ended:
                return ""
            else:
                self._read()

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise ValueError("it ends before its time" if self._ended and not self._next() else f"no '{character}'")
        self._place += 1

    def _read(self) -> None:
        piece = self._file.read(max(PIECE, len(self._text) - self._place))
        self._ended = not piece
        self._text = self._text[self._place :] + piece
        self._place = 0
