"""The one pipeline behind all front ends: filter, decode, write, and go on where an interrupted run stopped.

Three steps, each of which leaves in OUT/work what the next run needs to go on:

1. plan.parquet: the index of all images that pass the filters on tables and reports, and plan.json, which ends it;
2. journal.jsonl: a line for each chunk of images decoded, the pixels themselves being in OUT/images.npy;
3. triplets.parquet, index.parquet, skipped.csv and, last, manifest.json; then OUT/work is removed.

Images and reports are never held in memory as a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from medvlp import __version__
from medvlp.errors import NotFoundError, UserError
from medvlp.prepare.chunks import CHUNK, Chunk, Decoder
from medvlp.prepare.dataset import DataSet, Picture
from medvlp.prepare.index import write_index
from medvlp.prepare.journal import Journal
from medvlp.prepare.plan import Options, write_plan
from medvlp.prepare.progress import progress
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
    from medvlp.prepared import MANIFEST

    if options.size < 1 or options.min_words < 0 or (workers is not None and workers < 1) or not options.views:
        raise UserError("--size and --workers must be at least 1, --min_words at least 0, --views not empty.")
    wanted = {**data.options, **asdict(options)}
    if (out / MANIFEST).exists():
        manifest = json.loads((out / MANIFEST).read_text())
        _compare(out, manifest["options"], wanted)
        shutil.rmtree(out / WORK, ignore_errors=True)  # Left by a run that was stopped between its last two steps.
        print(f"{out} is complete: {manifest['counts']['decoded']:,} images. Delete it to prepare it again.")
        return
    with _writing(out):
        (out / WORK).mkdir(parents=True, exist_ok=True)
        with _lock(out):
            manifest = _prepare(data, out, options, wanted, workers or os.cpu_count() or 1)
        shutil.rmtree(out / WORK)
    _summarise(manifest, out)


def _prepare(data: DataSet, out: Path, options: Options, wanted: dict[str, Any], workers: int) -> dict[str, Any]:
    from medvlp.parse import write_triplets
    from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, SKIPPED, TRIPLETS

    work = out / WORK
    plan, skipped = work / "plan.parquet", work / SKIPPED
    versions = _versions()
    if not (work / "plan.json").exists():
        counts = write_plan(data, options, plan, skipped)
        if not counts["min_words"]:
            raise _nothing_left(counts)
        _write_json(work / "plan.json", {"options": wanted, "versions": versions, "counts": counts})
    head = json.loads((work / "plan.json").read_text())
    _compare(out, {**head["options"], **head["versions"]}, {**wanted, **versions})
    counts = head["counts"]
    total = counts["min_words"]

    offset = _allocate(out / IMAGES, total, options.size)
    decoder = Decoder(data.images, data.real_images, data.regions, out / IMAGES, offset, options.size, options.resize)
    with closing(Journal(work / "journal.jsonl")) as journal:
        _check(journal, out / IMAGES, offset, options.size)
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
        descriptor = os.open(out / IMAGES, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        digest = hashlib.sha256()
        for first in range(0, total, CHUNK):
            digest.update(bytes.fromhex(journal.read(first)["sha256"]))
        found = write_index(plan, journal, data.labels, work / INDEX, skipped, counts["skipped"], work / "all.csv")
    if not found["decoded"]:
        shutil.rmtree(work)  # What is missing may be there at the next run.
        raise _nothing_left({**counts, **found})
    write_triplets(_reports(work / INDEX), work / TRIPLETS, found["studies"], workers)
    os.replace(work / TRIPLETS, out / TRIPLETS)
    os.replace(work / INDEX, out / INDEX)
    os.replace(work / "all.csv", out / SKIPPED)
    manifest = {
        "format_version": FORMAT_VERSION,
        "options": wanted,
        "versions": versions,
        "labels": data.labels,
        "counts": {**counts, **found},
        "sha256": {
            INDEX: _sha256(out / INDEX),
            SKIPPED: _sha256(out / SKIPPED),
            TRIPLETS: _sha256(out / TRIPLETS),
            # A digest of the digests of so many rows each, which are known without reading the file again.
            IMAGES: {"rows": CHUNK, "sha256_of_sha256": digest.hexdigest()},
        },
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
        table = file.read_row_group(group, columns=["image_id", "view", "path", "graph"])
        pictures = [Picture(**row) for row in table.to_pylist()]
        for first in range(0, len(pictures), CHUNK):
            yield Chunk(start + first, pictures[first : first + CHUNK])
        start += len(pictures)


def _allocate(path: Path, rows: int, size: int) -> int:
    """Give images.npy its header and final size, if there is room for it. Return where its rows start, in bytes."""
    from io import BytesIO

    buffer = BytesIO()
    shape = (rows, size, size)
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    header = buffer.getvalue()
    length = len(header) + rows * size * size
    with open(path, "r+b" if path.exists() else "w+b") as file:
        allocated = os.fstat(file.fileno()).st_blocks * 512
        needed = max(0, length - allocated) + rows * ROW_BYTES
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise UserError(
                f"--out='{path.parent}' needs {needed:,} more bytes for {rows:,} images of {size}x{size}, but only "
                f"{free:,} are free there. Free some, give another --out or a smaller --size, and run again to go on."
            )
        file.write(header)
        file.truncate(length)
    return len(header)


def _check(journal: Journal, images: Path, offset: int, size: int) -> None:
    """Forget the chunks whose pixels did not reach the disk before the machine stopped."""
    if not journal.offsets:
        return
    with open(images, "rb") as file, progress("chunks checked", len(journal.offsets)) as advance:
        for first in sorted(journal.offsets):
            advance(1)
            result = journal.read(first)
            file.seek(offset + first * size * size)
            if hashlib.sha256(file.read(len(result["images"]) * size * size)).hexdigest() != result["sha256"]:
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


def _versions() -> dict[str, str | None]:
    from PIL import features

    versions: dict[str, str | None] = {"medvlp": __version__}
    versions |= {name: version(name) for name in ("numpy", "pillow", "pyarrow")}
    return {**versions, "libjpeg_turbo": features.version("libjpeg_turbo")}


def _nothing_left(counts: dict[str, Any]) -> UserError:
    filters = ", ".join(f"{name} {count:,}" for name, count in counts.items() if isinstance(count, int))
    reasons = ", ".join(f"{kind} ({count:,})" for kind, count in _top(counts["skipped"]))
    return UserError(f"No image is left after the filters ({filters}). Most were left out for: {reasons}.")


def _top(kinds: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:8]


def _summarise(manifest: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("filter", "images left")
    table.columns[1].justify = "right"
    counts = manifest["counts"]
    filters = {
        "table": "in the table",
        "readable": "readable rows, unique, in a split",
        "view": f"view {', '.join(manifest['options']['views'])}",
        "report": "with a report",
        "sections": "with findings or impression",
        "min_words": f"report of {manifest['options']['min_words']} words or more",
        "decoded": "decoded",
    }
    for key, name in filters.items():
        table.add_row(name, f"{counts[key]:,}")
    for split, count in counts["split"].items():
        table.add_row(f"  {split}", f"{count:,}")
    console = Console(markup=False)
    console.print(table)
    studies, subjects = counts["studies"], counts["subjects"]
    console.print(
        f"{counts['decoded']:,} images of {studies:,} studies of {subjects:,} patients are in {out}", soft_wrap=True
    )
    if counts["skipped"]:
        console.print("Left out, as skipped.csv lists:")
    for kind, count in _top(counts["skipped"]):
        console.print(f"  {count:>9,}  {kind}", highlight=False)


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
