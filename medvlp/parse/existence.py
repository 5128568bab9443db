"""Existence: which findings of a sentence its cues deny or doubt.

One pass over the clauses gives each cue its scope: linear in the length of the sentence. Triggers with scopes are the
idea of NegEx (Chapman et al., J Biomed Inform 34:301-310, 2001) and ConText (Harkema et al., J Biomed Inform
42:839-851, 2009). Their scopes end after a number of words; these end with the clause or the list (`scopes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from medvlp.parse.clauses import Clause, split
from medvlp.parse.cues import Cue, Existence, Mention, find_cues
from medvlp.parse.scopes import Scope, ends, goes_on, is_removed_from_both, may_end
from medvlp.parse.subjects import Subject
from medvlp.parse.words import Match, Word


def assess(
    sentence: list[Word], mentions: Sequence[Mention], asides: Sequence[tuple[int, int]] = ()
) -> list[Existence]:
    """Return the existence of each finding.

    Args:
        sentence: Its words.
        mentions: The findings in it, in any order; cues inside them are part of their names.
        asides: First word and end of pieces of the sentence whose cues do not count.
    """
    cues = find_cues(sentence, mentions)
    if asides:
        in_aside = bytearray(len(sentence))
        for start, end in asides:
            in_aside[start:end] = b"\1" * (end - start)
        cues = [cue for cue in cues if not any(in_aside[cue.first : cue.last])]
    if not cues:
        return ["present"] * len(mentions)
    existences = _Reading(len(sentence), mentions).over(split(cues, len(sentence)))
    return [existences[m.first] or existences[m.last - 1] or "present" for m in mentions]


class _Reading:
    """One pass over the clauses of a sentence.

    A forward cue opens a scope that grows until a clause ends it. A backward cue speaks of the subject before it.

    Args:
        length: Number of words.
        mentions: The findings.
    """

    def __init__(self, length: int, mentions: Sequence[Mention]) -> None:
        self.existences: list[Existence | None] = [None] * length
        ends = [0] * (length + 1)
        for mention in mentions:
            ends[mention.last] += 1
        # Number of findings that end before each word.
        self.counts = list(accumulate(ends))
        self.scope: Scope | None = None
        self.subject = Subject()
        self.clause = self.before = Clause("stop", 0, 0, 0, "stop", None, [])
        # A condition is open: no other cue counts.
        self.conditional = False
        # "More likely" waits for its "than".
        self.compared = False

    def over(self, clauses: Sequence[Clause]) -> list[Existence | None]:
        """Return the existence of each word by the cues; None for a word outside of all scopes."""
        for clause in clauses:
            self._enter(clause)
            verb: int | None = None
            for n, cue in enumerate(clause.cues):
                following = clause.cues[n + 1] if n + 1 < len(clause.cues) else None
                if following and following.first != cue.last:
                    following = None
                first = cue.first if verb is None else verb
                if cue.meaning.says is not None:
                    self._cue(cue, first, behind_verb=verb is not None)
                    verb = None
                elif following and self._belongs(cue, following):
                    verb = first
                else:
                    self._bound(cue.meaning.kind if verb is None else "verb", first, cue.last)
                    verb = None
        self._close(len(self.existences))
        return self.existences

    def _belongs(self, verb: Match[Cue], following: Match[Cue]) -> bool:
        """IS NOT SEEN: the verb belongs to the cue behind it."""
        if verb.meaning.kind not in ("verb", "seen"):
            return False
        kind = following.meaning.kind
        return kind in ("verb", "before", "either") or (kind == "adjective" and self._is_last(following))

    def _is_last(self, cue: Match[Cue]) -> bool:
        """Effusion is DOUBTFUL: no finding stands behind the cue in its clause."""
        return self.counts[self.clause.last] == self.counts[cue.last]

    def _enter(self, clause: Clause) -> None:
        """Meet a separator and the first words behind it: the list continues, or another item or clause begins."""
        self.before, self.clause = self.clause, clause
        if clause.by == "stop":
            self._close(clause.gap)
            self.compared = False
        elif self.scope and clause.gap > self.scope.start:
            self._continue(self.scope, clause)
        if clause.by in ("stop", "comma"):
            self.conditional = False
        self.subject.enter(clause)

    def _continue(self, scope: Scope, clause: Clause) -> None:
        if clause.by == "with" and scope.kind == "gone":
            self._close(clause.gap)
        elif scope.kind == "series" and clause.opening not in ("subject", "pronoun"):
            scope.end = None
        else:
            if goes_on(scope, clause.by):
                scope.end = None
            elif scope.end is None and (may_end(scope, clause) or self._is_no_list(scope, clause)):
                scope.end = clause.gap
            if (
                ends(scope, clause)
                and not is_removed_from_both(scope, clause)
                and not self._is_list_of_sides(scope, clause)
            ):
                self._close(clause.gap)

    def _is_no_list(self, scope: Scope, clause: Clause) -> bool:
        """No effusion, AND CARDIOMEGALY: a comma before "and" behind a single finding closes no list."""
        is_comma_and = clause.by == "and" and self.before.by == "comma" and self.before.first == self.before.last
        is_single = scope.start >= self.subject.previous[0]
        return is_comma_and and is_single and self.counts[clause.gap] - self.counts[scope.start] == 1

    def _is_list_of_sides(self, scope: Scope, clause: Clause) -> bool:
        """No left AND RIGHT effusion: a side behind a scope without a finding continues a list of sides."""
        return clause.opening == "side" and self.counts[clause.gap] == self.counts[scope.start]

    def _cue(self, cue: Match[Cue], first: int, *, behind_verb: bool) -> None:
        """Meet a cue: its scope stands before or behind it."""
        says, kind = cue.meaning
        if self.conditional or says is None:
            return
        if behind_verb and kind in ("verb", "either"):
            kind = "before"
        if self._is_backward(cue, first, kind, behind_verb=behind_verb):
            self._backward(says, first, cue.last, behind_verb=behind_verb)
            return
        if kind == "verb":
            self._new_clause()
            self._close(first)
            self.subject.restart(cue.last)
        self._forward(says, kind, first, cue.last)

    def _is_backward(self, cue: Match[Cue], first: int, kind: str, *, behind_verb: bool) -> bool:
        # No word stands behind it: "Effusion: no."
        lone = cue.last == self.clause.last and self.clause.until == "stop"
        if kind == "adjective":
            return self._is_last(cue) and self._is_predicate(cue, behind_verb) and not self._is_parenthesis()
        if kind == "aside":
            return self.counts[cue.first] > self.counts[min(self.subject.first, cue.first)]
        if kind == "before":
            # ..., and HAS RESOLVED on the right: without a subject, the cue speaks of what is named behind it.
            return self._is_last(cue) or self.subject.is_own(first)
        return (kind in ("after", "clause") and lone) or (kind == "either" and (lone or cue.first > self.clause.first))

    def _is_predicate(self, cue: Match[Cue], behind_verb: bool) -> bool:
        """Pneumothorax, DOUBTFUL; but not the first word before an unknown one: effusion and doubtful shadowing."""
        in_clause = self.counts[cue.first] > self.counts[self.clause.first]
        return self.counts[cue.first] > 0 and (behind_verb or in_clause or cue.last == self.clause.last)

    def _is_parenthesis(self) -> bool:
        """Atelectasis or, LESS LIKELY, pneumonia: a cue between commas behind "or" speaks of what follows."""
        is_behind_conjunction = self.before.by in ("and", "or") and self.before.first == self.before.last
        return is_behind_conjunction and self.clause.by == self.clause.until == "comma"

    def _bound(self, kind: str, first: int, last: int) -> None:
        if kind in ("verb", "seen"):
            # No effusion and pneumothorax ARE SEEN: one list; but: may be pneumonia, and an effusion IS SEEN.
            is_list = self.clause.by == "and" and not (self.scope and self.scope.says == "uncertain")
            if kind == "verb" or not is_list:
                self._new_clause()
            if self.scope:
                self.scope.complete = first > self.scope.start
            self.subject.restart(last, is_object=True)
        elif kind == "cause":
            self._close(first)
        elif kind == "compare":
            self.compared = True
        elif kind == "than" and self.compared:
            self._forward("uncertain", "after", first, last)
            self.compared = False

    def _new_clause(self) -> None:
        """No effusion, heart IS large: behind a comma or "and", the words before a verb are its subject."""
        scope, gap = self.scope, self.clause.gap
        if scope and self.clause.by in ("comma", "and", "with") and scope.start < gap + (scope.kind != "aside"):
            self._close(gap)

    def _forward(self, says: Existence, kind: str, first: int, last: int) -> None:
        """Meet a cue whose scope follows it."""
        scope = self.scope
        is_new_item = first == self.clause.first and self.clause.by in ("comma", "and")
        if scope and scope.says == "absent" and says == "uncertain" and scope.end is None and not is_new_item:
            return  # "no finding suspicious for" denies it
        self._close(first)
        self.scope = Scope(says, kind, last)
        self.conditional = kind == "condition"

    def _backward(self, says: Existence, first: int, last: int, *, behind_verb: bool) -> None:
        """Meet a cue whose scope precedes it."""
        self._new_clause()
        self._fill(*self.subject.before(first, self.clause, behind_verb=behind_verb), says)
        if self.scope:
            self.scope.complete = True
        self.subject.restart(last)

    def _close(self, place: int) -> None:
        """End the open scope."""
        if self.scope:
            end = place if self.scope.end is None else self.scope.end
            self._fill(self.scope.start, end, self.scope.says)
        self.scope = None

    def _fill(self, first: int, last: int, says: Existence) -> None:
        for i in range(first, last):
            if self.existences[i] != "absent":
                self.existences[i] = says
