"""The index and skipped.csv, from the plan and the journal."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
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
    counts: Counter[str] = Counter()
    splits = Counter(dict.fromkeys(SPLITS, 0))
    flagged: Counter[str] = Counter()
    studies: set[str] = set()
    subjects: set[str] = set()
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
            images = []
            for first in range(start, start + len(table), CHUNK):
                result = journal.read(first)
                images += result["images"]
                for what, reason in result["skipped"]:
                    skip(what, reason)
            rows = [row for row, image in enumerate(images) if image is not None]
            kept = [images[row] for row in rows]
            table = table.take(pa.array(rows, pa.int64()))
            columns = {
                "row": pa.array([start + row for row in rows], pa.int64()),
                "height": pa.array([height for height, *_ in kept], pa.int32()),
                "width": pa.array([width for _, width, *_ in kept], pa.int32()),
                "flags": pa.array([" ".join(flags) for _, _, flags, *_ in kept], pa.string()),
                "regions": boxes_array([regions for *_, regions, _ in kept], REGION_TYPE),
                "boxes": boxes_array([boxes for *_, boxes in kept], BOX_TYPE),
            }
            arrays = [columns[name] if name in columns else table[name] for name in schema.names]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            start += len(images)
            counts["decoded"] += len(kept)
            for _, _, flags, regions, boxes in kept:
                flagged.update(flags)
                counts["with_regions"] += regions is not None
                counts["regions"] += len(regions or ())
                counts["annotated"] += boxes is not None
                counts["boxes"] += len(boxes or ())
            splits.update(table["split"].to_pylist())
            studies.update(table["study_id"].to_pylist())
            subjects.update(table["subject_id"].to_pylist())
    return {
        "decoded": counts["decoded"],
        "split": dict(splits),
        "studies": len(studies),
        "subjects": len(subjects),
        "with_regions": counts["with_regions"],
        "regions": counts["regions"],
        "annotated": counts["annotated"],
        "boxes": counts["boxes"],
        "flags": dict(sorted(flagged.items())),
        "skipped": dict(sorted(skip.kinds.items())),
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
