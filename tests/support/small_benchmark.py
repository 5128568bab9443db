"""A workplace for `medvlp benchmark rsna` on tiny data, with a network that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny import make_prepared

# The crop comes first: it begins with an option that also begins with one of the command itself, --data.
TINY = (
    "--data.crop 32 --model.architecture test_resnet --model.labels [Cardiomegaly] --data.num_workers 0 "
    "--trainer.accelerator cpu --trainer.precision 32-true --trainer.logger false"
)
CELLS = Path("runs/benchmarks/rsna/random")


def make_workplace(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Write prepared data where the benchmark looks for it, and make the folder the current one."""
    make_prepared(folder / "data" / "rsna")
    patch.chdir(folder)
    patch.setenv("WANDB_MODE", "offline")
