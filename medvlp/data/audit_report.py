"""The leak audit of a run: made once for the same folders, told before training, and kept for checkpoints."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from medvlp.data.audit import Audit, Overlap, Training, compare, compared_folders
from medvlp.data.features import is_writable
from medvlp.prepared import INDEX, Prepared

if TYPE_CHECKING:
    from medvlp.data.datamodule import CXRDataModule

FOLDER = "audit"
# Another number makes all audits anew.
VERSION = 1


def audit(data: CXRDataModule, elsewhere: Path) -> Audit:
    """Return the leak audit of a run, and say what it has found; see `medvlp.data.audit.compare`.

    The result is kept in the first folder, or elsewhere if that is read-only, until a folder or the choice of images
    changes. Beside it lies a table of the training images that it names.

    Args:
        data: The data of the run.
        elsewhere: Folder for what cannot be kept in a prepared folder.
    """
    folders = compared_folders(data)
    own, other = (root / FOLDER for root in (data.roots.paths[0], elsewhere))
    path = (own if is_writable(own) else other) / f"{_fingerprint(data, folders)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another run on the same data waits, and reads the result.
    with FileLock(path.with_suffix(".lock")):
        result = _read(path) if path.exists() else _make(path, data, folders, elsewhere)
    _report(data, result, len(folders), path.with_suffix(".csv"))
    return result


def describe_overlaps(result: Audit, source: int, left_out: bool) -> list[dict[str, Any]]:
    """Return what checkpoints keep of the audit of a training folder: all known test sets, with their counts.

    Args:
        result: The audit.
        source: Number of the folder.
        left_out: Whether what the audit has found was left out of training.
    """
    kept = []
    for overlap in result.overlaps:
        if overlap.source == source:
            counts = asdict(overlap)
            del counts["source"]
            kept.append({**counts, "training": len(overlap.training), "left_out": left_out})
    return kept


def _make(path: Path, data: CXRDataModule, folders: Sequence[Prepared], elsewhere: Path) -> Audit:
    """Make the audit, and keep it and its table."""
    if others := len(folders) - 1:
        rank_zero_info(
            f"Leak audit: the training images are compared with those of {others} other folder{'s' * (others > 1)}. "
            "Each image is described once, and the result is kept."
        )
    trained = Training.of(data)
    result = compare(trained, folders, elsewhere)
    content = {
        "overlaps": [asdict(overlap) for overlap in result.overlaps],
        "twice": [[*pair, count] for pair, count in result.twice.items()],
    }
    _write_table(path.with_suffix(".csv"), result, trained)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)
    return result


def _read(path: Path) -> Audit:
    content = json.loads(path.read_text())
    twice = {(first, second): count for first, second, count in content["twice"]}
    return Audit([Overlap(**overlap) for overlap in content["overlaps"]], twice)


def _fingerprint(data: CXRDataModule, folders: Sequence[Prepared]) -> str:
    """Return a hash of all that decides the result."""
    share = asdict(data.share)
    chosen: list[Any] = [VERSION, len(data.roots), list(data.splits["train"]), data.split, data.targets, share]
    for prepared in folders:
        changed = (prepared.root / INDEX).stat().st_mtime_ns
        chosen.append([prepared.root.resolve().name, prepared.manifest, changed])
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _write_table(path: Path, result: Audit, trained: Sequence[Training]) -> None:
    """Write the training images that stand in a known test set: folder, image, patient and test set."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["folder", "image_id", "subject_id", "known_test"])
        for one in trained:
            index = pq.read_table(one.prepared.root / INDEX, columns=["row", "image_id", "subject_id"])
            found = index.filter(pc.is_in(index["row"], pa.array(result.rows(one.number)))).to_pydict()
            names = dict(zip(found["row"], zip(found["image_id"], found["subject_id"], strict=True), strict=True))
            for overlap in result.overlaps:
                if overlap.source == one.number:
                    title = "/".join((overlap.folder, *overlap.splits))
                    writer.writerows([one.prepared.root, *names[row], title] for row in overlap.training)


def _report(data: CXRDataModule, result: Audit, folders: int, table: Path) -> None:
    found = [overlap for overlap in result.overlaps if overlap.training]
    tests = len({(overlap.folder, *overlap.splits) for overlap in result.overlaps})
    for overlap in found:
        of = f"'{overlap.folder}' ({', '.join(overlap.splits) or 'its split'})"
        people = f"{overlap.patients_seen:,} of {overlap.patients:,} patients and " if overlap.patients else ""
        rank_zero_info(
            f"Leak audit: {people}{overlap.images_seen:,} of {overlap.images:,} images of the known test set {of} are "
            f"in the training data of '{data.roots.paths[overlap.source]}': {len(overlap.training):,} training images."
        )
    for (first, second), count in result.twice.items():
        if count:
            rank_zero_info(
                f"Leak audit: {count:,} training images of '{data.roots.paths[second]}' are also training images of "
                f"'{data.roots.paths[first]}'."
            )
    looked = f"{tests} known test sets in {folders} folder{'s' * (folders > 1)}"
    if not found:
        rank_zero_info(f"Leak audit: no patient and no image of {looked} is in the training data.")
    elif data.leave_out_known_tests:
        images = sum(len(result.rows(source)) for source in range(len(data.roots)))
        rank_zero_info(f"Leak audit: {images:,} training images are left out. They are listed in '{table}'.")
    else:
        rank_zero_warn(
            f"Of {looked}, those above do not test this model on patients that it has not seen. The training images "
            f"are listed in '{table}'; --data.leave_out_known_tests true leaves them out."
        )
