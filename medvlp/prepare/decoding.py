"""The second step of a preparation: images are decoded into the store, in one piece or in parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from medvlp.prepare.archives.archive import Archive
from medvlp.prepare.archives.arrivals import Rows, collect, receive
from medvlp.prepare.arrays import Arrays
from medvlp.prepare.chunks import CHUNK, Decoder, PixelWriter
from medvlp.prepare.compressed import ChunkFiles, Compressed
from medvlp.prepare.job import Job, lock, write_json
from medvlp.prepare.journal import Journal
from medvlp.prepare.parts import HEAD, JOURNAL, Part, Parts, Taker, check_head, part_head, refuse_missing, take
from medvlp.prepare.plan import read_chunks
from medvlp.prepare.progress import progress
from medvlp.prepare.workers import in_parallel
from medvlp.storage.pixels import COMPRESSED
from medvlp.storage.shards import ROWS

LESS = "Free some, give another --out or a smaller --size"
COMPRESS = "Free some, give another --out, a smaller --size or --store compressed"
# Whatever the store: images come out of an archive in any order, and its chunks are whole when it has passed.
NOT_YET = f"Images out of an archive are not compressed before all have come. {LESS}"


def open_store(job: Job, kind: str) -> Arrays | Compressed:
    """Return the store of a folder that is planned, open.

    Args:
        job: The preparation.
        kind: compressed, or array.

    Raises:
        UserError: If the disk has too little room for an array.
    """
    if kind == COMPRESSED:
        store = Compressed(job.out, job.rows, job.options.size, ROWS, ChunkFiles(job.work, job.masks))
        store.open()
        return store
    arrays = Arrays(job.out, job.rows, job.options.size, job.masks)
    arrays.open(job.rows, COMPRESS)
    return arrays


def decode_part(job: Job, part: Part) -> None:
    """Decode the images of a part that its journal lacks.

    Raises:
        UserError: If the part was begun with other options, or another process makes it.
    """
    folder = part.folder(job.work)
    folder.mkdir(parents=True, exist_ok=True)
    files = ChunkFiles(folder, job.masks)
    head = part_head({**job.identity, **job.versions}, job.plan)
    with lock(job.out, folder / "lock"), closing(Journal(folder / JOURNAL)) as journal:
        if (folder / HEAD).exists():
            check_head(part, folder / HEAD, head)
        else:
            write_json(folder / HEAD, head)
        files.open()
        files.forget_lost(journal)
        total = job.rows
        chunks = part.chunks(total)
        decode_images(job, files, journal, chunks, folder)
    images = sum(min(CHUNK, total - first) for first in chunks)
    print(f"Part {part} has ended: {images:,} of {total:,} images. When all have, give --shard join.")


def join_parts(job: Job, store: Arrays | Compressed, journal: Journal) -> None:
    """Drop what was lost, and take over what parts have decoded.

    Raises:
        UserError: If a part was made with other options, or parts that are to be joined are missing.
    """
    head = part_head({**job.identity, **job.versions}, job.plan)
    with Parts.opened(job.work, head, job.masks) as parts:
        if isinstance(store, Compressed):
            store.others.extend(files for _, files in parts.journals)
        store.forget_lost(journal)
        writer = None if isinstance(store, Compressed) else store
        take(parts, Taker(job.options.size, writer), journal, job.workers)
        if job.storing.part is not None:
            refuse_missing(parts, journal, job.rows)


def decode_images(job: Job, writer: PixelWriter, journal: Journal, chunks: range, work: Path) -> None:
    """Decode the images that the journal lacks.

    Args:
        job: The preparation.
        writer: Where the pixels go.
        journal: Results of chunks.
        chunks: First row of each chunk that is wanted.
        work: Folder of the files from which an interrupted run resumes.

    Raises:
        UserError: If the disk has too little room, a worker process dies, or an archive cannot be read.
    """
    decoder = Decoder(
        root=job.data.images,
        real_roots=job.data.real_images,
        regions=job.data.regions,
        annotations=job.data.annotations,
        writer=writer,
        size=job.options.size,
        resize=job.options.resize,
        leave_out=frozenset(job.options.leave_out),
        views=frozenset(job.options.views),
        view_teller=job.data.view_teller,
    )
    total = job.rows
    images = {first: min(CHUNK, total - first) for first in chunks}
    missing = {first: count for first, count in images.items() if first not in journal.offsets}
    if not missing:
        return
    wanted = sum(images.values())
    done = wanted - sum(missing.values())
    if done:
        print(f"Going on with {done:,} of {wanted:,} images decoded. Tables and reports are not read again.")
    workers = min(job.workers, len(missing))
    with ExitStack() as stack:
        if job.data.archive is None:
            todo = (chunk for chunk in read_chunks(job.plan) if chunk.first in missing)
            results = in_parallel(decoder, todo, workers)
        else:
            results = stack.enter_context(unarchived(job, job.data.archive, decoder, missing, work, workers))
        advance = stack.enter_context(progress("images", wanted, done))
        for result in results:
            journal.append(result)
            advance(len(result["images"]))


@contextmanager
def unarchived(
    job: Job, archive: Archive, decoder: Decoder, missing: dict[int, int], work: Path, workers: int
) -> Iterator[Iterator[dict[str, Any]]]:
    """Decode images out of an archive, and then collect their chunks.

    They come in any order. A store that takes whole chunks has its images in an array first, work/arrived, which goes
    when all chunks are there.

    Args:
        job: The preparation.
        archive: The archive.
        decoder: The decoder of one image.
        missing: Number of images in each chunk that is wanted, by its first row.
        work: Folder of the files from which an interrupted run resumes.
        workers: Number of processes.

    Yields:
        The results of the chunks; see `Decoder`.
    """
    arrays, scratch = decoder.writer, work / "arrived"
    if not isinstance(arrays, Arrays):
        scratch.mkdir(exist_ok=True)
        arrays = Arrays(scratch, job.rows, job.options.size, job.masks)
        arrays.open(sum(missing.values()), NOT_YET)
    with closing(Journal(work / "arrived.jsonl")) as arrived:
        receive(archive, Rows(decoder, arrays), arrived, job.plan, missing, workers)
        yield collect(arrays, decoder.writer, arrived, missing, workers)
    if scratch.is_dir():
        shutil.rmtree(scratch)
