"""Words of tables in several languages: how they are compared, and what those of values mean, as words.yaml says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from medvlp.parse.patterns import LOADER

FILE = Path(__file__).with_name("words.yaml")
# The border between two words of a name in camel case.
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# A label as German spreadsheets write it.
DECIMAL_COMMA = re.compile(r"^(-?[01]),00?$")
WORD = re.compile(r"[^\W_]+")
# Words that stand for a missing report.
NO_TEXTS = frozenset({"none", "nan", "n/a", "na", "null"})


@lru_cache(maxsize=1)
def words() -> dict[str, Any]:
    """Return the content of words.yaml."""
    content: dict[str, Any] = yaml.load(FILE.read_text(encoding="utf-8"), LOADER)
    return content


def plain(text: str) -> str:
    """Return a text in lower case without accents, with single blanks.

    Example:
        >>> plain(" Nicht  möglich ")
        'nicht moglich'
    """
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())


def name_words(name: str) -> list[str]:
    """Return the words of a name of a column.

    Example:
        >>> name_words("Finding_Labels"), name_words("PatientID"), name_words("N° d'accès")
        (['finding', 'labels'], ['patient', 'id'], ['n', 'd', 'acces'])
    """
    return WORD.findall(plain(CAMEL.sub(" ", name)))


def key(name: str) -> str:
    """Return a name as it is compared: its letters and digits alone, in lower case, without accents."""
    return "".join(name_words(name))


def keys(names: str) -> frozenset[str]:
    """Return the keys of names separated by commas."""
    return frozenset(key(name) for name in names.split(", ")) - {""}


def by_word(table: str, fold: Callable[[str], str]) -> dict[str, str]:
    """Return the entry of a table of words.yaml that lists a word, by the word as `fold` compares it."""
    return {fold(word): name for name, listed in words()[table].items() for word in listed.split(", ")}


@lru_cache(maxsize=1)
def _splits() -> dict[str, str]:
    return by_word("splits", key)


@lru_cache(maxsize=1)
def _views() -> dict[str, str]:
    return by_word("views", key)


@lru_cache(maxsize=1)
def _values() -> dict[str, str]:
    return by_word("values", plain)


@lru_cache(maxsize=1)
def _blank() -> frozenset[str]:
    return frozenset(plain(word) for word in words()["blank"].split(", "))


def split_word(text: str) -> str | None:
    """Return train, validate or test for a word that means it, else None."""
    return _splits().get(key(text))


def view_word(text: str) -> str | None:
    """Return the view that a word means, such as PA; empty if it says that the view is not known, else None."""
    return _views().get(key(text)) if text else ""


def read_view(text: str) -> str | None:
    """Return a view by the name that medvlp has for it, another one in capitals, or None if none is given.

    Example:
        >>> read_view("Postero-anterior"), read_view("N/A"), read_view("AP (KUB)")
        ('PA', None, 'AP (KUB)')
    """
    if is_blank(text.strip()):
        return None
    view = view_word(text)
    return " ".join(text.upper().replace(",", " ").split()) if view is None else view or None


def label_value(text: str) -> int | None:
    """Return 1 for present, 0 for absent, -1 for uncertain, None for a text that is not known.

    Example:
        >>> label_value("1.0"), label_value("Nein"), label_value("-1,0"), label_value("2")
        (1, 0, -1, None)
    """
    try:
        number = float(DECIMAL_COMMA.sub(r"\1", text))
    except ValueError:
        return {"present": 1, "absent": 0, "uncertain": -1}.get(_values().get(plain(text), ""))
    return int(number) if number in (1, 0, -1) else None


def is_blank(text: str) -> bool:
    """Return whether a text, without blanks around it, stands for an empty field."""
    return not text or (len(text) < 20 and plain(text) in _blank())


def read_text(value: object) -> str:
    """Return the text of a report in a field; empty for a word that stands for a missing one.

    Example:
        >>> read_text("None"), read_text(" No change. ")
        ('', 'No change.')
    """
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower().rstrip(".") in NO_TEXTS else text
