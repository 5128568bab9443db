"""Sections of radiology reports."""

from __future__ import annotations

import difflib
import itertools
import re
from functools import lru_cache

# A header is a run of capitals at the start of a line, up to a colon. In MIMIC-CXR every line starts with a space.
HEADER = re.compile(r"\n[ \t]*([A-Z][A-Z ()/,-]*):(?=\s|$)")
JOINTS = re.compile(r"\s*(?:/|\band\b)\s*")


def find_sections(text: str) -> tuple[str | None, str | None]:
    r"""Return Findings and Impression of a MIMIC-CXR report; None for one that is missing or empty.

    The rules of MIT-LCP/mimic-cxr `txt/section_parser.py`: a section lasts to the next header, the last section of a
    name counts, and a joint section of findings and impression is an Impression. Two of its parts are missing here: the
    hand-made exceptions for single reports, and `last_paragraph`. A report with neither section is dropped, as in
    IMITATE.

    Args:
        text: The report.

    Example:
        >>> find_sections("FINDINGS: The lungs are clear.\nIMPRESSION: Normal chest.")
        ('The lungs are clear.', 'Normal chest.')
    """
    sections = all_sections(text)
    return sections.get("findings"), sections.get("impression")


def all_sections(text: str) -> dict[str, str]:
    """Return the non-empty sections of a report: findings, impression, and others by their headers.

    Args:
        text: The report. The text before the first header belongs to no section.
    """
    sections: dict[str, str] = {}
    text = f"\n{text}"  # A header may open the text.
    headers = list(HEADER.finditer(text))
    for header, following in itertools.zip_longest(headers, headers[1:]):
        content = text[header.end() : following.start() if following else None].strip()
        if content:
            sections[section_name(header[1]) or header[1].strip().lower()] = content
    return sections


@lru_cache(maxsize=4096)
def section_name(header: str) -> str | None:
    """Return the section of a header, findings or impression, in spite of typing errors; None for another one."""
    parts = [part for part in JOINTS.split(header.strip().lower()) if part]
    names = [close[0] for part in parts if (close := difflib.get_close_matches(part, SYNONYMS, n=1, cutoff=0.85))]
    sections = {SYNONYMS[name] for name in names}
    return "impression" if "impression" in sections else next(iter(sections), None)


SYNONYMS = {
    "impression": "impression",
    "conclusion": "impression",
    "findings": "findings",
    "reference findings": "findings",
    "chest, two views": "findings",
}
