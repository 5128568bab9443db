"""Findings that are joined to another one and share its place.

Each rule is a function, and its docstring begins with a sentence that the rule is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from medvlp.parse.candidates import Candidate
from medvlp.parse.lexicon import GRAMMAR
from medvlp.parse.places import LIST
from medvlp.parse.words import HOLE, REACH, Word

# See vocabulary/grammar.yaml.
CLAUSES = GRAMMAR["clauses"]
BETWEEN = GRAMMAR["clauses"] | GRAMMAR["prepositions"] | GRAMMAR["seeing"]
LINKS = GRAMMAR["links"]
LINKING = GRAMMAR["links"] | GRAMMAR["verbs"] | GRAMMAR["linking"]
COMPANIONS = GRAMMAR["companions"]
UNCHANGED = GRAMMAR["unchanged"]
IS = (["is"], ["are"])
# Greatest number of words between two findings of a list: effusion and mild basilar atelectasis.
LIST_GAP = 3


def share(sentence: list[Word], candidates: Sequence[Candidate]) -> None:
    """Determine the place of each finding: its own, or that of a finding that it is joined to.

    Args:
        sentence: Its words.
        candidates: Its findings with their own places and their existence. Present and absent findings do not share.
    """
    is_placed = False
    for candidate in candidates:
        candidate.settle()
        is_placed = is_placed or candidate.is_placed
    if is_placed:
        _hand_forward(sentence, candidates)
        _hand_backward(sentence, candidates)


def _hand_forward(sentence: list[Word], candidates: Sequence[Candidate]) -> None:
    """Give findings without a place that of the finding before them, if a rule joins the two."""
    end = 0
    for before, after in pairwise(candidates):
        end = max(end, before.last, *(place.last for place in before.places))
        if not after.accepts(before) or (after.existence == "absent") != (before.existence == "absent"):
            continue
        gap = [word.text for word in sentence[end : after.first]]
        if len(gap) > REACH or _has_clause(gap):
            continue
        if _is_interpretation(gap):
            after.is_same = True
        elif _is_next_of_list(before, after, gap):
            after.is_same = before.is_same
        elif _is_apposition(sentence, after, gap):
            after.is_same = True
        elif not _is_companion(gap):
            continue
        after.take(before, after.is_same)


def _has_clause(gap: Sequence[str]) -> bool:
    """Has NOT CHANGED and is likely a scar: a denied change begins no other clause."""
    for i, word in enumerate(gap):
        if word in CLAUSES and not (word == "not" and UNCHANGED.issuperset(gap[i + 1 : i + 2])):
            return True
    return False


def _is_interpretation(gap: Sequence[str]) -> bool:
    """An opacity at the left base reflects atelectasis: the two findings are one thing."""
    if "and" not in gap:
        # A hole hides the link: an opacity at the left base ___ atelectasis.
        return not LINKS.isdisjoint(gap) or gap in IS or set(gap) <= {HOLE}
    # Is unchanged AND LIKELY a granuloma: only a link stands behind "and".
    tail = gap[len(gap) - gap[::-1].index("and") :]
    return not LINKS.isdisjoint(tail) and LINKING.issuperset(tail)


def _is_next_of_list(before: Candidate, after: Candidate, gap: Sequence[str]) -> bool:
    """Left basilar opacity and atelectasis: a place that stands before a list is that of each of its findings."""
    is_list = before.spoken.organ is None and len(gap) <= LIST_GAP and not LIST.isdisjoint(gap)
    return is_list and after.existence == before.existence and (before.leads or before.is_same)


def _is_apposition(sentence: list[Word], after: Candidate, gap: Sequence[str]) -> bool:
    """Opacity at the left base, ATELECTASIS FAVORED: a finding between a comma and a link is what the other is."""
    behind = sentence[after.last].text if after.last < len(sentence) else ""
    return gap == [","] and behind in LINKS


def _is_companion(gap: Sequence[str]) -> bool:
    """A left effusion with adjacent atelectasis: the second finding is on the side of the first."""
    return not COMPANIONS.isdisjoint(gap)


def _hand_backward(sentence: list[Word], candidates: Sequence[Candidate]) -> None:
    """Give findings without a place that of the finding behind them, if a rule joins the two."""
    for after, before in pairwise(reversed(candidates)):
        if not before.accepts(after) or (before.existence == "absent") != (after.existence == "absent"):
            continue
        gap = [word.text for word in sentence[before.last : after.first]]
        if not gap or _is_list_with_place_behind(after, gap) or _is_comparison_with_place_behind(after, gap):
            before.take(after, is_same=not gap)


def _is_list_with_place_behind(after: Candidate, gap: Sequence[str]) -> bool:
    """Opacity and atelectasis at the left base: a place that stands behind a list is that of each of its findings."""
    is_list = len(gap) <= REACH and not LIST.isdisjoint(gap) and BETWEEN.isdisjoint(gap)
    return is_list and not after.leads


def _is_comparison_with_place_behind(after: Candidate, gap: Sequence[str]) -> bool:
    """Atelectasis is FAVORED OVER pneumonia at the left base: the place is that of both."""
    return len(gap) <= REACH and gap[-1] in ("over", "than") and not after.leads
