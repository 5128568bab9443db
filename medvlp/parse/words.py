"""The words of a sentence, and a dictionary of phrases that finds all its phrases in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from medvlp.parse.abbreviations import unabbreviated
from medvlp.parse.patterns import expand
from medvlp.parse.signs import FILLER, plain_signs
from medvlp.parse.spelling import corrections

# A word, a number, a hole of de-identification, or a single sign. A hyphen inside a word separates two.
TOKEN = re.compile(rf"\d+(?:[.,]\d+)+|[^\W_]+(?:'{FILLER}*[^\W\d_]+)?|_+|(?<!\w)-(?!\w)|[^\w\s-]")
# Holes of de-identification: underscores in MIMIC-CXR, XXXX in Open-I. All of them mean the same.
HOLE = "___"
HOLES: dict[str, str] = dict.fromkeys([*("_" * n for n in range(1, 20)), *("x" * n for n in range(3, 9))], HOLE)

# What a word stands for: holes, and typing errors of the vocabulary.
MEANT = {**corrections(), **HOLES}

T = TypeVar("T")


class Word(NamedTuple):
    """A word of a sentence.

    Attributes:
        text: In lower case; `___` for a hole of de-identification.
        start: First character in the sentence.
        end: Behind its last character.
    """

    text: str
    start: int
    end: int


def words(sentence: str) -> list[Word]:
    """Return the words and signs of a sentence in their order; see `signs` for the signs."""
    sentence = plain_signs(sentence)
    if ". " in sentence:
        sentence = unabbreviated(sentence)
    if sentence.isascii() and FILLER not in sentence:
        text = sentence.lower()
        return [Word(MEANT.get(m[0], m[0]), m.start(), m.end()) for m in TOKEN.finditer(text)]
    # Some letters are longer in lower case: the spans must be those of the unchanged sentence.
    return [Word(_lower(m[0]), m.start(), m.end()) for m in TOKEN.finditer(sentence)]


def _lower(word: str) -> str:
    word = word.lower().replace(FILLER, "")
    return MEANT.get(word, word)


class Match(NamedTuple, Generic[T]):
    """A phrase in a list of words.

    Attributes:
        first: Its first word.
        last: Behind its last word.
        meaning: Meaning of the phrase.
    """

    first: int
    last: int
    meaning: T


class Phrases(Generic[T]):
    """A dictionary of phrases of one or more words, each with a meaning.

    Args:
        entries: Patterns (see `expand`) and their meanings. The first meaning of a phrase counts.
    """

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        # A trie by words; None is the key of the meaning.
        self._root: dict[str | None, object] = {}
        for pattern, meaning in entries:
            for phrase in expand(pattern):
                node = self._root
                for word in words(phrase):
                    node = node.setdefault(word.text, {})  # type: ignore[assignment]
                node.setdefault(None, meaning)

    def find(self, sentence: list[Word]) -> list[Match[T]]:
        """Return the phrases in a sentence from left to right: at each place the longest, none inside another."""
        matches: list[Match[T]] = []
        root, first, count = self._root, 0, len(sentence)
        while first < count:
            node: Any = root.get(sentence[first].text)
            if node is None:
                first += 1
                continue
            best, place = None, first + 1
            while node is not None:
                if None in node:
                    best = Match(first, place, node[None])
                node = node.get(sentence[place].text) if place < count else None
                place += 1
            if best is None:
                first += 1
            else:
                matches.append(best)
                first = best.last
        return matches


# Greatest number of words over which the grammar reaches.
REACH = 10


def holds(sentence: list[Word], start: int, end: int, any_of: frozenset[str]) -> bool:
    """Return whether a gap between two words contains one of `any_of`, or is wider than REACH."""
    return end - start > REACH or not any_of.isdisjoint([w.text for w in sentence[start:end]])


def only(
    sentence: list[Word], start: int, end: int, any_of: frozenset[str], alone: frozenset[str] = frozenset()
) -> bool:
    """Return whether a gap has at most REACH words, all among `any_of`, and is not one of `alone` by itself."""
    if end - start > REACH or (end - start == 1 and sentence[start].text in alone):
        return False
    return any_of.issuperset([w.text for w in sentence[start:end]])
