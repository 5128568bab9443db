"""Places in a sentence: regions and sides, and the words that say how much there is."""

from __future__ import annotations

from typing import NamedTuple, cast

from medvlp.parse.lexicon import GRAMMAR, PLACES, SEVERITIES, Area, Severity, Side
from medvlp.parse.words import REACH, Word, only

GLUE = GRAMMAR["inside_place"]
LIST = GRAMMAR["lists"]


class Place(NamedTuple):
    """A place in a sentence.

    Attributes:
        first: First word.
        last: Behind its last word.
        side: If said.
        regions: Names, those of a pair without their side; empty where only a side is said.
    """

    first: int
    last: int
    side: Side | None
    regions: tuple[str, ...]


class Grade(NamedTuple):
    """A word for how much there is of something.

    Attributes:
        first: First word.
        last: Behind its last word.
        severity: What it says.
    """

    first: int
    last: int
    severity: Severity


def find_places(sentence: list[Word]) -> tuple[list[Place], list[Grade]]:
    """Return the places of a sentence and its words for severity, in their order."""
    places, grades = [], []
    for m in PLACES.find(sentence):
        if isinstance(m.meaning, Area):
            places.append(Place(m.first, m.last, m.meaning.side, m.meaning.regions))
        elif m.meaning in SEVERITIES:
            grades.append(Grade(m.first, m.last, cast(Severity, m.meaning)))
        else:
            places.append(Place(m.first, m.last, cast(Side, m.meaning), ()))
    return _joined(sentence, places), grades


def _joined(sentence: list[Word], parts: list[Place]) -> list[Place]:
    """Join sides and regions that speak of one place: the base of the left lung."""
    places: list[Place] = []
    for part in parts:
        before = places[-1] if places else None
        if before is None or part.first - before.last > REACH:
            places.append(part)
        elif _agree(before.side, part.side) and only(sentence, before.last, part.first, GLUE):
            more = tuple(region for region in part.regions if region not in before.regions)
            places[-1] = Place(before.first, part.last, before.side or part.side, before.regions + more)
        elif part.side is None and before.side and only(sentence, before.last, part.first, LIST | GLUE):
            # The left apex and base.
            places.append(part._replace(side=before.side))
        else:
            places.append(part)
    return places


def _agree(one: Side | None, other: Side | None) -> bool:
    return one is None or other is None or one == other or "bilateral" in (one, other)
