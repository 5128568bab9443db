"""The comparison of triplets with labels, by existence and by side."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from medvlp.parse.cues import Existence
from medvlp.parse.labels import labels as labels_of
from medvlp.parse.labels import summary
from medvlp.parse.lexicon import LABEL_SETS

VALUES: dict[str, Existence] = {"1": "present", "0": "absent", "-1": "uncertain"}


class Assertion(NamedTuple):
    """A statement of a report about one finding, in one sentence."""

    text: str
    finding: str
    existence: Existence
    side: str | None


@dataclass
class Score:
    """The comparison of triplets with one label.

    Attributes:
        label: Its name in the csv.
        hits: Reports with the label in both the csv and the triplets.
        excess: Reports with the label in the triplets alone.
        misses: Reports with the label in the csv alone.
        both: Number of reports by existence in the csv and in the triplets, if both mention the label.
    """

    label: str
    hits: list[str] = field(default_factory=list)
    excess: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    both: dict[tuple[Existence, Existence], int] = field(default_factory=lambda: defaultdict(int))

    @property
    def precision(self) -> float:
        """Share of the labels of the triplets that the csv has, too."""
        return ratio(len(self.hits), len(self.hits) + len(self.excess))

    @property
    def recall(self) -> float:
        """Share of the labels of the csv that the triplets have, too."""
        return ratio(len(self.hits), len(self.hits) + len(self.misses))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return ratio(2 * len(self.hits), 2 * len(self.hits) + len(self.excess) + len(self.misses))

    @property
    def agreement(self) -> float:
        """Share of equal existences among the reports in which both mention the label."""
        return ratio(sum(n for (a, b), n in self.both.items() if a == b), sum(self.both.values()))


def ratio(part: float, whole: float) -> float:
    """Return a share; not-a-number if the whole is zero."""
    return part / whole if whole else math.nan


def plain(name: str) -> str:
    """Return a name in lower case with blanks alone: Pleural_Thickening is pleural thickening."""
    return re.sub(r"[^a-z]+", " ", name.lower()).strip()


def label_scores(
    reports: Mapping[str, Sequence[Assertion]],
    table: Iterable[Mapping[str, str]],
    id: str,
    label_set: str,
    columns: Mapping[str, str],
    uncertain: Literal["present", "absent"],
) -> list[Score]:
    """Compare reports with the rows of a csv.

    Args:
        reports: Assertions of each report; a missing report has none.
        table: Rows of the csv.
        id: Column with the name of the report.
        label_set: One of `LABEL_SETS`.
        columns: Label of each column.
        uncertain: The existence that uncertain counts as, for precision and recall.
    """
    scores = {column: Score(column) for column in columns}
    for row in table:
        report_labels = labels_of(summary((s.finding, s.existence) for s in reports.get(row[id], ())), label_set)
        for column, label in columns.items():
            score, want, have = scores[column], _value(row[column]), report_labels.get(label)
            if want is not None and have is not None:
                score.both[want, have] += 1
            positive = have == "present" or (have == "uncertain" and uncertain == "present")
            if want == "uncertain":
                continue
            if want == "present":
                (score.hits if positive else score.misses).append(row[id])
            elif positive:
                score.excess.append(row[id])
    return list(scores.values())


def _value(cell: str) -> Existence | None:
    return VALUES.get(cell.strip().removesuffix(".0"))


class WrongSide(NamedTuple):
    """A report with different sides in the csv and the triplets."""

    report: str
    finding: str
    label: str
    triplets: str


@dataclass
class Sides:
    """The comparison of the sides of triplets with those of a csv.

    Attributes:
        right: Number of reports with the same side, by finding.
        compared: Number of reports with a side in both, by finding.
        wrong: Reports with different sides.
        unknown: Findings of the csv that are in no label set.
    """

    right: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    compared: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    wrong: list[WrongSide] = field(default_factory=list)
    unknown: dict[str, None] = field(default_factory=dict)


def side_scores(reports: Mapping[str, Sequence[Assertion]], table: Iterable[Mapping[str, str]], id: str) -> Sides:
    """Compare the sides of the same finding of the same report, if both the csv and the triplets have one.

    Several rows or triplets of one finding are joined: left and right make bilateral. The finding of the csv is a label
    of any label set. The triplets are those of the findings of this label that are not absent.

    Args:
        reports: Assertions of each report.
        table: Rows with the columns id, finding and side.
        id: Column of the report.
    """
    findings = {plain(label): of for labels in LABEL_SETS.values() for label, of in labels.items()}
    wanted: dict[tuple[str, str], set[str]] = defaultdict(set)
    out = Sides()
    for row in table:
        if row["side"] and plain(row["finding"]) in findings:
            wanted[row[id], row["finding"]].add(row["side"])
        elif row["side"]:
            out.unknown[row["finding"]] = None
    for (report, finding), sides in wanted.items():
        given = {
            s.side
            for s in reports.get(report, ())
            if s.finding in findings[plain(finding)] and s.existence != "absent" and s.side is not None
        }
        if not given:
            continue
        want, have = _joined(sides), _joined(given)
        out.compared[finding] += 1
        out.right[finding] += want == have
        if want != have:
            out.wrong.append(WrongSide(report, finding, want, have))
    return out


def _joined(sides: Iterable[str]) -> str:
    one, *more = sides
    return "bilateral" if more else one
