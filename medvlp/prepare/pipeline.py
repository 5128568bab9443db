"""The pipeline behind all front ends: it filters, decodes and writes, and resumes an interrupted run.

Each of its three steps leaves in OUT/work the files from which the next run resumes:

1. `plan_images` writes plan.parquet, the index of all images that pass the filters on tables and reports, and, last,
   plan.json.
2. `decode_images` writes the pixels into OUT/images.npy and masks.npy, and a line for each chunk into journal.jsonl.
3. `write_outputs` writes triplets.parquet, index.parquet, skipped.csv and, last, manifest.json. Then OUT/work is
   removed.

Images, annotations and reports are never in memory as a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
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
from medvlp.prepare.arrays import allocate, digests, forget_lost, synchronise
from medvlp.prepare.arrivals import Rows, receive
from medvlp.prepare.chunks import CHUNK, Chunk, Decoder
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.index import write_index
from medvlp.prepare.journal import Journal
from medvlp.prepare.plan import Options, read_chunks, write_plan
from medvlp.prepare.progress import progress
from medvlp.prepare.splits import describe_splits
from medvlp.prepare.summary import nothing_left, summarise
from medvlp.prepare.workers import in_parallel
from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, MASKS, SKIPPED, TRIPLETS, index_schema

WORK = "work"


def prepare(data: DataSet, out: Path, options: Options, workers: int | None) -> None:
    """Write a prepared folder, or resume an interrupted run.

    Args:
        data: The raw data set.
        out: The folder.
        options: Filters and form of the images.
        workers: Number of processes; None for one a CPU core.

    Raises:
        UserError: If an option is out of range, no image passes the filters, the folder was begun with other options,
            another process writes it, or it cannot be written.
    """
    if options.size < 1 or options.min_words < 0 or (workers is not None and workers < 1) or not options.views:
        raise UserError("--size and --workers must be at least 1, --min_words at least 0, --views not empty.")
    job = Job(data, out, options, workers or os.cpu_count() or 1)
    if (out / MANIFEST).exists():
        manifest = json.loads((out / MANIFEST).read_text())
        present = {**manifest["options"], "format": manifest["format_version"]}
        _compare(out, present, {**job.identity, "format": FORMAT_VERSION})
        shutil.rmtree(job.work, ignore_errors=True)  # Left by a run that was stopped between its last two steps.
        print(f"{out} is complete: {manifest['counts']['decoded']:,} images. Delete it to prepare it again.")
        return
    with _writing(out):
        job.work.mkdir(parents=True, exist_ok=True)
        with _lock(out), closing(Journal(job.work / "journal.jsonl")) as journal:
            counts = plan_images(job)
            decode_images(job, journal)
            manifest = write_outputs(job, journal, counts)
        shutil.rmtree(job.work)
    summarise(manifest, out)


@dataclass(frozen=True)
class Job:
    """One preparation; see `prepare` for the attributes."""

    data: DataSet
    out: Path
    options: Options
    workers: int

    @property
    def identity(self) -> dict[str, Any]:
        """All options; a folder holds the result of one set of them."""
        options = asdict(self.options)
        # Folders of a time without this option are those in which no flag leaves an image out.
        if not options["leave_out"]:
            del options["leave_out"]
        return {**self.data.options, **options}

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
    def arrays(self) -> list[Path]:
        """Files of pixels: images.npy and, if annotations have masks, masks.npy."""
        has_masks = self.data.annotations is not None and self.data.annotations.masks
        return [self.out / name for name in ((IMAGES, MASKS) if has_masks else (IMAGES,))]

    @property
    def rows(self) -> int:
        """Number of images in the plan."""
        return int(pq.read_metadata(self.plan).num_rows)


def plan_images(job: Job) -> dict[str, Any]:
    """Write the list of images to decode, unless an earlier run has done so.

    Returns:
        Counts of the filters, for the manifest.

    Raises:
        UserError: If no image passes the filters, or the earlier run had other options or versions.
    """
    head = job.work / "plan.json"
    if not head.exists():
        counts = write_plan(job.data, job.options, job.schema, job.plan, job.work / SKIPPED)
        if not job.rows:
            raise nothing_left(counts)
        _write_json(head, {"options": job.identity, "versions": job.versions, "counts": counts})
    content = json.loads(head.read_text())
    _compare(job.out, {**content["options"], **content["versions"]}, {**job.identity, **job.versions})
    counts = content["counts"]
    return dict(counts)


def decode_images(job: Job, journal: Journal) -> None:
    """Decode the images that the journal lacks, into the files of pixels.

    Raises:
        UserError: If the disk has too little room, or a worker process dies.
    """
    total, size = job.rows, job.options.size
    offset = allocate(job.arrays, total, size)
    forget_lost(journal, job.arrays, offset, size)
    decoder = Decoder(
        root=job.data.images,
        real_roots=job.data.real_images,
        regions=job.data.regions,
        annotations=job.data.annotations,
        outputs=job.arrays,
        offset=offset,
        size=size,
        resize=job.options.resize,
        leave_out=frozenset(job.options.leave_out),
    )
    done = sum(min(CHUNK, total - first) for first in journal.offsets)
    if done:
        print(f"Going on with {done:,} of {total:,} images decoded. Tables and reports are not read again.")
    processes = min(job.workers, -(-(total - done) // CHUNK) or 1)
    with ExitStack() as stack:
        step: Callable[[Chunk], dict[str, Any]] = decoder
        if job.data.archive is not None:
            # Its images are all decoded before the chunks are collected.
            missing = [first for first in range(0, total, CHUNK) if first not in journal.offsets]
            rows = Rows(decoder, job.arrays, offset)
            collector = receive(job.data.archive, rows, job.plan, missing, job.work, processes)
            step, processes = stack.enter_context(closing(collector)), 1
        todo = (chunk for chunk in read_chunks(job.plan) if chunk.first not in journal.offsets)
        advance = stack.enter_context(progress("images", total, done))
        for result in in_parallel(step, todo, processes):
            journal.append(result)
            advance(len(result["images"]))
    # The manifest promises that the pixels are on the disk.
    synchronise(job.arrays)


def write_outputs(job: Job, journal: Journal, plan_counts: dict[str, Any]) -> dict[str, Any]:
    """Write the tables and, last, the manifest.

    Args:
        job: The preparation.
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
        for path in job.arrays:
            path.unlink()
        shutil.rmtree(job.work)
        raise nothing_left({**plan_counts, "decoded": 0, "skipped": counts["skipped"]})
    if "report" in plan_counts:
        tables[TRIPLETS] = job.work / TRIPLETS
        # The reports are read back from the index, so that parsing can be parallel and resume on its own.
        write_triplets(_reports(tables[INDEX]), tables[TRIPLETS], counts["studies"], job.workers)
    for name, path in tables.items():
        os.replace(path, job.out / name)
    manifest = {
        "format_version": FORMAT_VERSION,
        "options": job.identity,
        "versions": job.versions,
        "labels": job.data.labels,
        "documented": job.data.documented,
        "counts": {**plan_counts, **counts},
        "splits": describe_splits(job.out / INDEX, job.data.splits),
        "sha256": {name: _sha256(job.out / name) for name in tables} | digests(journal, job.arrays, job.rows),
    }
    _write_json(job.out / MANIFEST, manifest)
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


@contextmanager
def _writing(out: Path) -> Iterator[None]:
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
def _lock(out: Path) -> Iterator[None]:
    with open(out / WORK / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out='{out}' is being written by another process; wait for it or stop it.") from None
        yield


def _compare(out: Path, present: dict[str, Any], wanted: dict[str, Any]) -> None:
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


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is either whole or not there."""
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
