"""Training runs of a comparison: one for each method and seed, with its settings and its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.benchmarks.configuration import changes, differing, prepared_data, settings, short_hash
from medvlp.benchmarks.processes import check_launcher
from medvlp.benchmarks.state import read_state
from medvlp.compare.methods import Method
from medvlp.config.options import one_root
from medvlp.models.weights import fingerprint
from medvlp.prepared import Prepared
from medvlp.trainer.composition import compose

RUNS, STATE = "runs", "run.json"
# Names of settings that hold a file, or a name, of weights.
WEIGHTS = "weights"
# Settings that decide no result, but how much is computed at once: batches of all devices are one step.
DEVICES = ("devices", "num_nodes")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        method: The method.
        seed: Seed of the weights of heads, of order, views and augmentation.
        options: Options of `medvlp fit`, without those of the seed and the folder.
        configuration: All settings that decide the result, by dotted name; weights by their hash.
        budget: These settings and the number of devices.
        folder: Folder of its files.
        other: How its settings differ from those of an earlier run of this method and seed; empty if there is none.
    """

    method: Method
    seed: int
    options: Sequence[str]
    configuration: Mapping[str, Any]
    budget: Mapping[str, Any]
    folder: Path
    other: str

    @property
    def name(self) -> str:
        """Name of the run in messages."""
        return f"{self.method.name} seed {self.seed}"

    @property
    def label(self) -> str:
        """Name of its checkpoint in folders, and of the run in W&B."""
        return f"{self.method.name}-{self.folder.name}"


def plan(
    methods: Sequence[Method], seeds: Sequence[int], data: Path | None, args: Sequence[str], out: Path
) -> list[Run]:
    """Return the runs: those of the first seed, then those of the next.

    Args:
        methods: The methods.
        seeds: The seeds.
        data: Folder of the prepared folders; None for the folder that the configs name.
        args: Further options of `medvlp fit`, for all methods.
        out: Folder of the comparison.

    Raises:
        NotFoundError: If there are no prepared data.
        UserError: If another launcher has started several processes.
    """
    composed = {method.name: _compose(method, data, args) for method in methods}
    return [_run(method, seed, *composed[method.name], out) for seed in seeds for method in methods]


def _compose(method: Method, data: Path | None, args: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the options of a method and its whole config."""
    options = [*method.options, *args]
    config = compose(["fit", *options])
    check_launcher(config["trainer"]["num_nodes"])
    root = one_root(config, "medvlp compare")
    if data is not None:
        config["data"]["root"] = str(data / root.name)
        options.append(f"--data.root={config['data']['root']}")
    return options, config


def _run(method: Method, seed: int, options: Sequence[str], config: Mapping[str, Any], out: Path) -> Run:
    manifest = Prepared.open(Path(config["data"]["root"])).manifest
    hashed = {name: _hashed(name, value) for name, value in settings(config).items()}
    configuration = {**hashed, "seed_everything": seed, "data.seed": seed, **prepared_data(manifest)}
    budget = {**configuration, **{f"trainer.{name}": config["trainer"][name] for name in DEVICES}}
    parent = out / RUNS / method.name
    before = {folder: read_state(folder / STATE) for folder in sorted(parent.glob(f"{seed}-*"))}
    known = {folder: state["configuration"] for folder, state in before.items() if state is not None}
    folder = next((folder for folder, settings in known.items() if not differing(settings, configuration)), None)
    other = ""
    if folder is None:
        folder = parent / f"{seed}-{short_hash(json.dumps(configuration, sort_keys=True))}"
        if known:
            last = max(known, key=lambda path: (path / STATE).stat().st_mtime)
            other = f"other settings than in {last}: {changes(known[last], configuration)}"
    return Run(method, seed, options, configuration, budget, folder, other)


def _hashed(name: str, value: Any) -> Any:
    """Return the hash of a file of weights, or of the files of an encoder's folder: others make another setting."""
    if not isinstance(value, str):
        return value
    if name.rpartition(".")[2] == WEIGHTS:
        return fingerprint(value) or value
    folder = Path(value.partition(":")[2] or value)
    if name.endswith("encoder.name") and folder.is_dir():
        return {path.name: fingerprint(str(path)) for path in sorted(folder.iterdir()) if path.is_file()}
    return value
