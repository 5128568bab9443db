"""Image files named by users, found and decoded in order beside the model's own work."""

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
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.inference.screening import screen
from medvlp.prepare.images import read_image
from medvlp.prepare.workers import start_worker
from medvlp.prepared import Geometry, Resize

Item = TypeVar("Item")

# Files that a worker decodes at once, and how many such parts each worker may be ahead.
PART = 4
AHEAD = 3


@dataclass(frozen=True)
class Reading:
    """What came of a file.

    Attributes:
        path: The file.
        pixels: The prepared square, uint8 (size, size); None if it cannot be read.
        reason: Why it cannot be read; empty if it can.
        flags: Flags raised by the screening; see `medvlp.inference.screening`.
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
        fit: How the image fills it; see `medvlp.data.preprocessing.Preprocessing`.
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
            # Opening a pipe would wait for its other end.
            if os.path.exists(path) and not os.path.isfile(path):
                raise LeftOutError("no regular file")
            pixels, geometry = read_image(path, self.size, self.fit)
            return Reading(path, pixels, flags=tuple(screen(path, pixels, geometry)))
        except LeftOutError as error:
            return Reading(path, reason=str(error))
        except MemoryError:
            return Reading(path, reason="too large for the memory")


def read_file(path: str | os.PathLike[str], preprocessing: Preprocessing) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """Return a file as the encoder sees it, uint8 (crop, crop), and where the image lies in the prepared square.

    Raises:
        LeftOutError: If the file is not there or cannot be decoded to its end.
    """
    image, geometry = read_image(os.fspath(path), preprocessing.size, preprocessing.fit)
    return preprocessing.see(image), geometry


def find_files(inputs: Sequence[str]) -> Iterator[str]:
    """Yield the files that users name: files, folders with all files below them, and patterns such as `*.dcm`.

    Inputs come one after the other, the files of each in the order of their names. A folder is yielded itself where
    it cannot be listed or is a link inside another one, so that nothing is passed over in silence. A pattern with
    `**` means files alone.

    Raises:
        NotFoundError: If an input names nothing.
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
                # With `**` a folder comes beside all that is in it.
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
    """Return a path as text; bytes in it that are none are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def read_all(paths: Iterable[str], reader: Reader, workers: int) -> Generator[Reading, None, None]:
    """Yield what comes of files, in their order, decoded by processes that run ahead by a few files.

    A decoder that crashes, or takes more memory than there is, ends its process alone: the files that were under way
    are read again one by one, and the one that does it again is left out.

    Args:
        paths: The files.
        reader: Reads them.
        workers: Number of processes.

    Raises:
        UserError: If no processes can be started.
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
    """Yield lists of `size` items, the last one of what is left."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _one_by_one(paths: Iterable[str], reader: Reader) -> Iterator[Reading]:
    """Yield what comes of files of which one has ended its process."""
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
    # Threads would not do: what read_image makes of Pillow's warnings holds for all of a process, and a crash, too.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise UserError("no worker process can be started: they end before they have read a file.") from None
    return pool
