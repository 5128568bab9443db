"""Values of command-line options."""

from __future__ import annotations


def split_commas(text: str) -> list[str]:
    """Return the parts of a text between commas, without duplicates and empty parts."""
    return list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
