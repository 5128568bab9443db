"""Negation, doubt and resolution: whether a sentence states its findings as present, absent or uncertain.

The cues are in `vocabulary/cues.yaml`. They are found in one pass, and one sweep from left to right gives each its
scope: linear in the length of the sentence. Triggers with scopes are the idea of NegEx (Chapman et al., J Biomed
Inform 34:301-310, 2001) and ConText (Harkema et al., J Biomed Inform 42:839-851, 2009). Their scopes end after a number
of words; these end with the clause or the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Literal, NamedTuple, get_args

from medvlp.errors import UserError
from medvlp.parse.patterns import read
from medvlp.parse.words import Match, Phrases, Word

Existence = Literal["present", "absent", "uncertain"]
Place = Literal["after", "before", "either", "series", "gone", "verb", "condition"]
Bound = Literal[
    "nothing", "stop", "colon", "comma", "and", "or", "with", "cause", "subject", "degree", "side", "verb", "seen"
]


class Mention(NamedTuple):
    """Words of a sentence that name a finding.

    Attributes:
        first: The first of them.
        last: Behind the last of them.
    """

    first: int
    last: int


class Cue(NamedTuple):
    """The effect of a phrase; `vocabulary/cues.yaml` describes the kinds.

    Attributes:
        says: Existence of the findings in its scope; None if it only bounds the scopes of others.
        kind: Position of its scope, or the way in which it bounds.
    """

    says: Existence | None
    kind: str


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


def assess(sentence: list[Word], mentions: Sequence[Mention]) -> list[Existence]:
    """Return the existence of each finding.

    Args:
        sentence: Its words.
        mentions: The findings in it, in any order; cues inside them are part of their names.
    """
    cues = _CUES.find(sentence)
    if not any(cue.meaning.says or cue.meaning.kind == "nothing" for cue in cues):
        return ["present"] * len(mentions)
    in_name = bytearray(len(sentence))
    for first, last in mentions:
        in_name[first:last] = b"\1" * (last - first)
    # "Calcified" in "calcified granuloma" still begins a new item.
    cues = [
        part
        for c in cues
        if not (in_name[c.first] and in_name[c.last - 1]) or c.meaning.kind in ("degree", "side")
        for part in (_head(sentence, in_name, c) if c.meaning.kind == "nothing" and in_name[c.last - 1] else [c])
    ]
    existences = _Sweep(len(sentence)).over(cues)
    return [existences[first] or existences[last - 1] or "present" for first, last in mentions]


def _head(sentence: list[Word], in_name: bytearray, cue: Match[Cue]) -> list[Match[Cue]]:
    """Return the cues before a finding that begins inside a phrase: "no change in" is none if CHANGE is a finding."""
    head = sentence[cue.first : in_name.index(1, cue.first)]
    return [Match(m.first + cue.first, m.last + cue.first, m.meaning) for m in _CUES.find(head)]


class _Sweep:
    """One pass over the cues of a sentence.

    A forward cue opens a scope that grows until a bound ends it. A backward cue reaches to the start of its subject:
    the last item of a list, or the whole list once `and` or `or` has joined it.

    Args:
        length: Number of words.
    """

    def __init__(self, length: int) -> None:
        self.existences: list[Existence | None] = [None] * length
        # The open forward scope: its existence, its first word, its end unless a later word extends it, whether a verb
        # has completed its sentence, whether it is a condition, in which no other cue counts, whether it is a series,
        # which extends over commas, and whether its cue is of kind `gone`.
        self.open: Existence | None = None
        self.start = 0
        self.cut: int | None = None
        self.complete = False
        self.conditional = False
        self.series = False
        self.gone = False
        # First word of the subject: of the list, and of its last item.
        self.list = self.item = 0
        self.joined = False
        # The list stands behind a verb: it is no subject, but the words behind "and" may be one.
        self.object = False
        # The last separator: its kind, its place, and the first word behind it.
        self.by, self.gap, self.segment = "stop", 0, 0
        # First of the words since the last stop or comma; the words before it are a subject that may be open.
        self.begin = 0
        self.previous = (0, 0)

    def over(self, cues: list[Match[Cue]]) -> list[Existence | None]:
        """Return the existence of each word by the cues; None for a word outside of all scopes."""
        verb: int | None = None
        for cue, following in zip_longest(cues, cues[1:]):
            first, last, (says, kind) = cue
            next_kind = following.meaning.kind if following and following.first == last else None
            if verb is not None:
                first, kind, verb = verb, kind if says is None else "before", None
            if says is None and kind in ("verb", "seen") and next_kind in ("verb", "before", "either"):
                verb = first  # it belongs to the cue: "is not seen", "was negative", "would be hard to exclude"
            elif says is None:
                self._bound(kind, first, last)
            elif not self.conditional:
                # No word stands behind it: "Effusion: no."
                lone = last == len(self.existences) or next_kind == "stop"
                self._cue(says, kind, first, last, lone)
        self._close(len(self.existences))
        return self.existences

    def _cue(self, says: Existence, kind: str, first: int, last: int, lone: bool) -> None:
        if kind == "before" or (kind == "after" and lone) or (kind == "either" and (lone or first > self.segment)):
            self._backward(says, first, last)
            return
        if kind == "verb":
            self._new_clause()
            self._close(first)
            self._new_subject(last)
        self._forward(says, first, last)
        self.conditional, self.series, self.gone = kind == "condition", kind == "series", kind == "gone"

    def _bound(self, kind: str, first: int, last: int) -> None:
        if kind == "stop" or (kind == "colon" and not (self.open and first == self.start)):
            self._close(first)
            self._new_subject(last)
            self._separate("stop", first, last)
        elif kind in ("comma", "and", "or", "with"):
            self._join(kind, first, last)
        elif kind in ("verb", "seen"):
            if kind == "verb" or self.by != "and":
                self._new_clause()
            self.complete = first > self.start
            self._new_subject(last)
            self.object = True
        elif kind == "cause":
            self._close(first)
        elif first == self.segment:
            if kind != "subject" and (self.series or (kind == "side" and self.gone and self.by == "and")):
                return
            if kind != "subject" and self.by == "comma" and self.open == "absent":
                self._cut(self.gap)
            elif self.by != "stop" and (kind == "subject" or self.by != "or"):
                self._close(self.gap)

    def _join(self, kind: str, first: int, last: int) -> None:
        """Meet a separator: the list continues, or a clause follows; the next cue decides."""
        if kind == "with" and self.gone:
            self._close(first)
        elif kind == "or" or (kind == "and" and self.open == "uncertain") or self.series:
            self.cut = None
        elif self.complete or self.open == "uncertain":
            self._cut(first)
        if kind == "comma":
            if self.joined:
                self._new_subject(last)
            self.item = last
        elif kind == "and" and self.object and first > self.list:
            self._new_subject(last)
        elif kind != "with":
            self.joined = True
        # The comma before "and" is part of it.
        self._separate(kind, self.gap if self.segment == first and self.by == "comma" else first, last)

    def _separate(self, by: str, gap: int, segment: int) -> None:
        if by in ("stop", "comma"):
            self.conditional = False
            self.previous = (self.begin, gap)
            self.begin = segment
        self.by, self.gap, self.segment = by, gap, segment

    def _new_subject(self, place: int) -> None:
        self.list = self.item = place
        self.joined = self.object = False

    def _new_clause(self) -> None:
        """Meet a verb: behind a comma or "and", the words before it are its subject, not part of the list before."""
        if self.by in ("comma", "and", "with") and self.start <= self.gap:
            self._close(self.gap)

    def _forward(self, says: Existence, first: int, last: int) -> None:
        """Meet a cue whose scope follows it."""
        new_item = first == self.segment and self.by in ("comma", "and")
        if self.open == "absent" and says == "uncertain" and self.cut is None and not new_item:
            return  # "no finding suspicious for" denies it
        self._close(first)
        self.open, self.start = says, last

    def _backward(self, says: Existence, first: int, last: int) -> None:
        """Meet a cue whose scope precedes it; without a subject its scope is the previous one."""
        self._new_clause()
        begin = self.list if self.joined else self.item
        if begin == first:
            self._fill(*self.previous, says)
            self.previous = (0, 0)
        else:
            self._fill(begin, first, says)
        self.complete = True
        self._new_subject(last)

    def _cut(self, place: int) -> None:
        if self.cut is None:
            self.cut = place

    def _close(self, end: int) -> None:
        if self.open:
            self._fill(self.start, end if self.cut is None else self.cut, self.open)
        self.open, self.cut, self.complete = None, None, False
        self.series = self.gone = False

    def _fill(self, first: int, last: int, says: Existence) -> None:
        for i in range(first, last):
            if self.existences[i] != "absent":
                self.existences[i] = says
