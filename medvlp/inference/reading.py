"""Finds the image files that users name, and decodes them in order while the model computes."""

from __future__ import annotations

import glob
import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.prepare.images import read_image
from medvlp.prepare.regions import Square
from medvlp.prepare.screening import screen
from medvlp.prepare.workers import start_worker
from medvlp.prepared import Geometry, Resize

if TYPE_CHECKING:
    from medvlp.data.preprocessing import Preprocessing

Item = TypeVar("Item")

# Number of files in a part, the unit of work of a worker, and number of parts in progress per worker.
PART = 4
AHEAD = 3


@dataclass(frozen=True)
class Reading:
    """Result of reading a file: pixels, or the reason for their absence.

    Attributes:
        path: The file.
        pixels: The prepared square, uint8 (size, size); None if it cannot be read.
        reason: Why it cannot be read; empty if it can.
        flags: Flags raised by the screening; see `medvlp.prepare.screening`.
    """

    path: str
    pixels: npt.NDArray[np.uint8] | None = None
    reason: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """Reads files. Runs in the worker processes.

    Attributes:
        size: Side of the prepared square in pixels.
        fit: How the image fills the square; see `medvlp.data.preprocessing.Preprocessing`.
    """

    size: int
    fit: Resize

    def __call__(self, paths: Sequence[str]) -> list[Reading]:
        """Read files, one after the other."""
        return [self.read(path) for path in paths]

    def read(self, path: str) -> Reading:
        """Read a file."""
        try:
            if os.path.isdir(path):
                raise LeftOutError("folder behind a link" if os.path.islink(path) else "folder that cannot be read")
            # Opening a named pipe would wait for a writer.
            if os.path.exists(path) and not os.path.isfile(path):
                raise LeftOutError("no regular file")
            square = Square(*read_image(path, self.size, self.fit))
            return Reading(path, square.pixels, flags=tuple(screen(path, square)))
        except LeftOutError as error:
            return Reading(path, reason=str(error))
        except MemoryError:
            return Reading(path, reason="too large for the memory")


def read_file(path: str | os.PathLike[str], preprocessing: Preprocessing) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """Return the encoder's input, uint8 (crop, crop), and the geometry of the image in the prepared square.

    Raises:
        LeftOutError: If the file does not exist or cannot be decoded completely.
    """
    image, geometry = read_image(os.fspath(path), preprocessing.size, preprocessing.fit)
    return preprocessing.see(image), geometry


def find_files(inputs: Sequence[str]) -> Iterator[str]:
    """Yield the files that users name: files, folders with all files below them, and patterns such as `*.dcm`.

    Inputs keep their order; the files of each input are sorted by name. Two kinds of folders are yielded themselves, so
    that readers can report them: folders that cannot be listed, and links to folders inside a folder. A pattern with
    `**` matches files only.

    Raises:
        NotFoundError: If an input does not exist, or is a pattern without a match.
    """
    for name in inputs:
        if os.path.isdir(name):
            yield from _below(name)
        elif os.path.lexists(name):
            yield name
        else:
            found = sorted(glob.iglob(name, recursive=True)) if glob.has_magic(name) else []
            if not found:
                raise NotFoundError(f"'{name}' is no file, no folder, and no pattern of any file that is there.")
            for path in found:
                if not os.path.isdir(path):
                    yield path
                # `**` matches a folder and its content: listing the folder would repeat files.
                elif "**" not in name:
                    yield from _below(path)


def _below(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError:
        yield folder
        return
    for name, is_folder in found:
        path = os.path.join(folder, name)
        if is_folder:
            yield from _below(path)
        else:
            yield path


def shown(path: str) -> str:
    """Return a path as text; bytes that are not valid UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def read_all(paths: Iterable[str], reader: Reader, workers: int) -> Generator[Reading, None, None]:
    """Yield the readings of files in their order; worker processes decode a few files ahead.

    A decoder that crashes, or runs out of memory, ends its worker process only. The files in progress are then read
    again one by one, and a file that ends a process again yields a reading without pixels.

    Args:
        paths: The files.
        reader: The reader that the workers call.
        workers: Number of worker processes.

    Raises:
        UserError: If no worker process can be started.
    """
    parts = batched(paths, PART)
    waiting: deque[list[str]] = deque()
    results: deque[Future[list[Reading]]] = deque()
    pool = _start(workers)
    try:
        while True:
            try:
                for part in islice(parts, AHEAD * workers - len(waiting)):
                    waiting.append(part)
                    results.append(pool.submit(reader, part))
                if not waiting:
                    return
                done = results[0].result()
            except BrokenProcessPool:
                pool.shutdown()
                yield from _one_by_one(list(chain.from_iterable(waiting)), reader)
                waiting.clear()
                results.clear()
                pool = _start(workers)
                continue
            waiting.popleft()
            results.popleft()
            yield from done
    finally:
        pool.shutdown(cancel_futures=True)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items; the last list may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _one_by_one(paths: Iterable[str], reader: Reader) -> Iterator[Reading]:
    """Yield the readings of files one of which has ended a worker process."""
    pool = _start(1)
    try:
        for path in paths:
            try:
                reading = pool.submit(reader.read, path).result()
            except BrokenProcessPool:
                reading = Reading(path, reason="decoding it ends the process, by a crash or for lack of memory")
                pool.shutdown()
                pool = _start(1)
            yield reading
    finally:
        pool.shutdown()


def _start(workers: int) -> ProcessPoolExecutor:
    # Processes, not threads: read_image sets warning filters, which are global to a process, and a crash ends one.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise UserError("no worker process can be started: they end before they have read a file.") from None
    return pool
