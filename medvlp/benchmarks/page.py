"""results.html: curves, tables and pictures of the benchmarks, in one file without external resources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from html import escape
from pathlib import Path

from medvlp import __version__
from medvlp.benchmarks.cases import figures
from medvlp.benchmarks.chart import chart, colour
from medvlp.benchmarks.results import SYNTHETIC, Benchmark
from medvlp.benchmarks.scores import Score, metric_name
from medvlp.benchmarks.tables import LEGEND, Line, Sheet, sheets, shown, sources

STYLE = Path(__file__).with_name("page.css")


def page(benchmarks: Sequence[Benchmark], pictures: bool) -> str:
    """Return the page.

    Args:
        benchmarks: The benchmarks to show.
        pictures: Whether to show test images of real data sets, too.
    """
    body = "".join(_section(benchmark, pictures) for benchmark in benchmarks)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmarks</title>
<style>{STYLE.read_text()}</style>
</head>
<body>
<h1>Benchmarks</h1>
<p class="soft">Encoders under shares of the training labels, and models as they are, tested on the whole test split.
{escape(LEGEND)}</p>
{_overview(benchmarks)}
{body}
<footer>medvlp {__version__}, {date.today().isoformat()}. Published numbers are quoted from their sources and were not
measured here.</footer>
</body>
</html>
"""


def _overview(benchmarks: Sequence[Benchmark]) -> str:
    """Return a table with the first metric of every benchmark: its mean at each label fraction."""
    labels = list(dict.fromkeys(row.label for benchmark in benchmarks for row in benchmark.rows))
    heads = "".join(f'<th class="number">{escape(label)}</th>' for label in labels)
    rows = []
    for benchmark in benchmarks:
        metric = benchmark.metrics[0]
        cells = []
        for label in labels:
            scores = next((row.scores.get(metric, {}) for row in benchmark.rows if row.label == label), {})
            left = "; ".join(dict.fromkeys(score.left for score in scores.values() if score.left))
            cells.append(" / ".join(f"{score.mean:.1f}" for score in scores.values()) + (f", {left}" if left else ""))
        fractions = " / ".join(f"{percent:g}" for percent in own_percents(benchmark))
        name = f'<a href="#{escape(benchmark.name)}">{escape(benchmark.title)}</a>'
        best = benchmark.rows[0].protocol.partition(",")[0]
        share = f"{fractions} % of the labels" if benchmark.trained else f"no labels; the best of each, such as {best}"
        what = f"{escape(metric_name(metric))}, {share}"
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        rows.append(f'<tr><td>{name}</td><td class="how">{what}</td>{numbers}</tr>')
    head = f"<thead><tr><th>benchmark</th><th>metric</th>{heads}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def own_percents(benchmark: Benchmark) -> list[float]:
    """Return the label fractions of our rows, in percent."""
    return sorted({percent for row in benchmark.rows for scores in row.scores.values() for percent in scores})


def _section(benchmark: Benchmark, pictures: bool) -> str:
    parts = [f'<h2 id="{escape(benchmark.name)}">{escape(benchmark.title)}<code>{escape(benchmark.name)}</code></h2>']
    for note in benchmark.notes:
        kind = "warning" if note == SYNTHETIC else "note"
        parts.append(f'<p class="{kind}">{escape(note)}</p>')
    # A chart of each other metric would make the page too long.
    drawn = {benchmark.metrics[0], *(row.metric for row in benchmark.published if not benchmark.synthetic)}
    for sheet in sheets(benchmark):
        if sheet.title:
            parts.append(f"<h3>{escape(sheet.title)}</h3>")
        if sheet.metric in drawn.intersection(benchmark.metrics):
            parts.append(chart(benchmark, sheet.metric))
        parts.append(_table(benchmark, sheet))
    cited = "; ".join(f"{source}: {where}" for source, where in sources(benchmark).items())
    if cited:
        parts.append(f'<p class="note">Sources. {escape(cited)}.</p>')
    parts.append(_by_label(benchmark))
    parts.append(_cases(benchmark, pictures))
    return f"<section>{''.join(parts)}</section>"


def _table(benchmark: Benchmark, sheet: Sheet) -> str:
    lines = sheet.lines
    numbers = "".join(f'<th class="number">{escape(head)}</th>' for head in sheet.heads)
    how = "".join(f"<th>{name}</th>" for name in ("protocol", "split or source", "prepared"))
    head = f"<thead><tr><th>weights</th>{numbers}{how}</tr></thead>"
    ours = [_row(line, colour(i)) for i, line in enumerate(line for line in lines if not line.published)]
    others = [_row(line) for line in lines if line.published and not line.ablation]
    ablations = [_row(line) for line in lines if line.ablation]

    def table(*bodies: Sequence[str]) -> str:
        inner = "".join(f"<tbody>{''.join(rows)}</tbody>" for rows in bodies if rows)
        return f'<div class="scroll"><table>{head}{inner}</table></div>'

    # Published results are of the real data and cannot be compared with synthetic ones.
    shown_rows = table(ours) if benchmark.synthetic else table(ours, others)
    hidden = {"Published, of the real data": others if benchmark.synthetic else [], "Published ablation": ablations}
    details = (f"<details><summary>{title}</summary>{table(rows)}</details>" for title, rows in hidden.items() if rows)
    return shown_rows + "".join(details)


def _row(line: Line, kind: str = "") -> str:
    cells = "".join(f'<td class="number">{_cell(cell)}</td>' for cell in line.cells)
    name = f'<td class="{kind}">{escape(line.name)}</td>'
    how = "".join(f'<td class="how">{escape(text)}</td>' for text in line.how)
    return f'<tr class="{"published" if line.published else "ours"}">{name}{cells}{how}</tr>'


def _cell(cell: Score | float | None) -> str:
    mean, _, bounds = escape(shown(cell)).partition(" [")
    return f"{mean}<small>[{bounds}</small>" if bounds else mean


def _by_label(benchmark: Benchmark) -> str:
    """Return the metrics of single labels, at the largest label fraction."""
    metrics = list(dict.fromkeys(metric for row in benchmark.rows for metric in row.scores if "/" in metric))
    kinds = dict.fromkeys(metric.partition("/")[0] for metric in metrics)
    percent = own_percents(benchmark)[-1]
    share = f", with {percent:g} % of the labels" if benchmark.trained else ""
    names = [row.label if benchmark.trained else f"{row.label}, {row.protocol}" for row in benchmark.rows]
    heads = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    parts = []
    for kind in kinds:
        body = []
        for metric in (metric for metric in metrics if metric.startswith(f"{kind}/")):
            scores = [row.scores.get(metric, {}).get(percent) for row in benchmark.rows]
            cells = "".join(f'<td class="number">{_cell(score)}</td>' for score in scores)
            body.append(f"<tr><td>{escape(metric.partition('/')[2])}</td>{cells}</tr>")
        head = f"<thead><tr><th>label</th>{heads}</tr></thead>"
        title = f"{escape(metric_name(kind))} of each label{share}"
        table = f'<div class="scroll"><table>{head}<tbody>{"".join(body)}</tbody></table></div>'
        parts.append(f"<details><summary>{title}</summary>{table}</details>")
    return "".join(parts)


def _cases(benchmark: Benchmark, pictures: bool) -> str:
    """Return the worst and best test images of the best row at its largest label fraction."""
    if not (benchmark.synthetic or pictures):
        text = "Test images are patients' and are not shown; 'medvlp results DIR --pictures true' puts them here."
        return f'<p class="note">{escape(text)}</p>'
    row = benchmark.rows[0]
    percent = max(cell.percent for cell in row.cells)
    cell = next(cell for cell in row.cells if cell.percent == percent)
    cases = figures(cell)
    if cases is None:
        return '<p class="note">The prepared folder is not where it was: no test images are shown.</p>'
    if not any(cases):
        return ""
    how = f"{percent:g} % of the labels, seed {cell.content['seed']}" if benchmark.trained else row.protocol
    where = f"{row.label}, {how}"
    key = '<span class="key truth"></span>annotated<span class="key predicted"></span>predicted'
    parts = [f"<h3>Test images</h3><p class='note'>{escape(where)}{key if _drawn(cases) else ''}</p>"]
    for title, some in zip(("Worst", "Best"), cases, strict=True):
        if some:
            parts.append(f'<p class="soft">{title}</p><div class="cases">{"".join(some)}</div>')
    return "".join(parts)


def _drawn(cases: tuple[list[str], list[str]]) -> bool:
    return any('class="truth"' in figure or 'class="predicted"' in figure for part in cases for figure in part)
