"""Archives of images that are read as a stream: one tar, plain or compressed, in one file or in parts.

`medvlp.prepare.archives.parquet` has another kind.

Nothing is unpacked to disk. The parts are those of `split`: their concatenation is the archive, and may be cut at any
byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvlp.errors import NotFoundError
from medvlp.prepare.archives.stream import Unpacked
from medvlp.prepare.archives.tar import Member, read_tar

PART = re.compile(r"(.*?)((?:\.tar)?(?:\.zst|\.gz)?\.part)([0-9]+)")
WHOLE = (".tar.zst", ".tar.gz", ".tgz", ".tar")


@dataclass(frozen=True)
class Archive:
    """An archive of images.

    Attributes:
        parts: Its files, in order.
    """

    parts: Sequence[Path]

    def members(self) -> Iterator[Member]:
        """Yield the files in the archive, which is read to its end: there Zstandard and gzip have their checksums.

        Raises:
            UserError: If it is damaged or truncated, or no archive; with the part and the byte.
        """
        with Unpacked(self.parts) as stream:
            yield from read_tar(stream)


def find_archive(folders: Sequence[Path], name: str) -> Archive | None:
    """Return the archive of a name in the first of some folders that has one; None if there is none.

    Args:
        folders: The folders.
        name: Its name without suffix. Its files are `name.part00`, `name.part01` and so on, `name.tar.zst.part00`
            and so on, or `name.tar.zst`; or .tar.gz, .tgz or .tar.

    Raises:
        NotFoundError: If a part before another one is missing.
    """
    for folder in filter(Path.is_dir, folders):
        parts = {}
        for path in folder.iterdir():
            match = PART.fullmatch(path.name)
            if match and match[1] == name:
                parts[int(match[3])] = path
        if parts:
            last = parts[max(parts)]
            # Some tools count from 1.
            missing = sorted({*range(min(1, *parts), max(parts))} - {*parts})
            if missing:
                stem = last.name.rstrip("0123456789")
                names = ", ".join(f"{stem}{number:0{len(last.name) - len(stem)}d}" for number in missing)
                raise NotFoundError(f"'{folder}' holds {last.name}, but not {names}. Download what is missing.")
            return Archive([parts[number] for number in sorted(parts)])
        whole = next((folder / f"{name}{suffix}" for suffix in WHOLE if (folder / f"{name}{suffix}").is_file()), None)
        if whole:
            return Archive([whole])
    return None
