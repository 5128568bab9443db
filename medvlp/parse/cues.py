"""Cues: the phrases of a sentence that deny or doubt its findings, and those that limit the scope of a cue.

The phrases are in `vocabulary/cues.yaml`. `existence.py` gives each cue its scope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from medvlp.errors import UserError
from medvlp.parse.patterns import read
from medvlp.parse.words import Match, Phrases, Word

Existence = Literal["present", "absent", "uncertain"]
Place = Literal["after", "clause", "before", "either", "adjective", "aside", "series", "gone", "verb", "condition"]
Bound = Literal[
    "nothing",
    "stop",
    "colon",
    "comma",
    "and",
    "or",
    "with",
    "cause",
    "subject",
    "pronoun",
    "degree",
    "change",
    "side",
    "verb",
    "seen",
    "compare",
    "than",
]


class Mention(NamedTuple):
    """Words of a sentence that name a finding.

    Attributes:
        first: The first of them.
        last: Behind the last of them.
        predicate: They complete a statement that has no verb: lungs HYPERINFLATED.
    """

    first: int
    last: int
    predicate: bool = False


class Cue(NamedTuple):
    """The effect of a phrase; `vocabulary/cues.yaml` describes the kinds.

    Attributes:
        says: Existence of the findings in its scope; None if it only bounds the scopes of others.
        kind: Position of its scope, or the way in which it bounds.
    """

    says: Existence | None
    kind: str


VERB = Cue(None, "verb")


def load(vocabulary: dict[str, dict[str, list[str]]]) -> Phrases[Cue]:
    """Return the cues of a vocabulary.

    Args:
        vocabulary: Phrases by group (absent, uncertain, bounds) and kind.

    Raises:
        UserError: If there is no such group or kind.
    """
    return Phrases(_cues(vocabulary))


def _cues(vocabulary: dict[str, dict[str, list[str]]]) -> Iterator[tuple[str, Cue]]:
    groups: dict[str, tuple[Existence | None, tuple[str, ...]]] = {
        "absent": ("absent", get_args(Place)),
        "uncertain": ("uncertain", get_args(Place)),
        "bounds": (None, get_args(Bound)),
    }
    for group, kinds in vocabulary.items():
        if group not in groups:
            raise UserError(f"cues.yaml: no group `{group}`. The groups are {', '.join(groups)}.")
        says, allowed = groups[group]
        for kind, phrases in kinds.items():
            if kind not in allowed:
                raise UserError(f"cues.yaml: no kind `{kind}` in `{group}`. Its kinds are {', '.join(allowed)}.")
            yield from ((phrase, Cue(says, kind)) for phrase in phrases)


_CUES = load(read("cues"))


def find_cues(sentence: list[Word], mentions: Sequence[Mention]) -> list[Match[Cue]]:
    """Return the cues of a sentence from left to right; none if no cue says anything.

    Args:
        sentence: Its words.
        mentions: The findings in it, in any order; cues inside them are part of their names.
    """
    cues = _CUES.find(sentence)
    if not any(cue.meaning.says or cue.meaning.kind in ("nothing", "compare") for cue in cues):
        return []
    in_name = bytearray(len(sentence))
    for first, last, _ in mentions:
        in_name[first:last] = b"\1" * (last - first)
    # "Calcified" in "calcified granuloma" still begins a new item.
    cues = [
        part
        for c in cues
        if not (in_name[c.first] and in_name[c.last - 1]) or c.meaning.kind in ("degree", "change", "side")
        for part in (_head(sentence, in_name, c) if c.meaning.kind == "nothing" and in_name[c.last - 1] else [c])
    ]
    verbs = {m.first for m in mentions if m.predicate}
    verbs.update(c.first for c in cues if c.meaning.kind == "change" and _is_verb(c, in_name))
    if verbs:
        cues = sorted([*cues, *(Match(place, place, VERB) for place in verbs)], key=lambda cue: (cue.first, cue.last))
    return cues


def _is_verb(change: Match[Cue], in_name: bytearray) -> bool:
    """Effusion INCREASED: a word of change behind a finding, and not before another, is a verb."""
    behind = change.first > 0 and in_name[change.first - 1] and not in_name[change.first]
    return bool(behind) and not any(in_name[change.last : change.last + 1])


def _head(sentence: list[Word], in_name: bytearray, cue: Match[Cue]) -> list[Match[Cue]]:
    """Return the cues before a finding that begins inside a phrase: "no change in" is none if CHANGE is a finding."""
    head = sentence[cue.first : in_name.index(1, cue.first)]
    return [Match(m.first + cue.first, m.last + cue.first, m.meaning) for m in _CUES.find(head)]
