"""From tables and reports to the list of images that will be decoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.errors import LeftOutError
from medvlp.prepare.chunks import CHUNK
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import ESCAPES, escapes
from medvlp.prepare.progress import progress
from medvlp.prepare.reports import has_words
from medvlp.prepare.skipped import SkippedLog
from medvlp.prepare.study import Picture, Report, Skip, Study
from medvlp.prepared import Resize

# Rows that are in memory at once; the plan's row groups.
GROUP = 16 * CHUNK


@dataclass(frozen=True)
class Options:
    """What all front ends share.

    Attributes:
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad, or squash.
        views: Views to keep.
        min_words: Least number of tokens in a report; see `medvlp.prepare.reports.has_words`. Nothing to a data set
            without reports.
    """

    size: int
    resize: Resize
    views: list[str]
    min_words: int = 0


def parse_views(text: str) -> list[str]:
    """Return the views named on the command line, in alphabetical order."""
    return sorted({item.strip().upper() for item in text.split(",")} - {""})


NO_REPORT = Report(None, None)


class Filter:
    """The filters on what tables and reports say, and their counts."""

    def __init__(self, options: Options, skip: Skip) -> None:
        """Start counting.

        Args:
            options: Says what to keep.
            skip: Called for each image that is left out.
        """
        self.options = options
        self.skip = skip
        self.table_counts = Counter(dict.fromkeys(("readable", "view"), 0))
        self.report_counts = Counter(dict.fromkeys(("report", "sections", "min_words"), 0))
        self.has_reports = False
        self.sections = Counter(dict.fromkeys(("both", "findings_only", "impression_only"), 0))
        self.reports_not_utf8 = 0

    @property
    def counts(self) -> dict[str, Any]:
        """Images left after each filter, in their order, and how many have which sections."""
        if not self.has_reports:
            return dict(self.table_counts)
        counts = {**self.table_counts, **self.report_counts}
        return {**counts, "sections_found": dict(self.sections), "reports_not_utf8": self.reports_not_utf8}

    def __call__(self, study: Study) -> tuple[list[Picture], Report]:
        """Return the images of a study that are to be decoded, and the report, which is empty if there is none."""
        self.table_counts["readable"] += len(study.pictures)
        pictures = [picture for picture in study.pictures if self._is_wanted(picture)]
        self.table_counts["view"] += len(pictures)
        if study.report is None:
            return pictures, NO_REPORT
        self.has_reports = True
        if not pictures:
            return [], NO_REPORT
        try:
            report = study.report()
            self.report_counts["report"] += len(pictures)
            self.reports_not_utf8 += not report.utf8
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
        if picture.view not in self.options.views:
            self.skip(picture.image_id, f"view {picture.view or 'not given'}")
        elif escapes(picture.path):
            self.skip(picture.image_id, ESCAPES)
        else:
            return True
        return False


def write_plan(data: DataSet, options: Options, plan: Path, skipped: Path) -> dict[str, Any]:
    """Write the images that pass the filters, in the order of the index, and what is left out.

    Args:
        data: The raw data set.
        options: What to keep.
        plan: Parquet file to be written: the columns of the index that are known so far, `graph` and `annotation`.
        skipped: Beginning of skipped.csv.

    Returns:
        The counts for the manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from medvlp.prepared import LABEL_PREFIX, SPLIT_PREFIX, index_schema

    _, *others = data.splits
    unknown = ("row", "height", "width", "regions", "boxes")
    schema = pa.schema([field for field in index_schema(data.labels, [*data.splits]) if field.name not in unknown])
    schema = schema.append(pa.field("graph", pa.string())).append(pa.field("annotation", pa.string()))
    rows: list[tuple[object, ...]] = []
    splits = [SPLIT_PREFIX + name for name in data.splits]
    label_columns = [LABEL_PREFIX + name for name in data.labels]
    head = ("image_id", "study_id", "subject_id", "view", "split", *splits, "path", "findings", "impression")
    assert schema.names == [*head, *label_columns, "graph", "annotation"]
    with (
        skipped.open("w", encoding="utf-8", newline="") as file,
        pq.ParquetWriter(plan, schema, compression="zstd") as writer,
        progress("reports", None) as advance,
    ):
        skip = SkippedLog(file)
        keep = Filter(options, skip)

        def flush(rows: list[tuple[object, ...]]) -> None:
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=GROUP)

        for study in data.studies(skip):
            pictures, report = keep(study)
            split_of = (study.split, study.split, *(study.other_splits[name] for name in others))
            for picture in pictures:
                ids = (picture.image_id, study.study_id, study.subject_id, picture.view, *split_of, picture.path)
                sections = (report.findings, report.impression)
                rows.append((*ids, *sections, *study.labels, picture.graph, picture.annotation))
            while len(rows) >= GROUP:
                flush(rows[:GROUP])
                del rows[:GROUP]
            advance(1)
        if rows:
            flush(rows)
    return {
        "table": data.rows,
        **keep.counts,
        "skipped": dict(skip.kinds),
    }
