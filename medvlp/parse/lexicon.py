"""The vocabulary, read once from the YAML files of `vocabulary/`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple, cast, get_args

from medvlp.parse.patterns import read
from medvlp.parse.words import Phrases

Side = Literal["left", "right", "bilateral"]
Severity = Literal["mild", "moderate", "severe"]
BOTH: tuple[Side, ...] = ("right", "left")


class Named(NamedTuple):
    """A phrase for a finding.

    Attributes:
        finding: Its name.
        denied: The phrase itself denies the finding.
        deniable: The phrase counts only if the sentence denies it.
    """

    finding: str
    denied: bool
    deniable: bool = False


class Quality(NamedTuple):
    """A phrase for a property of an organ: enlarged, clear."""

    name: str


class Organ(NamedTuple):
    """A phrase for an organ.

    Attributes:
        name: Of the organ.
        says: Findings that each quality of it states or denies.
    """

    name: str
    says: dict[str, tuple[Named, ...]]


class Area(NamedTuple):
    """A phrase for regions.

    Attributes:
        regions: Names, without the side of a pair; empty for a place outside of the 29 regions.
        side: Side in the phrase itself.
        short: The phrase counts only in a list that ends with a full name.
    """

    regions: tuple[str, ...]
    side: Side | None
    short: bool = False


_FINDINGS = read("findings")
_STATEMENTS = read("statements")
_REGIONS = read("regions")

PAIRED = frozenset(name for name, entry in _REGIONS["regions"].items() if entry.get("paired"))
# A pair is one entry of the file; the list of 29 has all right regions before all left ones, except the clavicles.
_LUNG_SIDE = [name for name in _REGIONS["regions"] if name in PAIRED and name != "clavicle"]
REGIONS: tuple[str, ...] = (
    *(f"{side} {name}" for side in BOTH for name in _LUNG_SIDE),
    *(
        full
        for name in _REGIONS["regions"]
        if name not in _LUNG_SIDE
        for full in ([f"{side} {name}" for side in BOTH] if name in PAIRED else [name])
    ),
)
FINDINGS: tuple[str, ...] = tuple(_FINDINGS["findings"])
# Regions of a finding if the sentence states no place.
IMPLIED: dict[str, tuple[str, ...]] = {name: tuple(entry["regions"]) for name, entry in _FINDINGS["findings"].items()}
LABEL_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    data_set: {label: tuple(findings) for label, findings in labels.items()}
    for data_set, labels in read("labels").items()
}
DESCRIPTIONS: dict[str, str] = read("descriptions")


def _ancestors(region: str) -> tuple[str, ...]:
    parent = _REGIONS["regions"][region].get("within")
    return () if parent is None else (parent, *_ancestors(parent))


@lru_cache(maxsize=4096)
def full_names(regions: tuple[str, ...], side: Side | None) -> tuple[str, ...]:
    """Return the names of regions with their sides; without a side both names of a pair."""
    sides = BOTH if side in (None, "bilateral") else (side,)
    return tuple(dict.fromkeys(f"{s} {name}" if name in PAIRED else name for s in sides for name in regions))


# The regions that contain each of the 29.
ANCESTORS: dict[str, frozenset[str]] = {
    full: frozenset(full_names(_ancestors(name), side))
    for name in _REGIONS["regions"]
    for side in BOTH
    for full in full_names((name,), side)
}


def _concepts() -> Iterator[tuple[str, Named | Organ | Quality | None]]:
    yield from ((pattern, None) for pattern in _FINDINGS["nothing"])
    for name, entry in _FINDINGS["findings"].items():
        yield from ((pattern, Named(name, False)) for pattern in entry["words"])
        yield from ((pattern, Named(name, True)) for pattern in entry.get("denied", ()))
        yield from ((pattern, Named(name, False, True)) for pattern in entry.get("deniable", ()))
    for name, entry in _STATEMENTS["organs"].items():
        says = {quality: tuple(map(_named, _list(statement))) for quality, statement in entry["says"].items()}
        yield from ((pattern, Organ(name, says)) for pattern in entry["words"])
    for name, patterns in _STATEMENTS["qualities"].items():
        yield from ((pattern, Quality(name)) for pattern in patterns)


def _named(statement: str) -> Named:
    name = statement.removeprefix("no ")
    return Named(name, name != statement)


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _places() -> Iterator[tuple[str, Area | Side | Severity | None]]:
    yield from ((pattern, None) for pattern in _REGIONS["nothing"])
    yield from ((pattern, Area((), None)) for pattern in _REGIONS["elsewhere"])
    for name, entry in _REGIONS["regions"].items():
        sides: dict[str, Side | None] = {"words": None, "both": "bilateral", "right": "right", "left": "left"}
        for key, side in sides.items():
            yield from ((pattern, Area((name,), side)) for pattern in entry.get(key, ()))
        yield from ((pattern, Area((name,), None, True)) for pattern in entry.get("short", ()))
    for side, patterns in _REGIONS["sides"].items():
        yield from ((pattern, cast(Side, side)) for pattern in patterns)
    for severity, patterns in _FINDINGS["severities"].items():
        yield from ((pattern, cast(Severity, severity)) for pattern in patterns)


# Lists of small words, by name.
GRAMMAR: dict[str, frozenset[str]] = {name: frozenset(entries) for name, entries in read("grammar").items()}
SEVERITIES = frozenset(get_args(Severity))
CONCEPTS: Phrases[Named | Organ | Quality | None] = Phrases(_concepts())
PLACES: Phrases[Area | Side | Severity | None] = Phrases(_places())
