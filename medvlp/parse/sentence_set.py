"""Sentences with their right triplets, and the comparison of the parser with them.

The set is a csv with a row for each sentence and the columns id, kind, text, triplets and note. `⏎` in a text is a line
break, `⇥` a tab. Triplets are separated by semicolons:

    finding existence [side] [severity]     pleural effusion present left mild; pneumothorax absent

Without a side, the sentence states none. `|` separates answers that are both right (`uncertain|absent`), `none` is the
side that is not stated, and `any` stands for every side. A triplet in brackets may be given and may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from medvlp.errors import UserError
from medvlp.parse.agreement import ratio
from medvlp.parse.cues import Existence
from medvlp.parse.lexicon import FINDINGS, Severity, Side
from medvlp.parse.report import parse_report

COLUMNS = ("id", "kind", "text", "triplets")
EXISTENCES = frozenset(get_args(Existence))
SIDES: frozenset[str | None] = frozenset([*get_args(Side), None])
SEVERITIES = frozenset(get_args(Severity))
MARKS = {"⏎": "\n", "⇥": "\t"}


class Answer(NamedTuple):
    """What the parser says of one finding."""

    finding: str
    existence: str
    side: str | None

    def __str__(self) -> str:
        """Return it in the notation of the table."""
        return " ".join(word for word in self if word is not None)


class Expected(NamedTuple):
    """A right triplet of a sentence; each set holds the answers that are right.

    Attributes:
        notation: Its words in the table.
        findings: Names of findings.
        existences: Its existences.
        sides: Its sides; None stands for no side.
        severity: Its severity; None if not stated.
        optional: It may be missing.
    """

    notation: str
    findings: frozenset[str]
    existences: frozenset[str]
    sides: frozenset[str | None]
    severity: str | None
    optional: bool

    def accepts(self, answer: Answer) -> bool:
        """Return whether finding, existence and side are right."""
        return answer.finding in self.findings and answer.existence in self.existences and answer.side in self.sides


class Sentence(NamedTuple):
    """A row of the table."""

    id: str
    kind: str
    text: str
    expected: tuple[Expected, ...]


class Comparison(NamedTuple):
    """The comparison of one sentence with the parser's answers.

    Attributes:
        sentence: The sentence.
        hits: Triplets that the parser gives.
        misses: Triplets that it does not give, without the optional ones.
        excess: Answers that are no triplet of the sentence.
        graded: Number of the hits with a severity in the triplet or in the answer.
        same_severity: Number of these whose severity is the same.
    """

    sentence: Sentence
    hits: list[Expected]
    misses: list[Expected]
    excess: list[Answer]
    graded: int
    same_severity: int


@dataclass
class Tally:
    """The number of triplets of several sentences, by the result of their comparison."""

    sentences: int = 0
    hits: int = 0
    misses: int = 0
    excess: int = 0
    graded: int = 0
    same_severity: int = 0
    wrong: list[Comparison] = field(default_factory=list)

    def add(self, comparison: Comparison) -> None:
        """Count a sentence."""
        self.sentences += 1
        self.hits += len(comparison.hits)
        self.misses += len(comparison.misses)
        self.excess += len(comparison.excess)
        self.graded += comparison.graded
        self.same_severity += comparison.same_severity
        if comparison.misses or comparison.excess:
            self.wrong.append(comparison)

    @property
    def precision(self) -> float:
        """Share of the parser's answers that are right, without those to optional triplets."""
        return ratio(self.hits, self.hits + self.excess)

    @property
    def recall(self) -> float:
        """Share of the triplets that the parser gives."""
        return ratio(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return ratio(2 * self.hits, 2 * self.hits + self.excess + self.misses)

    @property
    def severity(self) -> float:
        """Share of the same severity among the hits for which the triplet or the answer states one."""
        return ratio(self.same_severity, self.graded)


def read_sentences(rows: Iterable[Mapping[str, str]]) -> list[Sentence]:
    """Return the sentences of the rows of a table.

    Args:
        rows: Rows with the `COLUMNS`.

    Raises:
        UserError: If a row has no id, the id of another or no text, or if its triplets are not in the notation.
    """
    sentences: dict[str, Sentence] = {}
    for number, row in enumerate(rows, 2):
        name, text = row["id"].strip(), row["text"]
        if not name or name in sentences or not text.strip():
            wrong = f"the id {name!r} is in two rows" if name in sentences else "id or text is empty"
            raise UserError(f"sentences: row {number}: {wrong}. Each row needs a text and an id of its own.")
        for mark, character in MARKS.items():
            text = text.replace(mark, character)
        try:
            expected = tuple(parse_triplet(part) for part in row["triplets"].split(";") if part.strip())
        except ValueError as error:
            raise UserError(f"sentences: row {number} ({name}): {error}") from error
        sentences[name] = Sentence(name, row["kind"].strip(), text, expected)
    return list(sentences.values())


def parse_triplet(notation: str) -> Expected:
    """Return a triplet in the notation of the table.

    Raises:
        ValueError: If it is not in this notation.

    Example:
        >>> sorted(parse_triplet("pneumonia uncertain|absent left").existences)
        ['absent', 'uncertain']
    """
    notation = notation.strip()
    optional = notation.startswith("(") and notation.endswith(")")
    words = notation[1:-1].split() if optional else notation.split()
    place = next((i for i, word in enumerate(words) if EXISTENCES.issuperset(word.split("|"))), 0)
    findings = frozenset(" ".join(words[:place]).split("|"))
    if not place:
        raise ValueError(
            f"'{notation}' is no triplet: write finding, {' or '.join(sorted(EXISTENCES))}, side, severity."
        )
    if not findings & set(FINDINGS):
        raise ValueError(f"'{' '.join(words[:place])}' is no finding of findings.yaml.")
    sides, severity = [], None
    for word in words[place + 1 :]:
        options = SIDES if word == "any" else {None if part == "none" else part for part in word.split("|")}
        if options <= SIDES:
            sides.append(frozenset(options))
        elif word in SEVERITIES and severity is None:
            severity = word
        else:
            raise ValueError(f"'{word}' in '{notation}' is no side and no severity, or a second one.")
    if len(sides) > 1:
        raise ValueError(f"'{notation}' has two sides: join answers that are both right, as in left|none.")
    existences = frozenset(words[place].split("|"))
    return Expected(notation, findings, existences, sides[0] if sides else frozenset([None]), severity, optional)


def compare(sentence: Sentence) -> Comparison:
    """Parse a sentence, and compare the answers with its triplets."""
    severities: dict[Answer, set[str | None]] = {}
    for t in parse_report({"findings": sentence.text}):
        severities.setdefault(Answer(t.finding, t.existence, t.side), set()).add(t.severity)
    return matched(sentence, severities)


def matched(sentence: Sentence, severities: Mapping[Answer, set[str | None]]) -> Comparison:
    """Assign answers to the triplets of a sentence: one to each, to as many as possible, to optional ones last.

    An answer for the right and one for the left together are an answer for both sides.

    Args:
        sentence: The sentence.
        severities: Severities of each answer.
    """
    severities = _with_both_sides(sentence.expected, severities)
    answers = list(severities)
    required = [e for e in sentence.expected if not e.optional]
    expected = required + [e for e in sentence.expected if e.optional]
    # The triplet that each answer is assigned to. Chains of exchanges (Kuhn) never take the answer of an earlier
    # triplet away, so that the required ones get as many as they can.
    triplet_of: dict[int, int] = {}

    def assign(n: int, visited: set[int]) -> bool:
        for i, answer in enumerate(answers):
            if i not in visited and expected[n].accepts(answer):
                visited.add(i)
                if i not in triplet_of or assign(triplet_of[i], visited):
                    triplet_of[i] = n
                    return True
        return False

    assigned = [assign(n, set()) for n in range(len(expected))]
    hits = [(expected[n], severities[answers[i]]) for i, n in triplet_of.items() if n < len(required)]
    graded = [e.severity in given for e, given in hits if e.severity is not None or given != {None}]
    return Comparison(
        sentence,
        [e for e, _ in hits],
        [e for n, e in enumerate(required) if not assigned[n]],
        [answer for i, answer in enumerate(answers) if i not in triplet_of],
        len(graded),
        sum(graded),
    )


def _with_both_sides(
    expected: Sequence[Expected], severities: Mapping[Answer, set[str | None]]
) -> dict[Answer, set[str | None]]:
    """Return the answers; right and left become bilateral if triplets take this and none takes one of the two alone."""
    out = dict(severities)
    for left in severities:
        right, both = left._replace(side="right"), left._replace(side="bilateral")
        if left.side != "left" or right not in severities or both in severities:
            continue
        takes_both = [e.accepts(both) for e in expected]
        takes_one = [e.accepts(left) or e.accepts(right) for e in expected]
        if any(takes_both) and all(takes_both[n] for n, takes in enumerate(takes_one) if takes):
            out[both] = out.pop(left) | out.pop(right)
    return out
