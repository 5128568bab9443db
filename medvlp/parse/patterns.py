"""The files of `vocabulary/`, and the patterns in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

# With libyaml, if PyYAML has it, reading takes a tenth of the time.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
GROUP = re.compile(r"\(([^()]*)\)")


@cache
def read(name: str) -> Any:
    """Return the content of a file of the vocabulary."""
    text = (files("medvlp.parse") / "vocabulary" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, LOADER)


def expand(pattern: str) -> Iterator[str]:
    """Yield the phrases of a pattern: `(a|b) c` is `a c` and `b c`, `(a|) c` is `a c` and `c`; groups do not nest."""
    parts = GROUP.split(pattern)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    for choice in itertools.product(*choices):
        yield " ".join("".join(choice).split())
