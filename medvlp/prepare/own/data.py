"""One's own images as a data set for the pipeline."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from medvlp.prepare.annotations.boxes import Boxes
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import real_paths
from medvlp.prepare.own.drawn import Drawn
from medvlp.prepare.own.gather import Gathered
from medvlp.prepare.own.names import MEANINGS
from medvlp.prepare.own.spool import Record
from medvlp.prepare.own.survey import TEXTS
from medvlp.prepare.own.texts import read_texts
from medvlp.prepare.regions import RegionSource, region_options
from medvlp.prepare.splits import SplitVariant, by_share
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.views import ByScreening

# Shares of the splits where the table has none.
TRAIN, VALIDATE = 0.8, 0.1
OTHER_REPORT = "another report than an earlier image of its study"


class OwnData(DataSet):
    """The images that `gather` has found.

    Attributes:
        gathered: They, and how they were found.
        has_reports: Whether the table has a column of reports.
    """

    def __init__(self, gathered: Gathered, regions: RegionSource | None, annotation_size: int | None) -> None:
        """Settle labels and splits.

        Args:
            gathered: The images.
            regions: Finder of the anatomical boxes; None if the preparation needs none.
            annotation_size: Side in pixels of the annotated images, which are squares; None for that of the images.
        """
        self.gathered, self.regions = gathered, regions
        survey, sources = gathered.survey, gathered.sources
        understood = survey.understood
        self.images = sources.images
        self.real_images = real_paths(sources.images)
        self.rows = survey.rows
        self.has_reports = any(meaning in understood.columns for meaning in TEXTS)
        if None in survey.spool.views():
            self.view_teller = ByScreening()
        digest = hashlib.sha256()
        listed: set[str] = set()
        for record in survey.spool.records():
            digest.update(json.dumps(asdict(record)).encode())
            listed.update(record.listed or ())
        self.labels = sorted(listed) if understood.labels.are_listed else [*understood.labels.columns]
        digest.update(json.dumps(self.labels).encode())
        self._prefix_patient = survey.spool.shared_studies() > 0
        by_column = "split" in understood.columns
        unit = "patient" if not survey.fallbacks else "patient, or its study or image where none is named"
        rule = f"{TRAIN:.0%} train, {VALIDATE:.0%} validate by sha256 of the {unit}"
        if by_column:
            rule = f"the column {understood.columns['split']} of the table"
        self.splits = {"table" if by_column else "hash": SplitVariant(rule)}
        masks = sources.masks or (sources.images if "mask" in understood.columns else None)
        if understood.corners or survey.coco or masks:
            relative = understood.corners is not None and understood.corners.relative
            boxes = Boxes(masks=False, side=1 if relative else annotation_size)
            self.annotations = Drawn(masks, boxes, self.labels[0] if len(self.labels) == 1 else "mask")
        self.options = identity(
            "table",
            sources.images,
            columns={name: understood.columns[name] for name in MEANINGS if name in understood.columns},
            split=rule,
            content=digest.hexdigest(),
            annotation_size=annotation_size,
        ) | region_options(regions)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of their first rows."""
        self.gathered.survey.spool.replay(skip)
        for records in self.gathered.survey.spool.studies():
            texts: dict[str, str] = {}
            for record in records:
                texts = {**record.texts, **texts}
            order = min((record.order for record in records if record.order is not None), default=None)
            kept = []
            for record in records:
                if any(texts[name] != text for name, text in record.texts.items()):
                    skip(record.image_id, OTHER_REPORT)
                else:
                    kept.append(record)
            # The images of a study may be in several splits, or have labels of their own.
            for (split, values), images in itertools.groupby(
                kept, lambda record: (self.split_of(record), self.values(record))
            ):
                first, *others = images
                yield Study(
                    study_id=f"{first.subject}/{first.study}" if self._prefix_patient else first.study,
                    subject_id=first.subject,
                    split=split,
                    pictures=[Picture(r.image_id, r.view, r.path, annotation=_annotation(r)) for r in (first, *others)],
                    labels=values,
                    report=partial(read_texts, texts) if self.has_reports else None,
                    order=order,
                )

    def split_of(self, record: Record) -> str:
        """Return the split of an image."""
        by_column = "split" in self.gathered.survey.understood.columns
        return record.split if by_column else by_share(record.subject, TRAIN, VALIDATE)

    def values(self, record: Record) -> list[int | None]:
        """Return the values of the labels of an image."""
        if not self.gathered.survey.understood.labels.are_listed:
            return record.values
        if record.listed is None:
            return [None] * len(self.labels)
        return [int(name in record.listed) for name in self.labels]


def _annotation(record: Record) -> str | None:
    """Return the objects of an image as `Drawn` reads them; None if nobody has looked for any."""
    if record.boxes is None and not record.mask:
        return None
    return json.dumps({"boxes": record.boxes or [], "mask": record.mask})
