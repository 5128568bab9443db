"""Config files: found by their names, and refused or unwrapped where they are not plain settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from medvlp.config.parser import concise, dump_settings, load_value
from medvlp.errors import NotFoundError, UserError, suggestion

PACKAGE = Path(__file__).parents[1]
# In a wheel the configs lie inside the package, in a checkout beside it.
EXPERIMENTS = next(path for path in (PACKAGE / "experiments", PACKAGE.parent / "experiments") if path.is_dir())
DEFAULTS = EXPERIMENTS / "defaults.yaml"

# In the order in which their settings are taken where those of the verb itself are not there.
VERBS = ("fit", "test", "validate", "predict")
# What one verb has been told and another must not do; and how a command line was recorded.
OF_ONE_VERB = ("ckpt_path", "verbose", "weights_only", "return_predictions")
RECORDS = ("config", "subcommand")
WANDB = ("wandb_version", "_wandb")


def find_config(name: str) -> Path:
    """Return the config file of this name.

    Args:
        name: A path, or a name under experiments/ with or without `.yaml`.

    Raises:
        NotFoundError: If there is neither such a file nor such a name.
    """
    for path in (Path(name), EXPERIMENTS / name, EXPERIMENTS / f"{name}.yaml"):
        if path.is_file():
            return path
    known = sorted(path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in EXPERIMENTS.rglob("*.yaml"))
    raise NotFoundError(
        f"config '{name}' is neither a file nor a name under {EXPERIMENTS}."
        f"{suggestion(name.removesuffix('.yaml'), known) or ' There are: ' + ', '.join(known) + '.'}"
    )


class ConfigFile(ActionConfigFile):
    """`--config`, which also takes names under experiments/."""

    @staticmethod
    def apply_config(parser: Any, cfg: Any, dest: str, value: str) -> None:
        """Merge a config file into what was parsed so far."""
        try:
            path = find_config(value)
        except NotFoundError as error:
            parser.error(str(error), error)
        parser.source = path
        try:
            settings, note = plain_settings(path.read_text("utf-8"), path, parser.subcommand)
        except UnicodeDecodeError as error:
            parser.error("the file is not text in UTF-8.", error)
        except UserError as error:
            parser.error(str(error), error)
        if note:
            rank_zero_info(f"{path}: {note}")
            parser.unwrapped = dump_settings(settings)
        ActionConfigFile.apply_config(parser, cfg, dest, str(path))
        parser.source = parser.unwrapped = None


def plain_settings(text: str, path: Path, verb: str) -> tuple[dict[str, Any], str]:
    """Return the settings in a config file for a verb, and what is to be said of it: nothing of a plain one.

    Args:
        text: What the file holds.
        path: Where it lies.
        verb: The Trainer's verb.

    Raises:
        UserError: If it holds something else than settings.
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
    verbs = [name for name in VERBS if name in content]
    if not verbs:
        return content, ""
    chosen = verb if verb in verbs else verbs[0]
    section = content[chosen]
    if not isinstance(section, dict):
        raise UserError(f"'{chosen}:' at the top holds no settings: remove it.")
    rest = {key: value for key, value in content.items() if key not in (*VERBS, *RECORDS)}
    if both := [key for key in rest if key in section]:
        raise UserError(f"'{both[0]}' stands at the top and under '{chosen}:': keep one, and remove '{chosen}:'.")
    dropped = RECORDS if chosen == verb else (*RECORDS, *OF_ONE_VERB)
    settings = rest | {key: value for key, value in section.items() if key not in dropped}
    left = [key for key in section if key in OF_ONE_VERB and key not in settings and section[key] is not None]
    others = [f"'{name}:'" for name in verbs if name != chosen] + [f"its {key}" for key in left]
    without = f", without {' and '.join(others)}" if others else ""
    return settings, f"the settings under '{chosen}:' are taken as the whole config{without}."


def _is_wandb(content: dict[str, Any]) -> bool:
    """Return whether each setting is wrapped the way W&B stores it."""
    values = content.values()
    return bool(content) and all(isinstance(v, dict) and "value" in v and set(v) <= {"desc", "value"} for v in values)


def _beside(path: Path) -> str:
    """Return which file to use in place of W&B's, runs/wandb/run-TIME-ID/files/config.yaml."""
    run = path.resolve().parent.parent
    own = sorted(run.parent.parent.glob(f"*/{run.name.rpartition('-')[2]}/config.yaml"))
    return str(own[0]) if own else "the config.yaml beside the run's checkpoints, such as runs/medvlp/ID/config.yaml"
