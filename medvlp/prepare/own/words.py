"""Names of columns and words of values in several languages: what words.yaml says, and how names are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from medvlp.parse.patterns import LOADER

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
FILE = Path(__file__).with_name("words.yaml")
# The border between two words of a name in camel case.
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# A label as German spreadsheets write it.
DECIMAL_COMMA = re.compile(r"^(-?[01]),00?$")
WORD = re.compile(r"[^\W_]+")
# The parts of a name in two scripts, in plain lower case, such as those of "影像所见 findings".
SCRIPT = re.compile(r"[\0-\u024f\u2000-\u2bff]+|[^\0-\u024f\u2000-\u2bff]+")
# Words that may stand beside the name of an id.
OF_IDS = frozenset({"id", "no", "nr", "n", "num", "number", "name", "file"})


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


@lru_cache(maxsize=1)
def meanings() -> dict[str, frozenset[str]]:
    """Return the keys of the usual names of each meaning."""
    return {meaning: _keys(names) for meaning, names in words()["columns"].items()}


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
    return is_no_label(part) or any(part in keys for other, keys in meanings().items() if other not in same)


@lru_cache(maxsize=1)
def _splits() -> dict[str, str]:
    return _by_word("splits", key)


@lru_cache(maxsize=1)
def _views() -> dict[str, str]:
    return _by_word("views", key)


@lru_cache(maxsize=1)
def _values() -> dict[str, str]:
    return _by_word("values", plain)


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    return {**_by_word("labels", key), **{word: "No Finding" for word in _normal()}}


@lru_cache(maxsize=1)
def _normal() -> frozenset[str]:
    return _keys(words()["normal"])


@lru_cache(maxsize=1)
def _blank() -> frozenset[str]:
    return frozenset(plain(word) for word in words()["blank"].split(", "))


@lru_cache(maxsize=1)
def _no_label() -> tuple[frozenset[str], frozenset[str]]:
    names = words()["no label"]["anywhere"]
    return _keys(names), frozenset(word for name in names.split(", ") for word in name_words(name))


@lru_cache(maxsize=1)
def _unspaced() -> tuple[str, ...]:
    return tuple(word for word in _no_label()[1] if min(word) >= "\u3000")


@lru_cache(maxsize=1)
def month_names() -> dict[str, str]:
    """Return the two digits of each name of a month, in plain lower case."""
    return _by_word("months", plain)


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


def is_normal(text: str) -> bool:
    """Return whether an item of a list of labels says that there is nothing to see."""
    return key(text) in _normal()


def is_blank(text: str) -> bool:
    """Return whether a text, without blanks around it, stands for an empty field."""
    return not text or (len(text) < 20 and plain(text) in _blank())


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
        keys = next((row for row in ([*map(key, row)] for row in rows) if all(name in by_key for name in row)), None)
        if keys:
            found[form] = [by_key[name] for name in keys]
    return found


def header_names() -> dict[str, str]:
    """Return the English header for each foreign one, in plain lower case."""
    return _by_word("headers", plain)


def _keys(names: str) -> frozenset[str]:
    return frozenset(key(name) for name in names.split(", ")) - {""}


def _by_word(table: str, fold: Any) -> dict[str, str]:
    return {fold(word): name for name, listed in words()[table].items() for word in listed.split(", ")}
