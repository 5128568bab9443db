"""Tables of benchmarks: in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from medvlp.benchmarks.results import Benchmark, Score, metric_name

LEGEND = (
    "Percent: mean ± standard deviation over seeds (number of seeds) [95 % bootstrap interval of the mean over the "
    "test images]."
)


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        name: Of the weights or the published method.
        cells: One a label fraction: a score of ours, a published number, or None.
        protocol: How the encoder was used.
        origin: Name of our split, or the source of a published row.
        hashes: Of our protocol and split.
        published: Whether others have printed it.
        ablation: Whether they vary one method there.
    """

    name: str
    cells: Sequence[Score | float | None]
    protocol: str
    origin: str
    hashes: Sequence[str] = ("", "")
    published: bool = False
    ablation: bool = False

    @property
    def how(self) -> list[str]:
        """Protocol and origin with their hashes."""
        return [
            f"{text} · {sha}" if sha else text
            for text, sha in zip((self.protocol, self.origin), self.hashes, strict=True)
        ]


def tables(benchmark: Benchmark) -> dict[str, list[Line]]:
    """Return for each metric our rows, and below them those that others have printed."""
    metrics = dict.fromkeys([*benchmark.metrics, *(row.metric for row in benchmark.published)])
    return {metric: [*_ours(benchmark, metric), *_published(benchmark, metric)] for metric in metrics}


def _ours(benchmark: Benchmark, metric: str) -> list[Line]:
    return [
        Line(
            row.label,
            [row.scores[metric].get(percent) for percent in benchmark.percents],
            row.protocol,
            row.split,
            (row.protocol_hash, row.split_hash),
        )
        for row in benchmark.rows
        if metric in row.scores
    ]


def _published(benchmark: Benchmark, metric: str) -> list[Line]:
    data = " (real data)" if benchmark.synthetic else ""
    return [
        Line(
            row.method,
            [row.values.get(percent) for percent in benchmark.percents],
            row.protocol,
            f"{row.source}{data}",
            published=True,
            ablation=row.ablation,
        )
        for row in benchmark.published
        if row.metric == metric
    ]


def sources(benchmark: Benchmark) -> dict[str, str]:
    """Return where exactly the published rows stand, by the source that their rows name."""
    return {row.source: row.where for row in benchmark.published}


def percents(benchmark: Benchmark) -> list[str]:
    """Return the headings of the label fractions."""
    return [f"{percent:g} %" for percent in benchmark.percents]


def shown(cell: Score | float | None) -> str:
    """Return a cell as text."""
    return "" if cell is None else str(cell) if isinstance(cell, Score) else f"{cell:.1f}"


def rich_tables(benchmark: Benchmark) -> Iterable[Table]:
    """Yield the tables of a benchmark for a terminal of 80 columns.

    Ablations, and what was published of the real data of a synthetic one, are in the files alone.
    """
    for metric, lines in tables(benchmark).items():
        columns = [Column(name, justify="right", no_wrap=True) for name in percents(benchmark)]
        title = Text(f"{benchmark.title}: {metric_name(metric)}", "bold")
        columns.append(Column("hash, source", no_wrap=True))
        table = Table("weights", *columns, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        legend: dict[str, str] = {}
        for line in lines:
            if not line.published:
                # The interval goes below the mean.
                cells = [shown(cell).replace(" [", "\n[") for cell in line.cells]
                table.add_row(*map(Text, [line.name, *cells, "\n".join(line.hashes)]))
                legend |= dict(zip(line.hashes, (line.protocol, f"split {line.origin}"), strict=True))
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
        for metric, lines in tables(benchmark).items():
            heads = ["weights", *percents(benchmark), "protocol", "split or source"]
            table = [heads, ["---", *("--:" for _ in percents(benchmark)), "---", "---"]]
            for line in lines:
                name = f"*{line.name}*" if line.published else line.name
                row = [name, *map(shown, line.cells), *line.how]
                table.append([cell.replace("|", "\\|") for cell in row])
            parts.append(f"### {metric_name(metric)}\n")
            parts.append("".join(f"| {' | '.join(row)} |\n" for row in table))
        parts += [f"{source}: {where}.\n" for source, where in sources(benchmark).items()]
    return "\n".join(parts)
