"""The places in a sentence, regions and sides, and its words for severity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, cast

from medvlp.parse.lexicon import BOTH, GRAMMAR, PLACES, SEVERITIES, Area, Severity, Side
from medvlp.parse.mentions import Spoken
from medvlp.parse.words import REACH, Match, Word, only

GLUE = GRAMMAR["inside_place"]
LIST = GRAMMAR["lists"]
LISTED = LIST | GLUE
ARTICLES = GRAMMAR["articles"]
PREPOSITIONS = GRAMMAR["prepositions"]
# Letters for sides, the words behind them, and the signs behind a letter that ends its clause.
LETTERS = frozenset(["r", "l"])
BEHIND_LETTER = GRAMMAR["behind_letter"]
ENDS = frozenset([",", ";", ")"])
ORDINAL = re.compile(r"\d+(st|nd|rd|th)")

Meaning = Area | Side | Severity | None


class Place(NamedTuple):
    """A place in a sentence.

    Attributes:
        first: First word.
        last: Behind its last word.
        side: The stated side; None if there is none.
        regions: Names, without the side of a pair; empty if only a side is stated.
        elsewhere: It is outside of the 29 regions.
        short: Its name is short for that of the next: upper and lower lobe.
    """

    first: int
    last: int
    side: Side | None
    regions: tuple[str, ...]
    elsewhere: bool = False
    short: bool = False


class Grade(NamedTuple):
    """A word for the severity of a finding.

    Attributes:
        first: First word.
        last: Behind its last word.
        severity: Its meaning.
    """

    first: int
    last: int
    severity: Severity


def find_places(sentence: list[Word], findings: Sequence[Spoken]) -> tuple[list[Place], list[Grade]]:
    """Return the places of a sentence and its words for severity, in their order.

    Args:
        sentence: Its words.
        findings: Its findings.
    """
    places, grades = [], []
    matches = _letters_checked(sentence, findings, PLACES.find(sentence))
    for m, named in zip(matches, _named(sentence, matches), strict=True):
        if isinstance(m.meaning, Area):
            if named:
                regions, side, short = m.meaning
                places.append(Place(m.first, m.last, side, regions, not regions, short))
        elif m.meaning in SEVERITIES:
            grades.append(Grade(m.first, m.last, cast(Severity, m.meaning)))
        elif m.meaning is not None:
            places.append(Place(m.first, m.last, cast(Side, m.meaning), ()))
    return _joined(sentence, places), grades


def _letters_checked(
    sentence: list[Word], findings: Sequence[Spoken], matches: list[Match[Meaning]]
) -> list[Match[Meaning]]:
    """Leave out letters that are no sides: 2 L of oxygen."""
    if not any(m.last - m.first == 1 and sentence[m.first].text in LETTERS for m in matches):
        return matches
    starts = {m.first for m in matches} | {f.first for f in findings} | {f.organ[0] for f in findings if f.organ}
    ends = {m.last for m in matches} | {f.last for f in findings}
    return [
        m
        for m in matches
        if m.last - m.first > 1 or sentence[m.first].text not in LETTERS or _is_side(sentence, m.first, starts, ends)
    ]


def _is_side(sentence: list[Word], letter: int, starts: set[int], ends: set[int]) -> bool:
    """R effusion, (R), effusion on R: whether a letter is a side, by the words around it.

    Args:
        sentence: Its words.
        letter: The word that is the letter.
        starts: First words of findings and places.
        ends: Words behind findings and places.
    """
    before = sentence[letter - 1].text if letter else ""
    behind = [word.text for word in sentence[letter + 1 : letter + 3]]
    if before[:1].isdigit():
        return False
    next_word = letter + 1 + (behind[:1] == ["."])
    if next_word in starts or (before == "(" and behind[:1] == [")"]):
        return True
    if behind and (behind[0] in BEHIND_LETTER or ORDINAL.fullmatch(behind[0])):
        return True
    is_last = not behind or behind[0] in ENDS or behind == ["."]
    return is_last and (letter in ends or before in PREPOSITIONS or (before == "," and letter - 1 in ends))


def _named(sentence: list[Word], matches: list[Match[Meaning]]) -> list[bool]:
    """Return whether each phrase names a region, by itself or in a list: upper and (left) lower lobe."""
    named = [isinstance(m.meaning, Area) for m in matches]
    for i in range(len(matches) - 1, -1, -1):
        short = matches[i].meaning
        if isinstance(short, Area) and short.short:
            sided = (
                i + 2 < len(matches) and matches[i + 1].meaning in BOTH and matches[i + 1].last == matches[i + 2].first
            )
            named[i] = (
                i + 1 < len(matches)
                and named[i + 2 if sided else i + 1]
                and matches[i].last < matches[i + 1].first
                and only(sentence, matches[i].last, matches[i + 1].first, LIST)
            )
    return named


def _joined(sentence: list[Word], parts: list[Place]) -> list[Place]:
    """Join the sides and regions of one place: the base of the left lung."""
    places: list[Place] = []
    for part in parts:
        before = places[-1] if places else None
        if before is None or part.first - before.last > REACH:
            places.append(part)
        elif _agree(before.side, part.side) and only(sentence, before.last, part.first, GLUE, ARTICLES):
            more = tuple(region for region in part.regions if region not in before.regions)
            side, elsewhere = before.side or part.side, before.elsewhere or part.elsewhere
            places[-1] = Place(before.first, part.last, side, before.regions + more, elsewhere, part.short)
        elif before.short and before.side and part.side == "bilateral":
            # The right upper and lower lobes.
            places.append(part._replace(side=before.side))
        elif part.side is None and before.side and only(sentence, before.last, part.first, LISTED, ARTICLES):
            # The left apex and base.
            places.append(part._replace(side=before.side))
        else:
            places.append(part)
    return places


def _agree(one: Side | None, other: Side | None) -> bool:
    return one is None or other is None or one == other or "bilateral" in (one, other)
