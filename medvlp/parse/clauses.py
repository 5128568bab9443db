"""The clauses of a sentence: the pieces between its commas, conjunctions and stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from medvlp.parse.cues import Cue
from medvlp.parse.words import Match

SEPARATORS = frozenset(["stop", "comma", "and", "or", "with"])
# The first words of a clause by the kind of the bound: a word of change is an adjective there.
OPENINGS = {"subject": "subject", "pronoun": "pronoun", "degree": "degree", "change": "degree", "side": "side"}


class Clause(NamedTuple):
    """A piece of a sentence between two separators.

    Attributes:
        by: Kind of the separator before it: stop, comma, and, or, with.
        gap: First word of this separator; of the comma in ", and".
        first: Its first word.
        last: Behind its last word.
        until: Kind of the separator behind it.
        opening: Kind of its first words: subject ("the heart"), pronoun ("it"), degree ("a small"), side ("left"); None
            for others.
        cues: Its cues, verbs and other bounds, from left to right.
    """

    by: str
    gap: int
    first: int
    last: int
    until: str
    opening: str | None
    cues: list[Match[Cue]]


def split(cues: Sequence[Match[Cue]], count: int) -> list[Clause]:
    """Return the clauses of a sentence in their order; some may be empty.

    Args:
        cues: Its cues from left to right.
        count: Number of its words.
    """
    clauses: list[Clause] = []
    by, gap, first, opening = "stop", 0, 0, None
    members: list[Match[Cue]] = []
    for cue in cues:
        says, kind = cue.meaning
        if kind == "colon":
            if members and members[-1].last == cue.first and members[-1].meaning.says:
                members[-1] = _before_colon(members[-1], first)
                if members[-1].meaning.kind == "after":
                    continue
            kind = "stop"
        if says is None and kind in SEPARATORS:
            clauses.append(Clause(by, gap, first, cue.first, kind, opening, members))
            gap = gap if first == cue.first and by == "comma" and kind != "stop" else cue.first
            by, first, opening, members = kind, cue.last, None, []
        elif says is None and kind in OPENINGS:
            if cue.first == first:
                opening = OPENINGS[kind]
        elif kind != "nothing":
            members.append(cue)
    clauses.append(Clause(by, gap, first, count, "stop", opening, members))
    return clauses


def _before_colon(cue: Match[Cue], first: int) -> Match[Cue]:
    """Not seen: effusion. Behind no other word, a cue before a colon speaks of the words behind the colon."""
    return cue._replace(meaning=Cue(cue.meaning.says, "after")) if cue.first == first else cue
