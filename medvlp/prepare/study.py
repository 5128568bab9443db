"""The study of a raw data set, as a front end reads it from the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Called with the name of a skipped row or image, and the reason. The part before its first colon is its kind.
Skip = Callable[[str, str], None]


@dataclass(frozen=True)
class Report:
    """The sections of one report; None for a missing section.

    Attributes:
        findings: Findings.
        impression: Impression.
        utf8: Whether its file is in UTF-8.
        headers: Its headers, each with the section that it opens; that of an unknown header is empty.
    """

    findings: str | None
    impression: str | None
    utf8: bool = True
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Picture:
    """The facts about one image in the tables.

    Attributes:
        image_id: Unique name.
        view: For example PA. None if the tables do not say it, and `DataSet.view_teller` tells it on decoding.
        path: File relative to the image root.
        graph: Locator of its scene graph; None if it has none.
        annotation: Text about the objects in it, for `DataSet.annotations`; None if it was never annotated.
    """

    image_id: str
    view: str | None
    path: str
    graph: str | None = None
    annotation: str | None = None


@dataclass(frozen=True)
class Study:
    """The images of one report.

    Attributes:
        study_id: Unique name.
        subject_id: The patient.
        split: train, validate or test, by the first variant of `DataSet.splits`. Empty, or any other word, if the study
            is in no split.
        pictures: Its images.
        labels: A value for each of `DataSet.labels`: 1 present, 0 absent, -1 uncertain, None not mentioned.
        report: Reads the report, and raises LeftOutError if it is missing. None in a data set without reports.
        other_splits: Its split by each other variant of `DataSet.splits`.
        order: A number that is larger for a later study of the patient; None if the data set does not say it.
    """

    study_id: str
    subject_id: str
    split: str
    pictures: list[Picture]
    labels: list[int | None]
    report: Callable[[], Report] | None = None
    other_splits: Mapping[str, str] = field(default_factory=dict)
    order: int | None = None
