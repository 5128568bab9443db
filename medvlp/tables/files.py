"""Files that hold tables: what kind a file is, known by its content, and how it is opened."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

from medvlp.errors import UserError
from medvlp.tables.text import encoding_of

# The first bytes of files that are no text, and what to do with them.
WORKBOOK = "is a workbook: save its sheet as 'CSV UTF-8 (Comma delimited)' and give that file"
PACKED = "is packed: unpack it and give the table in it"
FORMATS = {
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"%PDF": "is a PDF: a table of text is needed",
    b"BZh": PACKED,
    b"\xfd7zXZ": PACKED,
    b"\x28\xb5\x2f\xfd": PACKED,
    b"7z\xbc\xaf": PACKED,
    b"Rar!": PACKED,
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file with 'git lfs pull'",
}
ZIP, GZIP, PARQUET = b"PK\x03\x04", b"\x1f\x8b", b"PAR1"
HTML = re.compile(rb"\s*<(?:!doctype|html|table|head|\?xml)", re.IGNORECASE)
DAMAGED = (EOFError, zlib.error, OSError)
# The member of a zip archive by which a workbook of Excel, 2007 and later, is known.
SHEETS = "xl/workbook.xml"


def kind_of(path: Path) -> str:
    """Return csv, jsonl, json (a list of objects), parquet or xlsx.

    Raises:
        UserError: If the file is no table of text; the message says what to do.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}).") from error
    for magic, advice in FORMATS.items():
        if head.startswith(magic):
            raise UserError(f"'{path}' {advice}.")
    if head.startswith(ZIP):
        if _holds_sheets(path):
            return "xlsx"
        is_workbook = path.suffix.lower() in (".xlsx", ".xlsm", ".ods") or b"[Content_Types]" in head or b"xl/" in head
        raise UserError(f"'{path}' {WORKBOOK if is_workbook else PACKED}.")
    if HTML.match(head):
        raise UserError(
            f"'{path}' is a web page, not a table. Perhaps the download asked for a login: download it again."
        )
    if head.startswith(PARQUET) or path.suffix == ".parquet":
        return "parquet"
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if head.startswith(GZIP):
        head = _unpacked(path)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"[{") or (text.startswith(b"[") and ".json" in suffixes):
        return "json"
    return "jsonl" if suffixes & {".jsonl", ".ndjson"} or text.startswith(b'{"') else "csv"


def _holds_sheets(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return SHEETS in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _unpacked(path: Path) -> bytes:
    """Return the first bytes of a file in gzip; none if it is damaged, which its reader then says."""
    try:
        with gzip.open(path) as file:
            return file.read(4096)
    except DAMAGED:
        return b""


def open_table(path: Path) -> io.TextIOWrapper:
    """Open a file of text, plain or in gzip, in its encoding."""
    with open(path, "rb") as file:
        is_packed = file.read(2) == GZIP or path.suffix == ".gz"
    binary = cast(IO[bytes], gzip.open(path, "rb") if is_packed else open(path, "rb"))  # noqa: SIM115
    head = binary.read(4096)
    binary.seek(0)
    # With escaped bytes each field can be decoded alone: a bad byte must not change the other fields.
    encoding = encoding_of(head)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    return io.TextIOWrapper(binary, encoding=encoding, errors=errors, newline="")
