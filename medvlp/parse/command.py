"""`medvlp parse`: reports into triplets, on the screen or as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.language import is_english
from medvlp.parse.negation import negation
from medvlp.parse.radgraph import read_radgraph
from medvlp.parse.report import Triplet, parse_report
from medvlp.parse.score import score
from medvlp.parse.sections import all_sections
from medvlp.parse.sentences import split
from medvlp.parse.table import Report, new_table, progress, rows, warn, write_triplets
from medvlp.tables import column_names, find_column, read_all

STYLES = {"present": "bold green", "absent": "red", "uncertain": "yellow"}


def parse(
    text: str | None = None,
    input: Path | None = None,
    radgraph: Path | None = None,
    out: Path | None = None,
    id: str = "uid",
    sections: str = "findings,impression",
    workers: int | None = None,
) -> None:
    """Read triplets of region, finding and existence from radiology reports.

    Give one of text, input and radgraph. `medvlp parse score` measures a table of triplets against labels, `medvlp
    parse negation` the cues of negation alone.

    Args:
        text: A report or a part of one; its triplets are printed. Headers such as FINDINGS: separate its sections.
        input: Table of reports, one a row: csv, tsv (also with semicolons, in gzip, in UTF-16), parquet or JSON lines.
        radgraph: RadGraph's inference file (JSON).
        out: Parquet file to write the triplets of input or radgraph to.
        id: Column of input with the name of the report.
        sections: Text columns of input, separated by commas. One column may hold whole reports: headers separate their
            sections, as with text. Findings in an indication, history, comparison or technique are never present.
        workers: Number of processes; all cores if not given.

    Raises:
        UserError: If the options do not fit together, a file is missing or broken, or the table cannot be written.
    """
    given = [name for name, value in (("text", text), ("input", input), ("radgraph", radgraph)) if value is not None]
    if len(given) != 1:
        options = " and ".join(f"--{name}" for name in given) or "none"
        raise UserError(f"one of --text, --input and --radgraph is needed, given: {options}.")
    if text is not None:
        if out is not None:
            raise UserError(f"--out '{out}': the triplets of --text are printed; give a table with --input.")
        show(text, Console())
        return
    if out is None:
        raise UserError(f"--{given[0]} needs --out, the parquet file to write the triplets to.")
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers} is too small: give 1 or more.")
    if input is not None:
        table = read_reports(input, [id, *filter(None, map(str.strip, sections.split(",")))])
        count = write_triplets(_reports(table), out, len(table), workers)
    elif radgraph is not None:
        count = _write_radgraph(radgraph, out)
    Console(stderr=True).print(f"{out}: the triplets of {count} reports", highlight=False)


def show(text: str, console: Console) -> None:
    """Print the triplets of a report, and its sentences with the words of findings in colour."""
    sections = all_sections(text)
    triplets_of: dict[tuple[str, int], list[Triplet]] = {}
    for triplet in parse_report(sections):
        triplets_of.setdefault((triplet.section, triplet.sentence), []).append(triplet)
    if not is_english(sections.values()):
        warn("this text is not English: no triplets.")
        return
    if not triplets_of:
        console.print("No finding of the vocabulary is in this text.")
        return
    table = Table("", "finding", "existence", "regions", "side", "severity")
    sentences = []
    for number, ((section, sentence), triplets) in enumerate(triplets_of.items(), 1):
        offset = split(sections[section])[sentence][0]
        coloured = Text(triplets[0].text)
        for t in triplets:
            coloured.stylize(STYLES[t.existence], t.start - offset, t.end - offset)
            cells = (t.finding, Text(t.existence, STYLES[t.existence]), ", ".join(t.regions), t.side, t.severity)
            table.add_row(str(number), *cells)
        table.add_section()
        sentences.append(Text.assemble((f"{number:>3}  {section}: ", "dim"), coloured))
    console.print(table, *sentences, sep="\n")


def read_reports(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return columns of a table of reports as strings.

    Args:
        path: See `medvlp.tables.read_table`. Rows that cannot be read are left out; their number is printed.
        columns: Names of the columns; the first has the names of the reports.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If it cannot be read, lacks a column, or if a report has no name or the name of another.
    """
    if not path.is_file():
        raise NotFoundError(f"input='{path}' is not there.")
    id, *sections = dict.fromkeys(columns)
    names = column_names(path, columns)
    if not names:
        raise UserError(f"input='{path}' is empty: the first line of a table names its columns.")
    if missing := [name for name in (id, *sections) if find_column(path, names, name) is None]:
        raise UserError(
            f"input='{path}' has no column {' or '.join(missing)}, it has {', '.join(names)}: "
            "pass others to --id and --sections. The first line of a table names its columns."
        )
    reports = read_all(path, (id, *sections))
    fields = list(zip(*reports, strict=True)) or [()] * (1 + len(sections))
    table = pa.table(
        {name: pa.array(values, pa.string()) for name, values in zip((id, *sections), fields, strict=True)}
    )
    table = table.set_column(0, id, pc.utf8_trim_whitespace(table[id]))
    # The index of a prepared folder has a row for each image of a study.
    table = table.group_by(table.column_names, use_threads=False).aggregate([])
    counts = pc.value_counts(table[id]).to_pylist()
    if twice := [f"'{count['values']}'" for count in counts if count["counts"] > 1 or not count["values"]]:
        raise UserError(
            f"input='{path}': {id} must name each report once; not so {len(twice)} names, such as {twice[0]}."
        )
    return table


def _reports(table: pa.Table) -> Iterator[Report]:
    id, *columns = table.column_names
    for batch in table.to_batches():
        texts = (batch[name].to_pylist() for name in columns)
        for name, *row in zip(batch[id].to_pylist(), *texts, strict=True):
            yield name, report_sections(zip(columns, row, strict=True))


def report_sections(texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the sections of a report whose parts are in several columns.

    Args:
        texts: Name and text of each column. What stands before the first header has the name of the column.
    """
    sections: dict[str, str] = {}
    for column, text in texts:
        for name, content in all_sections(text, column).items():
            sections[name] = f"{sections[name]}\n\n{content}" if name in sections else content
    return sections


def _write_radgraph(path: Path, out: Path) -> int:
    count = 0
    with new_table(out) as table, progress(None) as bar:
        for name, triplets in read_radgraph(path):
            table.write_batch(rows((name, t) for t in triplets))
            count += 1
            bar.advance(bar.task_ids[0])
    return count


COMMANDS = {"score": score, "negation": negation}
