"""Words of a sentence, and a dictionary of phrases that finds all of them in one pass."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

# A word, a number, a hole of de-identification, or a single sign. Hyphens inside a word only part it.
TOKEN = re.compile(
    r"\d+(?:[.,]\d+)+|[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)?|_+|(?<!\w)-(?!\w)|[^\w\s-]"
)
GROUP = re.compile(r"\(([^()]*)\)")
# What de-identification leaves: underscores in MIMIC-CXR, XXXX in Open-I. All of them read the same.
HOLE = "___"
HOLES = dict.fromkeys([*("_" * n for n in range(1, 20)), *("x" * n for n in range(3, 9))], HOLE)

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
    """Return the words and signs of a sentence in their order."""
    if sentence.isascii():
        text = sentence.lower()
        return [Word(HOLES.get(m[0], m[0]), m.start(), m.end()) for m in TOKEN.finditer(text)]
    # In other scripts a letter may grow when it is made small: the spans are those of the sentence as it is.
    return [Word(plain(m[0]), m.start(), m.end()) for m in TOKEN.finditer(sentence)]


def plain(word: str) -> str:
    """Return a word in lower case, with a plain apostrophe; every hole of de-identification as `HOLE`."""
    word = word.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return HOLES.get(word, word)


def expand(pattern: str) -> Iterator[str]:
    """Yield the phrases of a pattern: `(a|b) c` is `a c` and `b c`, `(a|) c` is `a c` and `c`; groups do not nest."""
    parts = GROUP.split(pattern)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    for choice in itertools.product(*choices):
        yield " ".join("".join(choice).split())


class Match(NamedTuple, Generic[T]):
    """A phrase in a list of words.

    Attributes:
        first: Its first word.
        last: Behind its last word.
        meaning: What the phrase stands for.
    """

    first: int
    last: int
    meaning: T


class Phrases(Generic[T]):
    """A dictionary of phrases of one or more words, each with a meaning.

    Args:
        entries: Patterns (see `expand`) and their meanings; where a phrase comes twice, the first counts.
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
        found: list[Match[T]] = []
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
                found.append(best)
                first = best.last
        return found


# Grammar does not reach further than this many words.
REACH = 10


def holds(sentence: list[Word], start: int, end: int, any_of: frozenset[str]) -> bool:
    """Return whether a gap between two words holds one of these, or is too wide to tell."""
    return end - start > REACH or not any_of.isdisjoint([w.text for w in sentence[start:end]])


def only(
    sentence: list[Word], start: int, end: int, any_of: frozenset[str], alone: frozenset[str] = frozenset()
) -> bool:
    """Return whether all words of a gap, which is not too wide, are among `any_of`, and it is not one of `alone`."""
    if end - start > REACH or (end - start == 1 and sentence[start].text in alone):
        return False
    return any_of.issuperset([w.text for w in sentence[start:end]])
