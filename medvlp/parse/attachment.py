"""The places of the findings of a sentence: which place belongs to which finding.

A finding takes the places next to it, and if there is none, the place of a finding that it is joined to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence

from medvlp.parse.candidates import Candidate
from medvlp.parse.ellipsis import Sides
from medvlp.parse.lexicon import GRAMMAR, IMPLIED, Severity, full_names
from medvlp.parse.mentions import Spoken
from medvlp.parse.placement import family
from medvlp.parse.places import GLUE, LIST, Grade, Place, find_places
from medvlp.parse.words import REACH, Word, holds, only

# See vocabulary/grammar.yaml.
PREPOSITIONS = GRAMMAR["prepositions"]
PARTING = GRAMMAR["not_before_finding"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"] | GRAMMAR["links"]
GRADE_PARTING = GRAMMAR["severity_not_before"]
BREAKS = GRAMMAR["breaks"]
SEVERITY_BREAKS = BREAKS - {",", ":"}
# A severity behind one of these is that of an earlier study.
FORMER = GRAMMAR["former"]
CHANGES = GRAMMAR["changes"]
BY = frozenset(["by"])
TO = frozenset(["to", "toward", "towards"])
DENIALS = frozenset(["no", "without"])
EARLIER = frozenset(["prior", "previous", "comparison"])
VERBS = GRAMMAR["verbs"] | GRAMMAR["adverbs"] | frozenset(["mildly", "slightly", "minimally", "markedly"])
NOW = GRAMMAR["verbs"] | frozenset(["now", "has", "currently"])
# First words of asides: small, if any, effusion.
ASIDES = GRAMMAR["asides"]
# Greatest number of words of an aside, with its commas.
ASIDE = 6
# Number of findings among which a side that stands for a finding looks for it.
NEAR = 3
# Words between a severity and a side: moderate on the right.
SIDED = GLUE | PREPOSITIONS


def attach(sentence: list[Word], findings: Sequence[Spoken]) -> list[Candidate]:
    """Return the findings of a sentence with the places and severities next to them.

    A finding of which the sentence says something else on each side is two findings.

    Args:
        sentence: Its words.
        findings: Its findings.
    """
    candidates = [Candidate(spoken, spoken.first, spoken.last) for spoken in findings]
    places, grades = find_places(sentence, findings)
    if places:
        sides = Sides(sentence, grades)
        _assign_places(sentence, candidates, places, sides)
        candidates = sides.part(candidates)
    if grades:
        _assign_severities(sentence, candidates, places, grades)
    return candidates


def _assign_severities(
    sentence: list[Word], candidates: Sequence[Candidate], places: Sequence[Place], grades: Sequence[Grade]
) -> None:
    starts = [c.first for c in candidates]
    # What was before counts if nothing is said of now.
    for grade in sorted(grades, key=lambda grade: _is_former(sentence, grade)) if len(grades) > 1 else grades:
        for i in _graded(sentence, candidates, starts, grade):
            candidates[i].severity = candidates[i].severity or grade.severity
    amounts = _amounts(sentence, places, grades)
    for candidate in candidates if amounts else ():
        # Small right and left effusions.
        candidate.severity = candidate.severity or next((amounts[p] for p in candidate.places if p in amounts), None)


def _is_former(sentence: list[Word], grade: Grade) -> bool:
    """PREVIOUSLY small, is now moderate; decreased FROM large; small ON PRIOR: a severity of an earlier study."""
    before = sentence[grade.first - 1].text if grade.first else ""
    behind = [word.text for word in sentence[grade.last : grade.last + 3]]
    return (
        before in FORMER
        or behind[:1] in (["previously"], ["before"])
        or (behind[:1] == ["on"] and not EARLIER.isdisjoint(behind[1:]))
    )


def _graded(sentence: list[Word], candidates: Sequence[Candidate], starts: list[int], grade: Grade) -> Sequence[int]:
    """Return the findings that a severity is part of, else those it stands before, else those it follows."""
    if grade.last < len(sentence) and sentence[grade.last].text in CHANGES:
        return ()
    holder = bisect_right(starts, grade.first) - 1
    if holder >= 0 and grade.first < candidates[holder].last:
        return _with_start(starts, holder)
    following = bisect_left(starts, grade.last)
    if following < len(starts) and not holds(
        sentence, _behind_aside(sentence, grade), starts[following], GRADE_PARTING
    ):
        return _with_start(starts, following)
    preceding = bisect_left(starts, grade.first) - 1
    if preceding >= 0 and not _is_parted(sentence, candidates[preceding].last, grade.first):
        return _with_start(starts, preceding)
    return ()


def _is_parted(sentence: list[Word], start: int, end: int) -> bool:
    """Effusion was small AND IS NOW moderate: "and" or "but" before a verb parts no severity from its finding."""
    return end - start > REACH or any(
        sentence[i].text in SEVERITY_BREAKS and not (sentence[i].text in ("and", "but") and sentence[i + 1].text in NOW)
        for i in range(start, end)
    )


def _behind_aside(sentence: list[Word], grade: Grade) -> int:
    """Small, PREVIOUSLY LARGE, effusion: return the word behind an aside between commas, or behind the severity.

    The severity may itself be in an aside: previously large, NOW SMALL, effusion.
    """
    texts = [word.text for word in sentence[max(0, grade.first - 2) : grade.last + ASIDE]]
    first = min(2, grade.first)  # of the severity in these words
    last = first + grade.last - grade.first
    if texts[last : last + 1] != [","]:
        return grade.last
    if texts[:1] == [","] and first == 2 and texts[1] in ASIDES:
        return grade.last + 1
    if texts[last + 1 : last + 2] and texts[last + 1] in ASIDES and "," in texts[last + 2 :]:
        return grade.last + texts.index(",", last + 2) - last + 1
    return grade.last


def _assign_places(
    sentence: list[Word], candidates: Sequence[Candidate], places: Sequence[Place], sides: Sides
) -> None:
    starts = [c.spoken.first for c in candidates]
    holders: dict[int, list[int]] = defaultdict(list)
    for n, candidate in enumerate(candidates):
        for i in range(*(candidate.spoken.organ or (candidate.spoken.first, candidate.spoken.last))):
            holders[i].append(n)
    owners: list[int] = []
    last = -1
    for place in places:
        is_listed = bool(owners) and only(sentence, last, place.first, LIST)
        owners, leads = _owners(sentence, candidates, starts, holders, place, owners if is_listed else [], sides)
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
    sides: Sides,
) -> tuple[list[int], bool]:
    """Return the findings that a place belongs to, and whether it stands before them.

    Args:
        sentence: Its words.
        candidates: Its findings.
        starts: Their first words.
        holders: The findings whose name or organ contains a word, by word.
        place: The place.
        previous: Owners of the place before it, if the two are neighbours in a list.
        sides: The rules for sides that stand for a finding.
    """
    for i in range(place.first, place.last):
        if i in holders:
            return [*holders[i], *_predicates(sentence, candidates, starts, place)], True
    following = bisect_left(starts, place.last)
    preceding = bisect_left(starts, place.first) - 1
    after = _with_start(starts, following) if following < len(starts) else []
    before = _with_start(starts, preceding) if preceding >= 0 else []
    if before and after and _is_direct(sentence, candidates[preceding].last, place, starts[following]):
        return before, False
    if before and not place.regions and sides.is_elliptic(place, starts[following] if after else len(sentence)):
        return _with_start(starts, _other_side(candidates, preceding, place)), False
    if after and not holds(sentence, place.last, starts[following], PARTING):
        return after, True
    if previous:
        return previous, False
    if before and (not after or _trails(sentence, candidates[preceding].spoken.last, place)):
        return before, False
    # Heart displaced to the left by a right effusion; the patient is rotated to the right, with edema.
    is_direction = not place.regions and _is_direction(sentence, place)
    if is_direction or holds(sentence, place.last, starts[following], BY):
        return [], False
    # Skin fold over the right lung, no pneumothorax; but: in the right lung, no nodule.
    is_denied = bool(place.regions) and holds(sentence, place.last, starts[following], DENIALS)
    if is_denied and not only(sentence, 0, place.first, SIDED):
        return [], False
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


def _predicates(
    sentence: list[Word], candidates: Sequence[Candidate], starts: list[int], place: Place
) -> Sequence[int]:
    """Right angle (is) BLUNTED, left sharp: return the findings that are predicates of the organ at a place."""
    following = bisect_left(starts, place.last)
    if following == len(starts) or candidates[following].spoken.organ is not None:
        return ()
    has_verb = place.last < starts[following] and only(sentence, place.last, starts[following], VERBS)
    is_predicate = has_verb or candidates[following].spoken.predicate
    if not is_predicate or (not has_verb and holds(sentence, place.last, starts[following], PARTING)):
        return ()
    return _with_start(starts, following)


def _is_direction(sentence: list[Word], place: Place) -> bool:
    """Rotated TO THE RIGHT: the side of a movement."""
    before = [word.text for word in sentence[max(0, place.first - 2) : place.first] if word.text != "the"]
    return not TO.isdisjoint(before[-1:])


def _is_direct(sentence: list[Word], end: int, place: Place, following: int) -> bool:
    """Volume loss IN THE LEFT LUNG following lobectomy: a preposition joins a place to the finding directly before."""
    joined = end < place.first and only(sentence, end, place.first, SIDED) and place.last < following
    return joined and sentence[end].text in PREPOSITIONS


def _other_side(candidates: Sequence[Candidate], last: int, place: Place) -> int:
    """Return the number of the last finding with a place on another side, among a few; else of the last one."""
    for i in range(last, max(-1, last - NEAR), -1):
        if any(other.side not in (None, place.side) for other in candidates[i].places):
            return i
    return last


def _with_start(starts: list[int], n: int) -> list[int]:
    """Return the numbers of the findings that begin at the word where the n-th begins."""
    return list(range(bisect_left(starts, starts[n]), bisect_right(starts, starts[n])))
