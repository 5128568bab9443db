"""The parts of a preparation that several machines share: `--shard 3/16`, and `--shard join` at the end.

Each part decodes a range of the plan into OUT/work/parts/03-of-16, and resumes by itself:

    part.json      options, versions and plan of the part
    journal.jsonl  the result of each chunk, as in a preparation on one machine
    images/ masks/ a compressed file for each chunk

Parts may write the same OUT on shared storage. Where machines share none, each has its own OUT, and the folders in
OUT/work/parts are copied together before they are joined. The join compares the parts with the plan and the options,
checks every image against the hash in the journal, and writes the folder that one machine would have written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from medvlp.errors import UserError
from medvlp.prepare.chunks import CHUNK, PixelWriter, pixel_digests
from medvlp.prepare.compressed import ChunkFiles
from medvlp.prepare.hashes import sha256_of
from medvlp.prepare.journal import Journal
from medvlp.prepare.progress import progress
from medvlp.prepare.workers import in_parallel

PARTS, HEAD, JOURNAL = "parts", "part.json", "journal.jsonl"
JOIN: Literal["join"] = "join"
NAME = re.compile(r"(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Part:
    """One of the parts of a preparation.

    Attributes:
        number: Its number, from 1.
        count: Number of all parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return the part that the command line names.

        Raises:
            UserError: If it names none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(
                f"--shard='{text}': give the number of this part and that of all parts, from 1/16 to 16/16, or 'join' "
                "when all parts have ended."
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """Return the part as the command line names it."""
        return f"{self.number}/{self.count}"

    def folder(self, work: Path) -> Path:
        """Return its folder."""
        return work / PARTS / f"{self.number:0{len(str(self.count))}}-of-{self.count}"

    def chunks(self, rows: int) -> range:
        """Return the first row of each of its chunks, in a plan with so many rows."""
        total = -(-rows // CHUNK)
        first, end = (total * number // self.count for number in (self.number - 1, self.number))
        return range(first * CHUNK, min(end * CHUNK, rows), CHUNK)


class Finished(NamedTuple):
    """A chunk that a part has decoded.

    Attributes:
        files: The files of the part.
        line: Its line in the journal.
    """

    files: ChunkFiles
    line: dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """The parts that were begun, opened to be joined.

    Attributes:
        journals: Journal of each part, and its files.
        present: The parts.
    """

    present: list[Part]
    journals: list[tuple[Journal, ChunkFiles]]

    @classmethod
    @contextmanager
    def opened(cls, work: Path, head: dict[str, Any], masks: bool) -> Iterator[Parts]:
        """Open the parts.

        Args:
            work: The folder OUT/work.
            head: What each part.json must say.
            masks: Whether there are masks.

        Raises:
            UserError: If one has other options, versions or another plan.
        """
        present, journals = [], []
        with ExitStack() as stack:
            for path in sorted((work / PARTS).glob(f"*/{HEAD}")):
                if not (name := NAME.fullmatch(path.parent.name)):
                    continue
                part = Part(int(name[1]), int(name[2]))
                check_head(part, path, head)
                present.append(part)
                journal = stack.enter_context(closing(Journal(path.parent / JOURNAL)))
                journals.append((journal, ChunkFiles(path.parent, masks)))
            yield cls(present, journals)

    def finished(self, wanted: Callable[[int], bool]) -> Iterator[Finished]:
        """Yield the chunks that are there, each once.

        Args:
            wanted: Whether to yield the chunk with a first row.
        """
        seen = set()
        for journal, files in self.journals:
            for first in sorted(journal.offsets):
                if first not in seen and wanted(first) and files.has(first):
                    seen.add(first)
                    yield Finished(files, journal.read(first))

    def owners(self, missing: set[int], rows: int) -> list[Part]:
        """Return the parts whose chunks are missing.

        Args:
            missing: First row of each missing chunk.
            rows: Number of images in the plan.
        """
        every = [
            Part(number, count)
            for count in sorted({part.count for part in self.present})
            for number in range(1, count + 1)
        ]
        return [part for part in every if missing & set(part.chunks(rows))]


@dataclass(frozen=True)
class Taker:
    """The check of a part's chunk, and its way into the store. It runs in the worker processes.

    Attributes:
        size: Side of the prepared images in pixels.
        writer: Where the pixels go; None for a store that reads the files of the parts.
    """

    size: int
    writer: PixelWriter | None

    def __call__(self, chunk: Finished) -> dict[str, Any] | None:
        """Return the line of the chunk for the journal; None if it is damaged, and then removed.

        Raises:
            OSError: If the chunk cannot be read or written.
        """
        first = int(chunk.line["first"])
        try:
            pixels = chunk.files.read(first, self.size)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # The storage fails, perhaps for a moment, not the file.
            pixels = None
        if pixels is None or pixel_digests(pixels) != chunk.line["sha256"]:
            chunk.files.remove(first)  # So that the part, or this run, decodes it again.
            return None
        if self.writer is not None:
            self.writer.write(first, pixels)
        return chunk.line


def take(parts: Parts, taker: Taker, journal: Journal, workers: int) -> None:
    """Take over the chunks that parts have decoded.

    Args:
        parts: The parts.
        taker: Checks a chunk, and brings it into the store.
        journal: Chunks that were taken before; those that are taken now are added.
        workers: Number of processes.
    """
    if not parts.journals:
        return
    done = set(journal.offsets)
    waiting = parts.finished(lambda first: first not in done)
    with progress("chunks joined", None) as advance:
        for line in in_parallel(taker, waiting, workers):
            if line is not None:
                journal.append(line)
            advance(1)


def refuse_missing(parts: Parts, journal: Journal, rows: int) -> None:
    """Refuse to join parts that have not ended.

    Raises:
        UserError: If chunks are missing; it names the parts.
    """
    every = range(0, rows, CHUNK)
    missing = {*every} - {*journal.offsets}
    if not missing:
        return
    names = ", ".join(map(str, parts.owners(missing, rows)))
    state = f"of the parts {names}: " if names else "of all parts, for none was begun: "
    raise UserError(
        f"--shard join: {len(missing):,} of {len(every):,} chunks are missing, {state}"
        "run these with '--shard NUMBER/COUNT' (again), or leave --shard away to decode here what is missing."
    )


def check_head(part: Part, path: Path, head: dict[str, Any]) -> None:
    """Compare a part with the preparation.

    Raises:
        UserError: If it has other options, versions or another plan, or cannot be read.
    """
    try:
        present = json.loads(path.read_text())
    except ValueError:
        raise UserError(f"--shard: '{path}' of part {part} is damaged. Copy that folder again, or delete it.") from None
    if present == head:
        return
    if present.get("plan") != head["plan"] and present.get("settings") == head["settings"]:
        wrong = "read other tables or reports: its list of images differs"
    else:
        there, now = present.get("settings", {}), head["settings"]
        keys = [key for key in sorted({*there, *now}) if there.get(key) != now.get(key)]
        wrong = "was made with other options: " + "; ".join(
            f"{key} {there.get(key)}, not {now.get(key)}" for key in keys
        )
    raise UserError(f"--shard: part {part} in '{path.parent}' {wrong}. Give all parts the same, or delete that folder.")


def part_head(settings: dict[str, Any], plan: Path) -> dict[str, Any]:
    """Return the content of part.json.

    Args:
        settings: Options and versions.
        plan: The table of the images to decode.
    """
    return {"settings": settings, "plan": sha256_of(plan)}
