"""Names of columns, labels and headers of reports in several languages, as words.yaml has them."""

from __future__ import annotations

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


@lru_cache(maxsize=1)
def meanings() -> dict[str, frozenset[str]]:
    """Return the keys of the usual names of each meaning."""
    return {meaning: keys(names) for meaning, names in words()["columns"].items()}


def has_meaning(name: str, meaning: str) -> bool:
    """Return whether a column is called as is usual for a meaning; of an object's field the last name counts, too."""
    known = meanings()[meaning]
    if meaning == "split" and "split" in name_words(name):
        return True
    return key(name) in known or key(name.rpartition(".")[2]) in known


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


def is_normal(text: str) -> bool:
    """Return whether an item of a list of labels says that there is nothing to see."""
    return key(text) in _normal()


def spelling(label: str) -> str:
    """Return a label as the public data sets write it, else its own name.

    Example:
        >>> spelling("pleural_effusion"), spelling("Pleuraerguss"), spelling("Aortic kinking")
        ('Pleural Effusion', 'Pleural Effusion', 'Aortic kinking')
    """
    return _spellings().get(key(label), label.strip())


def is_known_label(name: str) -> bool:
    """Return whether a column is called like a label of the public data sets."""
    return key(name) in _spellings()


def is_no_label(name: str) -> bool:
    """Return whether the name of a column says that it is about something else than findings: age, sex, split."""
    names, parts = _no_label()
    return key(name) in names or not parts.isdisjoint(name_words(name))


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
