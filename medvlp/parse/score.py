"""`medvlp parse score`: compares triplets with labels or with right triplets, and shows the sentences of the errors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.agreement import Assertion, Score, Sides, label_scores, plain, ratio, side_scores
from medvlp.parse.lexicon import LABEL_SETS
from medvlp.parse.sentence_set import COLUMNS, Tally, compare, read_sentences
from medvlp.parse.table import SCHEMA
from medvlp.tables import column_names, find_column, read_all


def score(
    triplets: Path | None = None,
    labels: Path | None = None,
    sentences: Path | None = None,
    id: str = "uid",
    columns: str | None = None,
    sections: str | None = None,
    uncertain: Literal["present", "absent"] = "absent",
    errors: int = 5,
) -> None:
    """Compare triplets with labels, or the parser with sentences, and print the sentences of the errors.

    Give triplets and labels, or sentences. The csv of labels has either a column for each label or a row for each
    finding. A label of ASG, CheXpert, NIH or Open-I is 1 for present, 0 for absent, -1 for uncertain, and empty if not
    mentioned. A row has the columns `finding` and `side`.

    Args:
        triplets: Table of `medvlp parse`.
        labels: Table of labels: csv, tsv, parquet or JSON lines.
        sentences: Table of sentences with their right triplets, which the parser reads anew: columns id, kind, text and
            triplets. The next options except errors do not apply to it.
        id: Column of the csv with the name of the report, as in the table.
        columns: Columns of the csv to score, separated by commas; all labels if not given.
        sections: Sections to use, separated by commas; all if not given.
        uncertain: The existence that an uncertain finding counts as, against a csv of yes and no.
        errors: Number of reports to show for each label and kind of error, or of sentences for each kind of sentence.

    Raises:
        NotFoundError: If a file is missing.
        UserError: If the options do not fit together, a file cannot be read, or nothing in it can be compared.
    """
    if sentences is not None:
        if triplets is not None or labels is not None:
            raise UserError("--sentences: the parser reads the sentences itself; leave --triplets and --labels out.")
        score_sentences(sentences, errors)
        return
    if triplets is None or labels is None:
        raise UserError("--triplets and --labels are needed together, or --sentences alone.")
    reports = read_triplets(triplets, sections)
    names, table = read_labels(labels, id)
    if not any(row[id] in reports for row in table):
        raise UserError(f"id='{id}': no report of {labels} has triplets in {triplets}: pass the column of their names.")
    console = Console()
    if {"finding", "side"} <= set(names):
        _print_sides(console, side_scores(reports, table, id), reports, errors)
        return
    wanted = [name for name in names if name != id] if columns is None else columns.split(",")
    if missing := [name for name in wanted if name not in names]:
        raise UserError(f"columns: {labels} has no {' or '.join(missing)}, it has {', '.join(names)}.")
    label_set, matched, unmatched = match_columns(wanted)
    if not matched:
        raise UserError(f"labels='{labels}' has no column of {', '.join(LABEL_SETS)}: it has {', '.join(names)}.")
    scores = label_scores(reports, table, id, label_set, matched, uncertain)
    _print_scores(console, scores, label_set, unmatched)
    _print_errors(console, scores, reports, label_set, matched, errors)


def read_triplets(path: Path, sections: str | None = None) -> dict[str, list[Assertion]]:
    """Return the assertions of each report of a table.

    Args:
        path: Parquet file.
        sections: Names separated by commas; all if not given.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If it is no table of triplets or lacks a section.
    """
    if not path.is_file():
        raise NotFoundError(f"triplets='{path}' is not there: write it with medvlp parse --input ... --out {path}.")
    try:
        table = pq.read_table(path, columns=["id", "section", "text", "finding", "existence", "side"])
    except (pa.ArrowInvalid, KeyError) as error:
        columns = ", ".join(SCHEMA.names)
        raise UserError(f"triplets='{path}' is no table of triplets (parquet with {columns}): {error}") from error
    wanted = None if sections is None else {name.strip() for name in sections.split(",")}
    present = set(pc.unique(table["section"]).to_pylist())
    if wanted is not None and (missing := sorted(wanted - present)):
        raise UserError(f"sections: {path} has no {' or '.join(missing)}, it has {', '.join(sorted(present))}.")
    reports: dict[str, dict[Assertion, None]] = {}
    for name, section, *fields in zip(*(table[c].to_pylist() for c in table.column_names), strict=True):
        if wanted is None or section in wanted:
            reports.setdefault(name, {})[Assertion(*fields)] = None
    return {name: list(assertions) for name, assertions in reports.items()}


def read_labels(path: Path, id: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return columns and rows of a table of labels.

    Args:
        path: See `medvlp.tables.read_table`. Rows that cannot be read are left out; their number is printed.
        id: A column it must have.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If the column is missing, a column is there twice, or the file cannot be read.
    """
    names = _column_names(path, "labels", [id])
    if (position := find_column(path, names, id)) is None:
        raise UserError(f"id='{id}' is no column of {path}, which has {', '.join(names)}: pass another --id.")
    rows = read_all(path, names)
    # The file may write it in other case.
    names[position] = id
    return names, [dict(zip(names, fields, strict=True)) for fields in rows]


def _column_names(path: Path, option: str, needed: Sequence[str]) -> list[str]:
    if not path.is_file():
        raise NotFoundError(f"{option}='{path}' is not there.")
    return [name for name in column_names(path, needed) if name]


def match_columns(columns: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """Return the label set with most of these columns, the label of each column in it, and the other columns."""

    def matched(label_set: str) -> dict[str, str]:
        names = {plain(label): label for label in LABEL_SETS[label_set]}
        return {column: names[plain(column)] for column in columns if plain(column) in names}

    label_set = max(LABEL_SETS, key=lambda name: len(matched(name)))
    labels = matched(label_set)
    return label_set, labels, [column for column in columns if column not in labels]


def score_sentences(path: Path, errors: int) -> None:
    """Parse the sentences of a csv, and print how many of their triplets are right, by kind.

    Args:
        path: Csv file, see `medvlp.parse.sentence_set`.
        errors: Number of sentences to print for each kind.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If it lacks a column, has no sentence, or if a row of it is wrong.
    """
    columns = _column_names(path, "sentences", COLUMNS)
    if missing := [name for name in COLUMNS if name not in columns]:
        raise UserError(f"sentences='{path}' has no column {' or '.join(missing)}, it has {', '.join(columns)}.")
    rows = [dict(zip(COLUMNS, fields, strict=True)) for fields in read_all(path, COLUMNS)]
    if not rows:
        raise UserError(f"sentences='{path}' has no row: write a sentence in each.")
    total = Tally()
    tallies: dict[str, Tally] = defaultdict(Tally)
    for sentence in read_sentences(rows):
        comparison = compare(sentence)
        total.add(comparison)
        tallies[sentence.kind].add(comparison)
    console = Console()
    _print_tallies(console, tallies, total)
    for kind, tally in sorted(tallies.items()):
        for number, wrong in enumerate(tally.wrong[:errors]):
            if not number:
                console.print(f"\n[bold]{kind}[/bold]: {len(tally.wrong)} sentences")
            text = " ".join(wrong.sentence.text.split())
            console.print(f"  {wrong.sentence.id}: {text}", markup=False, highlight=False)
            expected = "; ".join(e.notation for e in wrong.misses) or "no more triplet"
            answers = "; ".join(map(str, wrong.excess)) or "no triplet"
            console.print(f"    expected {expected}, got {answers}", markup=False, highlight=False)


def _print_tallies(console: Console, tallies: Mapping[str, Tally], total: Tally) -> None:
    table = Table(title="Triplets of finding, existence and side; severity of the hits")
    for name in ("kind", "sentences", "triplets", "precision", "recall", "F1", "severity"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind, t in [*sorted(tallies.items()), ("all", total)]:
        if t is total:
            table.add_section()
        counts = (str(t.sentences), str(t.hits + t.misses))
        table.add_row(kind, *counts, *(_figure(value) for value in (t.precision, t.recall, t.f1, t.severity)))
    console.print(table)


def _print_scores(console: Console, scores: Sequence[Score], label_set: str, unmatched: Sequence[str]) -> None:
    table = Table(title=f"Labels of {label_set}")
    for name in ("label", "reports", "precision", "recall", "F1", "both speak", "agree"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for s in scores:
        count, both = len(s.hits) + len(s.misses), sum(s.both.values())
        figures = (_figure(s.precision), _figure(s.recall), _figure(s.f1))
        table.add_row(s.label, str(count), *figures, str(both), _figure(s.agreement))
    total = Score("all")
    for s in scores:
        total.hits += s.hits
        total.excess += s.excess
        total.misses += s.misses
        for pair, n in s.both.items():
            total.both[pair] += n
    figures = (_figure(total.precision), _figure(total.recall), _figure(total.f1))
    count, both = len(total.hits) + len(total.misses), sum(total.both.values())
    table.add_section()
    table.add_row("all (micro)", str(count), *figures, str(both), _figure(total.agreement))
    console.print(table)
    if unmatched:
        console.print(f"Columns that are no label of {label_set}, not scored: {', '.join(unmatched)}.")


def _print_errors(
    console: Console,
    scores: Sequence[Score],
    reports: Mapping[str, Sequence[Assertion]],
    label_set: str,
    columns: Mapping[str, str],
    count: int,
) -> None:
    for s in sorted(scores, key=lambda s: -len(s.excess) - len(s.misses)):
        findings = LABEL_SETS[label_set][columns[s.label]]
        for title, names in (("only in the triplets", s.excess), ("only in the csv", s.misses)):
            for number, name in enumerate(names[:count]):
                if not number:
                    console.print(f"\n[bold]{s.label}[/bold], {title}: {len(names)} reports")
                assertions = reports.get(name, ())
                # The assertions about the finding; if there is none, those about other findings.
                behind = [t for t in assertions if t.finding in findings] or [
                    t for t in assertions if t.existence != "absent"
                ]
                for text, what in _by_sentence(behind):
                    console.print(f"  {name}: {text} [{what}]", markup=False, highlight=False)
                if not behind:
                    console.print(f"  {name}: nothing is said to be there", markup=False, highlight=False)


def _by_sentence(assertions: Iterable[Assertion]) -> Iterator[tuple[str, str]]:
    sentences: dict[str, list[str]] = defaultdict(list)
    for s in assertions:
        sentences[" ".join(s.text.split())].append(f"{s.finding} {s.existence}")
    for text, what in sentences.items():
        yield text, ", ".join(what)


def _print_sides(console: Console, sides: Sides, reports: Mapping[str, Sequence[Assertion]], errors: int) -> None:
    table = Table(title="Sides, where both give one")
    for name in ("finding", "reports", "accuracy"):
        table.add_column(name, justify="left" if name == "finding" else "right")
    for finding, compared in sorted(sides.compared.items(), key=lambda item: -item[1]):
        table.add_row(finding, str(compared), _figure(ratio(sides.right[finding], compared)))
    compared = sum(sides.compared.values())
    table.add_section()
    table.add_row("all", str(compared), _figure(ratio(sum(sides.right.values()), compared)))
    console.print(table)
    if sides.unknown:
        console.print(f"Findings that are no label, not scored: {', '.join(sides.unknown)}.")
    for wrong in sides.wrong[:errors]:
        line = f"  {wrong.report} {wrong.finding}: {wrong.label} in the csv, {wrong.triplets} in the triplets"
        console.print(line, markup=False, highlight=False)
        for text, what in _by_sentence(s for s in reports[wrong.report] if s.side is not None):
            console.print(f"    {text} [{what}]", markup=False, highlight=False)


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
