"""Scopes: the words behind a cue that it speaks of, and the rules for where they end.

Each rule is a function, and its docstring begins with a sentence that the rule is for.
"""

from __future__ import annotations

from dataclasses import dataclass

from medvlp.parse.clauses import Clause
from medvlp.parse.cues import Existence


@dataclass(slots=True)
class Scope:
    """The words behind a cue that it speaks of, while they grow.

    Attributes:
        says: Existence of the findings in it.
        kind: Kind of the cue.
        start: Its first word.
        end: Where it ends if no later word of the list extends it.
        complete: A verb has completed its sentence, so that the next separator may end it.
    """

    says: Existence
    kind: str
    start: int
    end: int | None = None
    complete: bool = False


def goes_on(scope: Scope, by: str) -> bool:
    """No effusion, edema OR pneumothorax: "or" continues a list, as "and" does for a doubt."""
    return by == "or" or (by == "and" and scope.says == "uncertain") or scope.kind == "series"


def may_end(scope: Scope, clause: Clause) -> bool:
    """No effusion, MILD edema: a new item, unless "or" follows: no effusion, mild edema or pneumothorax."""
    if scope.kind == "clause" and clause.by in ("comma", "with"):
        return True
    if clause.opening in ("degree", "side") and clause.by == "comma" and scope.says == "absent":
        return True
    return scope.complete or scope.says == "uncertain"


def ends(scope: Scope, clause: Clause) -> bool:
    """No effusion and A SMALL pneumothorax: behind "and" or "with", a new item ends the scope."""
    if clause.opening is None or clause.by == "stop":
        return False
    if clause.opening in ("subject", "pronoun"):
        return True
    if clause.opening == "side" and clause.by == "and" and scope.says == "uncertain":
        return False  # may reflect an effusion and left basilar atelectasis
    return clause.by != "or" and not (clause.by == "comma" and scope.says == "absent")


def is_removed_from_both(scope: Scope, clause: Clause) -> bool:
    """Removal of the tube AND RIGHT line: a side continues the list of what is gone."""
    return scope.kind == "gone" and clause.by == "and" and clause.opening == "side"
