"""Tables of a comparison: for the terminal, and as Markdown, csv and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from medvlp.benchmarks.scores import metric_name
from medvlp.compare.comparison import Comparison, Expense, TestTable
from medvlp.compare.figures import Figure

# Metrics of the tables; csv and JSON have all.
HEADLINES = (
    "accuracy",
    "auroc",
    "pointing",
    "pointing_chance",
    "cnr",
    "dice",
    "map",
    "i2t_median_rank",
    "i2t_R@1",
    "i2t_R@5",
    "i2t_R@10",
)
# Of every image, whatever the method: there is nothing to compare.
CHANCE = "pointing_chance"
LEGEND = (
    "Percent, but for ranks and CNR. Scores: mean ± standard deviation over seeds (number of seeds, if several) [95 % "
    "bootstrap interval of the mean over the test cases]. Differences to the baseline: the same test cases and seeds "
    "for both (paired), mean over seeds [95 % bootstrap interval over the test cases]; 'not separated': the interval "
    "holds 0, or the seeds do not agree on the sign. Intervals say nothing about seeds that were not run, and of "
    "twenty differences one is separated by chance."
)
COLUMNS = (
    *("test", "metric", "method", "seeds", "mean", "std", "low", "high"),
    *("difference", "difference_low", "difference_high", "verdict", "values", "differences"),
)


def headlines(table: TestTable) -> list[str]:
    """Return the metrics of a test that tables show."""
    having = {metric for figures in table.figures.values() for metric in figures}
    return [metric for metric in HEADLINES if metric in having]


def name_of(metric: str) -> str:
    """Return the heading of a metric."""
    name = metric_name(metric)
    return f"image to report, {name}" if metric.startswith("i2t_") else name


def rows_of(comparison: Comparison, table: TestTable) -> Iterator[tuple[str, Mapping[str, Figure]]]:
    """Yield the methods of a table with their figures, in the order of the command line."""
    for method in comparison.methods:
        if method in table.figures:
            yield method, table.figures[method]


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
    parts = [f"# Methods: {comparison.name}\n", *(f"{line}\n" for line in setting(comparison)), f"{LEGEND}\n"]
    parts += [f"> **{warning}**\n" for warning in comparison.warnings]
    for table in comparison.tests:
        parts.append(f"## {table.title} (`{table.name}`)\n")
        metrics = headlines(table)
        lines = [
            [method, *(str(figures[metric].score) if metric in figures else "" for metric in metrics)]
            for method, figures in rows_of(comparison, table)
        ]
        parts.append(grid(["", *map(name_of, metrics)], lines))
        if lines := differences(comparison, table):
            compared = [metric for metric in metrics if metric != CHANCE]
            parts.append(grid([f"minus {comparison.baseline}", *map(name_of, compared)], lines))
        parts += [f"{note}\n" for note in table.notes]
    parts.append("## Costs\n")
    parts.append(grid(COSTS, [[method, *cost(e)] for method, e in comparison.expenses.items()]))
    parts += [f"{line}\n" for line in troubles(comparison)]
    return "\n".join(parts)


def differences(comparison: Comparison, table: TestTable) -> list[list[str]]:
    """Return a row for each method that is compared with the baseline: its name and its differences."""
    compared = [metric for metric in headlines(table) if metric != CHANCE]
    return [
        [method, *(_difference(figures.get(metric)) for metric in compared)]
        for method, figures in rows_of(comparison, table)
        if any(figure.difference for figure in figures.values())
    ]


def _difference(figure: Figure | None) -> str:
    return str(figure.difference) if figure and figure.difference else ""


def setting(comparison: Comparison) -> list[str]:
    """Return what all methods have in common, and their own settings, as sentences."""
    seeds = ", ".join(map(str, comparison.seeds))
    several = len({*map(str, comparison.configurations.values())}) > 1
    whose = " of the baseline" if several and comparison.warnings else ""
    tested = f"Tested: the {comparison.checkpoint} checkpoint of each run."
    lines = [f"Baseline: {comparison.baseline}. Seeds: {seeds}. {tested} Budget{whose}: {comparison.budget}."]
    if comparison.own:
        lines.append(f"Beside their objectives, the methods have settings of their own: {'; '.join(comparison.own)}.")
    hardware = dict.fromkeys(name for expense in comparison.expenses.values() for name in expense.hardware)
    if hardware:
        lines.append(f"Hardware: {'; '.join(hardware)}.")
    return lines


def troubles(comparison: Comparison) -> list[str]:
    """Return what does not exist for a method, and what has failed, as sentences."""
    missing = [f"{what} does not exist: {reason}." for what, reason in comparison.missing.items()]
    return [*missing, *(f"FAILED: {what}: {reason}" for what, reason in comparison.failures.items())]


COSTS = ("", "minutes a run", "steps", "studies seen", "images encoded", "parameters trained", "runs")


def cost(expense: Expense) -> list[str]:
    """Return the costs of a method as cells of a table."""
    spread = f" ({expense.fastest:.1f} to {expense.slowest:.1f})" if expense.n > 1 else ""
    return [
        f"{expense.minutes:.1f}{spread}",
        *(f"{count:,}" for count in (expense.steps, expense.studies, expense.images)),
        f"{expense.trained / 1e6:.2f} M",
        f"{expense.n}",
    ]


def grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    table = [heads, ["---", *("--:" for _ in heads[1:])], *lines]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in table)


def rich_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield the tables for a terminal: each test with scores and differences below each other, and the costs."""
    for table in comparison.tests:
        metrics = headlines(table)
        columns = [Column(name_of(metric), justify="right") for metric in metrics]
        shown = Table("", *columns, title=Text(table.title, "bold"), title_justify="left", box=SIMPLE_HEAD)
        for method, figures in rows_of(comparison, table):
            shown.add_row(*map(Text, [method, *(_stacked(metric, figures.get(metric)) for metric in metrics)]))
        shown.caption, shown.caption_justify = Text("\n".join(table.notes), "dim"), "left"
        yield shown
    costs = Table(*(Column(name, justify="right") for name in COSTS), title=Text("Costs", "bold"), box=SIMPLE_HEAD)
    for method, expense in comparison.expenses.items():
        costs.add_row(*map(Text, [method, *cost(expense)]))
    yield costs


def _stacked(metric: str, figure: Figure | None) -> str:
    """Return a score with its difference below it."""
    if figure is None:
        return ""
    score = str(figure.score).replace(" [", "\n[").replace("], ", "]\n")
    return f"{score}\n{_difference(figure)}" if figure.difference and metric != CHANCE else score


def as_csv(comparison: Comparison) -> str:
    """Return all figures as csv: one row for each test, metric and method; lists have blanks between their values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in comparison.tests:
        for method, figures in rows_of(comparison, table):
            for metric, figure in figures.items():
                writer.writerow(dict(zip(COLUMNS, _cells(table.name, metric, method, figure), strict=True)))
    return text.getvalue()


def _cells(test: str, metric: str, method: str, figure: Figure) -> Iterable[Any]:
    score, other = figure.score, figure.difference
    yield from (test, metric, method, " ".join(map(str, figure.seeds)), score.mean, score.std, score.low, score.high)
    yield from (other.mean, other.low, other.high, other.verdict) if other else (None, None, None, None)
    yield " ".join(f"{value:g}" for value in figure.seeds.values())
    yield " ".join(f"{value:g}" for value in other.seeds.values()) if other else None


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data, with the settings of each method and the origin of each figure."""
    content = {name: value for name, value in vars(comparison).items() if name not in ("tests", "expenses")}
    content["costs"] = {method: asdict(expense) for method, expense in comparison.expenses.items()}
    content["tests"] = {
        table.name: {
            "title": table.title,
            "notes": list(table.notes),
            "methods": {
                method: {metric: _plain(figure) for metric, figure in figures.items()}
                for method, figures in rows_of(comparison, table)
            },
            "cells": {
                method: {seed: {"folder": str(cell.folder), **_origin(cell.content)} for seed, cell in seeds.items()}
                for method, seeds in table.cells.items()
            },
        }
        for table in comparison.tests
    }
    return content


def _plain(figure: Figure) -> dict[str, Any]:
    other = figure.difference
    difference = None if other is None else {**vars(other), "verdict": other.verdict}
    return {"score": vars(figure.score), "seeds": figure.seeds, "difference": difference}


def _origin(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies the checkpoint, the protocol and the data of a cell."""
    data = {name: content["data"][name] for name in ("split", "split_sha256", "sha256")}
    names = ("weights_sha256", "encoder_sha256", "how", "protocol", "n_test", "versions")
    return {**{name: content[name] for name in names}, "data": data}
