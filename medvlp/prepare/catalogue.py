"""`medvlp datasets`: what the data sets are for, who may have them, and the commands to get and to prepare them.

datasets.yaml holds the entries; its first lines say what is in them. The tables of the documentation are made from it.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml

from medvlp.errors import UserError, suggestion
from medvlp.parse.patterns import LOADER

Purpose = Literal["pre-training", "classification", "segmentation", "detection", "grounding"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
FILE = Path(__file__).with_name("datasets.yaml")
FRONT_ENDS = Path(__file__).with_name("datasets")
WIDTH = 100
OTHER = "of your own"


@dataclass(frozen=True)
class Entry:
    """What is said of a data set; see datasets.yaml."""

    name: str
    title: str
    purpose: list[Purpose]
    images: int | None
    has: str
    access: str
    account: bool
    download: str | None
    licence: str
    url: str | None
    get: str
    prepare: str
    source: str | None
    unseen: str | None

    @property
    def size(self) -> str:
        """The size of the download, in words."""
        return self.download or "size not known"


@cache
def entries() -> dict[str, Entry]:
    """Return the entries by name, in the order of the file."""
    content = yaml.load(FILE.read_text(encoding="utf-8"), LOADER)
    return {name: Entry(name, **fields) for name, fields in content.items()}


def datasets(name: str | None = None, purpose: Purpose | None = None, no_account: bool = False) -> None:
    """List the data sets that medvlp prepares: access, size, licence, and the commands to get and to prepare them.

    Args:
        name: One of them: all that is known of it.
        purpose: Only those for this purpose.
        no_account: Only those that need no account of any kind.

    Raises:
        UserError: If there is no such data set.
    """
    if name is not None:
        print(in_full(entry_of(name)))
        return
    chosen = [e for e in entries().values() if purpose in (None, *e.purpose) and not (no_account and e.account)]
    if not chosen:
        raise UserError("No data set is so. Leave out --purpose or --no_account.")
    print("\n\n".join(map(in_short, chosen)))
    print(f"\n{len(chosen)} of {len(entries())} data sets. 'medvlp datasets NAME' says all of one.")


def entry_of(name: str) -> Entry:
    """Return an entry.

    Raises:
        UserError: If there is none of this name.
    """
    if name not in entries():
        known = suggestion(name, entries()) or f" There are: {', '.join(entries())}."
        raise UserError(f"'{name}' is no data set that medvlp describes.{known}")
    return entries()[name]


def in_short(entry: Entry) -> str:
    """Return a few lines about a data set."""
    rows = {
        "for": ", ".join(entry.purpose),
        "access": f"{entry.access}; {entry.size}",
        "licence": entry.licence,
        "get": entry.get,
        "prepare": entry.prepare,
    }
    images = [f"{entry.images:,} images"] if entry.images else []
    return "\n".join([f"{entry.name}: {', '.join([entry.title, *images, entry.has])}", *_rows(rows)])


def in_full(entry: Entry) -> str:
    """Return all that is known of a data set."""
    rows = {
        "images": f"{entry.images:,}" if entry.images else "number not published",
        "has": entry.has,
        "for": ", ".join(entry.purpose),
        "access": f"{entry.access} ({'an account' if entry.account else 'no account'} is needed)",
        "size": entry.size,
        "licence": entry.licence,
        "url": entry.url or "none",
        "get": entry.get,
        "prepare": entry.prepare,
        "source": entry.source or "none",
        "not seen": entry.unseen or "nothing: medvlp was tried on the real layout",
    }
    return "\n".join([f"{entry.name}: {entry.title}", *_rows(rows)])


def listing() -> str:
    """Return what `medvlp prepare --help` prints: the data sets by their first purpose, without importing any."""
    of_purpose: dict[str, list[tuple[str, str]]] = {purpose: [] for purpose in (*PURPOSES, OTHER)}
    paths = {path.stem: path for path in sorted(FRONT_ENDS.glob("[!_]*.py"))}
    known = [name for name in entries() if name in paths]
    for name in known + [name for name in paths if name not in entries()]:
        if name in entries():
            entry = entries()[name]
            of_purpose[entry.purpose[0]].append((name, f"{entry.title}: {entry.has}"))
        else:
            summary = (ast.get_docstring(ast.parse(paths[name].read_text(encoding="utf-8"))) or "").partition("\n")[0]
            of_purpose[OTHER].append((name, summary.rstrip(".")))
    groups = [f"{purpose}:\n" + "\n".join(_table(rows)) for purpose, rows in of_purpose.items() if rows]
    return "\n\n".join(
        [
            "usage: medvlp prepare DATASET [options]",
            "Turn a raw data set into a prepared folder, once.",
            *groups,
            "'medvlp prepare DATASET --help' shows the options of one, 'medvlp datasets DATASET' how to get it.",
        ]
    )


def _rows(rows: dict[str, str]) -> list[str]:
    # Commands and addresses are not broken: they are copied.
    return [
        f"  {key:<9}{value}" if key in ("prepare", "get", "url") else _wrapped(f"  {key:<9}", value)
        for key, value in rows.items()
    ]


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [_wrapped(f"  {name:<15}", text) for name, text in rows]


def _wrapped(start: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
