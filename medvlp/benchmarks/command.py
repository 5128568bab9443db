"""`medvlp benchmark`: all label fractions and seeds of one or several benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from medvlp.benchmarks.catalogue import find
from medvlp.benchmarks.cells import Plan, quiet, run
from medvlp.benchmarks.planning import Benchmark, compose_benchmark, read_encoder, read_grid
from medvlp.benchmarks.processes import check_launcher, dismiss, follow, follows
from medvlp.benchmarks.results import Cell, summarise
from medvlp.benchmarks.scores import METRICS, left_of
from medvlp.benchmarks.tables import LEGEND, rich_tables
from medvlp.errors import NotFoundError, UnsuitableDataError, UserError


def benchmark(
    benchmark: str,
    *,
    weights: str,
    name: str | None = None,
    fractions: str = "1,10,100",
    seeds: str = "0,1,2",
    protocols: str = "",
    data: Path | None = None,
    out: Path = Path("runs/benchmarks"),
    args: str = "",
    redo: bool = False,
    trust: str = "",
) -> None:
    """Train and test an encoder with shares of the labels and several seeds, or test a model as it is.

    Each cell has one fraction and one seed, and runs `medvlp fit` and `medvlp test` with the benchmark's config.
    Finished cells are not computed again; interrupted cells resume from their last checkpoint. `medvlp results` makes
    tables of them.

    Args:
        benchmark: A benchmark, such as chexpert, nih, rsna, covidx, mimic, siim, rsna-seg, rsna-det or object-cxr;
            without training, zeroshot-rsna, retrieval-mimic or grounding-ms-cxr. Or a config file of your own; or
            classification, segmentation, detection, zeroshot, retrieval or grounding for all of a kind; or several of
            these with commas between them. If there are several, those without prepared or suitable data are skipped.
        weights: The encoder: imagenet, random, a checkpoint of `medvlp fit`, a folder of `medvlp export`, published
            weights such as rad-dino, biomedclip, open_clip:... or hf:..., or a file with a state dict (then with --args
            "--model.architecture NAME").
        name: Name of the weights in tables; by default the file's name and eight digits of its hash.
        fractions: Shares of the training labels in percent.
        seeds: Seeds of the choice of labels, of their order and of the head's weights.
        protocols: For zero-shot classification, names or files of protocols; for grounding, sources of heat maps. By
            default the one that the benchmark's config names.
        data: Folder of the prepared folders, instead of the one that the configs name.
        out: Output folder, with one folder for each cell.
        args: Further options of `medvlp fit` and `medvlp test`, in quotes: --args "--trainer.enable_progress_bar true".
            {task} stands for classification, segmentation or detection: --args "-c overlays/small_{task}".
        redo: Recompute finished cells whose settings have changed.
        trust: Packages beside medvlp whose classes the weights may name, with commas between them.

    Raises:
        UserError: If an option is wrong, data or weights are missing, or a cell was computed with other settings.
    """
    if follows():
        with quiet():
            follow()
        return
    chosen = find(benchmark)
    encoder, grid = read_encoder(weights, name), read_grid(fractions, seeds)
    console = Console()
    left_out = {}
    for key, config in chosen.items():
        composition = compose_benchmark(key, config, encoder, data, args, trust)
        if error := check(composition):
            if len(chosen) == 1:
                raise error
            left_out[key] = error
            continue
        show(compute(composition.plans(grid, protocols, out), redo, console), console)
    dismiss()
    conclude(left_out, len(chosen), out, console)


def conclude(left_out: Mapping[str, UserError], count: int, out: Path, console: Console) -> None:
    """Print which benchmarks are left out, and where the cells are.

    Args:
        left_out: The reason of each benchmark that is left out.
        count: Number of all benchmarks.
        out: Output folder.
        console: The console.

    Raises:
        NotFoundError: If all benchmarks are left out.
    """
    console.print(LEGEND, style="dim", markup=False)
    for key, error in left_out.items():
        console.print(f"{key} is left out: {error}", markup=False)
    if len(left_out) == count:
        raise NotFoundError("no benchmark has prepared data: run 'medvlp prepare', or pass --data.")
    console.print(f"Cells are in {out}; 'medvlp results {out}' makes tables of all of them.", markup=False)


def check(composition: Benchmark) -> UserError | None:
    """Check the launcher and the data of a benchmark; return the error if its data is missing or unsuitable.

    Raises:
        UserError: If another launcher has started the processes.
    """
    check_launcher(composition.composed["trainer"]["num_nodes"])
    try:
        composition.check_data()
    except (NotFoundError, UnsuitableDataError) as error:
        return error
    return None


def compute(plans: Sequence[Plan], redo: bool, console: Console) -> list[Cell]:
    """Compute cells one after the other, and print the first metric of each."""
    cells = []
    for i, plan in enumerate(plans, 1):
        try:
            cell, before = run(plan, redo)
        except KeyboardInterrupt:
            console.print(f"{plan.name} is interrupted. Run the same command again to continue.", markup=False)
            raise
        metrics = cell.content["metrics"]
        metric = next((metric for metric in METRICS if metric in metrics), None)
        summary = f"{metric} {metrics[metric]['value']:.3f}" if metric else "no metric"
        if metric and (left := left_of(metrics[metric])):
            summary += f", {left}"
        state = ", was there" if before else ""
        console.print(f"{plan.name}: {summary} ({i}/{len(plans)}{state})", highlight=False, markup=False)
        cells.append(cell)
    return cells


def show(cells: Sequence[Cell], console: Console) -> None:
    """Print the tables of the cells that have metrics."""
    for result in summarise([cell for cell in cells if cell.content["metrics"]]):
        for table in rich_tables(result):
            console.print(table)
