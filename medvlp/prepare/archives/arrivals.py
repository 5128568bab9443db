"""The decoding of the images of an archive in the order in which they come.

The rows of a prepared folder have the order of the plan, and their bytes do not depend on where the images come from.
So each image goes into its row as it comes, with a line in work/arrived.jsonl, and when the archive has passed by the
chunks are collected from the rows. An interrupted run reads the archive from its beginning, and decodes what is new: an
image whose content is the one that was decoded is passed over.

In memory are a few chunks of files, and some hundred bytes for each row.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from medvlp.errors import UserError
from medvlp.prepare.archives.archive import Archive
from medvlp.prepare.archives.members import Members
from medvlp.prepare.archives.tar import Member
from medvlp.prepare.arrays import Arrays
from medvlp.prepare.chunks import CHUNK, Decoder, PixelWriter, pixel_digests
from medvlp.prepare.files import MAX_BYTES
from medvlp.prepare.journal import Journal
from medvlp.prepare.plan import read_chunks
from medvlp.prepare.progress import progress
from medvlp.prepare.study import Picture
from medvlp.prepare.workers import in_parallel
from medvlp.prepared import SKIPPED

Mask = npt.NDArray[np.bool_]
Marks = npt.NDArray[np.int64]
# Bytes of files that a worker gets at once, unless CHUNK files have fewer.
GROUP_BYTES = 1 << 23
# Marks of rows: nothing has come yet; the archive has no such member.
NOTHING, MISSING = -1, -2


@dataclass(frozen=True)
class Arrived:
    """An image out of an archive.

    Attributes:
        row: Its row.
        picture: The facts about it in the tables.
        content: Its file; a reason if it is left out.
        mark: CRC-32 of its file; MISSING, or minus the size of one that is too large.
    """

    row: int
    picture: Picture
    content: bytes | str
    mark: int


@dataclass(frozen=True)
class Rows:
    """The rows of the files of pixels, filled in any order. It is pickled into the worker processes.

    Attributes:
        decoder: The decoder of one image.
        arrays: The files of pixels, open.
    """

    decoder: Decoder
    arrays: Arrays

    def __call__(self, group: list[Arrived]) -> list[dict[str, Any]]:
        """Decode images into their rows.

        Returns:
            The line of each row in the journal of arrivals: `first`, the row; `mark`; `crc32` of its image and
            mask; `images` and `views`, with one item, and `skipped`, as in the journal of chunks.

        Raises:
            OSError: If the files cannot be written.
        """
        lines = []
        for arrived in group:
            output = np.zeros((1 + self.arrays.masks, self.decoder.size, self.decoder.size), np.uint8)
            skipped: list[tuple[str, str]] = []
            image = view = None
            if isinstance(arrived.content, str):
                skipped.append((arrived.picture.image_id, arrived.content))
            else:
                image, view = self.decoder.decode(arrived.picture, arrived.content, output, skipped)
            self.arrays.write(arrived.row, output[:, None])
            line = {"first": arrived.row, "mark": arrived.mark, "crc32": checksums(output)}
            lines.append({**line, "images": [image], "views": [view], "skipped": skipped})
        return lines


@dataclass(frozen=True)
class Collector:
    """Makes the results of chunks out of rows that have all been filled. It is pickled into the worker processes.

    Attributes:
        arrays: The rows.
        writer: Where the pixels of chunks go: the arrays themselves, where they are already, or another store.
    """

    arrays: Arrays
    writer: PixelWriter

    def __call__(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the line of a chunk in the journal of chunks, see `Decoder`, from those of its rows."""
        first = lines[0]["first"]
        pixels = self.arrays.read(first, len(lines))
        if self.writer != self.arrays:
            self.writer.write(first, pixels)
        return {
            "first": first,
            "sha256": pixel_digests(pixels),
            **{name: [item for line in lines for item in line[name]] for name in ("images", "views", "skipped")},
        }


class Arrivals:
    """The images that come out of an archive.

    Attributes:
        counts: Number of files by what became of them.
        stranger: The first file in no table; empty if there is none.
    """

    def __init__(
        self, archive: Archive, members: Members, wanted: Mask, marks: Marks, advance: Callable[[int], None]
    ) -> None:
        """Begin.

        Args:
            archive: The archive.
            members: Rows by member.
            wanted: Which rows are wanted.
            marks: Mark of each row that an earlier run has decoded, else NOTHING.
            advance: Called with the number of images that an earlier run has decoded.
        """
        self.archive = archive
        kinds = ("taken", "twice", "not wanted now", "left out by the filters", "in no table")
        self.counts = dict.fromkeys(kinds, 0)
        self.stranger = ""
        self._members = members
        self._wanted = wanted
        self._open = wanted.copy()
        self._marks = marks
        self._advance = advance

    def groups(self) -> Iterator[list[Arrived]]:
        """Yield images to decode, a few at a time. Of members of one name the first counts.

        Raises:
            UserError: If the archive is damaged or truncated.
        """
        group: list[Arrived] = []
        for member in self.archive.members():
            group += self._new(member)
            if len(group) >= CHUNK or sum(len(arrived.content) for arrived in group) >= GROUP_BYTES:
                yield group
                group = []
        if group:
            yield group

    def _new(self, member: Member) -> Iterator[Arrived]:
        """Yield the rows of a member that have to be decoded."""
        rows = self._members.find(member.name)
        if not rows:
            left_out = self._members.is_left_out(member.name)
            self.counts["left out by the filters" if left_out else "in no table"] += 1
            self.stranger = self.stranger or ("" if left_out else member.name)
            return
        if not any(self._wanted[row] for row, _ in rows):
            self.counts["not wanted now"] += 1
            return
        rows = [(row, picture) for row, picture in rows if self._open[row]]
        self.counts["taken" if rows else "twice"] += 1
        if not rows:
            return
        content, mark = self._read(member)
        for row, picture in rows:
            self._open[row] = False
            if self._marks[row] == mark:
                self._advance(1)
            else:
                yield Arrived(row, picture, content, mark)

    def _read(self, member: Member) -> tuple[bytes | str, int]:
        """Return the content of a member, or the reason why it is left out, and its mark."""
        if member.size > MAX_BYTES:
            return f"unreadable image: more than {MAX_BYTES:,} bytes", -member.size
        content = member.read()
        return content, zlib.crc32(content)

    def report(self) -> None:
        """Print what became of the files in the archive, which has been read to its end.

        Raises:
            UserError: If it has none of the images.
        """
        if not (self.counts["taken"] or self.counts["not wanted now"]):
            has = f"its files are named as '{self.stranger}'" if self.stranger else "it has no other files"
            raise UserError(
                f"'{self.archive.parts[0]}' has no image of the tables: they name '{self._members.example}', and "
                f"{has}. Give the archive and the tables of one data set."
            )
        words = ", ".join(f"{number:,} {name}" for name, number in self.counts.items() if number)
        print(f"Files in the archive: {words}" + (f", the first one '{self.stranger}'." if self.stranger else "."))


def receive(archive: Archive, rows: Rows, journal: Journal, plan: Path, chunks: Iterable[int], workers: int) -> None:
    """Decode the images of some chunks as they come out of an archive.

    Args:
        archive: The archive.
        rows: The rows to fill.
        journal: The journal of arrivals. Its folder gets a database while the archive is read.
        plan: Table of the images, beside the list of those that the filters have left out.
        chunks: First row of each chunk that is wanted.
        workers: Number of processes.

    Raises:
        UserError: If the archive is damaged or truncated, or has none of the images.
    """
    wanted = np.zeros(pq.read_metadata(plan).num_rows, np.bool_)
    for first in chunks:
        wanted[first : first + CHUNK] = True
    marks = arrived_marks(journal, rows, wanted)
    count, done = int(wanted.sum()), int((marks != NOTHING).sum())
    if done == count:
        return
    if done:
        print(f"{done:,} of {count:,} images in the archive are decoded. It is read again from its beginning.")
    database = journal.path.with_name("members.sqlite")
    with closing(Members(database, plan, plan.with_name(SKIPPED))) as members:
        with progress("images in the archive", count) as advance:
            arrivals = Arrivals(archive, members, wanted, marks, advance)
            for lines in in_parallel(rows, arrivals.groups(), workers):
                for line in lines:
                    journal.append(line)
                advance(len(lines))
        arrivals.report()
    for chunk in read_chunks(plan):
        for row, picture in enumerate(chunk.pictures, chunk.first):
            if wanted[row] and row not in journal.offsets:
                journal.append(*rows([Arrived(row, picture, "missing file", MISSING)]))


def collect(
    arrays: Arrays, writer: PixelWriter, journal: Journal, chunks: Mapping[int, int], workers: int
) -> Iterator[dict[str, Any]]:
    """Yield the results of chunks whose images have all come.

    Args:
        arrays: Their pixels.
        writer: Where the pixels go.
        journal: The journal of arrivals.
        chunks: Number of images in each chunk, by its first row.
        workers: Number of processes.
    """
    lines = ([journal.read(row) for row in range(first, first + count)] for first, count in chunks.items())
    return in_parallel(Collector(arrays, writer), lines, workers)


def arrived_marks(journal: Journal, rows: Rows, wanted: Mask) -> Marks:
    """Return the mark of each row, and forget those whose pixels did not reach the disk.

    Args:
        journal: The journal of arrivals.
        rows: The rows.
        wanted: Which rows are wanted; the others count as not there.
    """
    marks = np.full(len(wanted), NOTHING, np.int64)
    there = [row for row in sorted(journal.offsets) if wanted[row]]
    if not there:
        return marks
    with progress("images checked", len(there)) as advance:
        for row in there:
            advance(1)
            line = journal.read(row)
            if checksums(rows.arrays.read(row, 1)) == line["crc32"]:
                marks[row] = line["mark"]
            else:
                journal.forget(row)
    return marks


def checksums(pixels: npt.NDArray[np.uint8]) -> list[int]:
    """Return the CRC-32 of an image and, if there is one, of its mask."""
    return [zlib.crc32(each.data) for each in pixels]
