"""From the text of a report to its sections, the counts of their headers, and the filter for short reports."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from medvlp.prepare.study import Report

SENTENCE = re.compile(r"[0-9]*\.")
TOKEN = re.compile(r"\w+")
ASCII = re.compile(r"[\x00-\x7f]")


# Number of headers of each section in the manifest.
COMMONEST = 30
UNKNOWN = "none"


def read_report(texts: Mapping[str, str], utf8: bool = True) -> Report:
    """Return Findings and Impression of a report by `medvlp.parse.sections`.

    Args:
        texts: Its text, or the text of each column that holds a part, by the section that the part is of.
        utf8: Whether its file is in UTF-8.
    """
    # The parser reads its vocabulary when it is imported.
    from medvlp.parse.sections import last_sections, split_sections

    parts: dict[str, str | None] = {"findings": None, "impression": None}
    headers = []
    for column, text in texts.items():
        sections = split_sections(text, column)
        findings, impression = last_sections(text, sections)
        parts = {"findings": findings or parts["findings"], "impression": impression or parts["impression"]}
        headers += [(section.header, section.name if section.known else "") for section in sections if section.header]
    return Report(parts["findings"], parts["impression"], utf8, tuple(headers))


class HeaderCounts:
    """The headers of many reports and the sections that they open, and the number of reports without a section."""

    def __init__(self) -> None:
        """Start counting."""
        self.sections: dict[str, Counter[str]] = {}
        self.reports = Counter(dict.fromkeys(("read", "without_findings", "without_impression"), 0))

    def add(self, report: Report) -> None:
        """Count a report."""
        self.reports["read"] += 1
        self.reports["without_findings"] += report.findings is None
        self.reports["without_impression"] += report.impression is None
        for header, section in report.headers:
            self.sections.setdefault(section or UNKNOWN, Counter())[header] += 1

    @property
    def counts(self) -> dict[str, Any]:
        """The counts for the manifest: the commonest headers of each section; those of UNKNOWN opened none."""
        sections = sorted(self.sections, key=lambda name: (name == UNKNOWN, -self.sections[name].total(), name))
        headers = {
            name: {"count": self.sections[name].total(), "commonest": _commonest(self.sections[name])}
            for name in sections
        }
        return {"reports": dict(self.reports), "headers": headers}


def _commonest(headers: Counter[str]) -> dict[str, int]:
    # By number and then by name, so that the same reports give the same manifest.
    return dict(sorted(headers.items(), key=lambda item: (-item[1], item[0]))[:COMMONEST])


def has_words(findings: str | None, impression: str | None, minimum: int) -> bool:
    """Return whether a report is long enough.

    Source: the caption cleaning of MGCA `preprocess/mimic_cxr.py`. Sentences end at full stops. A number before a full
    stop enumerates and does not count. A token is a run of word characters, at least one of them ASCII. Sentences of
    one token do not count.

    Args:
        findings: Findings section; None if there is none.
        impression: Impression section; None if there is none.
        minimum: Least number of tokens in the report.
    """
    total = 0
    for sentence in SENTENCE.split(f"{impression or ''} {findings or ''}".lower()):
        if total >= minimum:
            break
        tokens = sum(1 for token in TOKEN.findall(sentence) if ASCII.search(token))
        total += tokens if tokens > 1 else 0
    return total >= minimum
