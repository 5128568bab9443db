"""The first step of a preparation: from tables and reports to the list of images to decode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medvlp.errors import LeftOutError
from medvlp.prepare.chunks import CHUNK, Chunk
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import ESCAPES, escapes
from medvlp.prepare.progress import progress
from medvlp.prepare.reports import HeaderCounts, has_words
from medvlp.prepare.skipped import SkippedLog
from medvlp.prepare.study import Picture, Report, Skip, Study
from medvlp.prepared import LABEL_PREFIX, SPLIT_PREFIX, Resize

# Number of rows in memory at once, and in a row group of the plan.
GROUP = 16 * CHUNK
# Columns of the index that the plan lacks, as they come with decoding.
DECODED = ("row", "height", "width", "flags", "regions", "boxes")
NO_REPORT = Report(None, None)


@dataclass(frozen=True)
class Options:
    """Options that all front ends share.

    Attributes:
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad, squash, or keep it and crop.
        views: Views to keep.
        min_words: Least number of tokens in a report; see `medvlp.prepare.reports.has_words`. Ignored for data sets
            without reports.
        leave_out: Flags whose images are left out; see `medvlp.prepare.screening`.
    """

    size: int
    resize: Resize
    views: list[str]
    min_words: int = 0
    leave_out: list[str] = field(default_factory=list)


def parse_views(text: str) -> list[str]:
    """Return the views named on the command line, in alphabetical order."""
    return sorted({item.strip().upper() for item in text.split(",")} - {""})


class Filter:
    """The filters on views, paths and reports, and their counts."""

    def __init__(self, options: Options, skip: Skip) -> None:
        """Start counting.

        Args:
            options: Views to keep, and the least length of a report.
            skip: Called for each image that a filter drops.
        """
        self.options = options
        self.skip = skip
        self.table_counts = Counter(dict.fromkeys(("readable", "view"), 0))
        self.untold = 0
        self.report_counts = Counter(dict.fromkeys(("report", "sections", "min_words"), 0))
        self.has_reports = False
        self.sections = Counter(dict.fromkeys(("both", "findings_only", "impression_only"), 0))
        self.reports_not_utf8 = 0
        self.headers = HeaderCounts()

    @property
    def counts(self) -> dict[str, Any]:
        """Number of images after each filter, in the order of the filters, and by sections of their reports."""
        counts: dict[str, Any] = dict(self.table_counts)
        if self.untold:
            counts["views_to_tell"] = self.untold
        if not self.has_reports:
            return counts
        counts |= self.report_counts
        counts |= {"sections_found": dict(self.sections), "reports_not_utf8": self.reports_not_utf8}
        return {**counts, **self.headers.counts}

    def __call__(self, study: Study) -> tuple[list[Picture], Report]:
        """Return the images of a study to decode, and its report, which is empty if there is none."""
        self.table_counts["readable"] += len(study.pictures)
        pictures = [picture for picture in study.pictures if self._is_wanted(picture)]
        self.table_counts["view"] += len(pictures)
        self.untold += sum(picture.view is None for picture in pictures)
        if study.report is None:
            return pictures, NO_REPORT
        self.has_reports = True
        if not pictures:
            return [], NO_REPORT
        try:
            report = study.report()
            self.report_counts["report"] += len(pictures)
            self.reports_not_utf8 += not report.utf8
            self.headers.add(report)
            if report.findings is None and report.impression is None:
                raise LeftOutError("report has neither findings nor impression")
            self.report_counts["sections"] += len(pictures)
            only = "impression_only" if report.findings is None else "findings_only"
            self.sections["both" if report.findings and report.impression else only] += len(pictures)
            if not has_words(report.findings, report.impression, self.options.min_words):
                raise LeftOutError(f"report has fewer than {self.options.min_words} words")
            self.report_counts["min_words"] += len(pictures)
        except LeftOutError as error:
            for picture in pictures:
                self.skip(picture.image_id, str(error))
            return [], NO_REPORT
        return pictures, report

    def _is_wanted(self, picture: Picture) -> bool:
        if picture.view is not None and picture.view not in self.options.views:
            self.skip(picture.image_id, f"view {picture.view or 'not given'}")
        elif escapes(picture.path):
            self.skip(picture.image_id, ESCAPES)
        else:
            return True
        return False


def write_plan(data: DataSet, options: Options, schema: pa.Schema, plan: Path, skipped: Path) -> dict[str, Any]:
    """Write the images that pass the filters, in the order of the index, and the beginning of skipped.csv.

    Args:
        data: The raw data set.
        options: Filters.
        schema: Schema of the index.
        plan: Parquet file to be written, with the columns of the index except those in DECODED, and with the fields
            `graph` and `annotation` of `Picture`.
        skipped: Beginning of skipped.csv, to be written.

    Returns:
        Counts for the manifest.
    """
    fields = [field for field in schema if field.name not in DECODED]
    columns = pa.schema([*fields, ("graph", pa.string()), ("annotation", pa.string())])
    with (
        skipped.open("w", encoding="utf-8", newline="") as file,
        pq.ParquetWriter(plan, columns, compression="zstd") as writer,
        progress("reports", None) as advance,
    ):
        skip = SkippedLog(file)
        keep = Filter(options, skip)
        rows = _rows(data, keep, skip, advance)
        while group := list(islice(rows, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=columns), row_group_size=GROUP)
    return {"table": data.rows, **keep.counts, "skipped": dict(skip.kinds)}


def _rows(data: DataSet, keep: Filter, skip: Skip, advance: Callable[[int], None]) -> Iterator[dict[str, object]]:
    """Yield the rows of the plan."""
    default, *others = data.splits
    for study in data.studies(skip):
        pictures, report = keep(study)
        split_of = {default: study.split, **{name: study.other_splits[name] for name in others}}
        for picture in pictures:
            yield {
                **asdict(picture),
                "study_id": study.study_id,
                "subject_id": study.subject_id,
                "order": study.order,
                "split": study.split,
                **{SPLIT_PREFIX + name: split for name, split in split_of.items()},
                "findings": report.findings,
                "impression": report.impression,
                **{LABEL_PREFIX + name: value for name, value in zip(data.labels, study.labels, strict=True)},
            }
        advance(1)


def read_chunks(plan: Path) -> Iterator[Chunk]:
    """Yield the images of a plan in chunks."""
    file = pq.ParquetFile(plan)
    start = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["image_id", "view", "path", "graph", "annotation"])
        pictures = [Picture(**row) for row in table.to_pylist()]
        for first in range(0, len(pictures), CHUNK):
            yield Chunk(start + first, pictures[first : first + CHUNK])
        start += len(pictures)
