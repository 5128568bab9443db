"""Tests of trained runs: benchmarks of the package, each with the same settings for all methods."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medvlp.benchmarks.catalogue import find
from medvlp.benchmarks.cells import changed
from medvlp.benchmarks.cells import run as compute
from medvlp.benchmarks.planning import Benchmark, Encoder, compose_benchmark
from medvlp.benchmarks.results import Cell
from medvlp.compare.methods import OVER, words_of
from medvlp.compare.runs import Run
from medvlp.compare.training import FailedError, read_run
from medvlp.config.experiments import find_config
from medvlp.errors import NotFoundError, UnsuitableDataError, UserError
from medvlp.models.weights import fingerprint
from medvlp.tasks import GroundingTask, RetrievalTask

TESTS = "tests"
# Separates a test from the folder of its data.
AT = "@"
# Of linear probes.
PERCENT = 100.0


@dataclass(frozen=True)
class Test:
    """One benchmark as all methods take it.

    Attributes:
        name: Name of the benchmark.
        composed: The benchmark, composed for no checkpoint.
    """

    name: str
    composed: Benchmark
    # No test of pytest's.
    __test__ = False

    def of(self, checkpoint: Path, label: str) -> Benchmark:
        """Return the benchmark of a checkpoint.

        Args:
            checkpoint: The checkpoint.
            label: Its name in folders.
        """
        encoder = Encoder(str(checkpoint), label, fingerprint(str(checkpoint)))
        # The last of several options counts.
        options = [*self.composed.options, f"--model.weights={checkpoint}"]
        return replace(self.composed, encoder=encoder, options=options)


def read_tests(text: str, data: Path | None, args: str, trust: str) -> list[Test]:
    """Read the tests of a command line; of a kind, such as `zeroshot`, those whose data are prepared.

    Args:
        text: Words with blanks or commas between them, each `TEST[+CONFIG...][@FOLDER]`.
        data: Folder of the prepared folders of tests without one.
        args: Further options of `medvlp fit` and `medvlp test`, for all tests.
        trust: Packages whose classes the checkpoints may name.

    Raises:
        NotFoundError: If there is no such test or config, or no test has prepared data.
        UserError: If the data of a test that is named are not prepared or unsuitable.
    """
    tests: dict[str, Test] = {}
    for word in words_of(text):
        what, _, where = word.partition(AT)
        name, *overlays = what.split(OVER)
        for overlay in overlays:
            find_config(overlay)
        options = " ".join([*(f"-c {shlex.quote(overlay)}" for overlay in overlays), args])
        found = find(name)
        for key, config in found.items():
            folder = Path(where) if where else data
            benchmark = compose_benchmark(key, config, Encoder("checkpoint", "", None), folder, options, trust)
            if benchmark.composed["trainer"]["devices"] not in (1, "1"):
                raise UserError(f"{key}: a comparison tests on one device: pass --test_args '--trainer.devices 1'.")
            try:
                benchmark.check_data()
            except (NotFoundError, UnsuitableDataError):
                if len(found) == 1:
                    raise
                continue
            test = Test(key, benchmark)
            if tests.setdefault(key, test) != test:
                raise UserError(f"--tests '{text}': {key} comes twice, with other configs or data.")
    if not tests:
        raise NotFoundError(f"--tests '{text}': no test has prepared data. Run 'medvlp prepare', or pass --data.")
    return [*tests.values()]


def evaluate(run: Run, test: Test, checkpoint: Path, out: Path, group: str) -> tuple[Cell | None, str]:
    """Test a run, or read the results of its test; return the cell and a remark, or None and why there is no result.

    Args:
        run: The run.
        test: The test.
        checkpoint: Its checkpoint.
        out: Folder of the comparison.
        group: Group of the test in W&B.

    Raises:
        FailedError: If the test fails.
    """
    label = run.label if checkpoint.stem.startswith("last") else f"{run.label}-{checkpoint.stem.partition('-')[0]}"
    benchmark = test.of(checkpoint, label)
    sections, sources = (read_run(run)["abilities"][name] for name in ("sections", "heat_sources"))
    if issubclass(benchmark.task, RetrievalTask) and not sections:
        return None, "it aligns no whole images with reports"
    if issubclass(benchmark.task, GroundingTask) and not sources:
        return None, "it has no heat maps of texts"
    source = sources[0] if issubclass(benchmark.task, GroundingTask) else ""
    try:
        (plan,) = benchmark.plans([(PERCENT, run.seed)], source, out / TESTS, group)
        remark = changed(plan)
        cell, _ = compute(plan, redo=True)
    except Exception as error:
        # Whatever it is, the other methods and tests are computed.
        raise FailedError(" ".join(f"{_kind(error)}{error}".split())) from error
    finally:
        # The next training is another process, and may need the memory.
        torch.cuda.empty_cache()
    return cell, f"other settings than before, tested anew: {remark}" if remark else ""


def _kind(error: Exception) -> str:
    return "" if isinstance(error, UserError) else f"{type(error).__name__}: "
