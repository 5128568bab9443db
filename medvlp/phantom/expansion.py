"""The expansion of the templates of sentences.

`{a|b|}` stands for one of the alternatives, which nest; `<name>` for a word of the caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_CHOICE = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"<(\w+)>")


def expand(template: str, rng: np.random.Generator, slots: Mapping[str, str] | None = None) -> str:
    """Return a sentence of a template without a full stop.

    Args:
        template: The template.
        rng: Chooses the alternatives.
        slots: Words by slot; a slot without words is empty.
    """
    text = template
    slots = slots or {}
    while True:
        chosen = _CHOICE.sub(lambda m: _pick(m.group(1), rng), text)
        filled = _SLOT.sub(lambda m: m.group(0) if m.group(1) == "a" else slots.get(m.group(1), ""), chosen)
        if filled == text:
            break
        text = filled
    text = re.sub(r"\s+([,.;])", r"\1", " ".join(text.split())).strip(" ,")
    text = re.sub(r"<a> ", "a ", text)
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO8]|[uU](?!n?i))", r"\1n ", text)
    return text[:1].upper() + text[1:]


def _pick(inside: str, rng: np.random.Generator) -> str:
    options = inside.split("|")
    return options[int(rng.integers(len(options)))]
