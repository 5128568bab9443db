"""The config that a command line of `medvlp fit|validate|test` stands for, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from medvlp.trainer.command import MedVLPCLI, base_classes


class Composition(MedVLPCLI):
    """A command line that is parsed and goes no further."""

    @property
    def settings(self) -> dict[str, Any]:
        """The whole config in plain types, as `--print_config` prints it."""
        verb = self.config.subcommand
        config: dict[str, Any] = yaml.safe_load(self._parser(verb).dump(self.config[verb], skip_unset=False))
        return config

    def _set_seed(self) -> None:
        """Leave the random numbers of the process alone."""

    def before_instantiate_classes(self) -> None:
        """Leave W&B alone: nothing is logged."""

    def instantiate_classes(self) -> None:
        """Make nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def compose(args: Sequence[str]) -> dict[str, Any]:
    """Return the whole config that a command line stands for.

    Args:
        args: The command line, the verb first.

    Raises:
        SystemExit: With code 2 if the command line is wrong, which the parser has said.
    """
    return Composition(*base_classes(), args).settings
