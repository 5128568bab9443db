"""Sides that stand for a finding: the left effusion is small, THE RIGHT is moderate.

A finding with places on both sides becomes one finding for each side, if the sentence says something else of each. Each
rule is a function, and its docstring begins with a sentence that the rule is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from medvlp.parse.candidates import Candidate
from medvlp.parse.lexicon import BOTH, GRAMMAR
from medvlp.parse.places import Grade, Place
from medvlp.parse.words import REACH, Word, holds

# See vocabulary/grammar.yaml.
SEPARATORS = GRAMMAR["separators"]
OPENINGS = GRAMMAR["side_openings"]
CONTRASTS = GRAMMAR["contrasts"]
COURSES = GRAMMAR["courses"]
HEALTHY = GRAMMAR["healthy"]
AUXILIARIES = GRAMMAR["auxiliaries"]
ARTICLES = GRAMMAR["articles"] | GRAMMAR["prepositions"] | frozenset(["a"])
# The right one, the right side.
ONE = frozenset(["one", "side", "sided", "-"])


class Sides:
    """The rules for the sides of one sentence.

    Args:
        sentence: Its words.
        grades: Its words for severity.
    """

    def __init__(self, sentence: list[Word], grades: Sequence[Grade]) -> None:
        self.sentence = sentence
        self.grades = grades

    @cached_property
    def texts(self) -> list[str]:
        """Words of the sentence as text."""
        return [word.text for word in self.sentence]

    @cached_property
    def graded(self) -> dict[int, int]:
        """First word of each severity by the word behind it."""
        return {grade.last: grade.first for grade in self.grades}

    def is_elliptic(self, place: Place, following: int) -> bool:
        """..., the right is moderate: a side opens a clause without a finding; the next finding is at `following`."""
        if place.regions or place.elsewhere or place.side not in BOTH or not self._opens(place):
            return False
        return self._end_of_clause(place) <= following

    def part(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the findings, with one for each side of which the sentence says something else, in their order."""
        parted: list[Candidate] = []
        for candidate in candidates:
            if candidate.spoken.organ is not None and len(candidate.places) > 1:
                self._take_own_side(candidate)
            if len(candidate.places) > 1 and {place.side for place in candidate.places}.issuperset(BOTH):
                parted += self._parts(candidate)
            else:
                parted.append(candidate)
        if len(parted) > len(candidates):
            parted.sort(key=lambda candidate: candidate.first)
        return parted

    def _take_own_side(self, candidate: Candidate) -> None:
        """Right angle blunted, LEFT sharp: a side before a quality is its side; that of the organ was for another."""
        organ, quality = candidate.words[0], candidate.first
        behind_organ = candidate.spoken.organ[1] if candidate.spoken.organ else organ
        for place in candidate.places:
            is_bare = place.side in BOTH and not place.regions and behind_organ <= place.first < quality
            if is_bare and self._opens(place):
                own = [p._replace(side=place.side) for p in candidate.places if p.first < behind_organ]
                candidate.places = own or [place]
                return

    def _parts(self, whole: Candidate) -> list[Candidate]:
        own: list[Place] = []
        parts: list[Candidate] = []
        begin, end = whole.words
        places = sorted(whole.places, key=lambda place: place.first)
        for n, place in enumerate(places):
            behind = place.first >= end
            if place.side not in BOTH or not (behind or place.last <= begin):
                own.append(place)
                continue
            aside = self._exception(place) if n or behind else None
            if aside is None and behind:
                aside = self._denied_predicate(place)
            is_other = self._says_more(place, end) if behind else self._is_pair(place, places[n + 1 : n + 2], begin)
            if aside is not None or is_other:
                parts.append(self._part(whole, place, aside))
            else:
                own.append(place)
        own_sides = {place.side for place in own}
        if "bilateral" in own_sides and not own_sides.isdisjoint(BOTH):
            return [whole]
        if not own_sides.isdisjoint(BOTH) or len({part.places[0].side for part in parts}) < len(BOTH):
            whole.places = own
            return [whole, *parts]
        # Bilateral effusions, small on the left and moderate on the right.
        for part in parts:
            part.contrast = None
        return parts

    def _part(self, whole: Candidate, place: Place, aside: tuple[int, int] | None) -> Candidate:
        first = self._before_articles(place.first)
        first = self.graded.get(first, place.first)
        is_there = aside is not None and not COURSES.isdisjoint(self.texts[aside[1] : aside[1] + REACH])
        contrast = None if aside is None or is_there else whole
        # The left costophrenic angle is blunted, the right is sharp.
        is_healthy = aside is None and not HEALTHY.isdisjoint(self.texts[place.last : self._end_of_clause(place)])
        spoken = whole.spoken._replace(denied=whole.spoken.denied or is_healthy)
        return Candidate(spoken, first, place.last, [place], contrast=contrast, aside=aside)

    def _is_pair(self, place: Place, following: Sequence[Place], begin: int) -> bool:
        """Small RIGHT and no left effusion: a side before another one, with a word between that tells them apart."""
        if not following or following[0].side in (None, place.side) or following[0].last > begin:
            return False
        if following[0].first - place.last > REACH or self._exception(following[0]) is not None:
            return False
        between = range(place.last, following[0].first)
        return any(self.texts[i] in CONTRASTS or i + 1 in self.graded for i in between)

    def _says_more(self, place: Place, end: int) -> bool:
        """The left effusion is small, THE RIGHT is moderate: the clause of a side says something of it."""
        if place.regions or not holds(self.sentence, end, place.first, SEPARATORS) or not self._opens(place):
            return False
        behind = self._behind(place)
        is_compared = self.texts[behind : behind + 1] == ["than"]
        return not is_compared and (self._end_of_clause(place) > behind or not self._is_bare(place))

    def _is_bare(self, place: Place) -> bool:
        first = self._before_articles(place.first)
        return first == 0 or self.texts[first - 1] in SEPARATORS

    def _exception(self, place: Place) -> tuple[int, int] | None:
        """The left effusion, BUT NOT THE RIGHT, has resolved: what is said of the other side is not so of this one."""
        start = self._before_articles(place.first) - 1
        if start < 1 or self.texts[start] != "not":
            return None
        if self.texts[start - 1] == "but":
            start -= 1
        if start and self.texts[start - 1] == ",":
            start -= 1
        end = self._behind(place)
        return start, end + (self.texts[end : end + 1] == [","])

    def _denied_predicate(self, place: Place) -> tuple[int, int] | None:
        """The right effusion is resolved, the left IS NOT: the clause denies what is said of the other side."""
        verb = self._behind(place)
        end = verb + 2
        is_last = end >= len(self.texts) or self.texts[end] in SEPARATORS
        is_denied = self.texts[verb + 1 : end] == ["not"] and self.texts[verb] in AUXILIARIES
        return (verb, end) if is_last and is_denied else None

    def _opens(self, place: Place) -> bool:
        """Return whether a place is the first of its clause, behind small words, severities and denials alone."""
        first = place.first
        while first > max(0, place.first - REACH) and self.texts[first - 1] not in SEPARATORS:
            if first in self.graded:
                first = self.graded[first]
            elif self.texts[first - 1] in OPENINGS or self.texts[first - 1] in CONTRASTS:
                first -= 1
            else:
                return False
        return first == 0 or self.texts[first - 1] in SEPARATORS

    def _before_articles(self, place: int) -> int:
        while place > 0 and (self.texts[place - 1] in ARTICLES or self.texts[place - 1] in ONE):
            place -= 1
        return place

    def _behind(self, place: Place) -> int:
        end = place.last
        while end < len(self.texts) and self.texts[end] in ONE:
            end += 1
        return end

    def _end_of_clause(self, place: Place) -> int:
        """Return the next separator, or the word REACH words behind the place."""
        end = place.last
        limit = min(len(self.texts), place.last + REACH)
        while end < limit and self.texts[end] not in SEPARATORS:
            end += 1
        return end
