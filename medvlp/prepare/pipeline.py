"""The pipeline behind all front ends: it filters, decodes and writes, and resumes an interrupted run.

Each of its three steps leaves in OUT/work the files from which the next run resumes:

1. `plan_images` writes plan.parquet, the index of all images that pass the filters on tables and reports, and, last,
   plan.json.
2. `decode_images` writes the pixels into the store, OUT/images.npy and masks.npy or compressed files, and a line for
   each chunk into journal.jsonl.
3. `write_outputs` writes triplets.parquet, index.parquet, skipped.csv and, last, manifest.json. Then OUT/work is
   removed.

Several machines do the second step together: each decodes a part (`medvlp.prepare.parts`), one joins them.

Images, annotations and reports are never in memory as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from medvlp.errors import UserError
from medvlp.prepare.arrays import Arrays, digests
from medvlp.prepare.arrivals import Rows, receive
from medvlp.prepare.chunks import CHUNK, Chunk, Decoder, PixelWriter
from medvlp.prepare.compressed import ChunkFiles, Compressed
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.hashes import sha256_of
from medvlp.prepare.index import write_index
from medvlp.prepare.job import Job, compare, lock, store_kind, write_json, writing
from medvlp.prepare.journal import Journal
from medvlp.prepare.parts import HEAD, JOURNAL, Part, Parts, Taker, check_head, part_head, refuse_missing, take
from medvlp.prepare.plan import Options, read_chunks, write_plan
from medvlp.prepare.progress import progress
from medvlp.prepare.splits import describe_splits
from medvlp.prepare.storing import CURRENT, Storing
from medvlp.prepare.summary import nothing_left, summarise
from medvlp.prepare.workers import in_parallel
from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, MASKS, SKIPPED, TRIPLETS
from medvlp.storage.pixels import COMPRESSED


def prepare(data: DataSet, out: Path, options: Options, workers: int | None, storing: Storing | None = None) -> None:
    """Write a prepared folder or one part of it, or resume an interrupted run.

    Args:
        data: The raw data set.
        out: The folder.
        options: Filters and form of the images.
        workers: Number of processes; None for one a CPU core.
        storing: How pixels are stored, and which part is made; None for what the command line says.

    Raises:
        UserError: If an option is out of range, no image passes the filters, the folder was begun with other options,
            another process writes it, it cannot be written, or parts that are to be joined are missing.
    """
    if options.size < 1 or options.min_words < 0 or (workers is not None and workers < 1) or not options.views:
        raise UserError("--size and --workers must be at least 1, --min_words at least 0, --views not empty.")
    job = Job(data, out, options, workers or os.cpu_count() or 1, storing or CURRENT.get())
    if (out / MANIFEST).exists():
        manifest = json.loads((out / MANIFEST).read_text())
        present = {**manifest["options"], "format": manifest["format_version"], "store": store_kind(manifest)}
        compare(out, present, {**job.identity, "format": FORMAT_VERSION, "store": job.kind(store_kind(manifest))})
        shutil.rmtree(job.work, ignore_errors=True)  # Left by a run that was stopped between its last two steps.
        print(f"{out} is complete: {manifest['counts']['decoded']:,} images. Delete it to prepare it again.")
        return
    part = job.storing.part
    with writing(out):
        job.work.mkdir(parents=True, exist_ok=True)
        if isinstance(part, Part):
            with lock(out, job.work / "lock", shared=True):
                prepare_part(job, part)
            return
        with lock(out, job.work / "lock"), closing(Journal(job.work / JOURNAL)) as journal:
            counts = plan_images(job)
            store = make_store(job)
            store.open()
            join_parts(job, store, journal)
            decode_images(job, store, journal, range(0, job.rows, CHUNK), job.work)
            store.finish(job.workers)
            manifest = write_outputs(job, store, journal, counts)
        shutil.rmtree(job.work)
    summarise(manifest, out)


def plan_images(job: Job) -> dict[str, Any]:
    """Write the list of images to decode, unless an earlier run has done so.

    Returns:
        Counts of the filters, for the manifest.

    Raises:
        UserError: If no image passes the filters, or the earlier run had other options or versions.
    """
    head = job.work / "plan.json"
    with lock(job.out, job.work / "plan.lock", wait=True):
        if not head.exists():
            counts = write_plan(job.data, job.options, job.schema, job.plan, job.work / SKIPPED)
            if not job.rows:
                raise nothing_left(counts)
            content = {"options": job.identity, "versions": job.versions, "counts": counts, "store": job.kind(None)}
            write_json(head, content)
    content = json.loads(head.read_text())
    begun = content.get("store", "array")
    present, wanted = {**content["options"], **content["versions"]}, {**job.identity, **job.versions}
    compare(job.out, {**present, "store": begun}, {**wanted, "store": job.kind(begun)})
    counts = content["counts"]
    return dict(counts)


def make_store(job: Job) -> Arrays | Compressed:
    """Return the store of a folder that is planned."""
    begun = json.loads((job.work / "plan.json").read_text()).get("store", "array")
    if begun != COMPRESSED:
        return Arrays(job.out, job.rows, job.options.size, job.masks)
    return Compressed(job.out, job.rows, job.options.size, ChunkFiles(job.work, job.masks))


def prepare_part(job: Job, part: Part) -> None:
    """Decode the images of a part that its journal lacks.

    Raises:
        UserError: If the part was begun with other options, or another process makes it.
    """
    plan_images(job)
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
        chunks = part.chunks(job.rows)
        decode_images(job, files, journal, chunks, folder)
    images = sum(min(CHUNK, job.rows - first) for first in chunks)
    print(f"Part {part} has ended: {images:,} of {job.rows:,} images. When all have, give --shard join.")


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
        UserError: If the disk has too little room, or a worker process dies.
    """
    total, size = job.rows, job.options.size
    decoder = Decoder(
        root=job.data.images,
        real_roots=job.data.real_images,
        regions=job.data.regions,
        annotations=job.data.annotations,
        writer=writer,
        size=size,
        resize=job.options.resize,
        leave_out=frozenset(job.options.leave_out),
        views=frozenset(job.options.views),
        view_teller=job.data.view_teller,
    )
    images = {first: min(CHUNK, total - first) for first in chunks}
    wanted = sum(images.values())
    done = sum(count for first, count in images.items() if first in journal.offsets)
    if done:
        print(f"Going on with {done:,} of {wanted:,} images decoded. Tables and reports are not read again.")
    processes = min(job.workers, -(-(wanted - done) // CHUNK) or 1)
    with ExitStack() as stack:
        step: Callable[[Chunk], dict[str, Any]] = decoder
        if job.data.archive is not None:
            # Its images are all decoded before the chunks are collected.
            missing = [first for first in images if first not in journal.offsets]
            arrays = writer if isinstance(writer, Arrays) else make_scratch(job, work / "arrived")
            collector = receive(job.data.archive, Rows(decoder, arrays), job.plan, missing, work, processes)
            step, processes = stack.enter_context(closing(collector)), 1
        todo = (
            chunk for chunk in read_chunks(job.plan) if chunk.first in images and chunk.first not in journal.offsets
        )
        advance = stack.enter_context(progress("images", wanted, done))
        for result in in_parallel(step, todo, processes):
            journal.append(result)
            advance(len(result["images"]))


def make_scratch(job: Job, folder: Path) -> Arrays:
    """Return arrays for images that come in any order, where the store takes whole chunks."""
    folder.mkdir(exist_ok=True)
    arrays = Arrays(folder, job.rows, job.options.size, job.masks)
    arrays.open()
    return arrays


def write_outputs(
    job: Job, store: Arrays | Compressed, journal: Journal, plan_counts: dict[str, Any]
) -> dict[str, Any]:
    """Write the tables and, last, the manifest.

    Args:
        job: The preparation.
        store: Files of pixels.
        journal: Results of all chunks.
        plan_counts: Counts of the filters.

    Returns:
        The manifest.

    Raises:
        UserError: If no image could be decoded.
    """
    from medvlp.parse import write_triplets

    tables = {INDEX: job.work / INDEX, SKIPPED: job.work / "all.csv"}
    skipped, kinds = job.work / SKIPPED, plan_counts["skipped"]
    counts = write_index(job.plan, journal, job.schema, tables[INDEX], skipped, kinds, tables[SKIPPED])
    if not counts["decoded"]:
        # The next run may find the missing files, and may be of another data set.
        store.remove()
        shutil.rmtree(job.work)
        raise nothing_left({**plan_counts, "decoded": 0, "skipped": counts["skipped"]})
    if "report" in plan_counts:
        tables[TRIPLETS] = job.work / TRIPLETS
        # The reports are read back from the index, so that parsing can be parallel and resume on its own.
        write_triplets(_reports(tables[INDEX]), tables[TRIPLETS], counts["studies"], job.workers)
    for name, path in tables.items():
        os.replace(path, job.out / name)
    pixels = (IMAGES, MASKS) if store.masks else (IMAGES,)
    manifest = {
        "format_version": FORMAT_VERSION,
        **store.entry,
        "options": job.identity,
        "versions": job.versions,
        "labels": job.data.labels,
        "documented": job.data.documented,
        "counts": {**plan_counts, **counts},
        "splits": describe_splits(job.out / INDEX, job.data.splits),
        "sha256": {name: sha256_of(job.out / name) for name in tables}
        | digests(journal, pixels, range(0, job.rows, CHUNK)),
    }
    write_json(job.out / MANIFEST, manifest)
    return manifest


def _reports(index: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield id and sections of every study; its images are neighbours in the index."""
    last = None
    for batch in pq.ParquetFile(index).iter_batches(columns=["study_id", "findings", "impression"]):
        for row in batch.to_pylist():
            study = row.pop("study_id")
            if study != last:
                yield study, {name: text or "" for name, text in row.items()}
            last = study
