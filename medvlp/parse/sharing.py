"""Findings that are joined to another one and share its place.

Each rule is a function, and its docstring begins with a sentence that the rule is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from medvlp.parse.cues import Existence
from medvlp.parse.lexicon import GRAMMAR, IMPLIED, PAIRED, Severity, full_names
from medvlp.parse.mentions import Spoken
from medvlp.parse.placement import Located, family, lies_in, resolve
from medvlp.parse.places import LIST, Place
from medvlp.parse.words import REACH, Word

# See vocabulary/grammar.yaml.
CLAUSES = GRAMMAR["clauses"]
BETWEEN = GRAMMAR["clauses"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"]
LINKS = GRAMMAR["links"]
COMPANIONS = GRAMMAR["companions"]
# Greatest number of words between two findings of a list: effusion and mild basilar atelectasis.
LIST_GAP = 3
UNPLACED = Located(None, ())


@dataclass
class Candidate:
    """A finding of a sentence while the rules look for its place.

    Attributes:
        spoken: The finding.
        existence: Its existence.
        places: Places that belong to it, not to another finding.
        leads: The last of these places stands before it.
        severity: The stated severity.
        located: Its place so far.
        is_placed: The sentence states its place, by itself or by a finding that it is joined to.
        has_regions: The sentence states regions in this way, not a side alone.
        is_same: It is one thing with the finding before it.
    """

    spoken: Spoken
    existence: Existence
    places: list[Place] = field(default_factory=list)
    leads: bool = False
    severity: Severity | None = None
    located: Located = UNPLACED
    is_placed: bool = False
    has_regions: bool = False
    is_same: bool = False

    def settle(self) -> None:
        """Determine the place from its own places."""
        self.located = resolve(self.spoken, self.places)
        # "The lungs" alone place a nodule, but not the effusion that is listed with it.
        implied = full_names(IMPLIED[self.spoken.finding], None)
        self.is_placed = self.located.side is not None or self.located.regions != implied
        self.has_regions = any(place.regions for place in self.places)

    def accepts(self, other: Candidate) -> bool:
        """Return whether it lacks a place, and can take that of a finding that it is joined to."""
        implied = IMPLIED[self.spoken.finding]
        takes = self.spoken.organ is None and (not implied or not PAIRED.isdisjoint(implied))
        return takes and other.is_placed and not self.is_placed

    def take(self, other: Candidate, is_same: bool) -> None:
        """Take the place of a finding that it is joined to; see `_shared_place`."""
        self.located = _shared_place(self.spoken, other.located, other.has_regions, is_same)
        self.is_placed, self.has_regions = True, other.has_regions


def hand_forward(sentence: list[Word], candidates: Sequence[Candidate]) -> None:
    """Give findings without a place that of the finding before them, if a rule joins the two."""
    end = 0
    for before, after in pairwise(candidates):
        end = max(end, before.spoken.last, *(place.last for place in before.places))
        if not after.accepts(before) or (after.existence == "absent") != (before.existence == "absent"):
            continue
        gap = [word.text for word in sentence[end : after.spoken.first]]
        if len(gap) > REACH or not CLAUSES.isdisjoint(gap):
            continue
        if _is_interpretation(gap):
            after.is_same = True
        elif _is_next_of_list(before, after, gap):
            after.is_same = before.is_same
        elif not _is_companion(gap):
            continue
        after.take(before, after.is_same)


def _is_interpretation(gap: Sequence[str]) -> bool:
    """An opacity at the left base reflects atelectasis: the two findings are one thing."""
    return not gap or (not LINKS.isdisjoint(gap) and "and" not in gap)


def _is_next_of_list(before: Candidate, after: Candidate, gap: Sequence[str]) -> bool:
    """Left basilar opacity and atelectasis: a place that stands before a list is that of each of its findings."""
    is_list = before.spoken.organ is None and len(gap) <= LIST_GAP and not LIST.isdisjoint(gap)
    return is_list and after.existence == before.existence and (before.leads or before.is_same)


def _is_companion(gap: Sequence[str]) -> bool:
    """A left effusion with adjacent atelectasis: the second finding is on the side of the first."""
    return not COMPANIONS.isdisjoint(gap)


def hand_backward(sentence: list[Word], candidates: Sequence[Candidate]) -> None:
    """Give findings without a place that of the finding behind them, if a rule joins the two."""
    for after, before in pairwise(reversed(candidates)):
        if not before.accepts(after) or before.existence != after.existence:
            continue
        gap = [word.text for word in sentence[before.spoken.last : after.spoken.first]]
        if not gap or _is_list_with_place_behind(after, gap):
            before.take(after, is_same=not gap)


def _is_list_with_place_behind(after: Candidate, gap: Sequence[str]) -> bool:
    """Opacity and atelectasis at the left base: a place that stands behind a list is that of each of its findings."""
    is_list = len(gap) <= REACH and not LIST.isdisjoint(gap) and BETWEEN.isdisjoint(gap)
    return is_list and not after.leads


def _shared_place(spoken: Spoken, other: Located, has_regions: bool, is_same: bool) -> Located:
    """Return the place of a finding that is joined to another: its regions if they fit, else its side.

    Args:
        spoken: The finding.
        other: Place of the other.
        has_regions: The sentence states regions for the other, not a side alone.
        is_same: The two are one thing, so that any part of the same organ fits; otherwise only regions that the finding
            implies.
    """
    implied = full_names(IMPLIED[spoken.finding], other.side)
    fits = not implied or all(lies_in(region, implied) for region in other.regions)
    fits = fits or (is_same and not family(implied).isdisjoint(family(other.regions)))
    return other if has_regions and fits else Located(other.side, implied)
