"""Words of tables that stand for a missing text."""

from __future__ import annotations

NO_TEXTS = frozenset({"none", "nan", "n/a", "na", "null"})


def read_text(value: object) -> str:
    """Return the text of a field; empty for a word that stands for a missing one.

    Example:
        >>> read_text("None"), read_text(" No change. ")
        ('', 'No change.')
    """
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower().rstrip(".") in NO_TEXTS else text
