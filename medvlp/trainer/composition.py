"""Composes the full config of a command line of `medvlp fit|validate|test`, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medvlp.trainer.command import MedVLPCLI, base_classes


class Composition(MedVLPCLI):
    """A command line that is parsed but not run."""

    def _set_seed(self) -> None:
        """Do not seed the random number generators of the process."""

    def before_instantiate_classes(self) -> None:
        """Do not configure W&B, because nothing is logged."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def compose(args: Sequence[str]) -> dict[str, Any]:
    """Return the full config of a command line.

    Args:
        args: The command line, the verb first.

    Raises:
        SystemExit: With code 2 if the command line is wrong; the parser prints the error.
    """
    return Composition(*base_classes(), args).settings
