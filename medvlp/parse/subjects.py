"""The subject of a cue that stands behind its findings: effusion and edema ARE NOT SEEN."""

from __future__ import annotations

from dataclasses import dataclass

from medvlp.parse.clauses import Clause


@dataclass(slots=True)
class Subject:
    """The words that a cue behind them speaks of: the last item of a list, or the whole list.

    Attributes:
        first: First word of the list.
        item: First word of its last item.
        is_joined: "And" or "or" has joined the items: the list as a whole is the subject.
        is_object: The list stands behind a verb: it is no subject, but the words behind "and" may be one.
        part: First of the words since the last stop or comma.
        previous: First word and end of the words before that stop or comma, if no cue has spoken of them.
    """

    first: int = 0
    item: int = 0
    is_joined: bool = False
    is_object: bool = False
    part: int = 0
    previous: tuple[int, int] = (0, 0)

    def enter(self, clause: Clause) -> None:
        """Meet the separator of a clause: an item of the list follows, or another list."""
        if clause.by == "stop":
            self.restart(clause.first)
        elif clause.by == "comma":
            if self.is_joined:
                self.restart(clause.first)
            self.item = clause.first
        elif clause.by == "and" and self.is_object and clause.gap > self.first:
            self.restart(clause.first)
        elif clause.by in ("and", "or"):
            self.is_joined = True
        if clause.by in ("stop", "comma"):
            self.previous = (self.part, clause.gap)
            self.part = clause.first

    def restart(self, place: int, *, is_object: bool = False) -> None:
        """Begin another list at a word."""
        self.first = self.item = place
        self.is_joined, self.is_object = False, is_object

    @property
    def _begin(self) -> int:
        return self.first if self.is_joined else self.item

    def is_own(self, cue: int) -> bool:
        """Return whether words of the same part of the sentence stand before a cue."""
        return self._begin < cue

    def before(self, cue: int, clause: Clause, *, behind_verb: bool) -> tuple[int, int]:
        """Return first word and end of the subject of a cue; without one of its own, it is the previous one.

        Args:
            cue: First word of the cue.
            clause: Its clause.
            behind_verb: The cue has a verb.
        """
        first = self._begin
        if not self.is_own(cue) or (clause.opening == "pronoun" and first == clause.first):
            # The effusion was small; IT has resolved.
            previous, self.previous = self.previous, (0, 0)
            return previous
        if clause.by == "with" and not behind_verb and first < clause.first < cue:
            # Atelectasis WITH PNEUMONIA LESS LIKELY: what stands behind "with" alone.
            return clause.first, cue
        return first, cue
