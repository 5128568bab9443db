"""Sentences of a section, as spans of its text."""

from __future__ import annotations

import re

# The ends of sentences. A single line break is none: MIMIC-CXR wraps its lines.
#   full stop, question or exclamation mark, unless the word continues (1.5, e.g.) ; blank line ; next item of a list
END = re.compile(
    r"(?P<stop>(?<![.?!])[.?!]+)(?=[\s\"')\]]|$|(?<=[a-z)]\.)[A-Z][a-z])"
    r"|\n[ \t]*(?=\n)"
    r"|\n(?=[ \t]*(?:\d{1,2}[.)]|[-*\u2022])[ \t])"
    r"|(?<=[;,:])[ \t]*(?=\d[.)] )"
)
ENUMERATION = re.compile(r"[\s.,;:*\u2022)-]*(?:\(?\d{1,2}[.)](?!\d)\s*)?")
ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mr|mrs|ms|drs|prof|vs|approx|e\.g|i\.e|st|fig|a\.k\.a|resp)|^\s*\d{1,2})\.$", re.IGNORECASE
)
LONGEST_ABBREVIATION = 12
# A question mark before its question: ? pneumonia.
ASKING = re.compile(r"\s*\?|.?\s\?\s+[a-z]", re.DOTALL)


def split(text: str) -> list[tuple[int, int]]:
    """Return first character and end of each sentence of a section, without blanks and numbers of enumerations.

    Args:
        text: A section.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in END.finditer(text):
        end = match.end()
        if match["stop"] == "." and ABBREVIATION.search(text[max(start, end - LONGEST_ABBREVIATION) : end]):
            continue
        if match["stop"] == "?" and ASKING.match(text, max(start, match.start() - 2)):
            continue
        _add(spans, text, start, end)
        start = end
    _add(spans, text, start, len(text))
    return spans


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    marker = ENUMERATION.match(text, start, end)
    first = marker.end() if marker else start
    while end > first and text[end - 1].isspace():
        end -= 1
    if any(map(str.isalnum, text[first:end])):
        spans.append((first, end))
