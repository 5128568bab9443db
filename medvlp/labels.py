"""Labels by their names, whatever their capitals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def find_label(name: str, known: Iterable[str]) -> str | None:
    """Return how the known labels spell a label; the very same spelling before others, None where it is none."""
    alike = [label for label in known if label.casefold() == name.casefold()]
    return name if name in alike else next(iter(alike), None)


def entry_of(name: str, entries: Mapping[str, Entry]) -> Entry | None:
    """Return the entry of a label in a mapping by labels; None where there is none."""
    label = find_label(name, entries)
    return None if label is None else entries[label]
