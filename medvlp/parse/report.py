"""From the sections of a report to triplets of region, finding and existence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from medvlp.parse.attachment import attach
from medvlp.parse.candidates import Candidate
from medvlp.parse.cues import Existence
from medvlp.parse.existence import assess
from medvlp.parse.lexicon import Severity, Side
from medvlp.parse.mentions import spoken
from medvlp.parse.sentences import split
from medvlp.parse.sharing import share
from medvlp.parse.words import Word, words

# The findings of these sections are questions or history: never present in this image.
ASKING = ("indication", "history", "comparison", "reason", "clinical")
CACHED_LENGTH = 400


@dataclass(frozen=True, slots=True)
class Triplet:
    """The statement of a sentence about one finding.

    Attributes:
        section: Name of the section.
        sentence: Number of the sentence in its section, from 0.
        text: The sentence, a slice of the section.
        regions: Names of the anatomical regions: the stated ones, else those that the finding implies; may be empty.
        side: The stated side; None if there is none.
        finding: One of `FINDINGS`.
        existence: Whether it is present, absent or uncertain.
        severity: The stated severity; None if there is none.
        start: First character, in the section, of the words for the finding.
        end: Behind their last character.
    """

    section: str
    sentence: int
    text: str
    regions: tuple[str, ...]
    side: Side | None
    finding: str
    existence: Existence
    severity: Severity | None
    start: int
    end: int


class Statement(NamedTuple):
    """The statement of a sentence about one finding; as in `Triplet`, but start and end count in the sentence."""

    regions: tuple[str, ...]
    side: Side | None
    finding: str
    existence: Existence
    severity: Severity | None
    start: int
    end: int


def parse_report(sections: Mapping[str, str]) -> list[Triplet]:
    """Return the triplets of a report, in the order of its sentences.

    Args:
        sections: Texts by name. Findings of an indication, history or comparison are uncertain unless absent.

    Example:
        >>> for triplet in parse_report({"findings": "Small right pleural effusion, no pneumothorax."}):
        ...     print(triplet.finding, triplet.existence, triplet.side, triplet.severity)
        pleural effusion present right mild
        pneumothorax absent None None
    """
    triplets = []
    for section, text in sections.items():
        asking = section.lower().startswith(ASKING)
        for number, (start, end) in enumerate(split(text)):
            sentence = text[start:end]
            for s in _cached(sentence) if end - start <= CACHED_LENGTH else parse_sentence(sentence):
                existence: Existence = "uncertain" if asking and s.existence == "present" else s.existence
                triplets.append(
                    Triplet(
                        section,
                        number,
                        sentence,
                        s.regions,
                        s.side,
                        s.finding,
                        existence,
                        s.severity,
                        start + s.start,
                        start + s.end,
                    )
                )
    return triplets


def parse_sentence(sentence: str) -> tuple[Statement, ...]:
    """Return the statements of a sentence, each once."""
    tokens = words(sentence)
    findings = spoken(tokens)
    if not findings:
        return ()
    candidates = attach(tokens, findings)
    _assess(tokens, candidates)
    share(tokens, candidates)
    statements: dict[tuple[object, ...], Statement] = {}
    for candidate in candidates:
        finding, existence, place = candidate.spoken, candidate.existence, candidate.located
        if finding.deniable and existence != "absent":
            continue
        first, last = candidate.words
        statement = Statement(
            place.regions,
            place.side,
            finding.finding,
            existence,
            None if existence == "absent" else candidate.severity,
            tokens[first].start,
            tokens[last - 1].end,
        )
        statements.setdefault(statement[:5], statement)
    return tuple(statements.values())


def _assess(sentence: list[Word], candidates: Sequence[Candidate]) -> None:
    """Determine the existence of each finding."""
    mentions = [candidate.mention for candidate in candidates]
    asides = [candidate.aside for candidate in candidates if candidate.aside is not None]
    for candidate, existence in zip(candidates, assess(sentence, mentions, asides), strict=True):
        candidate.existence = denied(existence) if candidate.spoken.denied else existence
    for candidate in candidates:
        if candidate.contrast is not None:
            # The left lung is clear, the right is not.
            other: Existence = "uncertain" if candidate.spoken.denied else "present"
            candidate.existence = other if candidate.contrast.existence == "absent" else "absent"


_cached = lru_cache(maxsize=1 << 16)(parse_sentence)


def denied(existence: Existence) -> Existence:
    """Return the existence of a finding that its words deny (normal, clear), from that of these words by the cues."""
    # Lungs that are not clear may have no consolidation.
    return "absent" if existence == "present" else "uncertain"
