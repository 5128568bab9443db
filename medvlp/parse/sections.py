"""Sections of radiology reports, as spans of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from medvlp.parse.header_names import (
    ASKING,
    COMMENT,
    DIAGNOSIS,
    FINDINGS,
    IMPRESSION,
    NOTE,
    PART,
    VIEW,
    kind,
    plain,
)
from medvlp.parse.headers import BLANK, BREAK, HARD, RULE, Header, find_headers

# Blanks and bars around the text of a section, and the signs of a line's end behind it.
AROUND = "| \t\r\n\v\f\x1c\x1d\x1e\x85\u00a0\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200C))
)
SOFT_END = re.compile(r"(?:<br ?/?>|</?(?:p|div|li|tr)>|\\\.br\\|\\X0[DA]\\|\\[rn])$", re.IGNORECASE)
WITHOUT_WORDS = re.compile(r"\bribs\b|finding")
WORD = re.compile(r"\S")
PARAGRAPH = re.compile(rf"(?:{HARD})[{BLANK}]*(?:{HARD})")
# Names of columns that hold whole reports.
REPORTS = frozenset({"report", "reports", "text", "report_text", "narrative", "description"})
# Kinds that are words of every day, too.
BESIDES = frozenset({"date", "patient"})


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a report. Sections follow each other without a gap, from the start of the text to its end.

    Attributes:
        name: findings, impression, indication, ...; the header in lower case if it is not known.
        header: The words of the header, with single blanks; empty for the text before the first header.
        known: Whether the header is known.
        resumed: Whether it goes on with the Findings before it, after another section.
        start: First character, that of the header or of the marks before it.
        body: First character behind the header.
        end: Behind the last character.
    """

    name: str
    header: str
    known: bool
    resumed: bool
    start: int
    body: int
    end: int


def find_sections(text: str, column: str = "") -> tuple[str | None, str | None]:
    r"""Return Findings and Impression of a report; None for one that is missing or empty.

    The rules of MIT-LCP; see `medvlp.parse.header_names`. The last section of a name counts, and a joint section of
    findings and impression is an Impression. These parts of theirs are missing or differ:

    - The hand-made exceptions for single reports, and `last_paragraph`. A report with neither section is dropped, as in
      IMITATE.
    - Names of views inside FINDINGS, and capital names of organs (LUNGS:, LINES AND TUBES:), stay inside. There they
      end the section.
    - NDICATION is an indication, there an impression.

    Args:
        text: The report.
        column: Name of the section that the text before the first header belongs to.

    Example:
        >>> find_sections("FINDINGS: The lungs are clear.\nIMPRESSION: Normal chest.")
        ('The lungs are clear.', 'Normal chest.')
    """
    return last_sections(text, split_sections(text, column))


def last_sections(text: str, sections: list[Section]) -> tuple[str | None, str | None]:
    """Return the last Findings and the last Impression that are not empty; see `find_sections`."""
    contents: dict[str, str] = {}
    for section in sections:
        if content := body_text(text, section):
            before = contents.get(section.name) if section.resumed else None
            contents[section.name] = f"{before}\n\n{content}" if before else content
    return contents.get(FINDINGS), contents.get(IMPRESSION)


def all_sections(text: str, column: str = "report") -> dict[str, str]:
    """Return the non-empty sections of a report: findings, impression, and others by their headers.

    Sections of one name, as in an addendum or in two reports in one text, are joined by a blank line.

    Args:
        text: The report.
        column: Name of the section that the text before the first header belongs to.
    """
    sections: dict[str, str] = {}
    for section in split_sections(text, column):
        if content := body_text(text, section):
            before = sections.get(section.name)
            sections[section.name] = f"{before}\n\n{content}" if before else content
    return sections


def body_text(text: str, section: Section) -> str:
    """Return the text of a section without header, blanks and drawn lines around it."""
    content = text[section.body : section.end].strip(AROUND)
    while (mark := SOFT_END.search(content, max(0, len(content) - 16))) is not None:
        content = content[: mark.start()].rstrip(AROUND)
    for cut in (_without_first_rule, _without_last_rule):
        content = cut(content)
    return content.strip(AROUND)


def split_sections(text: str, column: str = "") -> list[Section]:
    """Return the sections of a report, which cover it.

    Args:
        text: The report.
        column: Name of the section that the text before the first header belongs to: if it holds Findings alone, a
            header such as LUNGS: opens no section in it.
    """
    headers = list(find_headers(text))
    explicit = [i for i, header in enumerate(headers) if header.kind in (FINDINGS, VIEW)]
    last_explicit = explicit[-1] if explicit else -1
    # A column named report holds any section.
    named = kind(column, capital=True) if column and column.lower() not in REPORTS else None
    name = FINDINGS if named == VIEW else named
    # The attributes of the current section, but for its end.
    current = (column or "preamble", "", True, False, 0, 0)
    # The header that opened the current section; None at the start.
    opening: Header | None = None
    sections: list[Section] = []
    has_findings = name == FINDINGS
    for i, header in enumerate(headers):
        empty = WORD.search(text, current[-1], header.start) is None
        if opening is None and named and named != FINDINGS and header.kind in (PART, VIEW):
            continue
        opened = _opened(header, name, opening, empty, i > last_explicit)
        if opened is None:
            continue
        sections.append(Section(*current, header.start))
        # `LUNGS: Clear.` needs its first word; `RIBS: No fracture.` does not, by the official rules.
        keeps = header.kind == PART and not WITHOUT_WORDS.search(header.words.lower())
        body = header.words_start if keeps else header.body
        known = header.kind not in (None, NOTE)
        resumed = header.kind == PART and has_findings
        has_findings = has_findings or opened == FINDINGS
        current = (opened, header.words, known, resumed, header.start, body)
        name, opening = opened, header
    sections.append(Section(*current, len(text)))
    return _with_last_paragraph(text, _resolved(text, sections))


def _opened(header: Header, name: str | None, opening: Header | None, empty: bool, last: bool) -> str | None:
    """Return the section that a header opens; None if it is a part of the section that it stands in.

    Args:
        header: The header.
        name: The section that it stands in.
        opening: The header of that section.
        empty: Whether that section has no text yet.
        last: Whether no other header for Findings follows.
    """
    if header.kind is None:
        return plain(header.words)
    in_body = name in (FINDINGS, IMPRESSION)
    if header.kind == NOTE:
        return plain(header.words) if header.capital and not in_body else None
    if header.kind == PART:
        return FINDINGS if not in_body and last else None
    if header.kind == VIEW:
        is_part = name == FINDINGS and not empty and (opening is None or opening.kind != VIEW)
        return None if is_part or (name == IMPRESSION and empty) else FINDINGS
    if in_body and (header.listed or header.kind in BESIDES) and header.kind not in (FINDINGS, IMPRESSION):
        # `Time: 10:30` and item 2 of an impression, unless they begin a paragraph.
        return header.kind if header.apart and not header.listed else None
    # A text is written in one way: a title among capitals is prose, unless it is of Findings or Impression.
    if opening is not None and opening.capital and not header.capital:
        if header.inside:
            return None
        if header.kind in ASKING and name == FINDINGS:
            return None
    return header.kind


def _resolved(text: str, sections: list[Section]) -> list[Section]:
    """Return sections in which a diagnosis and a comment have a name.

    A diagnosis before Findings or Impression is the referring physician's. A comment is an Impression where there is no
    other, and Findings if it stands before that one and there are no Findings.
    """
    if not any(section.name in (DIAGNOSIS, COMMENT) for section in sections):
        return sections
    names = {section.name: i for i, section in enumerate(sections) if body_text(text, section)}
    last = max(names.get(FINDINGS, -1), names.get(IMPRESSION, -1))
    resolved = []
    for i, section in enumerate(sections):
        name = section.name
        if name == DIAGNOSIS:
            name = "indication" if i < last else IMPRESSION
        elif name == COMMENT and IMPRESSION not in names:
            name = IMPRESSION
        elif name == COMMENT and FINDINGS not in names and i < names[IMPRESSION]:
            name = FINDINGS
        resolved.append(replace(section, name=name))
    return resolved


def _with_last_paragraph(text: str, sections: list[Section]) -> list[Section]:
    """Return sections in which the words behind the indication of a report without Findings are apart from it.

    MIT-LCP: `last_paragraph`, all behind the first blank line of the last section.
    """
    *others, last = sections
    if last.name not in ASKING or not last.header or any(s.name in (FINDINGS, IMPRESSION) for s in sections):
        return sections
    start = last.body + len(text[last.body :]) - len(text[last.body :].lstrip())
    blank = PARAGRAPH.search(text, start)
    if blank is None:
        return sections
    rest = Section("last_paragraph", "", True, False, blank.start(), blank.end(), last.end)
    return [*others, replace(last, end=blank.start()), rest]


def _without_first_rule(content: str) -> str:
    line = BREAK.search(content)
    first = content[: line.start()] if line else content
    return content[len(first) :] if len(first) > 2 and not first.strip(RULE + BLANK) else content


def _without_last_rule(content: str) -> str:
    last = BREAK.split(content)[-1]
    return content[: -len(last)] if len(last) > 2 and not last.strip(RULE + BLANK) else content
