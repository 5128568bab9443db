"""The pipeline behind all front ends: it filters, decodes and writes, and resumes an interrupted run.

Each of its three steps leaves in OUT/work the files from which the next run resumes:

1. `plan_images` writes plan.parquet, the index of all images that pass the filters on tables and reports, and, last,
   plan.json.
2. `medvlp.prepare.decoding` writes the pixels into the store, OUT/images.npy and masks.npy or compressed files, and a
   line for each chunk into journal.jsonl.
3. `write_outputs` writes triplets.parquet, index.parquet, skipped.csv and, last, manifest.json. Then OUT/work is
   removed.

Several machines do the second step together: each decodes a part (`medvlp.prepare.parts`), one joins them.

Images, annotations and reports are never in memory as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from medvlp.errors import UserError
from medvlp.prepare.arrays import Arrays, digests
from medvlp.prepare.chunks import CHUNK
from medvlp.prepare.compressed import Compressed
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.decoding import decode_images, decode_part, join_parts, open_store
from medvlp.prepare.hashes import sha256_of
from medvlp.prepare.index import write_index
from medvlp.prepare.job import Job, compare, lock, store_kind, synchronise, write_json, writing
from medvlp.prepare.journal import Journal
from medvlp.prepare.parts import JOURNAL, Part
from medvlp.prepare.plan import Options, write_plan
from medvlp.prepare.splits import describe_splits
from medvlp.prepare.storing import CURRENT, Storing
from medvlp.prepare.summary import nothing_left, summarise
from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, MASKS, SKIPPED, TRIPLETS


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
                plan_images(job)
                decode_part(job, part)
            return
        with lock(out, job.work / "lock"), closing(Journal(job.work / JOURNAL)) as journal:
            plan = plan_images(job)
            store = open_store(job, plan["store"])
            join_parts(job, store, journal)
            decode_images(job, store, journal, range(0, job.rows, CHUNK), job.work)
            store.finish(job.workers)
            manifest = write_outputs(job, store, journal, plan["counts"])
        shutil.rmtree(job.work)
    summarise(manifest, out)


def plan_images(job: Job) -> dict[str, Any]:
    """Write the list of images to decode, unless an earlier run has done so.

    Returns:
        The content of plan.json: options, versions, the counts of the filters, and the kind of store.

    Raises:
        UserError: If no image passes the filters, or the earlier run had other options or versions.
    """
    head = job.work / "plan.json"
    with lock(job.out, job.work / "plan.lock", wait=True):
        if not head.exists():
            counts = write_plan(job.data, job.options, job.schema, job.plan, job.work / SKIPPED)
            if not job.rows:
                raise nothing_left(counts)
            for path in (job.plan, job.work / SKIPPED):
                synchronise(path)
            begun = {"options": job.identity, "versions": job.versions, "counts": counts, "store": job.kind(None)}
            write_json(head, begun)
    plan: dict[str, Any] = json.loads(head.read_text())
    if "store" not in plan:
        raise UserError(
            f"--out='{job.out}' was begun by an older medvlp, whose unfinished folders this one does not read. "
            "Delete the folder, or give another --out."
        )
    present, wanted = {**plan["options"], **plan["versions"]}, {**job.identity, **job.versions}
    compare(job.out, {**present, "store": plan["store"]}, {**wanted, "store": job.kind(plan["store"])})
    return plan


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
        synchronise(path)
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
