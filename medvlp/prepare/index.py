"""The index and skipped.csv, from the plan and the journal."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medvlp.prepare.chunks import CHUNK
from medvlp.prepare.journal import Journal
from medvlp.prepare.skipped import SkippedLog
from medvlp.prepare.splits import SPLITS
from medvlp.prepared import BOX_TYPE, REGION_TYPE


def write_index(
    plan: Path,
    journal: Journal,
    schema: pa.Schema,
    index: Path,
    skipped: Path,
    kinds: dict[str, int],
    all_skipped: Path,
) -> dict[str, Any]:
    """Write the index of the decoded images, and the whole list of skipped rows and files.

    Args:
        plan: Table of the images to decode.
        journal: Results of all chunks.
        schema: Schema of the index.
        index: index.parquet, to be written.
        skipped: Beginning of skipped.csv, from the plan.
        kinds: Its counts by kind of reason.
        all_skipped: skipped.csv, to be written.

    Returns:
        Counts for the manifest.
    """
    statistics = Statistics()
    shutil.copyfile(skipped, all_skipped)
    source = pq.ParquetFile(plan)
    start = 0
    with (
        all_skipped.open("a", encoding="utf-8", newline="") as file,
        pq.ParquetWriter(index, schema, compression="zstd") as writer,
    ):
        skip = SkippedLog(file, kinds)
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            images, views = read_images(journal, range(start, start + len(table), CHUNK), skip)
            rows = [row for row, image in enumerate(images) if image is not None]
            decoded = [images[row] for row in rows]
            table = table.take(pa.array(rows, pa.int64()))
            columns = image_columns([start + row for row in rows], decoded)
            told = pa.array([views[row] for row in rows], pa.string())
            columns["view"] = pc.coalesce(table["view"], told)
            arrays = [columns[name] if name in columns else table[name] for name in schema.names]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            start += len(images)
            statistics.add(table, decoded)
    return {**statistics.counts(), "skipped": dict(sorted(skip.kinds.items()))}


def read_images(journal: Journal, chunks: Iterable[int], skip: SkippedLog) -> tuple[list[Any], list[str | None]]:
    """Read the results of chunks: one of each row of the plan, None if it has no image. Log what was skipped.

    The second list holds the views that were told on decoding; None where the plan has them.

    Args:
        journal: Results of all chunks.
        chunks: First row of each chunk.
        skip: The log.
    """
    images: list[Any] = []
    views: list[str | None] = []
    for first in chunks:
        result = journal.read(first)
        images += result["images"]
        views += result["views"]
        for what, reason in result["skipped"]:
            skip(what, reason)
    return images, views


def image_columns(rows: list[int], images: list[Any]) -> dict[str, pa.Array]:
    """Return the columns of the index that the plan lacks, by name.

    Args:
        rows: Row of each decoded image in the arrays.
        images: Height, width, flags, regions and boxes of each decoded image.
    """
    return {
        "row": pa.array(rows, pa.int64()),
        "height": pa.array([height for height, *_ in images], pa.int32()),
        "width": pa.array([width for _, width, *_ in images], pa.int32()),
        "flags": pa.array([" ".join(flags) for _, _, flags, *_ in images], pa.string()),
        "regions": boxes_array([regions for *_, regions, _ in images], REGION_TYPE),
        "boxes": boxes_array([boxes for *_, boxes in images], BOX_TYPE),
    }


class Statistics:
    """Counts of the decoded images and what belongs to them, for the manifest."""

    def __init__(self) -> None:
        self.decoded: Counter[str] = Counter()
        self.splits = Counter(dict.fromkeys(SPLITS, 0))
        self.studies: set[str] = set()
        self.subjects: set[str] = set()
        self.flags: Counter[str] = Counter()

    def add(self, table: pa.Table, images: list[Any]) -> None:
        """Count decoded images.

        Args:
            table: Their rows of the plan.
            images: Height, width, flags, regions and boxes of each.
        """
        self.decoded["decoded"] += len(images)
        for _, _, flags, regions, boxes in images:
            self.flags.update(flags)
            self.decoded["with_regions"] += regions is not None
            self.decoded["regions"] += len(regions or ())
            self.decoded["annotated"] += boxes is not None
            self.decoded["boxes"] += len(boxes or ())
        self.splits.update(table["split"].to_pylist())
        self.studies.update(table["study_id"].to_pylist())
        self.subjects.update(table["subject_id"].to_pylist())

    def counts(self) -> dict[str, Any]:
        """Return the counts by name."""
        return {
            "decoded": self.decoded["decoded"],
            "split": dict(self.splits),
            "studies": len(self.studies),
            "subjects": len(self.subjects),
            **{name: self.decoded[name] for name in ("with_regions", "regions", "annotated", "boxes")},
            "flags": dict(sorted(self.flags.items())),
        }


def boxes_array(images: list[list[Any] | None], kind: pa.StructType) -> pa.Array:
    """Return boxes as a column of the index.

    Args:
        images: Boxes of each image, as lists of the fields of `kind`; None for a null.
        kind: Type of a box.
    """
    flat = [box for boxes in images for box in boxes or ()]
    fields = list(zip(*flat, strict=True)) or [()] * kind.num_fields
    arrays = [pa.array(column, field.type) for column, field in zip(fields, kind, strict=True)]
    values = pa.StructArray.from_arrays(arrays, fields=list(kind))
    offsets: list[int | None] = []
    end = 0
    for boxes in images:
        # A list whose offset is null is null.
        offsets.append(None if boxes is None else end)
        end += len(boxes or ())
    return pa.ListArray.from_arrays(pa.array([*offsets, end], pa.int32()), values)
