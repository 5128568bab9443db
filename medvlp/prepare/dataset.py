"""What a front end tells the pipeline about a raw data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from medvlp.prepare.regions import RegionSource

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
    """

    image_id: str
    view: str
    path: str
    graph: str | None = None


@dataclass(frozen=True)
class Study:
    """The images that share one report.

    Attributes:
        study_id: Unique name.
        subject_id: The patient.
        split: train, validate or test.
        pictures: Its images.
        labels: One value a label of `DataSet.labels`: 1, 0, -1, or None where it is not mentioned.
        report: Reads the report. Raises LeftOutError where there is none.
    """

    study_id: str
    subject_id: str
    split: str
    pictures: list[Picture]
    labels: list[int | None]
    report: Callable[[], Report]


class DataSet(Protocol):
    """A raw data set.

    Attributes:
        options: What identifies the preparation beside the pipeline's own options. No paths.
        labels: Names of the labels.
        images: Image root.
        real_images: Folders, all links resolved, in one of which every image must lie.
        regions: Finds the anatomical boxes of the images, if they are wanted.
        rows: Images in its table, once the studies have been read.
    """

    options: dict[str, object]
    labels: list[str]
    images: Path
    real_images: list[str]
    regions: RegionSource | None
    rows: int

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the index, reporting table rows that cannot be used."""
