"""Plans of `medvlp benchmark`: its options, and the cells of a benchmark under these options."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from medvlp.benchmarks.cells import Plan
from medvlp.benchmarks.configuration import settings, short_hash
from medvlp.benchmarks.results import weights_label
from medvlp.config.options import one_root
from medvlp.errors import NotFoundError, UserError
from medvlp.models.published import fingerprint, names_published
from medvlp.prepared import Prepared
from medvlp.protocols import Protocol
from medvlp.tasks import DownstreamTask, PerImageTask
from medvlp.trainer.composition import compose

TASK = "{task}"
# Options of tasks without training that name the way of testing.
WAYS = ("protocol", "source")


@dataclass(frozen=True)
class Encoder:
    """The encoder to test.

    Attributes:
        weights: `imagenet`, `random`, the name of published weights, or a file.
        label: Its name in tables and folders.
        sha256: Hash of the file or files; None if there is none.
    """

    weights: str
    label: str
    sha256: str | None


def read_encoder(weights: str, name: str | None) -> Encoder:
    """Read the options of the encoder.

    Args:
        weights: `imagenet`, `random`, the name of published weights such as `rad-dino` or `hf:OWNER/NAME`, or a file.
        name: Its name in tables; None for the file's name and eight digits of its hash.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If the name is no name for a folder, or the files of published weights cannot be had.
    """
    sha256 = fingerprint(weights)
    if sha256 is None and weights not in ("imagenet", "random") and not names_published(weights):
        raise NotFoundError(
            f"--weights '{weights}': no such file. Give a checkpoint of 'medvlp fit', a folder of 'medvlp export', a "
            "file with a state dict, a name such as rad-dino or hf:OWNER/NAME, imagenet or random."
        )
    label = name or weights_label(weights, sha256)
    if not re.fullmatch(r"[\w.+-]+", label) or label.startswith("."):
        raise UserError(f"--name '{label}' names a folder: use letters, digits, '-', '_', '.' and '+'.")
    return Encoder(weights, label, sha256)


def read_grid(fractions: str, seeds: str) -> list[tuple[float, int]]:
    """Return all pairs of a label fraction, in percent, and a seed.

    Raises:
        UserError: If a text holds no such numbers.
    """
    percents = numbers("fractions", fractions)
    if any(not 0 < percent <= 100 for percent in percents):
        raise UserError(f"--fractions '{fractions}': shares in percent are above 0 and at most 100.")
    return [(percent, seed) for percent in percents for seed in map(int, numbers("seeds", seeds))]


def numbers(option: str, text: str) -> list[float]:
    """Read the numbers of an option, with commas or spaces between them; each number counts once."""
    try:
        values = [float(word) for word in re.split(r"[,\s]+", text.strip())]
    except ValueError:
        raise UserError(f"--{option} '{text}' are not numbers with commas between them.") from None
    if option == "seeds" and any(value < 0 or value % 1 for value in values):
        raise UserError(f"--seeds '{text}' are not whole numbers.")
    return list(dict.fromkeys(values))


@dataclass(frozen=True)
class Benchmark:
    """One benchmark with one encoder.

    Attributes:
        name: Name of the benchmark.
        config: Its config file.
        encoder: The encoder.
        options: Options of `medvlp fit` beside the config.
        composed: The whole config.
        root: Prepared folder.
    """

    name: str
    config: Path
    encoder: Encoder
    options: list[str]
    composed: dict[str, Any]
    root: Path

    @property
    def task(self) -> type[PerImageTask]:
        """Class of the task."""
        module, _, name = self.composed["model"]["class_path"].rpartition(".")
        task: type[PerImageTask] = getattr(import_module(module), name)
        return task

    def check_data(self) -> None:
        """Refuse missing or unsuitable data.

        Raises:
            NotFoundError: If there is no prepared folder.
            UnsuitableDataError: If the prepared folder lacks data for the task.
        """
        self.task.check_data(Prepared.open(self.root), self.composed["model"]["init_args"])

    def plans(self, grid: list[tuple[float, int]], protocols: str, out: Path, group: str = "") -> list[Plan]:
        """Return the cells: one for each fraction and seed; without training, one for each way of testing.

        Args:
            grid: Label fractions in percent and seeds.
            protocols: Names of protocols or sources; empty for the config's own.
            out: Folder of all results.
            group: Group of the runs in W&B; empty for the benchmark's name.

        Raises:
            UserError: If there is no such protocol.
        """
        folder = out / self.name / self.encoder.label

        def plan(percent: float, seed: int, cell: str, options: list[str], shared: str) -> Plan:
            encoder = self.encoder
            return Plan(self.name, encoder.label, percent, seed, folder / cell, options, encoder.sha256, shared, group)

        if issubclass(self.task, DownstreamTask):
            shared = recipe(self.composed, self.config)
            return [
                plan(percent, seed, f"{percent:g}-{seed}", [*configs(self.config, percent), *self.options], shared)
                for percent, seed in grid
            ]
        plans = []
        for way, option in ways(self.composed, protocols):
            options = ["-c", str(self.config), *self.options, *option]
            plans.append(plan(0, 0, way, options, recipe(compose(["fit", *options]), self.config)))
        return plans


def compose_benchmark(name: str, config: Path, encoder: Encoder, data: Path | None, args: str, trust: str) -> Benchmark:
    """Compose the config of a benchmark.

    Args:
        name: Name of the benchmark.
        config: Its config file.
        encoder: The encoder.
        data: Folder of the prepared folders; None for the folder that the config names.
        args: Further options of `medvlp fit`, as one text.
        trust: Packages whose classes the weights may name, with commas between them.
    """
    given = shlex.split(args.replace(TASK, config.parent.name))
    options = [*given, f"--model.weights={encoder.weights}", f"--trust={trust}"]
    composed = compose(["fit", "-c", str(config), *options])
    root = one_root(composed, "medvlp benchmark")
    if data is not None:
        root = data / root.name
        options.append(f"--data.root={root}")
    return Benchmark(name, config, encoder, options, composed, root)


def configs(config: Path, percent: float) -> list[str]:
    """Return the options for a benchmark's config and its overlay at a label fraction, such as NAME.10.yaml at 10 %."""
    over = config.with_suffix(f".{percent:g}.yaml")
    return [word for path in (config, over) if path.is_file() for word in ("-c", str(path))]


def ways(composed: Mapping[str, Any], protocols: str) -> list[tuple[str, list[str]]]:
    """Return the ways of testing a model without training: the name and the options of each.

    Args:
        composed: The whole config.
        protocols: Names of protocols or sources; empty for the config's own.

    Raises:
        UserError: If the task has no such option, if two names are the same, or if there is no such protocol.
    """
    arguments: Mapping[str, Any] = composed["model"].get("init_args", {})
    option = next((name for name in WAYS if name in arguments), None)
    names = re.split(r"[,\s]+", protocols.strip()) if protocols.strip() else []
    if option is None:
        if names:
            raise UserError(f"--protocols '{protocols}': a {composed['model']['class_path']} has none.")
        return [("test", [])]
    choices = [(Path(name).stem, [f"--model.{option}={name}"]) for name in names or [arguments[option]]]
    if option == "protocol":
        for name in names:
            Protocol.read(name)
    if len({way for way, _ in choices}) < len(choices):
        raise UserError(f"--protocols '{protocols}': two of them have one name.")
    return choices


def recipe(composed: Mapping[str, Any], config: Path) -> str:
    """Return a hash of the settings that the cells of a benchmark share, without weights and prepared data."""
    shared = settings(composed)
    del shared["model.weights"]
    fractions = [path.read_text() for path in sorted(config.parent.glob(f"{config.stem}.*.yaml"))]
    return short_hash(json.dumps([shared, fractions], sort_keys=True))
