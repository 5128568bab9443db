"""Where each finding of a sentence lies: which of its places belong to which finding."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from medvlp.parse.cues import Existence
from medvlp.parse.lexicon import ANCESTORS, BOTH, GRAMMAR, IMPLIED, PAIRED, Severity, Side, full_names
from medvlp.parse.mentions import Spoken
from medvlp.parse.places import GLUE, LIST, Grade, Place, find_places
from medvlp.parse.words import REACH, Word, holds, only

# See vocabulary/grammar.yaml.
PREPOSITIONS = GRAMMAR["prepositions"]
PARTING = GRAMMAR["not_before_finding"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"] | GRAMMAR["links"]
GRADE_PARTING = GRAMMAR["severity_not_before"]
BREAKS = GRAMMAR["breaks"]
CLAUSES = GRAMMAR["clauses"]
BETWEEN = GRAMMAR["clauses"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"]
LINKS = GRAMMAR["links"]
COMPANIONS = GRAMMAR["companions"]
# Between how much there is and the side it is on: moderate on the right.
SIDED = GLUE | PREPOSITIONS
# A list has an adjective or two between its words: effusion and mild basilar atelectasis.
LIST_GAP = 3
LUNGS = ("right lung", "left lung")


class Located(NamedTuple):
    """Where a finding lies.

    Attributes:
        side: If said.
        regions: Full names: those said, else those the finding implies.
        severity: How much there is of it there, if said.
    """

    side: Side | None
    regions: tuple[str, ...]
    severity: Severity | None = None


def locate(sentence: list[Word], found: Sequence[Spoken], said: Sequence[Existence]) -> list[list[Located]]:
    """Return where each finding of a sentence lies, and how much of it there is: once, or for each side.

    Args:
        sentence: Its words.
        found: Its findings.
        said: Their existence: a place is not handed on between what is there and what is not.
    """
    places, grades = find_places(sentence)
    if not places and not grades:
        return [[_resolve(f, [])] for f in found]
    severities: list[Severity | None] = [None] * len(found)
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
    located = _handed_on(
        sentence, found, said, own, leading, [_resolve(f, places) for f, places in zip(found, own, strict=True)]
    )
    amounts = _amounts(sentence, places, grades)
    for i, of in enumerate(own):
        # Small right and left effusions.
        severities[i] = severities[i] or next((amounts[p] for p in of if p in amounts), None)
    return [
        _by_side(f, of, amounts) or [place if severity is None else place._replace(severity=severity)]
        for f, of, place, severity in zip(found, own, located, severities, strict=True)
    ]


def _amounts(sentence: list[Word], places: Sequence[Place], grades: Sequence[Grade]) -> dict[Place, Severity]:
    """Return how much there is in the places of which it is said: small on the right."""
    firsts = [p.first for p in places]
    amounts: dict[Place, Severity] = {}
    for grade in grades:
        n = bisect_left(firsts, grade.last)
        if n < len(places) and only(sentence, grade.last, firsts[n], SIDED):
            amounts[places[n]] = grade.severity
    return amounts


def _by_side(spoken: Spoken, places: Sequence[Place], amounts: dict[Place, Severity]) -> list[Located]:
    """Return a finding once for each side where each has an amount: moderate right and small left effusions."""
    if len(places) != 2 or {p.side for p in places} != set(BOTH) or not amounts.keys() >= set(places):
        return []
    return [_resolve(spoken, [p])._replace(severity=amounts[p]) for p in places]


def _graded(sentence: list[Word], found: Sequence[Spoken], firsts: list[int], grade: Grade) -> Sequence[int]:
    """Return the findings a severity speaks of: those whose words it is part of, it stands before, or it follows."""
    holder = bisect_right(firsts, grade.first) - 1
    if holder >= 0 and grade.first < found[holder].last:
        return _same(firsts, holder)
    following = bisect_left(firsts, grade.last)
    if following < len(found) and not holds(sentence, grade.last, firsts[following], GRADE_PARTING):
        return _same(firsts, following)
    preceding = bisect_left(firsts, grade.first) - 1
    if preceding >= 0 and not holds(sentence, found[preceding].last, grade.first, BREAKS - {",", ":"}):
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
    # In the left lung there is a nodule; but loss of the heart border, suggestive of pneumonia.
    implied = _family(full_names(IMPLIED[found[following].finding], None))
    fits = not place.regions or not implied or not implied.isdisjoint(_family(full_names(place.regions, None)))
    return (after if fits else []), True


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
    elsewhere = any(p.elsewhere and not spoken.first <= p.first < spoken.last for p in places)
    return Located(side, regions or (() if elsewhere else implied))


def _handed_on(
    sentence: list[Word],
    found: Sequence[Spoken],
    said: Sequence[Existence],
    own: Sequence[Sequence[Place]],
    leading: Sequence[bool],
    located: list[Located],
) -> list[Located]:
    """Give findings without a place that of a neighbour they are joined to."""
    # "The lungs" alone place a nodule, but not the effusion that is listed with it.
    placed = [
        w.side is not None or w.regions != full_names(IMPLIED[f.finding], None)
        for f, w in zip(found, located, strict=True)
    ]
    # Only a place that is said is handed on, not one that is implied; a side always.
    named = [any(place.regions for place in places) for places in own]
    same = [False] * len(found)  # it is what the finding before it is
    end = 0
    for i in range(1, len(found)):
        end = max(end, found[i - 1].last, *(p.last for p in own[i - 1]))
        if placed[i] or not placed[i - 1] or not _takes(found[i]) or (said[i] == "absent") != (said[i - 1] == "absent"):
            continue
        gap = [w.text for w in sentence[end : found[i].first]]
        if len(gap) > REACH or not CLAUSES.isdisjoint(gap):
            continue
        listed = found[i - 1].organ is None and len(gap) <= LIST_GAP and not LIST.isdisjoint(gap)
        if not gap or (not LINKS.isdisjoint(gap) and "and" not in gap):
            same[i] = True
        elif listed and said[i] == said[i - 1] and (leading[i - 1] or same[i - 1]):
            same[i] = same[i - 1]
        elif COMPANIONS.isdisjoint(gap):
            continue
        located[i] = _from(found[i], located[i - 1], named[i - 1], same[i])
        placed[i], named[i] = True, named[i - 1]
    for i in range(len(found) - 2, -1, -1):
        if not placed[i] and placed[i + 1] and said[i] == said[i + 1] and _takes(found[i]):
            gap = [w.text for w in sentence[found[i].last : found[i + 1].first]]
            listed = len(gap) <= REACH and not LIST.isdisjoint(gap) and BETWEEN.isdisjoint(gap)
            if not gap or (listed and not leading[i + 1]):
                located[i] = _from(found[i], located[i + 1], named[i + 1], not gap)
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
        same: The two are one thing, so that any part of the same organ fits; otherwise only where the finding can lie.
    """
    implied = full_names(IMPLIED[spoken.finding], other.side)
    if not implied or all(r in implied or not ANCESTORS[r].isdisjoint(implied) for r in other.regions):
        fits = True
    else:
        fits = same and not _family(implied).isdisjoint(_family(other.regions))
    return other if named and fits else Located(other.side, implied)


def _family(regions: Sequence[str]) -> set[str]:
    """Return regions and those that hold them."""
    return {name for region in regions for name in (region, *ANCESTORS[region])}


def _same(firsts: list[int], n: int) -> list[int]:
    """Return the numbers of the findings that begin where the n-th begins."""
    return list(range(bisect_left(firsts, firsts[n]), bisect_right(firsts, firsts[n])))
