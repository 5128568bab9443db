"""Names of columns, labels and headers of reports in several languages, as words.yaml has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from medvlp.prepare.words import by_word, key, keys, name_words, plain, words

MEANINGS = (
    "image",
    "report",
    "findings",
    "impression",
    "patient",
    "study",
    "accession",
    "date",
    "view",
    "split",
    "mask",
    "boxes",
)
# The parts of a name in two scripts, in plain lower case, such as those of "影像所见 findings".
SCRIPT = re.compile(r"[\0-\u024f\u2000-\u2bff]+|[^\0-\u024f\u2000-\u2bff]+")
# Words that may stand beside the name of an id.
OF_IDS = frozenset({"id", "no", "nr", "n", "num", "number", "name", "file"})


@lru_cache(maxsize=1)
def meanings() -> dict[str, frozenset[str]]:
    """Return the keys of the usual names of each meaning."""
    return {meaning: keys(names) for meaning, names in words()["columns"].items()}


def has_meaning(name: str, meaning: str) -> bool:
    """Return whether a column is called as is usual for a meaning; of an object's field the last name counts, too."""
    known = meanings()[meaning]
    if meaning == "split" and "split" in name_words(name):
        return True
    if key(name) in known or key(name.rpartition(".")[2]) in known:
        return True
    parts = _scripts(name)
    others = [part for part in parts if part not in known]
    return len(others) < len(parts) and not any(_is_other(part, meaning) for part in others)


def _scripts(name: str) -> list[str]:
    """Return the keys of the parts of a name in two scripts; none of a name in one."""
    if name.isascii():
        return []
    parts = [part for part in map(key, SCRIPT.findall(plain(name))) if part]
    return parts if len(parts) > 1 else []


def _is_other(part: str, meaning: str) -> bool:
    """Return whether a part of a name says something else than a meaning."""
    if part in OF_IDS:
        return False
    # The number of an examination is that of its request, which headers have, too.
    same = {meaning, "study"} if meaning == "accession" else {meaning}
    return is_no_label(part) or any(part in known for other, known in meanings().items() if other not in same)


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    return {**by_word("labels", key), **{word: "No Finding" for word in _normal()}}


@lru_cache(maxsize=1)
def _normal() -> frozenset[str]:
    return keys(words()["normal"])


@lru_cache(maxsize=1)
def _no_label() -> tuple[frozenset[str], frozenset[str]]:
    names = words()["no label"]["anywhere"]
    return keys(names), frozenset(word for name in names.split(", ") for word in name_words(name))


@lru_cache(maxsize=1)
def _unspaced() -> tuple[str, ...]:
    return tuple(word for word in _no_label()[1] if min(word) >= "\u3000")


@lru_cache(maxsize=1)
def month_names() -> dict[str, str]:
    """Return the two digits of each name of a month, in plain lower case."""
    return by_word("months", plain)


def is_normal(text: str) -> bool:
    """Return whether an item of a list of labels says that there is nothing to see."""
    return key(text) in _normal()


def spelling(label: str) -> str:
    """Return a label as the public data sets write it, else its own name.

    Example:
        >>> spelling("pleural_effusion"), spelling("Pleuraerguss"), spelling("Aortic kinking")
        ('Pleural Effusion', 'Pleural Effusion', 'Aortic kinking')
    """
    known = _spellings()
    if whole := known.get(key(label)):
        return whole
    in_parts = {known[part] for part in _scripts(label) if part in known}
    return in_parts.pop() if len(in_parts) == 1 else label.strip()


def is_known_label(name: str) -> bool:
    """Return whether a column is called like a label of the public data sets."""
    return key(name) in _spellings() or any(part in _spellings() for part in _scripts(name))


def is_no_label(name: str) -> bool:
    """Return whether the name of a column says that it is about something else than findings: age, sex, split."""
    names, parts = _no_label()
    whole = key(name)
    # Chinese has no blanks between its words.
    return whole in names or not parts.isdisjoint(name_words(name)) or any(word in whole for word in _unspaced())


def corner_columns(names: Iterable[str]) -> Mapping[str, list[str]]:
    """Return the columns of the corners of boxes, by the format, xywh or xyxy; of a format that is not there, none."""
    by_key = {key(name): name for name in names}
    found = {}
    for form, rows in words()["corners"].items():
        known = next((row for row in ([*map(key, row)] for row in rows) if all(name in by_key for name in row)), None)
        if known:
            found[form] = [by_key[name] for name in known]
    return found


def header_names() -> dict[str, str]:
    """Return the English header for each foreign one, in plain lower case."""
    return by_word("headers", plain)
