"""Text of table fields: its encoding, and how spreadsheets write it."""

from __future__ import annotations

import re

# Excel's way to keep the zeros of a number.
TEXT = re.compile(r'="([^"]*)"')


def decode(data: bytes) -> tuple[str, bool]:
    """Return a text and whether it was UTF-8.

    Hospital exports that are not UTF-8 are Windows-1252, which keeps degree signs, curly quotes and dashes. The few
    bytes that it does not define become replacement characters.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), False
    try:
        return data.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), False


def encoding_of(head: bytes) -> str:
    """Return the encoding of a file by its first bytes."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # Latin letters in UTF-16 without its mark: every other byte is zero.
    pairs = max(len(head) // 2, 1)
    if head[1::2].count(0) > 0.7 * pairs:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > 0.7 * pairs else "utf-8-sig"


def is_utf8(field: str) -> bool:
    """Return whether a field was UTF-8: other bytes were escaped when it was read."""
    return field.isascii() or not any("\udc80" <= character <= "\udcff" for character in field)


def field_text(field: str) -> str:
    """Return the text of a field, without Excel's quotes, and decoded if it was not UTF-8."""
    if field.startswith('="') and (match := TEXT.fullmatch(field)):
        return match[1]
    return field if field.isascii() else decode(field.encode("utf-8", "surrogateescape"))[0]
