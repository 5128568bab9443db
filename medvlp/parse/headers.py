"""Headers in the text of a report: how they are written, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medvlp.parse.header_names import (
    ASKING,
    COMMENT,
    DIAGNOSIS,
    EXACT,
    FINDINGS,
    IMPRESSION,
    VIEW,
    exact,
    kind,
    plain,
)

BLANK = " \t\u00a0\u2000-\u200b\u202f\u205f\u3000\ufeff"
# Not the one of 10:30.
COLON = re.compile(r"(?:(?<!\d):|:(?!\d)|[\uff1a\ufe55\ufe13])")
# Ends of lines: all that are one in some system, and those that HTML, HL7 and escaped texts have instead.
HARD = "\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
BREAK = re.compile(HARD)
ANY_BREAK = re.compile(
    HARD + r"|<br ?/?>|</?(?:p|div|li|tr|h[1-6])(?:\s[^<>\n]{0,80})?>|\\\.br\\|\\X0[DA]\\|(?:\\r)?\\n", re.IGNORECASE
)
# Marks before the words of a header: markdown, brackets, bullets, tags and numbers.
TAG = r"</?(?:b|strong|i|em|u|span|font)(?:\s[^<>\n]{0,60})?>"
OPENING = re.compile(rf"(?:[{BLANK}>#*_\u2022|\[({{<~='\"-]|{TAG}|\d{{1,2}}[.)])*", re.IGNORECASE)
LISTED = re.compile(r"\d[.)]|[\u2022-]")
CLOSING = re.compile(rf"(?:[-=>]{{1,3}}(?=[{BLANK}]))?(?:[*_\])}}>'\"|]|{TAG})*", re.IGNORECASE)
MARKUP = re.compile(r"[#*_\[({<=~]")
# What some write for a colon.
DASH = re.compile(rf"[{BLANK}]*(?:[-\u2013\u2014=]+>?|>+|;|\u2192)(?:[{BLANK}]|$)|\t[{BLANK}]*", re.MULTILINE)
# The headers of MIMIC-CXR, whether they are known or not.
SHAPE = re.compile(r"[A-Z][A-Z ()/,-]*")
# The end of what stands before a header in the middle of a line, in capitals, and as a title behind a full stop.
CAPITALS = re.compile(rf"(?<=[{BLANK}.;|)\]>])[*_\[(]*([A-Z][A-Z()/&,'{BLANK}-]*)[*_\])]*[{BLANK}]*$")
NUMBER = re.compile(r"(?:^|\s)\d{1,2}[.)]$")
TITLE = re.compile(rf"[.!?;|)\]>][{BLANK}]*[*_\[(]*([A-Z][A-Za-z'/&,(){BLANK}-]*?)[*_\])]*[{BLANK}]*$")
# Lines that only draw a line.
RULE = "-=_~*#\u2014\u2500\u2550"
# Sections that may follow an Impression on its line.
BEHIND = ("recommendations", "notification", "addendum")
# Longest header, and longest line that may be a header without a colon.
LONGEST, LONGEST_LINE = 60, 40
STOPS = tuple(".:;!?)]>|*")
NO_TITLE = frozenset({"report", "description", "result", "results", "narrative", "study", "x-ray", "reason", "request"})


@dataclass(frozen=True, slots=True)
class Header:
    """A header in the text: what it may open, and how it is written.

    Attributes:
        kind: See `medvlp.parse.header_names.kind`; None for a header in capitals that is not known.
        words: Its words.
        start: First character, that of the marks before it.
        words_start: First character of its words.
        body: First character behind it.
        capital: Whether it is in capitals.
        inside: Whether it stands in the middle of a line.
        apart: Whether a blank line or nothing is before it.
        listed: Whether the number or bullet of a list is before it.
    """

    kind: str | None
    words: str
    start: int
    words_start: int
    body: int
    capital: bool
    inside: bool = False
    apart: bool = False
    listed: bool = False


def find_headers(text: str) -> Iterator[Header]:
    """Yield all that may be a header, in the order of the text."""
    breaks = ANY_BREAK if "<" in text or "\\" in text else BREAK
    lower = not any(map(str.isupper, text))
    start, before = 0, ""
    apart = True
    for match in [*breaks.finditer(text), None]:
        end = match.start() if match else len(text)
        header = _first(text, start, end, before, lower, apart)
        if header is not None:
            yield header
        for colon in COLON.finditer(text, header.body if header else start, end):
            if (middle := _middle(text, start if header is None else header.body, colon)) is not None:
                yield middle
        line = text[start:end].strip()
        # A drawn line below a header leaves no trace.
        apart = not line.strip(RULE)
        before = line if line.strip(RULE) else ""
        start = match.end() if match else end


def _first(text: str, start: int, end: int, before: str, lower: bool, apart: bool) -> Header | None:
    """Return the header that a line begins with.

    Args:
        text: The report.
        start: First character of the line.
        end: Behind its last character.
        before: The line before it, without blanks around it; empty for none.
        lower: Whether there is no capital in the whole text.
        apart: Whether the line before it is blank.
    """
    opening = OPENING.match(text, start, end)
    assert opening is not None  # It may be empty.
    first = opening.end()
    if first == end or not text[first].isalnum():
        return None
    listed = LISTED.search(opening[0]) is not None
    colon = COLON.search(text, first, min(end, first + LONGEST))
    if colon is None:
        return _without_colon(text, start, first, end, bool(MARKUP.search(opening[0])), before, listed, apart)
    words = text[first : colon.start()]
    body = _behind(text, colon.end(), end)
    capital = not any(map(str.islower, words.replace("(s)", "").replace("(S)", "")))
    section = exact(plain(words)) if listed else kind(words, capital)
    is_end = colon.end() == end or text[colon.end()].isspace()
    if section is None:
        if not (capital and is_end and not listed and SHAPE.fullmatch(words)):
            return None
    elif words[0].islower() and (exact(plain(words)) is None or not (lower or apart or before.endswith(STOPS))):
        # In lower case it may be wrapped prose: the line before it must be over.
        return None
    return Header(section, " ".join(words.split()), start, first, body, capital, apart=apart, listed=listed)


def _without_colon(
    text: str, start: int, first: int, end: int, marked: bool, before: str, listed: bool, apart: bool
) -> Header | None:
    """Return the header that is a line of its own, or ends with a dash."""
    dash = DASH.search(text, first, min(end, first + LONGEST))
    stop = dash.start() if dash else end
    words = text[first:stop].rstrip(BLANK + "*_#])}>=~|\"'" + "-")
    name = plain(words)
    section = exact(name) if stop - first <= LONGEST_LINE else None
    if section is None or name in NO_TITLE or name not in EXACT or section in ("patient", "signature", "date"):
        return None
    if dash is None and not text[end:].strip():
        return None  # A text that ends with it, or is nothing else.
    capital = words.isupper()
    if dash is not None:
        wanted = section in (FINDINGS, IMPRESSION, *ASKING) and words[0].isupper() and not listed
        is_over = capital or section in (FINDINGS, IMPRESSION) or apart or before.endswith(STOPS)
        return Header(section, words, start, first, dash.end(), capital, apart=apart) if wanted and is_over else None
    if not (marked or capital or (words[0].isupper() and (apart or before.endswith(STOPS)))):
        return None
    return Header(section, " ".join(words.split()), start, first, end, capital, apart=apart, listed=listed)


def _middle(text: str, start: int, colon: re.Match[str]) -> Header | None:
    """Return the header in the middle of a line that ends with a colon.

    Args:
        text: The report.
        start: First character that may belong to it.
        colon: The colon.
    """
    first = max(start, colon.start() - LONGEST)
    before = text[first : colon.start()]
    title = TITLE.search(before)
    listed = title is not None and NUMBER.search(before, 0, title.start() + 1) is not None
    capitals = CAPITALS.search(before)
    section, words, place = None, "", 0
    if capitals:
        # The longest known name at the end: `no PTX IMPRESSION:` has one of one word.
        for word in re.finditer(r"[A-Z][A-Z()/&,'-]*", capitals[1]):
            words, place = capitals[1][word.start() :], capitals.start(1) + word.start()
            section = exact(plain(words)) if len(words) > 4 else None
            if section is not None:
                break
        else:
            words, place = capitals[1], capitals.start(1)
            section = kind(words, capital=True) if title and not listed else None
            section = section if section in (FINDINGS, IMPRESSION, VIEW, *ASKING) else None
    elif title:
        words, place = title[1], title.start(1)
        section = exact(plain(words))
        section = section if section in (FINDINGS, IMPRESSION, DIAGNOSIS, COMMENT, *ASKING, *BEHIND) else None
    if section is None:
        return None
    begin = first + place
    while begin > first and text[begin - 1] in "*_[(#":
        begin -= 1
    body = _behind(text, colon.end())
    return Header(section, words.strip(), begin, begin, body, bool(capitals), inside=True, listed=listed)


def _behind(text: str, place: int, end: int | None = None) -> int:
    """Return the first character behind the marks that close a header."""
    closing = CLOSING.match(text, place, len(text) if end is None else end)
    return closing.end() if closing else place
