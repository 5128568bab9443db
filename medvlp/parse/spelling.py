"""Typing errors in the words for findings and organs: pnuemothorax, effusoin, cardiomegally.

All words that one error makes of a word of the vocabulary are computed once, so that a sentence is read as fast as
without them. An error is a letter too many, a letter too few, a wrong letter, or two letters in the wrong order.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase
from typing import Any

from medvlp.parse.patterns import expand, read

# Shorter words resemble each other: nodule and module, edema and enema.
SHORTEST = 8


def errors(word: str) -> Iterator[str]:
    """Yield the words that one typing error makes of a word; its first letter is right, unless it is exchanged."""
    for i in range(len(word)):
        if i:
            yield word[:i] + word[i + 1 :]
            for letter in ascii_lowercase:
                yield word[:i] + letter + word[i + 1 :]
                yield word[:i] + letter + word[i:]
        if i + 1 < len(word):
            yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    for letter in ascii_lowercase:
        yield word + letter


def corrections() -> dict[str, str]:
    """Return the right word of each typing error, for the words of `spelling.yaml` and no word of the vocabulary."""
    vocabulary = read("spelling")
    known = {word for name in FILES for text in texts(read(name)) for phrase in expand(text) for word in phrase.split()}
    known.update(vocabulary["leave"], vocabulary["words"])
    right: dict[str, str] = {}
    ambiguous = set()
    for word in vocabulary["words"]:
        for error in errors(word):
            if right.setdefault(error, word) != word:
                ambiguous.add(error)
    return {error: word for error, word in right.items() if error not in known and error not in ambiguous}


FILES = ("findings", "statements", "regions", "cues", "grammar", "languages")


def texts(node: Any) -> Iterator[str]:
    """Yield the strings of a file of the vocabulary."""
    if isinstance(node, dict):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    else:
        yield str(node).lower()
