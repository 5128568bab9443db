"""`medvlp compare`: several methods, trained and tested under the same conditions."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from rich.console import Console

from medvlp.benchmarks.planning import numbers
from medvlp.benchmarks.results import Cell
from medvlp.compare.budget import unequal
from medvlp.compare.comparison import Comparison, budgets_of, summarise
from medvlp.compare.evaluation import Test, evaluate, read_tests
from medvlp.compare.methods import find_method, read_methods
from medvlp.compare.report import LEGEND, as_csv, as_json, markdown, rich_tables, setting, troubles
from medvlp.compare.runs import Run, plan
from medvlp.compare.training import FailedError, checkpoint_of, read_run, train
from medvlp.errors import UserError

FILES = {"comparison.md": markdown, "comparison.csv": as_csv}
JSON = "comparison.json"
Cells = dict[str, dict[str, dict[int, Cell]]]


def compare(
    *,
    methods: str = "all",
    baseline: str | None = None,
    seeds: str = "0,1,2",
    tests: str = "zeroshot retrieval classification grounding",
    data: Path | None = None,
    out: Path = Path("runs/methods"),
    args: str = "",
    test_args: str = "",
    checkpoint: Literal["last", "best"] = "last",
    min_cases: int = 20,
    name: str | None = None,
    trust: str = "",
) -> None:
    """Train several methods with one data set, encoder, budget and set of seeds, test them alike, and compare them.

    Each method and seed is one run of `medvlp fit`, in a process of its own. An interrupted run resumes from its last
    checkpoint, and what is finished is not computed again. A run with other settings than before is another run, beside
    the earlier one. The tables are comparison.md, comparison.csv and comparison.json in the output folder.

    Args:
        methods: Methods with blanks or commas between them, each [NAME=]CONFIG[+CONFIG...], configs laid over each
            other; or lists of methods.yaml: all, or small for a CPU.
        baseline: Name of the method that the others are compared with; by default the first.
        seeds: Seeds of the trainings, and of the heads that tests train.
        tests: Benchmarks with blanks or commas between them, each TEST[+CONFIG...][@FOLDER]: its name, configs to lay
            over it, and the folder of its prepared data; or zeroshot, retrieval, grounding, classification,
            segmentation or detection for all of a kind whose data are prepared. Heads are trained with all labels; heat
            maps are the best that a model has.
        data: Folder of the prepared folders, of pre-training and of tests, instead of the one that the configs name.
        out: Output folder.
        args: Further options of `medvlp fit` for all methods, in quotes: --args "-c overlays/small --trainer.max_epochs
            3".
        test_args: Further options of all tests, in quotes: --test_args "--data.num_workers 2".
        checkpoint: Which checkpoint of each run is tested; best is that of the highest val/quality.
        min_cases: Number of test images with a label from which it counts in means of AUROCs.
        name: Name of the comparison, the group of its runs in W&B; by default that of the output folder.
        trust: Packages beside medvlp whose classes the checkpoints may name, with commas between them.

    Raises:
        UserError: If an option is wrong or data are missing, before anything is computed; or, after all else is
            computed, if a run or a test has failed.
    """
    chosen = read_methods(methods)
    base = find_method(baseline, chosen).name if baseline else chosen[0].name
    planned = read_tests(tests, data, test_args, trust)
    options = [*shlex.split(args), *([f"--trust={trust}"] if trust else [])]
    runs = plan(chosen, [*map(int, numbers("seeds", seeds))], data, options, out)
    group, console = name or out.resolve().name, Console()
    for warning in unequal(budgets_of(runs)):
        say(console, f"WARNING: {warning}")
    cells: Cells = {test.name: {} for test in planned}
    missing: dict[str, str] = {}
    failures: dict[str, str] = {}
    with interrupted_by_sigterm():
        for i, run in enumerate(runs, 1):
            try:
                before = learn(run, group, trust, f"{i}/{len(runs)}", console)
            except FailedError as error:
                failures[run.name] = str(error)
                say(console, f"{run.name} FAILED: {error}")
                continue
            take(run, planned, checkpoint, out, group, (cells, missing, failures), console)
            if not before:
                show(summarise(group, base, checkpoint, runs, cells, missing, failures, min_cases), out)
    comparison = summarise(group, base, checkpoint, runs, cells, missing, failures, min_cases)
    show(comparison, out, console)
    if failures:
        raise UserError(f"{len(failures)} failed: {'; '.join(f'{what}: {why}' for what, why in failures.items())}")


def learn(run: Run, group: str, trust: str, place: str, console: Console) -> bool:
    """Train a run, and print what it took; return whether it was there.

    Raises:
        FailedError: If it fails.
        KeyboardInterrupt: If it is interrupted.
    """
    if run.other:
        say(console, f"{run.name}: {run.other}. It is trained anew, in {run.folder}.")
    try:
        before = train(run, group, trust)
    except KeyboardInterrupt:
        say(console, f"{run.name} is interrupted. Run the same command again to continue.")
        raise
    minutes = read_run(run)["cost"]["seconds"] / 60
    say(console, f"{run.name}: {minutes:.1f} minutes ({place}{', was there' if before else ''})")
    return before


def take(
    run: Run,
    tests: Sequence[Test],
    checkpoint: str,
    out: Path,
    group: str,
    found: tuple[Cells, dict[str, str], dict[str, str]],
    console: Console,
) -> None:
    """Test a trained run; add the cells, what does not exist for it, and what has failed, to those found before."""
    cells, missing, failures = found
    path = checkpoint_of(run, checkpoint)
    for test in tests:
        what = f"{test.name} of {run.name}"
        if path is None:
            failures[what] = f"there is no {checkpoint} checkpoint"
            continue
        try:
            cell, remark = evaluate(run, test, path, out, group)
        except FailedError as error:
            failures[what] = str(error)
            say(console, f"{what} FAILED: {error}")
            continue
        except KeyboardInterrupt:
            say(console, f"{what} is interrupted. Run the same command again to continue.")
            raise
        if cell is None:
            missing[f"{test.name} of {run.method.name}"] = remark
        else:
            cells[test.name].setdefault(run.method.name, {})[run.seed] = cell
        if remark:
            say(console, f"{what}: {remark}.")


def show(comparison: Comparison, out: Path, console: Console | None = None) -> None:
    """Write the tables, and print them to a console."""
    for file, text in FILES.items():
        (out / file).write_text(text(comparison))
    (out / JSON).write_text(json.dumps(as_json(comparison), indent=2, default=str) + "\n")
    if console is None:
        return
    for line in [*setting(comparison), *(f"WARNING: {warning}" for warning in comparison.warnings)]:
        say(console, line)
    for table in rich_tables(comparison):
        console.print(table)
    console.print(LEGEND, style="dim", markup=False)
    for line in troubles(comparison):
        say(console, line)
    say(console, f"Tables: {', '.join(str(out / file) for file in (*FILES, JSON))}.")


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False)


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM, by which schedulers end a job, as an interrupt: a training must not outlive this process."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
