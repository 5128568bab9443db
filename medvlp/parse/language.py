"""Whether a report is English. The parser reads no other language: it would miss its denials (Kein Pneumothorax)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from medvlp.parse.patterns import read

# See vocabulary/languages.yaml.
_LANGUAGES = {name: frozenset(words) for name, words in read("languages").items()}
ENGLISH = _LANGUAGES.pop("english")
OTHERS: tuple[frozenset[str], ...] = tuple(_LANGUAGES.values())
FOREIGN = frozenset[str]().union(*OTHERS)
# At most this many words stand for each word of another language.
SPARSEST = 12
LETTERS = re.compile(r"[^\W\d_]+")
SIGNS = str.maketrans(dict.fromkeys(".,;:?!()[]/'\"-", " "))


def is_english(texts: Iterable[str]) -> bool:
    """Return whether a report is English, by its small words.

    It is not if one other language has more words in it than English, and at least one in twelve. A text without any
    such word is English: `Cardiomegaly.`, `No PTX`, `Pneumothorax?`. The words of other languages never stand in an
    English report by themselves, so that one of them decides in `Kein Pneumothorax`.

    Args:
        texts: Sections of the report.

    Example:
        >>> is_english(["No pneumothorax."]), is_english(["Kein Pneumothorax."])
        (True, False)
    """
    text = " ".join(texts).lower()
    if text.isascii():
        if FOREIGN.isdisjoint(text.translate(SIGNS).split()):
            return True
    else:
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    words = LETTERS.findall(text)
    most = max(sum(map(language.__contains__, words)) for language in OTHERS)
    return most * SPARSEST < len(words) or most == 0 or most <= sum(map(ENGLISH.__contains__, words))
