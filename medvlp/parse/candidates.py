"""A finding of a sentence while the rules look for its place and its existence."""

from __future__ import annotations

from dataclasses import dataclass, field

from medvlp.parse.cues import Existence, Mention
from medvlp.parse.lexicon import IMPLIED, PAIRED, Severity, full_names
from medvlp.parse.mentions import Spoken
from medvlp.parse.placement import Located, family, lies_in, resolve
from medvlp.parse.places import Place

UNPLACED = Located(None, ())


@dataclass(slots=True)
class Candidate:
    """A finding of a sentence while the rules look for its place.

    Attributes:
        spoken: The finding.
        first: First of the words that state it: of its name, or of the side that stands for it: the left effusion is
            small, THE RIGHT is moderate.
        last: Behind the last of them.
        places: Places that belong to it, not to another finding.
        leads: The last of these places stands before it.
        severity: The stated severity.
        existence: Its existence.
        contrast: Finding to which the sentence opposes this one: the left effusion, but not THE RIGHT.
        aside: First word and end of a piece that speaks of this finding alone; no cue of it is about others.
        located: Its place so far.
        is_placed: The sentence states its place, by itself or by a finding that it is joined to.
        has_regions: The sentence states regions in this way, not a side alone.
        is_same: It is one thing with the finding before it.
    """

    spoken: Spoken
    first: int
    last: int
    places: list[Place] = field(default_factory=list)
    leads: bool = False
    severity: Severity | None = None
    existence: Existence = "present"
    contrast: Candidate | None = None
    aside: tuple[int, int] | None = None
    located: Located = UNPLACED
    is_placed: bool = False
    has_regions: bool = False
    is_same: bool = False

    @property
    def mention(self) -> Mention:
        """Words that the cues of the sentence may deny or doubt."""
        return Mention(self.first, self.last, self.spoken.predicate)

    @property
    def words(self) -> tuple[int, int]:
        """First word and end of the finding and of the organ that it is said of."""
        first, last, organ = self.spoken.first, self.spoken.last, self.spoken.organ
        return (first, last) if organ is None else (min(first, organ[0]), max(last, organ[1]))

    def settle(self) -> None:
        """Determine the place from its own places."""
        self.located = resolve(self.spoken, self.places)
        if not self.places:
            return
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
