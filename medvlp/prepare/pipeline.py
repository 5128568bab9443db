"""The one pipeline behind all front ends: filter, decode, write, and go on where an interrupted run stopped.

Three steps, each of which leaves in OUT/work what the next run needs to go on:

1. plan.parquet: the index of all images that pass the filters on tables and reports, and plan.json, which ends it;
2. journal.jsonl: a line for each chunk of images decoded, the pixels themselves being in OUT/images.npy and masks.npy;
3. triplets.parquet, index.parquet, skipped.csv and, last, manifest.json; then OUT/work is removed.

Images, annotations and reports are never held in memory as a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from medvlp import __version__
from medvlp.errors import NotFoundError, UserError
from medvlp.prepare.chunks import CHUNK, Chunk, Decoder
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.index import write_index
from medvlp.prepare.journal import Journal
from medvlp.prepare.plan import Options, write_plan
from medvlp.prepare.progress import progress
from medvlp.prepare.splits import describe_splits
from medvlp.prepare.study import Picture
from medvlp.prepare.summary import nothing_left, summarise
from medvlp.prepare.workers import in_parallel

WORK = "work"
# Rough size of one image's rows in the plan, the journal and the index, in bytes.
ROW_BYTES = 4096


def prepare(data: DataSet, out: Path, options: Options, workers: int | None) -> None:
    """Write a prepared folder, or go on writing it.

    Args:
        data: The raw data set.
        out: The folder.
        options: What to keep, and how.
        workers: Number of processes; None for one a CPU core.

    Raises:
        UserError: If an option is out of range, nothing is left after the filters, the folder was begun with other
            options, another process is writing it, or it cannot be written.
    """
    from medvlp.prepared import FORMAT_VERSION, MANIFEST

    if options.size < 1 or options.min_words < 0 or (workers is not None and workers < 1) or not options.views:
        raise UserError("--size and --workers must be at least 1, --min_words at least 0, --views not empty.")
    wanted = {**data.options, **asdict(options)}
    if (out / MANIFEST).exists():
        manifest = json.loads((out / MANIFEST).read_text())
        there = {**manifest["options"], "format": manifest["format_version"]}
        _compare(out, there, {**wanted, "format": FORMAT_VERSION})
        shutil.rmtree(out / WORK, ignore_errors=True)  # Left by a run that was stopped between its last two steps.
        print(f"{out} is complete: {manifest['counts']['decoded']:,} images. Delete it to prepare it again.")
        return
    with _writing(out):
        (out / WORK).mkdir(parents=True, exist_ok=True)
        with _lock(out):
            manifest = _prepare(data, out, options, wanted, workers or os.cpu_count() or 1)
        shutil.rmtree(out / WORK)
    summarise(manifest, out)


def _prepare(data: DataSet, out: Path, options: Options, wanted: dict[str, Any], workers: int) -> dict[str, Any]:
    from medvlp.parse import write_triplets
    from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, MASKS, SKIPPED, TRIPLETS

    work = out / WORK
    plan, skipped = work / "plan.parquet", work / SKIPPED
    versions = _versions()
    if not (work / "plan.json").exists():
        counts = write_plan(data, options, plan, skipped)
        if not _rows(plan):
            raise nothing_left(counts)
        _write_json(work / "plan.json", {"options": wanted, "versions": versions, "counts": counts})
    head = json.loads((work / "plan.json").read_text())
    _compare(out, {**head["options"], **head["versions"]}, {**wanted, **versions})
    counts = head["counts"]
    total = _rows(plan)

    outputs = [out / IMAGES]
    if data.annotations is not None and data.annotations.masks:
        outputs.append(out / MASKS)
    offset = _allocate(outputs, total, options.size)
    decoder = Decoder(
        root=data.images,
        real_roots=data.real_images,
        regions=data.regions,
        annotations=data.annotations,
        outputs=outputs,
        offset=offset,
        size=options.size,
        resize=options.resize,
    )
    with closing(Journal(work / "journal.jsonl")) as journal:
        _check(journal, outputs, offset, options.size)
        done = sum(min(CHUNK, total - first) for first in journal.offsets)
        if done:
            print(f"Going on with {done:,} of {total:,} images decoded. Tables and reports are not read again.")
        todo = (chunk for chunk in _chunks(plan) if chunk.first not in journal.offsets)
        processes = min(workers, -(-(total - done) // CHUNK) or 1)
        with progress("images", total, done) as advance:
            for result in in_parallel(decoder, todo, processes):
                journal.append(result)
                advance(len(result["images"]))
        # The manifest promises that everything else is there.
        for path in outputs:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        digests = {path.name: hashlib.sha256() for path in outputs}
        for first in range(0, total, CHUNK):
            for digest, chunk in zip(digests.values(), journal.read(first)["sha256"], strict=True):
                digest.update(bytes.fromhex(chunk))
        found = write_index(
            plan, journal, data.labels, [*data.splits], work / INDEX, skipped, counts["skipped"], work / "all.csv"
        )
    if not found["decoded"]:
        # What is missing may be there at the next run, and that may be of another data set.
        for path in outputs:
            path.unlink()
        shutil.rmtree(work)
        raise nothing_left({**counts, "decoded": 0, "skipped": found["skipped"]})
    written = {INDEX: work / INDEX, SKIPPED: work / "all.csv"}
    if "report" in counts:
        written[TRIPLETS] = work / TRIPLETS
        write_triplets(_reports(work / INDEX), work / TRIPLETS, found["studies"], workers)
    for name, path in written.items():
        os.replace(path, out / name)
    manifest = {
        "format_version": FORMAT_VERSION,
        "options": wanted,
        "versions": versions,
        "labels": data.labels,
        "documented": data.documented,
        "counts": {**counts, **found},
        "splits": describe_splits(out / INDEX, data.splits),
        "sha256": {name: _sha256(out / name) for name in written}
        # A digest of the digests of so many rows each, which are known without reading the file again.
        | {name: {"rows": CHUNK, "sha256_of_sha256": digest.hexdigest()} for name, digest in digests.items()},
    }
    _write_json(out / MANIFEST, manifest)
    return manifest


def _reports(index: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield id and sections of every study; its images are neighbours in the index."""
    import pyarrow.parquet as pq

    last = None
    for batch in pq.ParquetFile(index).iter_batches(columns=["study_id", "findings", "impression"]):
        for row in batch.to_pylist():
            study = row.pop("study_id")
            if study != last:
                yield study, {name: text or "" for name, text in row.items()}
            last = study


def _chunks(plan: Path) -> Iterator[Chunk]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(plan)
    start = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["image_id", "view", "path", "graph", "annotation"])
        pictures = [Picture(**row) for row in table.to_pylist()]
        for first in range(0, len(pictures), CHUNK):
            yield Chunk(start + first, pictures[first : first + CHUNK])
        start += len(pictures)


def _rows(plan: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(plan).num_rows)


def _allocate(paths: list[Path], rows: int, size: int) -> int:
    """Give images.npy and its like their header and final size, if there is room. Return where their rows start."""
    from io import BytesIO

    buffer = BytesIO()
    shape = (rows, size, size)
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    header = buffer.getvalue()
    length = len(header) + rows * size * size
    allocated = sum(min(length, path.stat().st_blocks * 512) for path in paths if path.exists())
    needed = len(paths) * length - allocated + rows * ROW_BYTES
    out = paths[0].parent
    free = shutil.disk_usage(out).free
    if needed > free:
        raise UserError(
            f"--out='{out}' needs {needed:,} more bytes for {rows:,} images of {size}x{size}, but only "
            f"{free:,} are free there. Free some, give another --out or a smaller --size, and run again to go on."
        )
    for path in paths:
        with open(path, "r+b" if path.exists() else "w+b") as file:
            file.write(header)
            file.truncate(length)
    return len(header)


def _check(journal: Journal, outputs: list[Path], offset: int, size: int) -> None:
    """Forget the chunks whose pixels did not reach the disk before the machine stopped."""
    if not journal.offsets:
        return
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "rb")) for path in outputs]
        advance = stack.enter_context(progress("chunks checked", len(journal.offsets)))
        for first in sorted(journal.offsets):
            advance(1)
            result = journal.read(first)
            hashes = []
            for file in files:
                file.seek(offset + first * size * size)
                hashes.append(hashlib.sha256(file.read(len(result["images"]) * size * size)).hexdigest())
            if hashes != result["sha256"]:
                journal.forget(first)


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


def _compare(out: Path, there: dict[str, Any], now: dict[str, Any]) -> None:
    differences = [
        f"{key} is {there.get(key)} there and {now.get(key)} now"
        for key in sorted({*there, *now})
        if there.get(key) != now.get(key)
    ]
    if differences:
        raise UserError(
            f"--out='{out}' was begun with other options: {'; '.join(differences)}. "
            "Give the same ones, or another --out, or delete the folder."
        )


def _versions() -> dict[str, Any]:
    from PIL import features

    from medvlp.prepared import FORMAT_VERSION

    versions: dict[str, Any] = {"medvlp": __version__, "format": FORMAT_VERSION}
    versions |= {name: version(name) for name in ("numpy", "pillow", "pyarrow", "pydicom")}
    return {**versions, "libjpeg_turbo": features.version("libjpeg_turbo")}


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
