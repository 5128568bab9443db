"""Prepared folders that are read from elsewhere, through copies on this machine.

The root of such a folder is a URL: `s3://bucket/folder`, `gs://bucket/folder`, `file:///slow/share/folder`, or another
that fsspec knows. Its tables are copied when it is opened, each file of images when an image in it is first read, once
for all processes of a machine. Copies lie in $MEDVLP_CACHE, by default ~/.cache/medvlp, in a folder for each URL and
manifest, so that data that was prepared anew is copied anew. They stay until they are deleted.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from filelock import FileLock
from pyarrow import fs

from medvlp.errors import NotFoundError, UserError

# Says in a folder of copies where they are from.
ORIGIN = "origin.txt"
LOCKS = "locks"
# A drive of Windows has one letter. Paths have lost the second slash.
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
BLOCK = 8 << 20


@dataclass(frozen=True)
class Mirror:
    """The local side of a prepared folder.

    Attributes:
        folder: The folder itself, or that of the copies.
        url: Where the copies are from; None for a folder that is not read from elsewhere.
    """

    folder: Path
    url: str | None

    @classmethod
    def of(cls, folder: Path) -> Mirror:
        """Return the local side of a prepared folder that `mirror` has returned."""
        origin = folder / ORIGIN
        return cls(folder, origin.read_text() if origin.is_file() else None)

    def fetch(self, path: Path) -> None:
        """Copy a file, unless it is there.

        Args:
            path: Where it is wanted, in the folder.

        Raises:
            UserError: If it cannot be copied.
        """
        if self.url is None or path.exists():
            return
        name = path.relative_to(self.folder).as_posix()
        lock = self.folder / LOCKS / name.replace("/", "-")
        lock.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if path.exists():  # Another process has copied it meanwhile.
                return
            temporary = path.with_name(f"{path.name}.tmp")
            try:
                with _open(self.url, name) as source, open(temporary, "wb") as target:
                    shutil.copyfileobj(source, target, BLOCK)
                os.replace(temporary, path)
            except FileNotFoundError as error:
                raise NotFoundError(
                    f"root='{self.url}': '{name}' is not there. Copy the folder there again."
                ) from error
            except OSError as error:
                raise UserError(f"root='{self.url}': '{name}' cannot be copied to '{self.folder}': {error}.") from error


def mirror(root: Path | str, manifest: str, tables: Sequence[str]) -> Path:
    """Return a prepared folder, or of a URL the folder of its copies, with its tables.

    Args:
        root: The folder, its URL, or a folder of copies.
        manifest: Name of the manifest, which is the last file of a folder to be written.
        tables: Names of other files to copy, as far as they are there.

    Raises:
        NotFoundError: If there is no manifest at a URL.
        UserError: If the URL cannot be read.
    """
    url = address(root)
    if url is None:
        return Path(root)
    try:
        with _open(url, manifest) as source:
            content = source.read()
    except FileNotFoundError as error:
        raise NotFoundError(f"root='{url}' is not a complete prepared folder: no {manifest} there.") from error
    except OSError as error:
        raise UserError(f"root='{url}' cannot be read: {error}.") from error
    digest = hashlib.sha256(url.encode() + b"\0" + content).hexdigest()
    name = PurePosixPath(url.partition("?")[0]).name
    local = Mirror(cache() / f"{name}-{digest[:16]}", url)
    if not (local.folder / manifest).is_file():
        for table in tables:
            try:
                local.fetch(local.folder / table)
            except NotFoundError:
                continue  # A data set without reports has no triplets.
        _place(local.folder / ORIGIN, url.encode())
        # Last: where it is, the others are.
        _place(local.folder / manifest, content)
    return local.folder


def address(root: Path | str) -> str | None:
    """Return the URL of a prepared folder; None for a path."""
    found = URL.fullmatch(str(root))
    if not found:
        return None
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}".rstrip("/")


def cache() -> Path:
    """Return the folder of all copies."""
    return Path(os.environ.get("MEDVLP_CACHE") or "~/.cache/medvlp").expanduser()


def _place(path: Path, content: bytes) -> None:
    """Write a small file at once: other processes may be reading or writing it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _open(url: str, name: str) -> Any:
    """Open a file of a folder for reading.

    Raises:
        OSError: If it cannot be read.
        UserError: If nothing that is installed reads such URLs.
    """
    try:
        files, folder = fs.FileSystem.from_uri(url)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # Arrow may have been built without some of them.
        import fsspec

        try:
            other, folder = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"root='{url}': {error}.") from error
        files = fs.PyFileSystem(fs.FSSpecHandler(other))
    return files.open_input_stream(f"{folder}/{name}")
