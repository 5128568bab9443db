"""Values of command-line options."""

from __future__ import annotations


def split_commas(text: str) -> list[str]:
    """Return what stands between commas, each once."""
    return list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
