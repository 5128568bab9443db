"""A comparison as its tables show it: what was equal, the figures of all tests, costs, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlp.benchmarks.published import title
from medvlp.benchmarks.results import SYNTHETIC, Cell
from medvlp.compare.budget import own, stated, unequal
from medvlp.compare.figures import Figure, Sample, figures, read_sample
from medvlp.compare.runs import Run
from medvlp.compare.training import read_run


@dataclass(frozen=True)
class TestTable:
    """All figures of one test.

    Attributes:
        name: Name of the benchmark.
        title: Its title.
        figures: Figures of each method by metric.
        notes: Remarks for readers.
        cells: Cells of each method by seed.
    """

    name: str
    title: str
    figures: Mapping[str, Mapping[str, Figure]]
    notes: Sequence[str]
    cells: Mapping[str, Mapping[int, Cell]]
    # No test of pytest's.
    __test__ = False


@dataclass(frozen=True)
class Expense:
    """What the runs of one method cost, as means over its finished seeds.

    Attributes:
        n: Number of finished runs.
        minutes: Wall time of one training, with validation.
        fastest: The shortest of them.
        slowest: The longest of them.
        steps: Optimiser steps.
        studies: Studies that training has seen, each epoch anew.
        images: Views of them that the encoder has seen.
        trained: Number of trained parameters.
        hardware: Processors, those of all runs.
    """

    n: int
    minutes: float
    fastest: float
    slowest: float
    steps: int
    studies: int
    images: int
    trained: int
    hardware: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """A comparison of methods.

    Attributes:
        name: Its name, the group in W&B.
        baseline: Name of the method that the others are compared with.
        methods: Names of the methods, in the order of the command line.
        seeds: The seeds.
        checkpoint: Which checkpoint was tested: `last` or `best`.
        budget: The budget of the baseline as text.
        own: Settings beside the objectives in which methods differ, and that belong to a method.
        warnings: In what the budget is unequal.
        tests: The tests.
        expenses: Costs of each method that has a finished run.
        missing: Why a figure is missing, by what is missing: it does not exist for this method.
        failures: Why a run or a test has failed, by its name.
        configurations: The settings of each method, those of the first seed.
    """

    name: str
    baseline: str
    methods: Sequence[str]
    seeds: Sequence[int]
    checkpoint: str
    budget: str
    own: Sequence[str]
    warnings: Sequence[str]
    tests: Sequence[TestTable]
    expenses: Mapping[str, Expense]
    missing: Mapping[str, str]
    failures: Mapping[str, str]
    configurations: Mapping[str, Mapping[str, Any]]


def summarise(
    name: str,
    baseline: str,
    checkpoint: str,
    runs: Sequence[Run],
    cells: Mapping[str, Mapping[str, Mapping[int, Cell]]],
    missing: Mapping[str, str],
    failures: Mapping[str, str],
    min_cases: int,
) -> Comparison:
    """Return the comparison of runs.

    Args:
        name: Its name.
        baseline: Name of the method that the others are compared with.
        checkpoint: `last` or `best`.
        runs: All runs, finished or not.
        cells: The cells of each test, of each method by seed.
        missing: See `Comparison`.
        failures: See `Comparison`.
        min_cases: Number of test images with a label from which it counts in means of AUROCs.
    """
    budgets = budgets_of(runs)
    expenses = {
        method: expense for method in budgets if (expense := _expense([r for r in runs if r.method.name == method]))
    }
    return Comparison(
        name,
        baseline,
        [*budgets],
        list(dict.fromkeys(run.seed for run in runs)),
        checkpoint,
        stated(budgets[baseline]),
        own(budgets),
        [*unequal(budgets), *_uneven(expenses)],
        [_table(test, by_method, baseline, min_cases) for test, by_method in cells.items() if by_method],
        expenses,
        missing,
        failures,
        budgets,
    )


def budgets_of(runs: Sequence[Run]) -> dict[str, Mapping[str, Any]]:
    """Return the settings of each method, those of its first seed."""
    budgets: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        budgets.setdefault(run.method.name, run.budget)
    return budgets


def _table(test: str, cells: Mapping[str, Mapping[int, Cell]], baseline: str, min_cases: int) -> TestTable:
    samples = {
        method: {seed: read_sample(cell, min_cases) for seed, cell in seeds.items()} for method, seeds in cells.items()
    }
    found, notes = figures(samples, baseline)
    first = next(iter(next(iter(cells.values())).values())).content
    about = [f"{first['n_test']:,} test images, split {first['data']['split']}."]
    if first["data"]["synthetic"]:
        about.append(SYNTHETIC.partition(". ")[0] + ".")
    return TestTable(
        test, title(test), found, [*about, *_labels(samples, min_cases), *_ways(cells, samples), *notes], cells
    )


def _labels(samples: Mapping[str, Mapping[int, Sample]], min_cases: int) -> list[str]:
    """Return a note on the labels that the mean AUROC counts."""
    counted = [sample.labels for seeds in samples.values() for sample in seeds.values() if sample.labels is not None]
    if not counted:
        return []
    texts = dict.fromkeys(", ".join(f"{name} {count}" for name, count in labels.items()) for labels in counted)
    if not any(texts):
        return [f"No label has {min_cases} cases, so that there is no mean AUROC."]
    return [f"AUROC is the mean over the labels with at least {min_cases} cases: {' or '.join(texts)}."]


def _ways(cells: Mapping[str, Mapping[int, Cell]], samples: Mapping[str, Mapping[int, Sample]]) -> list[str]:
    """Return a note on how each method was tested, the remarks of the tests, and what they leave out."""
    ways: dict[str, list[str]] = {}
    remarks: dict[str, dict[str, None]] = {}
    for method, seeds in cells.items():
        ways.setdefault(next(iter(seeds.values())).content["how"], []).append(method)
        for seed, cell in seeds.items():
            left = [f"{what} is left out: {why}." for what, why in samples[method][seed].left_out.items()]
            for remark in [*cell.content["notes"], *left]:
                remarks.setdefault(remark, {})[method] = None
    texts = [f"{how} ({', '.join(methods)})" for how, methods in ways.items()]
    notes = [text if len(some) == len(cells) else f"{', '.join(some)}: {text}" for text, some in remarks.items()]
    return [f"Tested by {'; '.join(texts) if len(texts) > 1 else next(iter(ways))}.", *notes]


def _expense(runs: Sequence[Run]) -> Expense | None:
    costs = [cost for run in runs if (cost := read_run(run).get("cost"))]
    if not costs:
        return None
    minutes = [cost["seconds"] / 60 for cost in costs]
    means = {name: round(np.mean([cost[name] for cost in costs])) for name in ("steps", "studies", "images")}
    devices = list(dict.fromkeys(cost["hardware"] for cost in costs))
    mean = float(np.mean(minutes))
    return Expense(len(costs), mean, min(minutes), max(minutes), **means, trained=costs[0]["trained"], hardware=devices)


def _uneven(expenses: Mapping[str, Expense]) -> list[str]:
    """Return warnings about trainings that took other numbers of steps or studies, or other hardware."""
    warnings = []
    for what in ("steps", "studies", "hardware"):
        values: dict[str, list[str]] = {}
        for method, expense in expenses.items():
            value = getattr(expense, what)
            values.setdefault(f"{value:,}" if isinstance(value, int) else ", ".join(value), []).append(method)
        if len(values) > 1:
            texts = [f"{value} ({', '.join(methods)})" for value, methods in values.items()]
            warnings.append(f"unequal {what}: {'; '.join(texts)}")
    return warnings
