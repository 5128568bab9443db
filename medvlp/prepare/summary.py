"""The summary of a preparation on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlp.errors import UserError
from medvlp.prepare.screening import FLAGS
from medvlp.prepare.splits import SPLITS
from medvlp.prepared import MANIFEST

if TYPE_CHECKING:
    from rich.console import Console

# Number of headers of each section on the screen.
SHOWN = 4


def summarise(manifest: dict[str, Any], out: Path) -> None:
    """Print the images left after each filter, the sizes of the splits, the reasons of skipped entries, the flags."""
    from rich.console import Console
    from rich.table import Table

    table = Table("filter", "images left")
    table.columns[1].justify = "right"
    counts, views = manifest["counts"], ", ".join(manifest["options"]["views"])
    untold = counts.get("views_to_tell", 0)
    filters = {
        "table": "in the table",
        "readable": "readable rows, unique, in a split",
        "view": f"view {views}{', or not known yet' if untold else ''}",
        "report": "with a report",
        "sections": "with findings or impression",
        "min_words": f"report of {manifest['options']['min_words']} words or more",
        "decoded": "decoded",
    }
    for key, name in filters.items():
        if key in counts:
            table.add_row(name, f"{counts[key]:,}")
    for split, count in counts["split"].items():
        table.add_row(f"  {split or 'in no split'}", f"{count:,}")
    console = Console(markup=False)
    console.print(table)
    for line in compared(manifest):
        console.print(line, highlight=False, soft_wrap=True)
    if untold:
        lack = "know no views" if untold == counts["view"] else f"lack the view of {untold:,} images"
        teller = manifest["options"]["views_told_by"]
        console.print(f"The tables {lack}: {teller} told them. Kept: {views}.", highlight=False, soft_wrap=True)
    if "headers" in counts:
        _print_headers(console, counts["reports"], counts["headers"])
    studies, subjects = counts["studies"], counts["subjects"]
    console.print(
        f"{counts['decoded']:,} images of {studies:,} studies of {subjects:,} patients are in {out}", soft_wrap=True
    )
    if counts["skipped"]:
        console.print("Left out, as skipped.csv lists:")
    for kind, count in _top(counts["skipped"]):
        console.print(f"  {count:>9,}  {kind}", highlight=False)
    if counts["flags"]:
        console.print("Flagged, as the column flags of the index says; --leave_out leaves such images out:")
    for flag, count in _top(counts["flags"]):
        console.print(f"  {count:>9,}  {flag}: {FLAGS[flag]}", highlight=False)


def _print_headers(console: Console, reports: dict[str, int], headers: dict[str, Any]) -> None:
    """Print which headers opened which section, the commonest of each."""
    from rich.table import Table

    table = Table("section", "headers", "commonest")
    table.columns[1].justify = "right"
    for section, numbers in headers.items():
        names = [f"{name} {number:,}" for name, number in numbers["commonest"].items()]
        more = ", ..." if len(names) > SHOWN else ""
        table.add_row(section, f"{numbers['count']:,}", ", ".join(names[:SHOWN]) + more)
    if headers:
        console.print(table)
    console.print(
        f"{reports['read']:,} reports, {reports['without_findings']:,} of them without Findings, "
        f"{reports['without_impression']:,} without Impression. {MANIFEST} lists more headers.",
        highlight=False,
        soft_wrap=True,
    )


def compared(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield a line for the data set and for each split variant: its size, and whether it is the documented one."""
    rows, documented = manifest["counts"]["table"], manifest["documented"]
    if documented is not None:
        verdict = "as documented" if rows == documented else f"differs from the documented {documented:,}"
        yield f"in the table: {rows:,} images, {verdict}"
    for name, variant in manifest["splits"].items():
        sizes, documented = ([variant[key].get(split) for split in SPLITS] for key in ("counts", "documented"))
        if not variant["documented"]:
            verdict = "no documented sizes"
        elif sizes == documented:
            verdict = "as documented"
        else:
            verdict = f"differs from the documented {' / '.join(f'{size:,}' for size in documented)}"
        yield f"split {name}: {' / '.join(f'{size:,}' for size in sizes)} ({' / '.join(SPLITS)}), {verdict}"


def nothing_left(counts: dict[str, Any]) -> UserError:
    """Return the error for a preparation without any image.

    Args:
        counts: Number of images after each filter, and of `skipped` entries by kind.
    """
    filters = ", ".join(f"{name} {count:,}" for name, count in counts.items() if isinstance(count, int))
    reasons = ", ".join(f"{kind} ({count:,})" for kind, count in _top(counts["skipped"]))
    advice = f"Most were left out for: {reasons}." if reasons else "The tables have no rows."
    return UserError(f"No image is left after the filters ({filters}). {advice}")


def _top(kinds: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:8]
