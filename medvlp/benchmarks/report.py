"""`medvlp results`: tables of all cells beside published results."""

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
        folder: Output folder of `medvlp benchmark`; all folders below it are searched.
        pictures: Put test images into results.html, even those of data that is not synthetic. They show patients: keep
            the page where the data may be.
    """
    # Imported late: it loads the image libraries, which wrong arguments need not wait for.
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
        console.print(f"A cell that cannot be read is left out: {reason}", style="red", markup=False)
    console.print(f"{len(cells)} cells: {folder / MARKDOWN}, {folder / RESULTS}, {folder / PAGE}", markup=False)
