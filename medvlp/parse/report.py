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
from medvlp.parse.header_names import asks, sub_heading
from medvlp.parse.language import is_english
from medvlp.parse.lexicon import Severity, Side
from medvlp.parse.mentions import spoken
from medvlp.parse.sentences import split
from medvlp.parse.sharing import share
from medvlp.parse.words import Word, words

CACHED_LENGTH = 400
# The devices that a sub-heading of Findings names without saying that there is one.
DEVICES = frozenset({"line", "tube", "device", "wire", "hardware", "drainage"})


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
        sections: Texts by name. Findings of an indication, history, comparison or technique are uncertain unless
            absent. A report in another language than English has no triplets, see `is_english`.

    Example:
        >>> for triplet in parse_report({"findings": "Small right pleural effusion, no pneumothorax."}):
        ...     print(triplet.finding, triplet.existence, triplet.side, triplet.severity)
        pleural effusion present right mild
        pneumothorax absent None None
    """
    triplets: list[Triplet] = []
    if not is_english(sections.values()):
        return triplets
    for section, text in sections.items():
        asking = asks(section)
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
    """Return the statements of a sentence, each once.

    `LINES AND TUBES: A right PICC is seen.` has a sub-heading of Findings, which is no statement about lines. It gives
    `LUNGS: Clear.` its meaning, but a statement that the words behind it make alone, on the same side, is theirs.
    """
    end = sub_heading(sentence)
    statements = _statements(sentence)
    if not end:
        return statements
    alone = {(s.finding, s.existence, s.start + end, s.end + end): s for s in _statements(sentence[end:])}
    kept = {}
    for s in statements:
        if s.end <= end and s.finding in DEVICES and s.existence == "present":
            continue
        same = alone.get((s.finding, s.existence, s.start, s.end))
        statement = s if same is None or same.side != s.side else same._replace(start=s.start, end=s.end)
        kept[statement[:5]] = statement
    return tuple(kept.values())


def _statements(sentence: str) -> tuple[Statement, ...]:
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
