"""`medvlp results`: one table of all cells, beside what others have printed."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from medvlp.benchmarks.results import RESULTS, as_json, read_cells, summarise
from medvlp.benchmarks.tables import LEGEND, markdown, rich_tables

MARKDOWN, PAGE = "results.md", "results.html"


def results(folder: Path, *, pictures: bool = False) -> None:
    """Collect the finished cells of benchmarks, and write results.md, results.json and results.html beside them.

    Args:
        folder: What `medvlp benchmark` wrote to; all folders below it are searched.
        pictures: Put test images into results.html even of data that is not synthetic. They are patients': keep the
            page where the data may be.
    """
    # Not before the arguments are right: it imports what reads images.
    from medvlp.benchmarks.page import page

    cells, unreadable = read_cells(folder)
    benchmarks = summarise(cells)
    (folder / MARKDOWN).write_text(markdown(benchmarks))
    (folder / RESULTS).write_text(json.dumps(as_json(benchmarks), indent=2) + "\n")
    (folder / PAGE).write_text(page(benchmarks, pictures))
    console = Console()
    for benchmark in benchmarks:
        for table in rich_tables(benchmark):
            console.print(table)
        for note in benchmark.notes:
            console.print(note, style="dim", markup=False)
        console.print()
    console.print(LEGEND, style="dim", markup=False)
    for reason in unreadable:
        console.print(f"left out, unreadable: {reason}", style="red", markup=False)
    console.print(f"{len(cells)} cells: {folder / MARKDOWN}, {folder / RESULTS}, {folder / PAGE}", markup=False)
