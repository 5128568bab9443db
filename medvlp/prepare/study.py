"""A study of a raw data set, as a front end reads it from the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Called with what was left out, and why. Everything before the first colon of the reason is its kind, and is counted.
Skip = Callable[[str, str], None]


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
