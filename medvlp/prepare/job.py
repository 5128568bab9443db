"""One preparation: what is prepared, where and how; and the rules by which its folder is written."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medvlp import __version__
from medvlp.errors import NotFoundError, UserError
from medvlp.prepare import screening
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.plan import Options
from medvlp.prepare.storing import Storing
from medvlp.prepared import FORMAT_VERSION, WORK, index_schema
from medvlp.storage.pixels import COMPRESSED

# Pixels in bytes up to which images are stored as an array unless the command line says how.
LARGEST_ARRAY = 64 << 30


@dataclass(frozen=True)
class Job:
    """One preparation; see `prepare` for the attributes."""

    data: DataSet
    out: Path
    options: Options
    workers: int
    storing: Storing

    @property
    def identity(self) -> dict[str, Any]:
        """All options; a folder holds the result of one set of them."""
        options = asdict(self.options)
        # Folders of a time without this option are those in which no flag leaves an image out.
        if not options["leave_out"]:
            del options["leave_out"]
        told = {"views_told_by": self.data.view_teller.name} if self.data.view_teller else {}
        return {**self.data.options, **options, **told}

    @cached_property
    def versions(self) -> dict[str, Any]:
        """Versions of the format and of the libraries that decide the bytes of the folder."""
        from PIL import features

        versions: dict[str, Any] = {"medvlp": __version__, "format": FORMAT_VERSION}
        versions["screening"] = screening.digest()
        versions |= {name: version(name) for name in ("numpy", "pillow", "pyarrow", "pydicom")}
        return {**versions, "libjpeg_turbo": features.version("libjpeg_turbo")}

    @property
    def schema(self) -> pa.Schema:
        """Schema of index.parquet."""
        return index_schema(self.data.labels, [*self.data.splits])

    @property
    def work(self) -> Path:
        """Folder of the files from which an interrupted run resumes."""
        return self.out / WORK

    @property
    def plan(self) -> Path:
        """Table of the images to decode."""
        return self.work / "plan.parquet"

    @property
    def masks(self) -> bool:
        """Whether annotations have masks."""
        return self.data.annotations is not None and self.data.annotations.masks

    @property
    def rows(self) -> int:
        """Number of images in the plan."""
        return int(pq.read_metadata(self.plan).num_rows)

    def kind(self, begun: str | None) -> str:
        """Return the store: the one that the command line names, else that of the folder.

        Args:
            begun: The store with which the folder was begun; None for a new one, which is chosen by its size alone.
        """
        if self.storing.store != "auto":
            return self.storing.store
        if begun is not None:
            return begun
        return COMPRESSED if self.rows * self.options.size**2 * (1 + self.masks) > LARGEST_ARRAY else "array"


def store_kind(manifest: dict[str, Any]) -> str:
    """Return the store of a complete folder."""
    kind: str = manifest.get("store", {}).get("kind", "array")
    return kind


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn what the system says of a folder that cannot be written into a UserError."""
    try:
        yield
    except NotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"--out='{out}' cannot be written: {error.strerror or error}. Mend that, or give another --out; "
            "the same command goes on where this one stopped."
        ) from error


@contextmanager
def lock(out: Path, path: Path, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock.

    Args:
        out: The prepared folder.
        path: File of the lock.
        shared: Whether others may hold it, too, if theirs is shared as well.
        wait: Whether to wait for another process.

    Raises:
        UserError: If another process holds it, and this one does not wait.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    # On NFS a shared lock needs a file that can be read, an exclusive one a file that can be written.
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise UserError(f"--out='{out}' is being written by another process; wait for it or stop it.") from None
            print("Another part reads the tables and reports; this one waits for it.")
            fcntl.flock(file, kind)
        yield


def compare(out: Path, present: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on in a folder that was begun with other settings.

    Raises:
        UserError: If the settings differ; it names them.
    """
    differences = [
        f"{key} is {present.get(key)} there and {wanted.get(key)} now"
        for key in sorted({*present, *wanted})
        if present.get(key) != wanted.get(key)
    ]
    if differences:
        raise UserError(
            f"--out='{out}' was begun with other options: {'; '.join(differences)}. "
            "Give the same ones, or another --out, or delete the folder."
        )


def synchronise(path: Path) -> None:
    """Return when a file is on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is either whole or not there."""
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
