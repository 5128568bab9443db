"""The place of one finding, from the places that belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from medvlp.parse.lexicon import ANCESTORS, IMPLIED, Side, full_names
from medvlp.parse.mentions import Spoken
from medvlp.parse.places import Place

LUNGS = ("right lung", "left lung")


class Located(NamedTuple):
    """The place of a finding.

    Attributes:
        side: The stated side; None if the sentence states none.
        regions: Full names of the stated regions, else of those that the finding implies.
    """

    side: Side | None
    regions: tuple[str, ...]


IMPLIED_PLACES = {finding: Located(None, full_names(regions, None)) for finding, regions in IMPLIED.items()}


def resolve(spoken: Spoken, places: Sequence[Place]) -> Located:
    """Return the place of a finding: the stated regions, else those that the finding implies, on the stated side."""
    if not places:
        return IMPLIED_PLACES[spoken.finding]
    side = _common_side(places)
    implied = full_names(IMPLIED[spoken.finding], side)
    regions = _innermost([name for p in places for name in full_names(p.regions, p.side or side)])
    if spoken.organ is not None:
        regions = tuple(region for region in regions if lies_in(region, implied))
    elif side is None and _says_less(regions, implied):
        regions = ()
    return Located(side, regions or (() if _lies_elsewhere(spoken, places) else implied))


def _common_side(places: Sequence[Place]) -> Side | None:
    """Return the side of all places together: right and left are bilateral."""
    sides = {place.side for place in places if place.side is not None}
    return "bilateral" if len(sides) > 1 else next(iter(sides), None)


def _innermost(regions: Sequence[str]) -> tuple[str, ...]:
    """Return the regions that contain no other: the apex of the left lung is the apex alone."""
    outer = {ancestor for region in regions for ancestor in ANCESTORS[region]}
    return tuple(dict.fromkeys(region for region in regions if region not in outer))


def lies_in(region: str, implied: Sequence[str]) -> bool:
    """Return whether a region is one of those that an organ implies, or in one: the heart that is enlarged."""
    return region in implied or not ANCESTORS[region].isdisjoint(implied)


def _says_less(regions: Sequence[str], implied: Sequence[str]) -> bool:
    """Return whether the regions that a finding implies are more exact: the lungs are free of effusion."""
    return regions == LUNGS and all(not ANCESTORS[region].isdisjoint(LUNGS) for region in implied)


def _lies_elsewhere(spoken: Spoken, places: Sequence[Place]) -> bool:
    """Return whether a finding lies in none of the 29 regions: calcification in the axilla."""
    return any(place.elsewhere and not spoken.first <= place.first < spoken.last for place in places)


def family(regions: Sequence[str]) -> set[str]:
    """Return regions and those that contain them."""
    return {name for region in regions for name in (region, *ANCESTORS[region])}
