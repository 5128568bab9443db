"""The Trainer's commands, called verbs: `medvlp fit|validate|test`."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args

import lightning
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from medvlp import __version__
from medvlp.config.experiments import DEFAULTS, ConfigFile
from medvlp.config.moved import with_new_names
from medvlp.config.options import split_commas
from medvlp.config.parser import Parser, concise
from medvlp.config.precedence import in_order
from medvlp.config.trust import check_classes
from medvlp.errors import UserError
from medvlp.trainer.allocator import keep_freed_memory
from medvlp.trainer.checkpoint import check_checkpoint
from medvlp.trainer.wandb import WANDB_PRIVACY, has_wandb_login, uses_wandb


class TrainerParser(Parser, LightningArgumentParser):
    """The parser of one of the Trainer's verbs.

    Attributes:
        subcommand: The verb; jsonargparse sets it.
        content: Settings as YAML that replace the text of the current config file; None keeps the text.
    """

    subcommand: str
    content: str | None = None

    def parse_string(self, content: str, path: str | os.PathLike[str] = "", *args: Any, **kwargs: Any) -> Any:
        """Parse the text of a config file, or `content` in its place."""
        return super().parse_string(self.content or content, path, *args, **kwargs)

    def parse_object(self, cfg_obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse the hyper-parameters of `--ckpt_path`, in which version 0.1 has stored names that have moved."""
        return super().parse_object(with_new_names(cfg_obj), *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error on one line, and exit with code 2."""
        if re.search(r"arguments are required: \w+\.model", message):
            message = "no task is given: name a config, such as '--config imitate'."
        super().error(message, ex)


def plain(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """Return the config of a verb in plain types, with the settings that `--print_config` prints."""
    settings: dict[str, Any] = yaml.safe_load(parser.dump(config, skip_unset=False))
    return settings


class SaveConfig(SaveConfigCallback):
    """Saves the config of a run beside its checkpoints, and sends it to W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml; Lightning calls this on rank zero only."""
        folder, logger = Path(trainer.default_root_dir), trainer.logger
        if logger is not None:
            version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
            folder = Path(logger.save_dir or folder, str(logger.name), version)
        folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, folder / "config.yaml", skip_unset=False, overwrite=True)
        if isinstance(logger, WandbLogger):
            logger.experiment.config.update(plain(self.parser, self.config), allow_val_change=True)


def read_counts_as_counts() -> None:
    """Make every process read `--trainer.limit_val_batches 1` as one batch; 1.0 would mean all batches.

    jsonargparse takes the first type of a union that fits, and the Trainer's annotations list `int` first. But `typing`
    caches unions: `Union[int, float]` and `Union[float, int]` may be one object, the first that the process created.
    """
    signature = Trainer.__init__.__annotations__
    for name, kind in signature.items():
        if set(get_args(kind)) == {int, float, NoneType}:
            signature[name] = int | float | None


CONFIG_HELP = (
    "File, or name under experiments/; repeatable. 'fit ... --overfit' is 'fit ... -c overlays/overfit': can this "
    "configuration learn one batch by heart?"
)

TRUST_HELP = (
    "Packages beside medvlp whose classes 'weights' or '--ckpt_path' may name, with commas between. Classes that your "
    "own configs name need none."
)


class MedVLPCLI(LightningCLI):
    """LightningCLI with config names, defaults for every run, readable errors and checks of checkpoints.

    Args:
        model_class: Base class of the tasks; a config names one of its subclasses.
        datamodule_class: Class of the data module.
        args: The command line without the program's name, the verb first.
    """

    def __init__(
        self,
        model_class: type[LightningModule],
        datamodule_class: type[LightningDataModule],
        args: Sequence[str],
    ) -> None:
        read_counts_as_counts()
        super().__init__(
            model_class,
            datamodule_class,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=42,
            parser_class=TrainerParser,
            parser_kwargs={
                "prog": "medvlp",
                **{verb: {"default_config_files": [str(DEFAULTS)]} for verb in self.subcommands()},
            },
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            args=[*args[:1], *in_order(overlaid(args))],
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs of Lightning except `predict`: `medvlp predict` is another command, for any image files."""
        verbs = LightningCLI.subcommands()
        del verbs["predict"]
        return verbs

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a parser whose `--config` accepts names under experiments/."""
        header = [f"medvlp=={__version__}", f"lightning=={lightning.__version__}"]
        parser = TrainerParser(dump_header=header, **kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help=CONFIG_HELP)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `--trust`, which applies to the `weights` of a task and to `--ckpt_path`."""
        parser.add_argument("--trust", type=str, default="", help=TRUST_HELP)
        parser.link_arguments("trust", "model.init_args.trust", compute_fn=split_commas)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, and refuse a checkpoint that does not match the config."""
        self.config = parser.parse_args(args)
        verb = self.config.subcommand
        if path := self.config[verb].get("ckpt_path"):
            check_checkpoint(str(path), self.settings["model"], verb, split_commas(self.config[verb].trust))

    @property
    def settings(self) -> dict[str, Any]:
        """The full config of the verb in plain types."""
        verb = self.config.subcommand
        return plain(self._parser(verb), self.config[verb])

    def before_instantiate_classes(self) -> None:
        """Check the classes of the config, and configure W&B: no prompt for a login, no private data sent.

        Raises:
            UserError: If the config names a function in place of a class.
        """
        check_classes(self.config[self.config.subcommand].as_dict(), "the config:")
        for name, value in WANDB_PRIVACY.items():
            os.environ.setdefault(name, value)
        trainer = self.config[self.config.subcommand].trainer
        if "WANDB_MODE" not in os.environ and uses_wandb(trainer) and not has_wandb_login():
            os.environ["WANDB_MODE"] = "offline"
            rank_zero_info(
                "No W&B login found: logging offline. To log online, run 'wandb login' once, or set WANDB_MODE."
            )

    def instantiate_classes(self) -> None:
        """Build the task, the data module and the Trainer.

        Raises:
            UserError: If a setting has a value that one of them refuses.
        """
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ValueError) as error:
            raise UserError(concise(str(error))) from error


def overlaid(args: Sequence[str]) -> list[str]:
    """Return the words behind the verb; `fit --overfit` becomes `-c overlays/overfit` after all other configs."""
    words = [*args[1:]]
    if args[:1] != ["fit"] or "--overfit" not in words:
        return words
    return [*(word for word in words if word != "--overfit"), "-c", "overlays/overfit"]


def run(
    model_class: type[LightningModule], datamodule_class: type[LightningDataModule], args: Sequence[str]
) -> Trainer:
    """Run one of the Trainer's verbs, with a subclass of the task class and a data module; return the Trainer.

    Raises:
        UserError: If the Trainer refuses its settings.
        KeyboardInterrupt: After the Trainer has shut down.
    """
    try:
        cli = MedVLPCLI(model_class, datamodule_class, args)
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except SystemExit as end:
        # The Trainer turns an interrupt into exit code 1.
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise
    trainer: Trainer = cli.trainer
    return trainer


def base_classes() -> tuple[type[LightningModule], type[LightningDataModule]]:
    """Import all classes that configs name; return the base class of tasks and the class of the data module."""
    # Configs name classes without their modules, so the parser must find the modules imported.
    for module in (
        "medvlp.trainer.callbacks",
        "medvlp.trainer.ema",
        "medvlp.trainer.heat_maps",
        "medvlp.objectives",
        "medvlp.tasks",
    ):
        import_module(module)
    from medvlp.data import CXRDataModule
    from medvlp.tasks import BaseTask

    return BaseTask, CXRDataModule


def main(args: Sequence[str]) -> Trainer:
    """Run one of the Trainer's verbs; return the Trainer.

    Args:
        args: The command line, the verb first.
    """
    keep_freed_memory()
    # The warning is wrong here: tasks built from a config store the config, not their modules.
    warnings.filterwarnings("ignore", ".*is an instance of `nn.Module` and is already saved")
    return run(*base_classes(), args)
