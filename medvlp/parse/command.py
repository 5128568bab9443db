"""`medvlp parse`: reports into triplets, on the screen or as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
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

STYLES = {"present": "bold green", "absent": "red", "uncertain": "yellow"}
# A field of a csv file may hold a whole report with line breaks.
READING = pyarrow.csv.ParseOptions(newlines_in_values=True)


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
        text: A report or a part of one; its triplets are printed. Headers such as FINDINGS: at the start of a line
            separate its sections.
        input: Table of reports, one a row: csv, csv.gz or parquet.
        radgraph: RadGraph's inference file (JSON).
        out: Parquet file to write the triplets of input or radgraph to.
        id: Column of input with the name of the report.
        sections: Text columns of input, separated by commas. Findings in an indication, history or comparison are
            never present.
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
        table = read_reports(input, [id, *(name.strip() for name in sections.split(","))])
        count = write_triplets(_reports(table), out, len(table), workers)
    elif radgraph is not None:
        count = _write_radgraph(radgraph, out)
    Console(stderr=True).print(f"{out}: the triplets of {count} reports", highlight=False)


def show(text: str, console: Console) -> None:
    """Print the triplets of a report, and its sentences with the words of findings in colour."""
    sections = all_sections(text) or {"report": text}
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
        path: csv, csv.gz or parquet file.
        columns: Names of the columns; the first has the names of the reports.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If it cannot be read, lacks a column, or if a report has no name or the name of another.
    """
    if not path.is_file():
        raise NotFoundError(f"input='{path}' is not there.")
    try:
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
        else:
            with pyarrow.csv.open_csv(path, parse_options=READING) as reader:
                names = reader.schema.names
        if missing := [name for name in columns if name not in names]:
            raise UserError(
                f"input='{path}' has no column {' or '.join(missing)}, it has {', '.join(names)}: "
                "pass others to --id and --sections."
            )
        if path.suffix == ".parquet":
            table = pq.read_table(path, columns=list(columns))
        else:
            convert = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
            )
            table = pyarrow.csv.read_csv(path, parse_options=READING, convert_options=convert)
        table = pa.table({name: pc.cast(table[name], pa.string()) for name in columns})
    except pa.ArrowNotImplementedError as error:
        raise UserError(f"input='{path}': a column of {', '.join(columns)} holds no text: {error}.") from error
    except pa.ArrowInvalid as error:
        advice = " Save it as UTF-8." if "UTF8" in str(error) else ""
        raise UserError(f"input='{path}' is no csv, csv.gz or parquet table: {error}.{advice}") from error
    # The index of a prepared folder has a row for each image of a study.
    table = table.group_by(columns, use_threads=False).aggregate([])
    counts = pc.value_counts(table[columns[0]]).to_pylist()
    if twice := [f"'{count['values']}'" for count in counts if count["counts"] > 1 or not count["values"]]:
        raise UserError(
            f"input='{path}': {columns[0]} must name each report once; not so {len(twice)} names, such as {twice[0]}."
        )
    return table


def _reports(table: pa.Table) -> Iterator[Report]:
    id, *sections = table.column_names
    for batch in table.to_batches():
        texts = (batch[name].to_pylist() for name in sections)
        for name, *row in zip(batch[id].to_pylist(), *texts, strict=True):
            yield name, {section: text for section, text in zip(sections, row, strict=True) if text}


def _write_radgraph(path: Path, out: Path) -> int:
    count = 0
    with new_table(out) as table, progress(None) as bar:
        for name, triplets in read_radgraph(path):
            table.write_batch(rows((name, t) for t in triplets))
            count += 1
            bar.advance(bar.task_ids[0])
    return count


COMMANDS = {"score": score, "negation": negation}
