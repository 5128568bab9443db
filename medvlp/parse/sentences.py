"""Sentences of a section, as spans of its text.

Full stops, lists and paragraphs end a sentence. So does a line break, unless the line is wrapped: MIMIC-CXR breaks its
lines at about 78 characters, while other hospitals write a statement a line, often without a full stop.
"""

from __future__ import annotations

import re
from functools import cached_property

from medvlp.parse.abbreviations import BEGINNING, WORD, is_abbreviated, is_title
from medvlp.parse.patterns import read
from medvlp.parse.signs import BULLET, plain_signs

_BULLETS = rf"[{BULLET}*|>+#-]"
_NUMBER = r"(?:\(?\d{1,2}(?:[.)](?!\d)|:(?=\s))|\(?(?:[a-h]|[ivx]{1,4})\))"
# A list mark before the first word of a line: 1. 1) (1) a) iv) - * > and bullets, with or without a blank behind it.
MARK = re.compile(rf"{_NUMBER}|[IVX]{{1,4}}[.)]|{_BULLETS}")
_ITEM = r"(?<![\w.,/(])\(?(?P<item>\d{1,2}|[a-h])(?:\)|(?<=\d)\.(?!\d))"
# What precedes the first word of a sentence.
ENUMERATION = re.compile(rf"[\s.,;:)]*(?:{_BULLETS}[\s.,;:)]*)*(?:{_NUMBER}[\s|*{BULLET}>-]*)?")
PLAIN_START = re.compile(r"\s*(?=[A-Z][a-z])")
# Signs behind the last word of a sentence that belong to the next one.
TRAILING = f"|{BULLET}"
# Ends of sentences, some of which depend on what stands around them.
#   stop    full stop, question or exclamation mark, unless the word continues (1.5, e.g.)
#   lines   one or more line breaks
#   bullet  a bullet inside a line
#   item    the place before the number or letter of a list
END = re.compile(
    r"(?P<stop>(?<![.?!])[.?!]+)(?:(?=[\s\"')\]|])|$|(?=(?:(?<=[a-z\d)]\.)|(?<=[A-Z]{2}\.))[A-Z][a-z])"
    r"|(?=(?<=[a-z]{4}\.)(?:no|there|small|mild|right|left|heart|lungs)\b))"
    r"|(?P<lines>\n\s*)"
    rf"|(?P<bullet>{BULLET})"
)
ITEM = re.compile(_ITEM)
END_OR_ITEM = re.compile(rf"{END.pattern}|(?={_ITEM})")
# Signs before the first item of a list; none at the start of a text.
OPENERS = ("", *"\n.:;,!?)|")

# A question mark before its question: ? pneumonia.
ASKING = re.compile(r"\s*\?|.?\s\?\s+[a-z]", re.DOTALL)

CHARACTERS = re.compile(r"\S*")
LAST_WORD = re.compile(r"[^\W\d_]+$")
LONGEST_WORD = 20
# A line of a table ends: effusion: no.
ANSWER = re.compile(r"[:|-]\s*no$", re.IGNORECASE)
# See vocabulary/sentences.yaml.
_WORDS = {name: frozenset(words) for name, words in read("sentences").items()}
UNFINISHED, HALF, CONTINUING, NAMES = (_WORDS[name] for name in ("unfinished", "half", "continuing", "names"))
# No line below this length is wrapped, and no text with a line above that one.
SHORTEST, LONGEST = 60, 110
# Characters that a line may have lost: the header before the first one, and a name that became ___.
HEADER, HOLE = 25, 12


def split(text: str) -> list[tuple[int, int]]:
    """Return first character and end of each sentence of a section, without blanks and list marks.

    Args:
        text: A section. Whether a line break in it ends a sentence: see `_Lines.end`.
    """
    plain = plain_signs(text)
    lines, items = _Lines(plain), _items(plain)
    spans: list[tuple[int, int]] = []
    start = 0
    for match in (END_OR_ITEM if items else END).finditer(plain):
        goes_on = (
            (match["stop"] and _goes_on(plain, start, match))
            or (match["lines"] and not lines.end(match))
            or (match.end() == match.start() and match.start() not in items)
        )
        if not goes_on:
            _add(spans, plain, start, match.end())
            start = match.end()
    _add(spans, plain, start, len(plain))
    return spans


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    marker = PLAIN_START.match(text, start, end) or ENUMERATION.match(text, start, end)
    first = marker.end() if marker else start
    while end > first and (text[end - 1].isspace() or text[end - 1] in TRAILING):
        end -= 1
    if any(map(str.isalnum, text[first:end])):
        spans.append((first, end))


def _goes_on(text: str, start: int, stop: re.Match[str]) -> bool:
    """Return whether a full stop belongs to an abbreviation, or a question mark stands before its question.

    Args:
        text: With plain signs.
        start: First character of the sentence.
        stop: Match of `END`.
    """
    if stop["stop"] == "?":
        return ASKING.match(text, max(start, stop.start() - 2)) is not None
    if stop["stop"] != ".":
        return False
    return is_abbreviated(text, start, stop.end())


def _items(text: str) -> frozenset[int]:
    """Return the places of the items of lists: each number follows the one before, the first is 1 or a."""
    places: list[int] = []
    if not any(first in text for first in ("1.", "1)", "a)")):
        return frozenset()
    awaited: set[str] = set()
    for match in ITEM.finditer(text):
        item = match[1]
        is_first = item in ("1", "a") and text[max(0, match.start() - 2) : match.start()].strip(" \t")[-1:] in OPENERS
        if is_first or item in awaited:
            places.append(match.start())
            awaited.discard(item)
            awaited.add(chr(ord(item) + 1) if item.isalpha() else str(int(item) + 1))
    return frozenset(places)


class _Lines:
    """The lines of a text.

    Args:
        text: With plain signs.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def longest(self) -> int:
        """Length of the longest line."""
        return max(len(line.rstrip()) for line in self.text.split("\n"))

    def end(self, breaks: re.Match[str]) -> bool:
        """Return whether line breaks end a sentence.

        Several do. One does not, or does, by the first of these rules that applies:

        1. The next line begins with a list mark: it does.
        2. The line ends with a comma, a hyphen, an abbreviation or one of `UNFINISHED`: it does not.
        3. The next line begins with one of `CONTINUING` (and, is, in), without a capital: it does not.
        4. The next line begins with a capitalised word that is not in `NAMES`, or with no or there: it does.
        5. The line is full, as wrapped lines are: it does not. A line is full if the first word of the next would not
           have fitted into the longest line of the text, taken as 60 characters if it is shorter. No line is full if
           the longest has more than 110.
        6. The line ends with a word that stands before a noun (`HALF`): it does not.
        7. Otherwise it does.

        So `Small left effusion` is a sentence of its own below any line, `NG tube in stomach` below a short one. Below
        a line of 75 characters, `NG tube` continues it.

        Args:
            breaks: Match of `END`.
        """
        text, first, next_line = self.text, breaks.start(), breaks.end()
        if "\n" in breaks[0][1:] or MARK.match(text, next_line):
            return True
        before = text[max(0, first - LONGEST_WORD) : first].rstrip()
        last = LAST_WORD.search(before)
        word = last[0].lower() if last else ""
        if ANSWER.search(before):
            return True
        if before[-1:] in ("", ",", "-", "/", "&", "(", ":", ".") or word in UNFINISHED:
            return False
        following = WORD.match(text, next_line)
        begin = following[1] if following else ""
        lower = begin.lower()
        capitalised = begin != "" and is_title(begin)
        if lower in CONTINUING and not capitalised:
            return False
        if (capitalised and lower not in NAMES) or lower in ("no", "there"):
            return True
        if self._is_full(first, next_line):
            return False
        return word not in HALF or lower in BEGINNING

    def _is_full(self, end: int, next_line: int) -> bool:
        """Return whether the first word of the next line would not have fitted behind a line."""
        start = self.text.rfind("\n", 0, end) + 1
        line = self.text[start:end].rstrip()
        length = len(line) + HOLE * line.count("___")
        if start == 0 and self.text[next_line : next_line + 1].islower():
            length += HEADER
        word = CHARACTERS.match(self.text, next_line)
        length += 1 + (word.end() - next_line if word else 0)
        return self.longest <= LONGEST and length > max(SHORTEST, self.longest)
