"""Tables of benchmarks for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from medvlp.benchmarks.published import Published
from medvlp.benchmarks.results import Benchmark, Row
from medvlp.benchmarks.scores import Score, metric_name

LEGEND = (
    "Percent, but for ranks and CNR: mean ± standard deviation over seeds (number of seeds, if several) [95 % "
    "bootstrap interval of the mean over the test images]. '4 of 5 labels': the mean is of these; the "
    "others could not be counted."
)
MANY = 5
WAYS = {"i2t_": "image to report", "t2i_": "report to image"}


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        name: Name of the weights or of the published method.
        cells: One cell for each column: a score of ours, a published number, or None.
        protocol: Short description of the protocol.
        origin: Name of our split, or the source of a published row.
        preparation: Text that describes the preparation of our data.
        hashes: Hashes of our protocol, split and preparation.
        published: Whether the row is published.
        ablation: Whether the published table varies one method.
    """

    name: str
    cells: Sequence[Score | float | None]
    protocol: str
    origin: str
    preparation: str = ""
    hashes: Sequence[str] = ("", "", "")
    published: bool = False
    ablation: bool = False

    @property
    def how(self) -> list[str]:
        """Protocol, origin and preparation with their hashes."""
        texts = (self.protocol, self.origin, self.preparation)
        return [f"{text} · {sha}" if sha else text for text, sha in zip(texts, self.hashes, strict=True)]


@dataclass(frozen=True)
class Sheet:
    """One table of a benchmark.

    Attributes:
        title: Its title: a metric or a direction of retrieval; may be empty.
        heads: Headings of the columns.
        lines: Our rows, followed by the published ones.
        metric: Name of the metric; None if the columns are several metrics.
    """

    title: str
    heads: Sequence[str]
    lines: Sequence[Line]
    metric: str | None = None


def sheets(benchmark: Benchmark) -> list[Sheet]:
    """Return one table a metric, with label fractions as columns; without training, tables of several metrics."""
    metrics = list(dict.fromkeys([*benchmark.metrics, *(row.metric for row in benchmark.published)]))
    if not benchmark.trained:
        ways = {way: [metric for metric in metrics if metric.startswith(way)] for way in WAYS}
        groups = {title: ways[way] for way, title in WAYS.items() if ways[way]} or {"": metrics}
        return [Sheet(title, [*map(metric_name, some)], _untrained(benchmark, some)) for title, some in groups.items()]
    heads = [f"{percent:g} %" for percent in benchmark.percents]
    return [
        Sheet(metric_name(metric), heads, [*_ours(benchmark, metric), *_published(benchmark, metric)], metric)
        for metric in metrics
    ]


def _untrained(benchmark: Benchmark, metrics: Sequence[str]) -> list[Line]:
    """Return one line a model, with all metrics side by side."""
    ours = [_line(row, [row.scores.get(metric, {}).get(0.0) for metric in metrics]) for row in benchmark.rows]
    printed: dict[tuple[str, str], dict[str, Line]] = {}
    for metric in metrics:
        for line, row in zip(_published(benchmark, metric), _of(benchmark, metric), strict=True):
            printed.setdefault((row.method, row.source), {})[metric] = line
    others = [
        replace(next(iter(lines.values())), cells=[lines[m].cells[0] if m in lines else None for m in metrics])
        for lines in printed.values()
    ]
    return [*ours, *others]


def _ours(benchmark: Benchmark, metric: str) -> list[Line]:
    return [
        _line(row, [row.scores[metric].get(percent) for percent in benchmark.percents])
        for row in benchmark.rows
        if metric in row.scores
    ]


def _line(row: Row, cells: Sequence[Score | None]) -> Line:
    hashes = (row.protocol_hash, row.split_hash, row.preparation_hash)
    return Line(row.label, cells, row.protocol, row.split, row.preparation, hashes)


def _published(benchmark: Benchmark, metric: str) -> list[Line]:
    data = " (real data)" if benchmark.synthetic else ""
    percents = benchmark.percents if benchmark.trained else [0.0]
    return [
        Line(
            row.method,
            [row.values.get(percent) for percent in percents],
            row.protocol,
            f"{row.source}{data}",
            published=True,
            ablation=row.ablation,
        )
        for row in _of(benchmark, metric)
    ]


def _of(benchmark: Benchmark, metric: str) -> list[Published]:
    return [row for row in benchmark.published if row.metric == metric]


def sources(benchmark: Benchmark) -> dict[str, str]:
    """Return the full references of the published rows, by the short name of the source."""
    return {row.source: row.where for row in benchmark.published}


def shown(cell: Score | float | None) -> str:
    """Return a cell as text."""
    return "" if cell is None else str(cell) if isinstance(cell, Score) else f"{cell:.1f}"


def stacked(cell: Score | float | None, narrow: bool) -> str:
    """Return a cell on several lines: mean, interval and coverage; a narrow cell splits the interval over two lines."""
    if not isinstance(cell, Score):
        return shown(cell)
    figure = cell.figure.replace(" [", "\n[").replace(", ", ",\n" if narrow else ", ")
    return f"{figure}\n{cell.left}" if cell.left else figure


def rich_tables(benchmark: Benchmark) -> Iterable[Table]:
    """Yield the tables of a benchmark for a terminal of 80 columns.

    Ablations, and published rows beside synthetic data, are only in the files.
    """
    for sheet in sheets(benchmark):
        lines = sheet.lines
        columns = [Column(name, justify="right", min_width=6) for name in sheet.heads]
        title = Text(": ".join(filter(None, (benchmark.title, sheet.title))), "bold")
        columns.append(Column("hash,\nsource", no_wrap=True))
        table = Table("weights", *columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        legend: dict[str, str] = {}
        for line in lines:
            if not line.published:
                cells = [stacked(cell, len(sheet.heads) > MANY) for cell in line.cells]
                # A model that is tested as it is can have several rows, one a protocol.
                name = line.name if sheet.metric else f"{line.name}\n{line.protocol.partition(',')[0]}"
                table.add_row(*map(Text, [name, *cells, "\n".join(line.hashes)]))
                meanings = (line.protocol, f"split {line.origin}", f"prepared: {line.preparation}")
                legend |= dict(zip(line.hashes, meanings, strict=True))
        table.add_section()
        for line in lines:
            if line.published and not line.ablation and not benchmark.synthetic:
                table.add_row(*map(Text, [line.name, *map(shown, line.cells), line.origin]), style="dim")
        table.caption = Text("\n".join(f"{sha}: {what}" for sha, what in legend.items()), "dim")
        table.caption_justify = "left"
        if table.rows:
            yield table


def markdown(benchmarks: Iterable[Benchmark]) -> str:
    """Return the tables of benchmarks as Markdown."""
    parts = ["# Benchmarks\n", f"{LEGEND} Published rows are in italics.\n"]
    for benchmark in benchmarks:
        parts.append(f"## {benchmark.title} (`{benchmark.name}`)\n")
        parts += [f"> {note}\n" for note in benchmark.notes]
        for sheet in sheets(benchmark):
            heads = ["weights", *sheet.heads, "protocol", "split or source", "prepared"]
            table = [heads, ["---", *("--:" for _ in sheet.heads), "---", "---", "---"]]
            for line in sheet.lines:
                name = f"*{line.name}*" if line.published else line.name
                row = [name, *map(shown, line.cells), *line.how]
                table.append([cell.replace("|", "\\|") for cell in row])
            if sheet.title:
                parts.append(f"### {sheet.title}\n")
            parts.append("".join(f"| {' | '.join(row)} |\n" for row in table))
        parts += [f"{source}: {where}.\n" for source, where in sources(benchmark).items()]
    return "\n".join(parts)
