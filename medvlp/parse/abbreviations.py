"""Full stops that belong to an abbreviation, and end no sentence."""

from __future__ import annotations

import re

from medvlp.parse.patterns import read

# Abbreviations that end no sentence; those that end one before a capital or one of BEGINNING; and sides, which stand
# before a noun: Lt. pleural effusion.
_KINDS = {
    "never": "dr mr mrs ms drs prof st vs v approx e.g i.e fig a.k.a resp cf mod sl sm lg incl poss prob susp",
    "seldom": "cm mm ml cc in p.m a.m ant post sup inf med lat int min max pulm card mediast pl neg pos abnl nl sig "
    "signif dx hx cath vol vols inspir chr calcif incr decr inc pt pts yr yrs y.o wk wks hr hrs mos ca",
    "side": "lt rt l r bilat bil unilat",
    "number": "no",
}
KINDS = {word: kind for kind, words in _KINDS.items() for word in words.split()}
# Number: tube no. 8. Not the denial before the next item of a list: effusion: no. 2. Edema.
COUNT = re.compile(r"\s*\d+(?![\d.)])")
LONGEST = 12
INSIDE = re.compile(r"(?<=\w)\.(?= )")

# See vocabulary/sentences.yaml.
_WORDS = {name: frozenset(words) for name, words in read("sentences").items()}
BEGINNING, QUANTITY = _WORDS["beginning"], _WORDS["quantity"]
WORD = re.compile(r"\s*([^\W\d_]+)")


def is_abbreviated(text: str, start: int, end: int) -> bool:
    """Return whether a full stop belongs to an abbreviation inside a sentence.

    Args:
        text: A section or a sentence.
        start: First character of the sentence.
        end: Behind the full stop.
    """
    before = text[max(start, end - LONGEST) : end - 1]
    word = "" if before[-1:].isspace() else before[max(map(before.rfind, " \n\t(/")) + 1 :].lower()
    if word.isdigit():
        # The number of an item at the start of a sentence.
        return len(word) <= 2 and end - start <= LONGEST and before.strip(" \t\n(") == word
    kind = KINDS.get(word) or KINDS.get(word.lstrip("0123456789.,"))
    if kind is None or kind == "never":
        return kind is not None
    if kind == "number":
        return COUNT.match(text, end) is not None
    following = WORD.match(text, end)
    if following is None or following[1].lower() in BEGINNING:
        return False
    return not is_title(following[1]) or (kind == "side" and following[1].lower() not in QUANTITY)


def is_title(word: str) -> bool:
    """Return whether a word has a capital as the first word of a sentence, not as an abbreviation."""
    return word[0].isupper() and (word[1:].islower() or word == "A")


def unabbreviated(sentence: str) -> str:
    """Return a sentence of the same length without the full stops of abbreviations: No lt. effusion."""
    parts: list[str] = []
    last = 0
    for stop in INSIDE.finditer(sentence):
        place = stop.start()
        if is_abbreviated(sentence, 0, place + 1) and sentence[max(0, place - 2) : place].lower() != "no":
            parts += (sentence[last:place], " ")
            last = place + 1
    return "".join((*parts, sentence[last:]))
