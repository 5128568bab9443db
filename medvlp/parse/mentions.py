"""The findings of a sentence: those it names, and those that follow from a statement about an organ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from medvlp.parse.lexicon import CONCEPTS, GRAMMAR, Named, Organ, Quality
from medvlp.parse.words import REACH, Match, Word, holds, only

NOT_SAID_OF = GRAMMAR["not_said_of"]
NOT_BEFORE = GRAMMAR["not_before"]
VERBS = GRAMMAR["verbs"]
ORGANS = GRAMMAR["organs"]
ARTICLES = GRAMMAR["articles"]
# Greatest number of qualities of one list of organs, so that long lists of both take linear time.
QUALITIES = 4
ADJECTIVES = frozenset([",", "and"])
# Adjectives that are no participles: aorta tortuous.
PREDICATES = GRAMMAR["predicates"]
INFINITIVES = GRAMMAR["infinitives"]
ADVERBS = GRAMMAR["adverbs"]


class Spoken(NamedTuple):
    """A finding that a sentence mentions.

    Attributes:
        finding: Its name.
        denied: The words themselves deny it: normal, clear.
        deniable: The words count only if the sentence denies them.
        first: First of its words.
        last: Behind the last of its words.
        organ: First word and end of the organ that the words describe; None if they name the finding.
        predicate: They complete a statement without a verb: lungs hyperinflated, heart normal.
    """

    finding: str
    denied: bool
    deniable: bool
    first: int
    last: int
    organ: tuple[int, int] | None
    predicate: bool = False


def spoken(sentence: list[Word]) -> list[Spoken]:
    """Return all findings that a sentence mentions, in their order."""
    concepts = CONCEPTS.find(sentence)
    findings = [
        Spoken(*m.meaning, m.first, m.last, None, n > 0 and _is_predicate(sentence, concepts[n - 1], m))
        for n, m in enumerate(concepts)
        if isinstance(m.meaning, Named)
    ]
    if len(findings) < len(concepts):
        findings += _statements(sentence, concepts)
        findings.sort(key=lambda f: f.first)
    return findings


def _is_predicate(sentence: list[Word], organ: Match[Any], words: Match[Any]) -> bool:
    """Lungs HYPERINFLATED: an adjective directly behind an organ, or behind adverbs, says something of the organ."""
    if not isinstance(organ.meaning, Organ) or organ.last > words.first:
        return False
    text = sentence[words.first if isinstance(words.meaning, Quality) else words.last - 1].text
    if not (text.endswith("ed") or text in PREDICATES):
        return False
    gap = [word.text for word in sentence[organ.last : words.first]]
    return len(gap) <= REACH and all(word.endswith("ly") or word in ADVERBS for word in gap)


def _is_near(sentence: list[Word], start: int, end: int) -> bool:
    """The heart is NO LONGER enlarged: a quality behind an organ belongs to it, unless a word of another part does."""
    if not holds(sentence, start, end, NOT_SAID_OF):
        return True
    parting = [i for i in range(start, end) if sentence[i].text in NOT_SAID_OF] if end - start <= REACH else []
    return bool(parting) and all(sentence[i].text == "no" and sentence[i + 1].text == "longer" for i in parting)


def _is_infinitive(sentence: list[Word], words: Match[Any]) -> bool:
    """Failure TO CLEAR, did NOT CLEAR: the word is a verb, not a quality of an organ."""
    before = [word.text for word in sentence[max(0, words.first - 2) : words.first] if word.text != "not"]
    return sentence[words.first].text == "clear" and not INFINITIVES.isdisjoint(before[-1:])


def _statements(sentence: list[Word], concepts: Sequence[Match[Any]]) -> list[Spoken]:
    """Return the findings of statements about organs.

    A quality belongs to the organs it follows, or to those it stands before.
    """
    findings: list[Spoken] = []
    group: list[tuple[Match[Any], Organ]] = []  # the last list of organs
    end = 0  # of this list, or of its last quality
    described = 0  # number of qualities behind it
    before: list[tuple[Match[Any], Quality]] = []  # qualities before it

    def say(organs: Iterable[tuple[Match[Any], Organ]], qualities: Iterable[tuple[Match[Any], Quality]]) -> None:
        for words, quality in qualities:
            for place, organ in organs:
                predicate = _is_predicate(sentence, place, words)
                for named in organ.says.get(quality.name, ()):
                    findings.append(Spoken(*named, words.first, words.last, (place.first, place.last), predicate))

    leads = _leading(sentence, concepts)
    for concept, leading in zip(concepts, leads, strict=True):
        meaning = concept.meaning
        if isinstance(meaning, Organ):
            if not group or described or not only(sentence, end, concept.first, ORGANS, ARTICLES):
                say(group, before)
                if group:
                    before = []
                group = []
            group = [*group[-REACH:], (concept, meaning)]
            end, described = concept.last, 0
        elif isinstance(meaning, Quality) and leading is not Named and not _is_infinitive(sentence, concept):
            near = _is_near(sentence, end, concept.first)
            close = near and (
                end == concept.first or not VERBS.isdisjoint([w.text for w in sentence[end : concept.first]])
            )
            if group and described < QUALITIES and (close if leading else near):
                if before and close:
                    # Normal heart size, lungs clear: the last organ is another clause.
                    say(group[:-1], before)
                    group, before = group[-1:], []
                say(group, [(concept, meaning)])
                end, described = concept.last, described + 1
            elif leading is Organ:
                if group:
                    say(group, before)
                    group, before = [], []
                before = [*before[1 - QUALITIES :], (concept, meaning)]
                end, described = concept.last, 0
    say(group, before)
    return findings


def _leading(sentence: list[Word], concepts: Sequence[Match[Any]]) -> list[type | None]:
    """Return the kind of concept before which each concept stands as an adjective: `Organ`, `Named` or None."""
    leads: list[type | None] = [None] * len(concepts)
    for i in range(len(concepts) - 2, -1, -1):
        following = concepts[i + 1]
        kind = type(following.meaning)
        if kind is Quality and only(sentence, concepts[i].last, following.first, ADJECTIVES):
            leads[i] = leads[i + 1]
        elif not holds(sentence, concepts[i].last, following.first, NOT_BEFORE):
            leads[i] = leads[i + 1] if kind is Quality else kind
    return leads
