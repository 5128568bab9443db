"""The labels of PadChest, from the lists of names in its table.

They are the words of the table, which are its narrowest terms: an image with `laminar atelectasis` has no value of
`atelectasis`. Tests count that as absent, as published ones do, and it is no absence beside other data sets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from medvlp.prepare.tables import read_table

Labels = Literal["all", "physician", "padchest20"]
WORD = re.compile(r"'([^']*)'|\"([^\"]*)\"")
NORMAL, PHYSICIAN, RAREST = "normal", "physician", 20


def choose_labels(table: Path, labels: Labels) -> list[str]:
    """Return the names of the labels in a table, in alphabetical order. Normal is none, as in CARZero's evaluation.

    Args:
        table: The table.
        labels: `all` of them; those of the images that physicians labelled, `physician`; or `padchest20`, the 20 of
            these with the fewest images, as the author of CARZero defines them (issue 11 of laihaoran/CARZero). Of
            labels with as many images the first by name counts.
    """
    counts: Counter[str] = Counter()
    for _, (method, text) in read_table(table, ["MethodLabel", "Labels"], lambda *_: None):
        if labels == "all" or method.strip().lower() == PHYSICIAN:
            counts.update({*words(text)} - {NORMAL})
    rarest = sorted(counts, key=lambda name: (counts[name], name))[:RAREST]
    return sorted(rarest if labels == "padchest20" else counts)


def value_of(name: str, found: Collection[str]) -> int | None:
    """Return the value of a label: 1 present, 0 absent, None where the list has a narrower term in place of it.

    Args:
        name: The label.
        found: Names of the list.
    """
    if name in found:
        return 1
    return None if any(other.endswith(f" {name}") for other in found) else 0


def words(text: str) -> list[str]:
    """Return the names of a list in the table, `['normal', ' loc lung']`, in lower case, without blanks around them."""
    found = [" ".join((single or double).lower().split()) for single, double in WORD.findall(text)]
    return [name for name in found if name]
