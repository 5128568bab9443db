"""Words of tables: the names of views, and the words that stand for a missing text."""

from __future__ import annotations

# Spellings of views; others stay as they are.
VIEWS = {
    **dict.fromkeys(("PA", "POSTERO ANTERIOR", "POSTEROANTERIOR"), "PA"),
    **dict.fromkeys(("AP", "ANTERO POSTERIOR", "ANTEROPOSTERIOR"), "AP"),
    **dict.fromkeys(("LATERAL", "LAT", "LL", "RL", "LLAT", "RLAT", "LEFT LATERAL", "RIGHT LATERAL"), "LATERAL"),
}
NO_VIEWS = frozenset({"", "NONE", "N/A", "NA", "NAN", "NULL", "UNKNOWN"})
NO_TEXTS = frozenset({"none", "nan", "n/a", "na", "null"})


def read_view(view: object) -> str | None:
    """Return a view by the name that medvlp has for it: PA, AP, LATERAL or another one in capitals; None for no view.

    Example:
        >>> read_view("Postero-anterior"), read_view(None), read_view("AP (KUB)")
        ('PA', None, 'AP (KUB)')
    """
    name = " ".join(str(view or "").upper().replace("_", " ").replace("-", " ").split())
    return None if name in NO_VIEWS else VIEWS.get(name, name)


def read_text(value: object) -> str:
    """Return the text of a field; empty for a word that stands for a missing one.

    Example:
        >>> read_text("None"), read_text(" No change. ")
        ('', 'No change.')
    """
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower().rstrip(".") in NO_TEXTS else text
