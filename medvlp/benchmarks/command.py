"""`medvlp benchmark`: label fractions times seeds of one benchmark, or of all."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from medvlp.benchmarks.cells import Plan, quiet, run
from medvlp.benchmarks.configuration import compose, settings
from medvlp.benchmarks.processes import check_launcher, dismiss, follow, follows
from medvlp.benchmarks.results import Cell, short_hash, summarise, weights_label
from medvlp.benchmarks.scores import METRICS, left_of
from medvlp.benchmarks.tables import LEGEND, rich_tables
from medvlp.config.experiments import EXPERIMENTS, plain_settings
from medvlp.errors import NotFoundError, UnsuitableDataError, UserError, suggestion
from medvlp.models.weights import fingerprint
from medvlp.prepared import Prepared
from medvlp.protocols import Protocol
from medvlp.tasks import DownstreamTask, PerImageTask

TASK = "{task}"
# Options that name the way in which a model is tested as it is.
WAYS = ("protocol", "source")


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
    """Train and test an encoder with shares of the labels, several times each, or test a model as it is.

    Each cell, one fraction and one seed, is `medvlp fit` and `medvlp test` with the benchmark's config. Finished cells
    are not computed again, interrupted ones go on from their last checkpoint. `medvlp results` puts them into tables.

    Args:
        benchmark: Its name, such as chexpert, nih, rsna, covidx, mimic, siim, rsna-seg, rsna-det or object-cxr, or,
            without training, zeroshot-rsna, retrieval-mimic or grounding-ms-cxr; a config file of your own;
            classification, segmentation, detection, zeroshot, retrieval or grounding for all of a kind; or several of
            these with commas between them. Of several, those whose data is not prepared, or not for them, are left out.
        weights: The encoder: imagenet, random, a checkpoint of `medvlp fit`, or a file with a state dict (then with
            --args "--model.architecture NAME").
        name: What the weights are called in tables; by default the file's name and eight digits of its hash.
        fractions: Shares of the training labels in percent.
        seeds: Seeds of the choice of labels, of their order and of the head's weights.
        protocols: Of zero-shot classification, names or files; of grounding, sources of heat maps. By default the one
            that the benchmark's config names.
        data: Folder of the prepared folders, instead of the one that the configs name.
        out: Where to write, one folder a cell.
        args: Further options of `medvlp fit` and `medvlp test`, in quotes: --args="--trainer.enable_progress_bar=true".
            {task} stands for classification, segmentation or detection: --args "-c overlays/small_{task}".
        redo: Recompute finished cells whose settings have changed.
        trust: Packages beside medvlp whose classes the weights may name, with commas between.

    Raises:
        UserError: If an option is wrong, data or weights are not there, or a finished cell was made otherwise.
    """
    if follows():
        with quiet():
            follow()
        return
    known = benchmarks()
    chosen = _find(benchmark, known)
    percents = numbers("fractions", fractions)
    if any(not 0 < percent <= 100 for percent in percents):
        raise UserError(f"--fractions '{fractions}': shares in percent are above 0 and at most 100.")
    sha256 = fingerprint(weights)
    if sha256 is None and weights not in ("imagenet", "random"):
        raise NotFoundError(
            f"--weights '{weights}': no such file. Give a checkpoint of 'medvlp fit', a folder of 'medvlp export', a "
            "file with a state dict, imagenet or random."
        )
    label = name or weights_label(weights, sha256)
    if not re.fullmatch(r"[\w.+-]+", label) or label.startswith("."):
        raise UserError(f"--name '{label}' names a folder: use letters, digits, '-', '_', '.' and '+'.")
    grid = [(percent, seed) for percent in percents for seed in map(int, numbers("seeds", seeds))]
    console = Console()
    missing: list[str] = []
    for key, config in chosen.items():
        given = [*shlex.split(args.replace(TASK, config.parent.name)), f"--model.weights={weights}", f"--trust={trust}"]
        composed = compose(["-c", str(config), *given])
        check_launcher(composed["trainer"]["num_nodes"])
        root = Path(composed["data"]["root"])
        if data is not None:
            root = data / root.name
            given.append(f"--data.root={root}")
        task = task_of(composed)
        try:
            task.check_data(Prepared.open(root), composed["model"]["init_args"])
        except (NotFoundError, UnsuitableDataError) as error:
            if len(chosen) == 1:
                raise
            missing.append(f"{key} is left out: {error}")
            continue
        folder = out / key / label
        if issubclass(task, DownstreamTask):
            shared = recipe(composed, config)
            plans = [
                Plan(key, label, p, s, folder / f"{p:g}-{s}", [*configs(config, p), *given], sha256, shared)
                for p, s in grid
            ]
        else:
            ways = {way: ["-c", str(config), *given, *option] for way, option in asked(composed, protocols)}
            plans = [
                Plan(key, label, 0, 0, folder / way, options, sha256, recipe(compose(options), config))
                for way, options in ways.items()
            ]
        cells = compute(plans, redo, console)
        counted = [cell for cell in cells if cell.content["metrics"]]
        for table in (table for result in summarise(counted) for table in rich_tables(result)):
            console.print(table)
    dismiss()
    console.print(LEGEND, style="dim", markup=False)
    for text in missing:
        console.print(text, markup=False)
    if len(missing) == len(chosen):
        raise NotFoundError("no benchmark has prepared data: run 'medvlp prepare', or pass --data.")
    console.print(f"Cells are in {out}; 'medvlp results {out}' lays all of them side by side.", markup=False)


def compute(plans: Sequence[Plan], redo: bool, console: Console) -> list[Cell]:
    """Compute cells one after the other, saying what came out."""
    cells = []
    for i, plan in enumerate(plans, 1):
        try:
            cell, before = run(plan, redo)
        except KeyboardInterrupt:
            console.print(f"{plan.name} is interrupted; the same command goes on from here.", markup=False)
            raise
        metrics = cell.content["metrics"]
        metric = next((metric for metric in METRICS if metric in metrics), None)
        said = f"{metric} {metrics[metric]['value']:.3f}" if metric else "no metric"
        if metric and (left := left_of(metrics[metric])):
            said += f", {left}"
        state = ", was there" if before else ""
        console.print(f"{plan.name}: {said} ({i}/{len(plans)}{state})", highlight=False, markup=False)
        cells.append(cell)
    return cells


def benchmarks() -> dict[str, Path]:
    """Return the config of each benchmark, by the name that its `SaveResults` gives it."""
    found = ((name_of(path), path) for path in sorted(EXPERIMENTS.glob("*/*.yaml")))
    return {name: path for name, path in found if name}


def name_of(config: Path) -> str | None:
    """Return the name that a config gives a benchmark; None where it is none."""
    try:
        content, _ = plain_settings(config.read_text(), config, "fit")
    except UserError as error:
        raise UserError(f"{config}: {error}") from error
    callbacks: Iterable[dict[str, Any]] = content.get("trainer", {}).get("callbacks", [])
    return next((c["init_args"]["benchmark"] for c in callbacks if c["class_path"] == "SaveResults"), None)


def configs(config: Path, percent: float) -> list[str]:
    """Return the options for a benchmark's config and what goes over it at a label fraction: NAME.10.yaml at 10 %."""
    own = config.with_suffix(f".{percent:g}.yaml")
    return [word for path in (config, own) if path.is_file() for word in ("-c", str(path))]


def task_of(composed: Mapping[str, Any]) -> type[PerImageTask]:
    """Return the class of the task of a config."""
    module, _, name = composed["model"]["class_path"].rpartition(".")
    task: type[PerImageTask] = getattr(import_module(module), name)
    return task


def asked(composed: Mapping[str, Any], protocols: str) -> list[tuple[str, list[str]]]:
    """Return the ways in which a model is to be tested as it is: a name of each, and its options.

    Raises:
        UserError: If there is no choice, or no such protocol.
    """
    options: Mapping[str, Any] = composed["model"].get("init_args", {})
    option = next((name for name in WAYS if name in options), None)
    names = re.split(r"[,\s]+", protocols.strip()) if protocols.strip() else []
    if option is None:
        if names:
            raise UserError(f"--protocols '{protocols}': a {composed['model']['class_path']} has none.")
        return [("test", [])]
    ways = [(Path(name).stem, [f"--model.{option}={name}"]) for name in names or [options[option]]]
    if option == "protocol":
        for name in names:
            Protocol.read(name)
    if len({way for way, _ in ways}) < len(ways):
        raise UserError(f"--protocols '{protocols}': two of them have one name.")
    return ways


def recipe(composed: Mapping[str, Any], config: Path) -> str:
    """Return a hash of what cells of one benchmark share, whatever the weights and the data."""
    shared = settings(composed)
    del shared["model.weights"]
    fractions = [path.read_text() for path in sorted(config.parent.glob(f"{config.stem}.*.yaml"))]
    return short_hash(json.dumps([shared, fractions], sort_keys=True))


def numbers(option: str, text: str) -> list[float]:
    """Read numbers with commas or spaces between them."""
    try:
        found = [float(word) for word in re.split(r"[,\s]+", text.strip())]
    except ValueError:
        raise UserError(f"--{option} '{text}' are not numbers with commas between them.") from None
    if option == "seeds" and any(number < 0 or number % 1 for number in found):
        raise UserError(f"--seeds '{text}' are not whole numbers.")
    return list(dict.fromkeys(found))


def _find(name: str, known: dict[str, Path]) -> dict[str, Path]:
    if "," in name:
        return {key: path for part in name.split(",") for key, path in _find(part.strip(), known).items()}
    if name in known:
        return {name: known[name]}
    if group := {key: path for key, path in known.items() if path.parent.name == name}:
        return group
    if Path(name).is_file() and (own := name_of(Path(name))):
        return {own: Path(name)}
    names = [*known, *dict.fromkeys(path.parent.name for path in known.values())]
    close = suggestion(name, names) or f" There are: {', '.join(names)}."
    raise NotFoundError(f"'{name}' is no benchmark.{close}")


COMMAND = benchmark
POSITIONAL = True
