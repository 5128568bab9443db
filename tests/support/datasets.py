"""Writes the tables of the page about data sets from datasets.yaml: `python -m tests.support.datasets`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medvlp.prepare import catalogue
from medvlp.prepare.catalogue import PURPOSES, Entry, entries

PAGE = Path(catalogue.__file__).parents[1] / "docs" / "pages" / "datasets.md"
BEGIN = "<!-- made from medvlp/prepare/datasets.yaml: python -m tests.support.datasets -->"
NONE = "\N{EN DASH}"
END = "<!-- until here -->"
TABLES = "<!-- not run: tests/prepare/test_catalogue.py reads the options of each command -->"


def made(all_entries: Iterable[Entry]) -> str:
    """Return the tables and commands of all data sets, by their main purpose."""
    by_purpose = sorted(all_entries, key=lambda entry: PURPOSES.index(entry.purpose[0]))
    rows = [
        "| data set | for | images | has | download | access | terms |",
        "|---|---|---|---|---|---|---|",
        *(row(entry) for entry in by_purpose),
    ]
    commands = [line for entry in by_purpose for line in (f"# {entry.title}: {entry.get}", broken(entry.prepare))]
    notes = [f"- **{entry.title}**: {entry.unseen.rstrip('.')}." for entry in by_purpose if entry.unseen]
    block = ["", TABLES, "```sh", *commands, "```", "", "Not seen of the real files:", "", *notes]
    return "\n".join([BEGIN, "", *rows, *block, "", END])


def row(entry: Entry) -> str:
    """Return the row of a data set."""
    images = f"{entry.images:,}" if entry.images else NONE
    title = f"[{entry.title}]({entry.url})" if entry.url else entry.title
    cells = (title, ", ".join(entry.purpose), images, entry.has, entry.download or NONE)
    return " | ".join(["| " + cells[0], *cells[1:], entry.access, entry.licence + " |"])


def broken(command: str, width: int = 110) -> str:
    """Return a command in lines of a width."""
    lines = [""]
    for word in command.replace(" --", "\n--").split("\n"):
        if len(lines[-1]) + len(word) >= width:
            lines.append("   ")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return " \\\n".join(lines)


def rewritten(page: str) -> str:
    """Return a page with the tables made anew."""
    before, _, rest = page.partition(BEGIN)
    return before + made(entries().values()) + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE} is written.")
