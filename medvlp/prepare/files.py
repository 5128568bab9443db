"""Files in a folder or a zip archive: search by name, and reading that never leaves the folder."""

from __future__ import annotations

import itertools
import os
import string
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medvlp.errors import NotFoundError, UserError

ESCAPES = "escapes root"
# Originals before copies, which may have lost information.
IMAGE_SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
# Far more than any report or scene graph has; a zip bomb has more.
MAX_BYTES = 1 << 26


class EscapesRootError(ValueError):
    """A path leads out of its folder."""


def escapes(path: str) -> bool:
    """Return whether the text of a relative path leads out of its root."""
    return path.startswith(("/", "\\")) or ".." in PurePosixPath(path.replace("\\", "/")).parts or "\0" in path


def inside(root: Path, path: str, real_roots: Iterable[str]) -> str:
    """Return the real path of a file below a root.

    Args:
        root: The folder.
        path: Path relative to root.
        real_roots: Folders without links. The file must lie in one of them.

    Raises:
        EscapesRootError: If its name or a link leads elsewhere.
    """
    if not escapes(path):
        real = os.path.realpath(os.path.join(root, path))
        if any(real.startswith(folder.rstrip(os.sep) + os.sep) for folder in real_roots):
            return real
    raise EscapesRootError(ESCAPES)


def real_paths(*folders: Path) -> list[str]:
    """Return folders without links, for `inside`."""
    return [os.path.realpath(folder) for folder in folders]


def missing(root: Path, content: str, how: str, argument: str = "root") -> NotFoundError:
    """Return the error for a folder on the command line that is absent or incomplete.

    Args:
        root: The folder.
        content: What an existing folder has instead of the files: "no folder 'images'".
        how: How to get the data.
        argument: Name of the command-line option.
    """
    return NotFoundError(f"--{argument}='{root}' {f'holds {content}' if root.is_dir() else 'is not there'}. {how}")


def require_folder(root: Path, names: Sequence[str], how: str, argument: str = "root") -> Path:
    """Return the first existing one of several folders in a folder on the command line.

    Args:
        root: The folder on the command line.
        names: Paths relative to it.
        how: How to get the data, for the error.
        argument: Name of the command-line option, for the error.

    Raises:
        NotFoundError: If none of them exists.
    """
    folder = next((root / name for name in names if (root / name).is_dir()), None)
    if folder is None:
        raise missing(root, f"no folder {' or '.join(repr(name) for name in names)}", how, argument)
    return folder


def find_images(root: Path, *folders: Path) -> dict[str, str]:
    """Return the images in and below some folders, by name without suffix, as paths relative to a root.

    The first folder wins if several have an image of one name, and in it the first suffix of IMAGE_SUFFIXES, with files
    without suffix last.
    """
    paths: dict[str, str] = {}
    for where, below, names in itertools.chain.from_iterable(map(os.walk, folders)):
        below.sort()
        place = os.path.relpath(where, root)
        images = [*map(os.path.splitext, sorted(names))]
        # DICOM files often have no suffix, and UIDs as names.
        bare = [stem + suffix for stem, suffix in images if not suffix.strip("." + string.digits) and stem[0] != "."]
        for wanted in IMAGE_SUFFIXES:
            for stem, suffix in images:
                if suffix.lower() == wanted:
                    paths.setdefault(stem, os.path.join(place, stem + suffix))
        for name in bare:
            paths.setdefault(name, os.path.join(place, name))
    return paths


def path_of(paths: Mapping[str, str], name: str, expected: str) -> str:
    """Return the path of an image, which may have another suffix than in the tables.

    Args:
        paths: As `find_images` returns them.
        name: Its name in the tables.
        expected: The path that it should have, for an image without a file: it is reported as missing.
    """
    return paths.get(os.path.splitext(name)[0], expected)


@dataclass(frozen=True)
class Folder:
    """The files of a folder. A locator is a path relative to it."""

    root: Path

    def read(self, locator: str) -> bytes:
        """Return the content of a file."""
        with open(inside(self.root, locator, [os.path.realpath(self.root)]), "rb") as file:
            return file.read(MAX_BYTES)


@dataclass(frozen=True)
class Zip:
    """The members of a zip archive. A locator is `offset size method crc`.

    Worker processes read members by their position: a ZipFile of MIMIC-CXR takes 200 MB in each process.
    """

    path: Path

    def index(self, wanted: Callable[[str], bool], skip: Callable[[str, str], None]) -> dict[str, str]:
        """Return the locators of members by their base names.

        Args:
            wanted: Tells whether a base name is wanted.
            skip: Called for each wanted member that cannot be used.

        Raises:
            UserError: If the archive cannot be read.
        """
        locators = {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                for member in archive.infolist():
                    name = member.filename.rpartition("/")[2]
                    if not wanted(name):
                        continue
                    if escapes(member.filename):
                        skip(f"{self.path.name}:{member.filename}", ESCAPES)
                    else:
                        locators[name] = (
                            f"{member.header_offset} {member.compress_size} {member.compress_type} {member.CRC}"
                        )
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"'{self.path}' is not a readable zip archive ({error}). Download it again.") from error
        return locators

    def read(self, locator: str) -> bytes:
        """Return the content of a member."""
        offset, size, method, crc = map(int, locator.split())
        with open(self.path, "rb") as file:
            file.seek(offset)
            # Name and extra field of the local header may be longer than those of the central directory.
            header = file.read(30)
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
            data = file.read(size)
        if method == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, MAX_BYTES)
        elif method != zipfile.ZIP_STORED:
            raise ValueError(f"zip method {method}")
        if zlib.crc32(data) != crc:
            raise ValueError("checksum")
        return data


Store = Folder | Zip


def open_store(path: Path, argument: str, below: Iterable[str], how: str) -> Store:
    """Return the folder or archive of a command-line argument.

    Args:
        path: Value of the argument.
        argument: Name of the option, for the error.
        below: Paths below `path` that may hold the files, the likeliest first. Without any of them `path` does.
        how: How to get the data, for the error.

    Raises:
        NotFoundError: If `path` does not exist.
    """
    if path.is_file():
        return Zip(path)
    if not path.is_dir():
        raise NotFoundError(f"--{argument}='{path}' is not there. {how}")
    for name in below:
        if (path / name).is_dir():
            return Folder(path / name)
        if (path / name).is_file():
            return Zip(path / name)
    return Folder(path)


def locator(
    store: Store | None, wanted: Callable[[str], bool], skip: Callable[[str, str], None]
) -> Callable[[str], str | None]:
    """Return a function from the path of a file below the root of a store to its locator; None if it has none.

    Args:
        store: Folder or archive; None has no files.
        wanted: Tells whether a base name may be asked for.
        skip: Called for each member of an archive that cannot be used.
    """
    if isinstance(store, Zip):
        # The numbers in base names are unique.
        index = store.index(wanted, skip)
        return lambda name: index.get(name.rpartition("/")[2])
    return lambda name: name if store else None
