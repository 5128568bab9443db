"""The places of the findings of a sentence: which place belongs to which finding.

A finding takes the places next to it, and if there is none, the place of a finding that it is joined to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence

from medvlp.parse.cues import Existence
from medvlp.parse.lexicon import BOTH, GRAMMAR, IMPLIED, Severity, full_names
from medvlp.parse.mentions import Spoken
from medvlp.parse.placement import Located, family, resolve
from medvlp.parse.places import GLUE, LIST, Grade, Place, find_places
from medvlp.parse.sharing import Candidate, hand_backward, hand_forward
from medvlp.parse.words import REACH, Word, holds, only

# See vocabulary/grammar.yaml.
PREPOSITIONS = GRAMMAR["prepositions"]
PARTING = GRAMMAR["not_before_finding"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"] | GRAMMAR["links"]
GRADE_PARTING = GRAMMAR["severity_not_before"]
BREAKS = GRAMMAR["breaks"]
# Words between a severity and a side: moderate on the right.
SIDED = GLUE | PREPOSITIONS


def locate(sentence: list[Word], findings: Sequence[Spoken], existences: Sequence[Existence]) -> list[list[Located]]:
    """Return the places and severities of each finding of a sentence: one, or one for each side.

    Args:
        sentence: Its words.
        findings: Its findings.
        existences: Their existence. Present and absent findings do not share a place.
    """
    places, grades = find_places(sentence)
    if not places and not grades:
        return [[resolve(spoken, [])] for spoken in findings]
    candidates = [Candidate(spoken, existence) for spoken, existence in zip(findings, existences, strict=True)]
    _assign_severities(sentence, candidates, grades)
    _assign_places(sentence, candidates, places)
    for candidate in candidates:
        candidate.settle()
    hand_forward(sentence, candidates)
    hand_backward(sentence, candidates)
    return _with_amounts(candidates, _amounts(sentence, places, grades))


def _assign_severities(sentence: list[Word], candidates: Sequence[Candidate], grades: Sequence[Grade]) -> None:
    starts = [c.spoken.first for c in candidates]
    for grade in grades:
        for i in _graded(sentence, candidates, starts, grade):
            candidates[i].severity = candidates[i].severity or grade.severity


def _graded(sentence: list[Word], candidates: Sequence[Candidate], starts: list[int], grade: Grade) -> Sequence[int]:
    """Return the findings that a severity is part of, else those it stands before, else those it follows."""
    holder = bisect_right(starts, grade.first) - 1
    if holder >= 0 and grade.first < candidates[holder].spoken.last:
        return _with_start(starts, holder)
    following = bisect_left(starts, grade.last)
    if following < len(starts) and not holds(sentence, grade.last, starts[following], GRADE_PARTING):
        return _with_start(starts, following)
    preceding = bisect_left(starts, grade.first) - 1
    if preceding >= 0 and not holds(sentence, candidates[preceding].spoken.last, grade.first, BREAKS - {",", ":"}):
        return _with_start(starts, preceding)
    return ()


def _assign_places(sentence: list[Word], candidates: Sequence[Candidate], places: Sequence[Place]) -> None:
    starts = [c.spoken.first for c in candidates]
    holders: dict[int, list[int]] = defaultdict(list)
    for n, candidate in enumerate(candidates):
        for i in range(*(candidate.spoken.organ or (candidate.spoken.first, candidate.spoken.last))):
            holders[i].append(n)
    owners: list[int] = []
    last = -1
    for place in places:
        is_listed = bool(owners) and only(sentence, last, place.first, LIST)
        owners, leads = _owners(sentence, candidates, starts, holders, place, owners if is_listed else [])
        last = place.last
        for i in owners:
            candidates[i].places.append(place)
            candidates[i].leads = leads


def _owners(
    sentence: list[Word],
    candidates: Sequence[Candidate],
    starts: list[int],
    holders: dict[int, list[int]],
    place: Place,
    previous: list[int],
) -> tuple[list[int], bool]:
    """Return the findings that a place belongs to, and whether it stands before them.

    Args:
        sentence: Its words.
        candidates: Its findings.
        starts: Their first words.
        holders: The findings whose name or organ contains a word, by word.
        place: The place.
        previous: Owners of the place before it, if the two are neighbours in a list.
    """
    for i in range(place.first, place.last):
        if i in holders:
            return holders[i], True
    following = bisect_left(starts, place.last)
    preceding = bisect_left(starts, place.first) - 1
    after = _with_start(starts, following) if following < len(starts) else []
    before = _with_start(starts, preceding) if preceding >= 0 else []
    if after and not holds(sentence, place.last, starts[following], PARTING):
        return after, True
    if previous:
        return previous, False
    if before and (not after or _trails(sentence, candidates[preceding].spoken.last, place)):
        return before, False
    # In the left lung there is a nodule; but loss of the heart border, suggestive of pneumonia.
    implied = family(full_names(IMPLIED[candidates[following].spoken.finding], None))
    fits = not place.regions or not implied or not implied.isdisjoint(family(full_names(place.regions, None)))
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


def _amounts(sentence: list[Word], places: Sequence[Place], grades: Sequence[Grade]) -> dict[Place, Severity]:
    """Return the severity at each place for which the sentence states one: small on the right."""
    starts = [place.first for place in places]
    amounts: dict[Place, Severity] = {}
    for grade in grades:
        n = bisect_left(starts, grade.last)
        if n < len(places) and only(sentence, grade.last, starts[n], SIDED):
            amounts[places[n]] = grade.severity
    return amounts


def _with_amounts(candidates: Iterable[Candidate], amounts: dict[Place, Severity]) -> list[list[Located]]:
    """Return the places of each finding with their severities."""
    places_of = []
    for candidate in candidates:
        # Small right and left effusions.
        severity = candidate.severity or next((amounts[p] for p in candidate.places if p in amounts), None)
        place = candidate.located if severity is None else candidate.located._replace(severity=severity)
        places_of.append(_by_side(candidate, amounts) or [place])
    return places_of


def _by_side(candidate: Candidate, amounts: dict[Place, Severity]) -> list[Located]:
    """Return a place for each side if each has a severity: moderate right and small left effusions."""
    places = candidate.places
    if len(places) != 2 or {place.side for place in places} != set(BOTH) or not amounts.keys() >= set(places):
        return []
    return [resolve(candidate.spoken, [place])._replace(severity=amounts[place]) for place in places]


def _with_start(starts: list[int], n: int) -> list[int]:
    """Return the numbers of the findings that begin at the word where the n-th begins."""
    return list(range(bisect_left(starts, starts[n]), bisect_right(starts, starts[n])))
