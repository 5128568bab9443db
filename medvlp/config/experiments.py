"""Config files: look-up by name, bases, and files that hold more than plain settings.

A config may name its bases at the top. They apply as if each were a `--config` just before it:

    base: base/classification        # or a list, the weakest first

A base is a name under experiments/, or a path relative to the config. Bases may have bases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from medvlp.config.parser import concise, dump_settings, load_value
from medvlp.errors import NotFoundError, UserError, suggestion

PACKAGE = Path(__file__).parents[1]
# A wheel has the configs inside the package, a checkout beside it.
EXPERIMENTS = next(path for path in (PACKAGE / "experiments", PACKAGE.parent / "experiments") if path.is_dir())
DEFAULTS = EXPERIMENTS / "defaults.yaml"

# The first of these that the file has supplies the settings if it has no section for the verb itself.
VERBS = ("fit", "test", "validate", "predict")
# Options that hold for one verb only, and keys that record the command line itself.
OF_ONE_VERB = ("ckpt_path", "verbose", "weights_only", "return_predictions")
RECORDS = ("config", "subcommand")
WANDB = ("wandb_version", "_wandb")
# The key that names the bases of a config.
BASE = "base"


def find_config(name: str, folder: Path = Path()) -> Path:
    """Return the config file of this name.

    Args:
        name: A path, or a name under experiments/ with or without `.yaml`.
        folder: Folder that the path is relative to.

    Raises:
        NotFoundError: If neither the file nor the name exists.
    """
    for path in (folder / name, EXPERIMENTS / name, EXPERIMENTS / f"{name}.yaml"):
        if path.is_file():
            return path
    names = sorted(path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in EXPERIMENTS.rglob("*.yaml"))
    raise NotFoundError(
        f"config '{name}' is neither a file nor a name under {EXPERIMENTS}."
        f"{suggestion(name.removesuffix('.yaml'), names) or ' There are: ' + ', '.join(names) + '.'}"
    )


class ConfigFile(ActionConfigFile):
    """`--config`, which also accepts names under experiments/, and reads the bases of a config before it."""

    @staticmethod
    def apply_config(parser: Any, cfg: Any, dest: str, value: str) -> None:
        """Merge the bases of a config file, and then the file, into the namespace `cfg`."""
        try:
            layers = list(read_layers(find_config(value), parser.subcommand))
        except UserError as error:
            parser.error(str(error), error)
        for layer in layers:
            parser.source = layer.path
            parser.content = None if layer.plain else dump_settings(layer.settings)
            ActionConfigFile.apply_config(parser, cfg, dest, str(layer.path))
        parser.source = parser.content = None


@dataclass(frozen=True)
class Layer:
    """The settings of one config file.

    Attributes:
        path: The file.
        settings: Its settings by name, without its bases.
        plain: Whether the file holds these settings and nothing else.
    """

    path: Path
    settings: dict[str, Any]
    plain: bool


def read_layers(path: Path, verb: str, above: Sequence[Path] = ()) -> Iterator[Layer]:
    """Yield the layers of a config file: its bases and then the file itself, the weakest first.

    Args:
        path: The file.
        verb: The Trainer's verb.
        above: Chain of files that led to this base, the outermost first.

    Raises:
        NotFoundError: If a base does not exist.
        UserError: If a file is no text in UTF-8, holds anything but settings, or is its own base.
    """
    if path in above:
        circle = [*above[above.index(path) :], path]
        raise UserError(f"{path}: the config is its own base, by way of {' -> '.join(map(str, circle))}.")
    try:
        settings, note = plain_settings(path.read_text("utf-8"), path, verb)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the file is not text in UTF-8.") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if note:
        rank_zero_info(f"{path}: {note}")
    plain = not note and BASE not in settings
    bases = settings.pop(BASE, [])
    for name in [bases] if isinstance(bases, str) else bases:
        try:
            base = find_config(name, path.parent)
        except NotFoundError as error:
            raise NotFoundError(f"{path}: {BASE}: {error}") from error
        yield from read_layers(base, verb, [*above, path])
    yield Layer(path, settings, plain)


def plain_settings(text: str, path: Path, verb: str) -> tuple[dict[str, Any], str]:
    """Return the settings in a config file for a verb, and a note for the user, empty if the file is plain.

    Args:
        text: Content of the file.
        path: Path of the file.
        verb: The Trainer's verb.

    Raises:
        UserError: If the file is empty, holds anything but settings, or gives a setting twice, or its bases are no
            names.
    """
    try:
        content = load_value(text)
    except yaml.YAMLError as error:
        raise UserError(f"Problems parsing config: {concise(str(error))}") from error
    if content is None and text.strip():
        return {}, "all of it is commented out."
    if content is None:
        raise UserError("the file is empty: leave it out, or write settings into it.")
    if not isinstance(content, dict):
        what = "a list" if isinstance(content, list) else f"'{' '.join(str(content)[:40].split())}'"
        raise UserError(f"the file holds {what}, not settings by name, such as 'trainer: {{max_epochs: 1}}'.")
    if any(key in content for key in WANDB) or _is_wandb(content):
        raise UserError(f"this is W&B's record of a run, not its config: use {_beside(path)}.")
    bases = content.get(BASE, [])
    if not isinstance(bases, str) and not (isinstance(bases, list) and all(isinstance(name, str) for name in bases)):
        raise UserError(f"'{BASE}:' holds neither the name of a config nor a list of names, such as '{BASE}: imitate'.")
    verbs = [name for name in VERBS if name in content]
    if not verbs:
        return content, ""
    chosen = verb if verb in verbs else verbs[0]
    section = content[chosen]
    if not isinstance(section, dict):
        raise UserError(f"'{chosen}:' at the top holds no settings: remove it.")
    rest = {key: value for key, value in content.items() if key not in (*VERBS, *RECORDS)}
    if both := [key for key in rest if key in section]:
        raise UserError(f"'{both[0]}' is both at the top and under '{chosen}:': keep one, and remove '{chosen}:'.")
    dropped = RECORDS if chosen == verb else (*RECORDS, *OF_ONE_VERB)
    settings = rest | {key: value for key, value in section.items() if key not in dropped}
    left = [key for key in section if key in OF_ONE_VERB and key not in settings and section[key] is not None]
    others = [f"'{name}:'" for name in verbs if name != chosen] + [f"its {key}" for key in left]
    without = f", without {' and '.join(others)}" if others else ""
    return settings, f"the settings under '{chosen}:' are taken as the whole config{without}."


def _is_wandb(content: dict[str, Any]) -> bool:
    """Return whether every setting is wrapped in `value`, as W&B stores configs."""
    values = content.values()
    return bool(content) and all(isinstance(v, dict) and "value" in v and set(v) <= {"desc", "value"} for v in values)


def _beside(path: Path) -> str:
    """Return the run's own config, to use in place of W&B's file runs/wandb/run-TIME-ID/files/config.yaml."""
    run = path.resolve().parent.parent
    configs = sorted(run.parent.parent.glob(f"*/{run.name.rpartition('-')[2]}/config.yaml"))
    if configs:
        return str(configs[0])
    return "the config.yaml beside the run's checkpoints, such as runs/medvlp/ID/config.yaml"
