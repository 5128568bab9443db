"""What a front end tells the pipeline about a raw data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from medvlp.prepare.annotations import AnnotationSource
    from medvlp.prepare.regions import RegionSource
    from medvlp.prepare.splits import SplitVariant

# Called with what was left out, and why. Everything before the first colon of the reason is its kind, and is counted.
Skip = Callable[[str, str], None]


class LeftOutError(Exception):
    """Something cannot be used; the message is the reason that skipped.csv gets."""


@dataclass(frozen=True)
class Report:
    """The sections of one report; None where a section is missing."""

    findings: str | None
    impression: str | None
    utf8: bool = True


@dataclass(frozen=True)
class Picture:
    """One image as the tables describe it.

    Attributes:
        image_id: Unique name.
        view: For example PA.
        path: File relative to the image root.
        graph: Locator of its scene graph, where it has one.
        annotation: What the tables say of objects in it, verbatim, for `DataSet.annotations`; None where nobody looked
            for any.
    """

    image_id: str
    view: str
    path: str
    graph: str | None = None
    annotation: str | None = None


@dataclass(frozen=True)
class Study:
    """The images that share one report.

    Attributes:
        study_id: Unique name.
        subject_id: The patient.
        split: train, validate or test, by the first variant of `DataSet.splits`. Empty or another word for images that
            no split has.
        pictures: Its images.
        labels: One value a label of `DataSet.labels`: 1, 0, -1, or None where it is not mentioned.
        report: Reads the report. Raises LeftOutError where there is none. None in a data set without reports.
        other_splits: Its split by each further variant of `DataSet.splits`.
    """

    study_id: str
    subject_id: str
    split: str
    pictures: list[Picture]
    labels: list[int | None]
    report: Callable[[], Report] | None = None
    other_splits: Mapping[str, str] = field(default_factory=dict)


class DataSet(Protocol):
    """A raw data set."""

    @property
    def options(self) -> dict[str, object]:
        """What identifies the preparation beside the pipeline's own options. No paths."""

    @property
    def labels(self) -> list[str]:
        """Names of the labels."""

    @property
    def images(self) -> Path:
        """Image root."""

    @property
    def real_images(self) -> list[str]:
        """Folders, all links resolved, in one of which every image must lie."""

    @property
    def regions(self) -> RegionSource | None:
        """Finds the anatomical boxes of the images, if they are wanted."""

    @property
    def annotations(self) -> AnnotationSource | None:
        """Reads what annotators drew in the images, if they drew anything."""

    @property
    def splits(self) -> Mapping[str, SplitVariant]:
        """The named ways to split it; the first is the default. All of the same keys in every `Study`."""

    @property
    def documented(self) -> int | None:
        """How many `rows` its makers say there are; None where that is not known."""

    @property
    def rows(self) -> int:
        """Images in its table, once the studies have been read."""

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the index, reporting table rows that cannot be used."""
