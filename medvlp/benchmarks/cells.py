"""One cell of a benchmark: a fit with one label fraction and seed, and a test of its best checkpoint; resumable."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
import wandb
from lightning.pytorch.callbacks import ModelCheckpoint

from medvlp.benchmarks.configuration import changes, differing, prepared_data, settings
from medvlp.benchmarks.processes import lead
from medvlp.benchmarks.results import CELL, RESULTS, Cell
from medvlp.benchmarks.state import delete_checkpoints, read_state, resume, write_state
from medvlp.config.parser import dump_settings
from medvlp.errors import UserError
from medvlp.prepared import Prepared
from medvlp.protocols import Protocol
from medvlp.trainer.composition import compose

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}
BENEATH = "beneath.yaml"
# Warnings about small or resumed runs, about Lightning's own code, and about labels that the tables report anyway.
REPEATED = (
    ".*Labels without",
    ".*worker processes in total",
    ".*does not have many workers",
    ".*number of training batches",
    ".*exists and is not empty",
    ".*wandb run already in progress",
    ".*isinstance.treespec, LeafSpec",
)


@dataclass(frozen=True)
class Plan:
    """Settings of a cell to compute.

    Attributes:
        benchmark: Name of the benchmark.
        label: Name of the weights in tables and folders.
        percent: Label fraction in percent; 0 for a test without training.
        seed: Seed of the choice of labels, of their order and of the head's weights.
        folder: Folder of the cell's files.
        args: Options of its fit and test, without those for seed, label fraction and folder.
        weights_sha256: SHA-256 of the file of weights; None if the weights are no file.
        recipe: Eight hex digits: hash of all settings that the benchmark's cells share, without the weights.
        group: Group of its run in W&B; empty for the benchmark's name.
    """

    benchmark: str
    label: str
    percent: float
    seed: int
    folder: Path
    args: Sequence[str]
    weights_sha256: str | None
    recipe: str
    group: str = ""

    @property
    def name(self) -> str:
        """Name of the cell in messages."""
        if not self.percent:
            return f"{self.benchmark} {self.folder.name}"
        return f"{self.benchmark} {self.percent:g} % seed {self.seed}"

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """All settings that decide the results, by dotted name."""
        config = compose(["fit", *self.args, *self._own])
        manifest = Prepared.open(Path(config["data"]["root"])).manifest
        configuration = settings(config)
        configuration["model.weights"] = self.weights_sha256 or configuration["model.weights"]
        if protocol := configuration.get("model.protocol"):
            configuration["model.protocol"] = Protocol.read(protocol).identity
        return configuration | prepared_data(manifest)

    def command(self, identifier: str) -> list[str]:
        """Return the options of its fit and test, and write the config that any of them can override.

        Args:
            identifier: Identifier of the run in W&B. A resumed cell keeps it, because it names the folder in which
                checkpoints find earlier ones.
        """
        name = f"{self.label}-{self.folder.name}"
        options = {"project": "medvlp", "save_dir": str(self.folder), "name": name, "id": identifier}
        more = {"group": self.group or self.benchmark}
        logger = {"class_path": "WandbLogger", "init_args": options, "dict_kwargs": more}
        beneath = self.folder / BENEATH
        beneath.write_text(dump_settings({"trainer": {"logger": logger, **QUIET}}))
        return ["-c", str(beneath), *self.args, *self._own]

    @property
    def _own(self) -> list[str]:
        options: dict[str, Any] = {"seed_everything": self.seed, "trainer.default_root_dir": self.folder}
        if self.percent:
            options |= {
                "data.seed": self.seed,
                "data.subset_seed": self.seed,
                "data.fraction": self.percent / 100,
            }
        return [f"--{name}={value}" for name, value in options.items()]


def changed(plan: Plan) -> str:
    """Return how the settings of a cell differ from those that it was computed with; empty if they do not."""
    state = read_state(plan.folder / CELL)
    return changes(state["configuration"], plan.configuration) if state else ""


def run(plan: Plan, redo: bool = False) -> tuple[Cell, bool]:
    """Compute a cell, or its missing parts; return it, and whether it was already complete.

    Args:
        plan: The cell.
        redo: Recompute a cell that was computed with another configuration.

    Raises:
        UserError: If the cell has checkpoints or results of another configuration and `redo` is false. Also if the
            folder holds other files, or if training ends before its first validation.
    """
    configuration = plan.configuration
    state = read_state(plan.folder / CELL)
    different = state is not None and bool(differing(state["configuration"], configuration))
    finished = (plan.folder / RESULTS).is_file()
    if state and finished and not different:
        return _cell(plan), True
    # A checkpoint can stand for hours of training, even if the cell is not finished.
    begun = finished or any(plan.folder.rglob("*.ckpt"))
    if state and begun and (different or finished) and not redo:
        raise UserError(
            f"{plan.name}: '{plan.folder}' was made with another configuration: "
            f"{changes(state['configuration'], configuration)}. Pass --redo true to make it anew, or another --name or "
            "--out."
        )
    if state is None or different or finished:
        if state is None and plan.folder.is_dir() and any(plan.folder.iterdir()):
            raise UserError(
                f"'{plan.folder}' exists, but is not a cell of a benchmark: move it away, or pass another --out."
            )
        shutil.rmtree(plan.folder, ignore_errors=True)
        plan.folder.mkdir(parents=True)
        state = {"label": plan.label, "recipe": plan.recipe, "id": secrets.token_hex(4), "configuration": configuration}
        write_state(plan.folder / CELL, state)
    with quiet():
        _compute(plan, state)
    # Trainer and task refer to each other: without this they stay in memory, cell by cell, until the next collection.
    gc.collect()
    return _cell(plan), False


def _compute(plan: Plan, state: dict[str, Any]) -> None:
    command = plan.command(state["id"])
    if not plan.percent:
        try:
            lead(["test", *command, "--verbose=false"])
        finally:
            _finish_wandb()
        return
    try:
        if not Path(state.get("best", "")).is_file():
            trainer = lead(["fit", *command, *resume(plan.folder)])
            state["best"] = cast(ModelCheckpoint, trainer.checkpoint_callback).best_model_path
            if not state["best"]:
                raise UserError(
                    f"{plan.name}: training ended before its first validation, and there is no best checkpoint. Train "
                    "longer, or validate earlier: --trainer.val_check_interval."
                )
            # From here on, only the test is missing.
            write_state(plan.folder / CELL, state)
        lead(["test", *command, f"--ckpt_path={state['best']}", "--verbose=false"])
    finally:
        _finish_wandb()
    _shrink(Path(state["best"]))
    delete_checkpoints(plan.folder, but=Path(state["best"]))


def _shrink(checkpoint: Path) -> None:
    """Remove the states of optimiser and schedule from a checkpoint: a finished fit is never resumed."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    unfinished = checkpoint.with_suffix(".tmp")
    torch.save({**content, "optimizer_states": [], "lr_schedulers": []}, unfinished)
    unfinished.replace(checkpoint)


def _cell(plan: Plan) -> Cell:
    return Cell(plan.folder, plan.label, plan.recipe, json.loads((plan.folder / RESULTS).read_text()))


def _finish_wandb() -> None:
    """End the run in W&B; otherwise the next cell would log into it."""
    if wandb.run is not None:
        wandb.finish()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence messages that the Trainer repeats for every run."""
    os.environ.setdefault("WANDB_SILENT", "true")
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in REPEATED:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
