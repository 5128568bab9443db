"""The Trainer's verbs: `medvlp fit|validate|test`."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args

import lightning
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from medvlp import __version__
from medvlp.config.experiments import DEFAULTS, ConfigFile
from medvlp.config.moved import with_new_names
from medvlp.config.options import split_commas
from medvlp.config.parser import CLASS_PACKAGES, Parser, concise
from medvlp.config.precedence import in_order
from medvlp.config.trust import check_classes, check_no_text, import_paths
from medvlp.errors import NotFoundError, UserError
from medvlp.tasks.divergence import first_not_finite
from medvlp.trainer.allocator import keep_freed_memory
from medvlp.trainer.wandb import WANDB_PRIVACY, has_wandb_login, uses_wandb


class TrainerParser(Parser, LightningArgumentParser):
    """The parser of a Trainer's verb.

    Attributes:
        subcommand: The verb; jsonargparse sets it.
        content: Settings to read in place of the text of the config file that is being read, as YAML.
    """

    subcommand: str
    content: str | None = None

    def parse_string(self, content: str, path: str | os.PathLike[str] = "", *args: Any, **kwargs: Any) -> Any:
        """Parse the content of a config file."""
        return super().parse_string(self.content or content, path, *args, **kwargs)

    def parse_object(self, cfg_obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse the hyper-parameters of `--ckpt_path`, in which version 0.1 has stored names that have moved."""
        return super().parse_object(with_new_names(cfg_obj), *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, and exit with code 2."""
        if re.search(r"arguments are required: \w+\.model", message):
            message = "no task is given: name a config, such as '--config imitate'."
        super().error(message, ex)


class SaveConfig(SaveConfigCallback):
    """Saves the config of a run beside its checkpoints, and sends it to W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml; called on rank zero alone."""
        folder, logger = Path(trainer.default_root_dir), trainer.logger
        if logger is not None:
            version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
            folder = Path(logger.save_dir or folder, str(logger.name), version)
        folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, folder / "config.yaml", skip_unset=False, overwrite=True)
        if isinstance(logger, WandbLogger):
            config = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))
            logger.experiment.config.update(config, allow_val_change=True)


def read_counts_as_counts() -> None:
    """Make `--trainer.limit_val_batches 1` one batch, in any process: as 1.0 it would be all of them.

    jsonargparse takes the first kind of number that fits. The Trainer says `int` first, but `typing` may give a process
    one object for `Union[int, float]` and `Union[float, int]`: that which was asked for first.
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
    """LightningCLI with config names, defaults beneath every run, readable errors and guarded checkpoints.

    Args:
        model_class: Base class of the tasks; a config names one of its subclasses.
        datamodule_class: Class of the data module.
        args: The command line without the program's name.
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
        """Return the verbs: `medvlp predict` is a command of its own, for images of any place."""
        verbs = LightningCLI.subcommands()
        del verbs["predict"]
        return verbs

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a parser whose `--config` takes names."""
        header = [f"medvlp=={__version__}", f"lightning=={lightning.__version__}"]
        parser = TrainerParser(dump_header=header, **kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help=CONFIG_HELP)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `--trust`, which reaches the `weights` of a task, and `--ckpt_path`."""
        parser.add_argument("--trust", type=str, default="", help=TRUST_HELP)
        parser.link_arguments("trust", "model.init_args.trust", compute_fn=split_commas)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, and refuse a checkpoint that does not fit it."""
        self.config = parser.parse_args(args)
        verb = self.config.subcommand
        if path := self.config[verb].get("ckpt_path"):
            model = yaml.safe_load(self._parser(verb).dump(self.config[verb]))["model"]
            check_checkpoint(str(path), model, verb, split_commas(self.config[verb].trust))

    def before_instantiate_classes(self) -> None:
        """Keep W&B from asking for a login, and from sending what must not leave the machine.

        Raises:
            UserError: If the config names a function where a class is to be made.
        """
        check_classes(self.config[self.config.subcommand].as_dict(), "the config:")
        for name, value in WANDB_PRIVACY.items():
            os.environ.setdefault(name, value)
        trainer = self.config[self.config.subcommand].trainer
        if "WANDB_MODE" not in os.environ and uses_wandb(trainer) and not has_wandb_login():
            os.environ["WANDB_MODE"] = "offline"
            rank_zero_info("No W&B login found: logging offline ('wandb login' once, or WANDB_MODE, changes that).")

    def instantiate_classes(self) -> None:
        """Make the task, the data module and the Trainer."""
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ValueError) as error:
            raise UserError(concise(str(error))) from error


def overlaid(args: Sequence[str]) -> list[str]:
    """Return the words behind the verb, with the config that `fit --overfit` stands for over the others."""
    words = [*args[1:]]
    if args[:1] != ["fit"] or "--overfit" not in words:
        return words
    return [*(word for word in words if word != "--overfit"), "-c", "overlays/overfit"]


def check_checkpoint(path: str, model: dict[str, Any], verb: str, trust: Sequence[str] = ()) -> None:
    """Refuse a checkpoint whose stored settings would silently replace those of the config.

    Lightning lets the hyper-parameters of `--ckpt_path`, the class of the task included, win over every config and
    command line. A resumed run must therefore be configured as it was; an evaluation is told what differs.

    Args:
        path: Value of `--ckpt_path`.
        model: `model` of the parsed config: class_path and init_args.
        verb: The Trainer's verb.
        trust: Packages whose classes the checkpoint may name though the config does not.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If it is no checkpoint, is of another task, has diverged, or, to be resumed, has other
            hyper-parameters.
    """
    # Words and addresses that the Trainer itself resolves.
    if path in ("last", "best", "hpc") or "://" in path:
        return
    if not Path(path).is_file():
        raise NotFoundError(f"--ckpt_path '{path}' is not a file.")
    try:
        # Mapped, not read: the Trainer will read the weights.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        stored, weights = with_new_names(checkpoint.get("hyper_parameters", {})), checkpoint.get("state_dict", {})
    except (AttributeError, EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"--ckpt_path '{path}' is not a checkpoint of medvlp.") from error
    task, wanted = stored.get("_class_path", model["class_path"]), model["class_path"]
    if task != wanted:
        raise UserError(
            f"--ckpt_path '{path}' holds a {task.rpartition('.')[2]}, but the config asks for a "
            f"{wanted.rpartition('.')[2]}. --ckpt_path resumes or evaluates the same task; give another task its "
            "encoders with their 'weights' option."
        )
    if spoilt := first_not_finite(weights):
        raise UserError(
            f"--ckpt_path '{path}' holds weights that are not finite, such as '{spoilt}': the run had diverged "
            "before it was saved. Pass an earlier checkpoint."
        )
    hyper_parameters = {name: value for name, value in with_new_names(stored).items() if not name.startswith("_")}
    check_no_text(hyper_parameters, f"--ckpt_path '{path}':")
    named = set(import_paths(model))
    for strange in import_paths(hyper_parameters):
        if strange not in named and not strange.startswith((*CLASS_PACKAGES, *(f"{package}." for package in trust))):
            raise UserError(
                f"--ckpt_path '{path}' asks for '{strange}', which the config does not name. If you trust it: --trust "
                f"{strange.partition('.')[0]}."
            )
    changes = list(differences(hyper_parameters, model.get("init_args", {}), "model.init_args"))
    if changes and verb == "fit":
        raise UserError(
            f"--ckpt_path '{path}' was trained with other hyper-parameters, and they would replace yours: "
            f"{'; '.join(changes)}. Resume with the config.yaml beside its checkpoints."
        )
    if changes:
        rank_zero_warn(f"Hyper-parameters of --ckpt_path '{path}' replace those of the config: {'; '.join(changes)}.")


def differences(stored: Any, given: Any, key: str) -> Iterator[str]:
    """Yield where the hyper-parameters of a checkpoint differ from those of a config, innermost key by key."""
    if isinstance(stored, dict) and isinstance(given, dict):
        # A name that only the config has is an option younger than the checkpoint: the config's value holds.
        for name, value in stored.items():
            yield from differences(value, given.get(name), f"{key}.{name}")
    elif stored != given:
        yield f"{key.replace('.init_args', '')} = {stored!r} there, {given!r} here"


def run(
    model_class: type[LightningModule], datamodule_class: type[LightningDataModule], args: Sequence[str]
) -> Trainer:
    """Run one of the Trainer's verbs on subclasses of a task and a data module; return the Trainer.

    Raises:
        UserError: If the Trainer was asked for something that it cannot do.
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
    """Return the base class of the tasks and the class of the data module, all classes of configs imported."""
    # Configs name their classes without the module, so the modules must be there.
    for module in ("medvlp.trainer.callbacks", "medvlp.trainer.heat_maps", "medvlp.objectives", "medvlp.tasks"):
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
    # Tasks made from a config store the config, not their modules.
    warnings.filterwarnings("ignore", ".*is an instance of `nn.Module` and is already saved")
    return run(*base_classes(), args)
