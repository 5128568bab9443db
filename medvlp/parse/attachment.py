"""Where each finding of a sentence lies: which of its places belong to which finding."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from medvlp.parse.lexicon import ANCESTORS, GRAMMAR, IMPLIED, PAIRED, Severity, Side, full_names
from medvlp.parse.mentions import Spoken
from medvlp.parse.places import LIST, Grade, Place, find_places
from medvlp.parse.words import REACH, Word, holds, only

# See vocabulary/grammar.yaml.
PREPOSITIONS = GRAMMAR["prepositions"]
PARTING = GRAMMAR["not_before_finding"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"] | GRAMMAR["links"]
GRADE_PARTING = GRAMMAR["severity_not_before"]
BREAKS = GRAMMAR["breaks"]
CLAUSES = GRAMMAR["clauses"]
BETWEEN = GRAMMAR["clauses"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"]
LINKS = GRAMMAR["links"]
# A list has an adjective or two between its words: effusion and mild basilar atelectasis.
LIST_GAP = 3
LUNGS = ("right lung", "left lung")


class Located(NamedTuple):
    """Where a finding lies.

    Attributes:
        side: If said.
        regions: Full names: those said, else those the finding implies.
    """

    side: Side | None
    regions: tuple[str, ...]


def locate(
    sentence: list[Word], found: Sequence[Spoken], absent: Sequence[bool]
) -> tuple[list[Located], list[Severity | None]]:
    """Return where each finding of a sentence lies, and how much of it there is, if said.

    Args:
        sentence: Its words.
        found: Its findings.
        absent: Which of them are absent: a place is not handed on between what is there and what is not.
    """
    places, grades = find_places(sentence)
    severities: list[Severity | None] = [None] * len(found)
    if not places and not grades:
        return [_resolve(f, []) for f in found], severities
    own: list[list[Place]] = [[] for _ in found]
    leading = [False] * len(found)
    firsts = [f.first for f in found]
    for grade in grades:
        for i in _graded(sentence, found, firsts, grade):
            severities[i] = severities[i] or grade.severity
    inside: dict[int, list[int]] = defaultdict(list)
    for n, f in enumerate(found):
        for i in range(*(f.organ or (f.first, f.last))):
            inside[i].append(n)
    previous: list[int] = []
    last = -1
    for place in places:
        listed = bool(previous) and only(sentence, last, place.first, LIST)
        previous, before = _owners(sentence, found, firsts, inside, place, previous if listed else [])
        last = place.last
        for i in previous:
            own[i].append(place)
            leading[i] = before
    located = [_resolve(f, places) for f, places in zip(found, own, strict=True)]
    return _handed_on(sentence, found, absent, own, leading, located), severities


def _graded(sentence: list[Word], found: Sequence[Spoken], firsts: list[int], grade: Grade) -> Sequence[int]:
    """Return the findings a severity speaks of: those whose words it is part of, it stands before, or it follows."""
    holder = bisect_right(firsts, grade.first) - 1
    if holder >= 0 and grade.first < found[holder].last:
        return _same(firsts, holder)
    following = bisect_left(firsts, grade.last)
    if following < len(found) and not holds(sentence, grade.last, firsts[following], GRADE_PARTING):
        return _same(firsts, following)
    preceding = bisect_left(firsts, grade.first) - 1
    if preceding >= 0 and not holds(sentence, found[preceding].last, grade.first, BREAKS - {","}):
        return _same(firsts, preceding)
    return ()


def _owners(
    sentence: list[Word],
    found: Sequence[Spoken],
    firsts: list[int],
    inside: dict[int, list[int]],
    place: Place,
    previous: list[int],
) -> tuple[list[int], bool]:
    """Return the findings a place belongs to, and whether it stands before them.

    Args:
        sentence: Its words.
        found: Its findings.
        firsts: Their first words.
        inside: The findings whose name or organ holds a word.
        place: The place.
        previous: Owners of the place that this one continues as a list, if it does.
    """
    for i in range(place.first, place.last):
        if i in inside:
            return inside[i], True
    following = bisect_left(firsts, place.last)
    preceding = bisect_left(firsts, place.first) - 1
    after = _same(firsts, following) if following < len(found) else []
    before = _same(firsts, preceding) if preceding >= 0 else []
    if after and not holds(sentence, place.last, firsts[following], PARTING):
        return after, True
    if previous:
        return previous, False
    if before and not after:
        return before, False
    if before and _trails(sentence, found[preceding].last, place):
        return before, False
    return after, True


def _trails(sentence: list[Word], end: int, place: Place) -> bool:
    """Return whether a place belongs to the finding before it, which ends at `end`: in the left base."""
    if place.last < len(sentence) and sentence[place.last].text in BREAKS:
        return True
    for i in range(place.first - 1, max(end, place.first - REACH) - 1, -1):
        if sentence[i].text in PREPOSITIONS:
            return True
        if sentence[i].text in BREAKS or sentence[i].text in LIST:
            return False
    return True


def _resolve(spoken: Spoken, places: Sequence[Place]) -> Located:
    if not places:
        return Located(None, full_names(IMPLIED[spoken.finding], None))
    said = {p.side for p in places if p.side is not None}
    side: Side | None = None if not said else said.pop() if len(said) == 1 else "bilateral"
    implied = full_names(IMPLIED[spoken.finding], side)
    named = [name for p in places for name in full_names(p.regions, p.side or side)]
    inner = {a for name in named for a in ANCESTORS[name]}
    regions = tuple(dict.fromkeys(name for name in named if name not in inner))
    if spoken.organ is not None:
        # The organ itself names a region: the heart that is enlarged.
        regions = tuple(r for r in regions if r in implied or not ANCESTORS[r].isdisjoint(implied))
    elif (
        side is None and regions == LUNGS and all(LUNGS[0] in ANCESTORS[r] or LUNGS[1] in ANCESTORS[r] for r in implied)
    ):
        # "The lungs are free of effusion": what the finding implies says more.
        regions = ()
    return Located(side, regions or implied)


def _handed_on(
    sentence: list[Word],
    found: Sequence[Spoken],
    absent: Sequence[bool],
    own: Sequence[Sequence[Place]],
    leading: Sequence[bool],
    located: list[Located],
) -> list[Located]:
    """Give findings without a place that of a neighbour they are joined to."""
    # "The lungs" alone place a nodule, but not the effusion that is listed with it.
    placed = [w.side is not None or w.regions != _resolve(f, []).regions for f, w in zip(found, located, strict=True)]
    # Only a place that is said is handed on, not one that is implied; a side always.
    named = [any(place.regions for place in places) for places in own]
    end = 0
    for i in range(1, len(found)):
        end = max(end, found[i - 1].last, *(p.last for p in own[i - 1]))
        if not placed[i] and placed[i - 1] and absent[i] == absent[i - 1] and _takes(found[i]):
            gap = [w.text for w in sentence[end : found[i].first]]
            if len(gap) > REACH or not CLAUSES.isdisjoint(gap):
                continue
            if not LINKS.isdisjoint(gap):
                located[i] = _from(found[i], located[i - 1], named[i - 1], True)
            elif leading[i - 1] and found[i - 1].organ is None and len(gap) <= LIST_GAP and not LIST.isdisjoint(gap):
                located[i] = _from(found[i], located[i - 1], named[i - 1], False)
            else:
                continue
            placed[i], named[i] = True, named[i - 1]
    for i in range(len(found) - 2, -1, -1):
        if not placed[i] and placed[i + 1] and not leading[i + 1] and absent[i] == absent[i + 1] and _takes(found[i]):
            gap = [w.text for w in sentence[found[i].last : found[i + 1].first]]
            if len(gap) <= REACH and not LIST.isdisjoint(gap) and BETWEEN.isdisjoint(gap):
                located[i] = _from(found[i], located[i + 1], named[i + 1], False)
                placed[i], named[i] = True, named[i + 1]
    return located


def _takes(spoken: Spoken) -> bool:
    implied = IMPLIED[spoken.finding]
    return spoken.organ is None and (not implied or not PAIRED.isdisjoint(implied))


def _from(spoken: Spoken, other: Located, named: bool, same: bool) -> Located:
    """Return the place of a finding that is joined to another.

    Args:
        spoken: The finding.
        other: Where the other lies.
        named: The sentence names regions for the other, not a side alone.
        same: The two are one thing, so that any region fits; otherwise only those where the finding can lie.
    """
    implied = full_names(IMPLIED[spoken.finding], other.side)
    fits = same or not implied or all(r in implied or not ANCESTORS[r].isdisjoint(implied) for r in other.regions)
    return other if named and fits else Located(other.side, implied)


def _same(firsts: list[int], n: int) -> list[int]:
    """Return the numbers of the findings that begin where the n-th begins."""
    return list(range(bisect_left(firsts, firsts[n]), bisect_right(firsts, firsts[n])))
