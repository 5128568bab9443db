"""The table of triplets: one row a triplet and region, in a parquet file.

id               string, the report
section          string
sentence         int32, number of the sentence in its section, from 0
text             string, the sentence
region           string, one of the 29 regions; null if the triplet has none
side             string, left, right or bilateral; null if the sentence states none
finding          string
existence        string, present, absent or uncertain
severity         string, mild, moderate or severe; null if the sentence states none
start, end       int32, first character of the words for the finding in the section, and end
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medvlp.errors import UserError
from medvlp.parse.language import is_english
from medvlp.parse.report import Triplet, parse_report

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("section", pa.string()),
        ("sentence", pa.int32()),
        ("text", pa.string()),
        ("region", pa.string()),
        ("side", pa.string()),
        ("finding", pa.string()),
        ("existence", pa.string()),
        ("severity", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
    ]
)
# Number of reports that a process parses at a time, and of chunks in the queue.
CHUNK, AHEAD = 256, 64
# Below this many reports, starting processes takes longer than parsing.
FEW = 4000

Report = tuple[str, Mapping[str, str]]


def write_triplets(reports: Iterable[Report], out: Path, total: int | None = None, workers: int | None = None) -> int:
    """Parse reports and write their triplets; the file appears at the end.

    Args:
        reports: Id and sections of each.
        out: Parquet file to write.
        total: Number of reports for the progress bar, if known.
        workers: Number of processes; all cores if not given.

    Returns:
        The number of reports.

    Raises:
        UserError: If the file cannot be written.
    """
    stream = iter(reports)
    first = list(islice(stream, FEW))
    processes = 1 if len(first) < FEW else workers or _cores()
    count = foreign = 0
    with new_table(out) as table, progress(total) as bar:
        for batch, size, not_english in _parsed(chain(first, stream), processes):
            table.write_batch(batch)
            count += size
            foreign += not_english
            bar.advance(bar.task_ids[0], size)
    if foreign:
        warn(f"{foreign} of {count} reports are not English: they have no triplets. Translate them or leave them out.")
    return count


def warn(text: str) -> None:
    """Print a warning to the standard error."""
    Console(stderr=True, soft_wrap=True).print(f"[yellow]warning:[/] {text}", highlight=False)


@contextmanager
def new_table(out: Path) -> Iterator[pq.ParquetWriter]:
    """Open a table of triplets for writing; the file appears at the end, and only without an error.

    Args:
        out: Parquet file.

    Raises:
        UserError: If it cannot be written.
    """
    if out.is_dir() or not out.parent.is_dir():
        wrong = f"there is no folder '{out.parent}'" if not out.parent.is_dir() else "it is a folder"
        raise UserError(f"out='{out}' cannot be written: {wrong}. Pass another --out.")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as table:
            yield table
        os.replace(temporary, out)
    except UserError:
        raise  # An error of the input, not of this file.
    except OSError as error:
        raise UserError(f"out='{out}' cannot be written: {error}. Pass another --out.") from error
    finally:
        temporary.unlink(missing_ok=True)


def progress(total: int | None) -> Progress:
    """Return a progress bar over reports, with one task."""
    columns = (TextColumn("parse"), BarColumn(), MofNCompleteColumn(), TextColumn("reports"), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    bar.add_task("parse", total=total)
    return bar


def rows(triplets: Iterable[tuple[str, Triplet]]) -> pa.RecordBatch:
    """Return the rows of triplets and the reports they come from."""
    columns: list[list[object]] = [[] for _ in SCHEMA]
    for name, t in triplets:
        for region in t.regions or (None,):
            row = (name, t.section, t.sentence, t.text, region, t.side, t.finding, t.existence, t.severity)
            for column, value in zip(columns, (*row, t.start, t.end), strict=True):
                column.append(value)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


def _parsed(reports: Iterator[Report], processes: int) -> Iterator[tuple[pa.RecordBatch, int, int]]:
    chunks = iter(lambda: list(islice(reports, CHUNK)), [])
    if processes == 1:
        yield from map(_parse, chunks)
        return
    # Forking a process that has threads (Arrow) can hang; a spawned one is clean.
    with multiprocessing.get_context("spawn").Pool(processes, _ignore_interrupt) as pool:
        # A pool reads all its chunks at once: portions keep the memory constant.
        while portion := list(islice(chunks, AHEAD)):
            yield from pool.imap(_parse, portion)


def _parse(chunk: list[Report]) -> tuple[pa.RecordBatch, int, int]:
    """Return the rows of some reports, their number, and the number of those that are not English."""
    triplets = [(name, parse_report(sections)) for name, sections in chunk]
    foreign = sum(
        not found and not is_english(sections.values())
        for (_, found), (_, sections) in zip(triplets, chunk, strict=True)
    )
    return rows((name, t) for name, found in triplets for t in found), len(chunk), foreign


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the whole process group; the parent stops its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
