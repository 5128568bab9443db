"""Runs of the Trainer in tests: quiet, on the CPU, with images as they are, in an environment that is put back."""

from __future__ import annotations

import pytest

from medvlp.data import Augmentation
from medvlp.trainer.command import WANDB_PRIVACY

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
ONE_SPLIT = {f"{name}_splits": ["train"] for name in ("train", "validation", "test")}
UNCHANGED = Augmentation(horizontal_flip=0, vertical_flip=0, rotation=0, perspective=0, autocontrast=0)


def clear_environment(patch: pytest.MonkeyPatch, *more: str) -> None:
    """Remove the variables that a run sets in its process, so that they are put back with the patch.

    Args:
        patch: The patch.
        more: Names of further variables.
    """
    for name in (*WANDB_PRIVACY, "PL_GLOBAL_SEED", "PL_SEED_WORKERS", *more):
        patch.setenv(name, "put back afterwards")
        patch.delenv(name)
