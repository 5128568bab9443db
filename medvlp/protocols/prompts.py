"""The prompts of a protocol: texts for a present and for an absent label."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from medvlp.errors import UserError
from medvlp.protocols.section import Section
from medvlp.types import entry_of, find_label

Case = Literal["lower", "sentence", "label"]
# Far above any real protocol; an error in a file must not fill the memory.
MOST_COMBINATIONS = 10_000
PLACE = re.compile(r"\{(.*?)\}")


class Sides(NamedTuple):
    """The prompts of one finding.

    Attributes:
        positive: Prompts for the present finding.
        negative: Prompts for the absent finding; empty if the score uses the positive side alone.
    """

    positive: list[str]
    negative: list[str]


@dataclass(frozen=True)
class Pairs:
    """Templates with `{}` for a finding; they make prompts for any label.

    Attributes:
        positive: Templates for a present finding.
        negative: Templates for an absent finding; they need not name it.
        phrases: Names of the findings that a label stands for; by default the label itself is its one finding.
        case: Case of the label in a prompt: `lower` for lower case, `label` for the case in the data, or `sentence`.
            `sentence` is `lower` with a capital at the start of the prompt. The case of phrases is kept.
    """

    positive: Sequence[str]
    negative: Sequence[str]
    phrases: Mapping[str, Sequence[str]]
    case: Case

    def of(self, label: str) -> list[Sides]:
        """Return the prompts of each finding that a label stands for; the case of the label is ignored."""
        phrases = entry_of(label, self.phrases) or [label if self.case == "label" else label.lower()]
        return [Sides(self._fill(self.positive, phrase), self._fill(self.negative, phrase)) for phrase in phrases]

    def _fill(self, templates: Sequence[str], phrase: str) -> list[str]:
        filled = [template.replace("{}", phrase) for template in templates]
        return [text[:1].upper() + text[1:] for text in filled] if self.case == "sentence" else filled


@dataclass(frozen=True)
class Prompts:
    """The prompts of a protocol.

    Attributes:
        texts: Prompts of single labels, written out or made from a grid.
        pairs: Templates for all other labels; None if the protocol has no others.
        tags: Names of a tag decoder's tags that stand for each label.
    """

    texts: Mapping[str, Sides] = field(default_factory=dict)
    pairs: Pairs | None = None
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def labels(self) -> list[str] | None:
        """The labels with prompts or tags; None if every label has prompts."""
        return None if self.pairs else [*self.texts, *self.tags]

    def of(self, label: str) -> list[Sides]:
        """Return the prompts of each finding that a label stands for; empty for a label without prompts."""
        if (text := entry_of(label, self.texts)) is not None:
            return [text]
        return self.pairs.of(label) if self.pairs else []


def read_prompts(section: Section) -> Prompts:
    """Read the entry `prompts` of a protocol file.

    Raises:
        UserError: If the entry is invalid.
    """
    section.only("pairs", "texts", "grid", "sample", "seed", "tags")
    texts: dict[str, Sides] = {}
    if "grid" in section:
        texts |= {label: Sides(made, []) for label, made in _read_grid(section).items()}
    elif "sample" in section or "seed" in section:
        raise UserError(f"{section.where}: 'sample' and 'seed' draw from a grid, and there is none.")
    if "texts" in section:
        spelt_out = section.section("texts")
        _check_distinct(spelt_out)
        for label, sides in spelt_out.sections():
            texts[find_label(label, texts) or label] = _read_sides(sides)
    pairs = _read_pairs(section.section("pairs")) if "pairs" in section else None
    tags = section.section("tags") if "tags" in section else None
    if tags:
        _check_distinct(tags)
    return Prompts(texts, pairs, {label: tags.texts(label) for label in tags.value} if tags else {})


def _check_distinct(labels: Section) -> None:
    """Refuse labels that differ in case only: look-ups ignore case."""
    for label in labels.value:
        if alike := find_label(label, [other for other in labels.value if other != label]):
            raise UserError(f"{labels.where}: '{label}' and '{alike}' are the same label: keep one of the two entries.")


def _read_sides(section: Section) -> Sides:
    section.only("positive", "negative")
    return Sides(section.texts("positive"), section.texts("negative") if "negative" in section else [])


def _read_pairs(section: Section) -> Pairs:
    section.only("positive", "negative", "phrases", "case")
    positive = section.texts("positive")
    negative = section.texts("negative") if "negative" in section else []
    for template in [*positive, *negative]:
        rest = template.replace("{}", "", 1)
        if "{" in rest or "}" in rest or (rest == template and template in positive):
            raise UserError(f"{section.where}: '{template}' must have one {{}} for the finding, and no other braces.")
    phrases = section.section("phrases") if "phrases" in section else None
    if phrases:
        _check_distinct(phrases)
    return Pairs(
        positive,
        negative,
        {label: phrases.texts(label) for label in phrases.value} if phrases else {},
        section.choice("case", get_args(Case), "lower"),
    )


def _read_grid(section: Section) -> dict[str, list[str]]:
    """Return all combinations of the parts of each label, or a random sample of them."""
    _check_distinct(section.section("grid"))
    grid = {label: _combinations(parts) for label, parts in section.section("grid").sections()}
    if "sample" not in section:
        return grid
    sample, drawn = section.whole("sample"), random.Random(section.whole("seed", 0))
    for label, texts in grid.items():
        if not 0 < sample <= len(texts):
            raise UserError(
                f"{section.where}, sample={sample}: '{label}' has {len(texts)} combinations: pass a number "
                f"from 1 to {len(texts)}."
            )
    # One generator for all labels, in the order of the file, reproduces GLoRIA's own draws.
    return {label: drawn.sample(texts, sample) for label, texts in grid.items()}


def _combinations(section: Section) -> list[str]:
    """Return `text` with each combination of its parts. The last part changes fastest; blank parts leave no gap."""
    template = section.text("text")
    names = [name for name in section.value if name != "text"]
    if sorted(PLACE.findall(template)) != sorted(names):
        raise UserError(f"{section.where}: '{template}' must name each part once, in braces: {', '.join(names)}.")
    parts = [section.texts(name, blank=True) for name in names]
    if math.prod(map(len, parts)) > MOST_COMBINATIONS:
        raise UserError(f"{section.where} has more than {MOST_COMBINATIONS} combinations.")
    filled = [_fill(template, dict(zip(names, words, strict=True))) for words in itertools.product(*parts)]
    if "" in filled:
        raise UserError(f"{section.where}: all parts are blank in one combination, which leaves no text.")
    return filled


def _fill(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with its places filled; blank parts leave no gap."""
    return " ".join(PLACE.sub(lambda place: parts[place[1]], template).split())
