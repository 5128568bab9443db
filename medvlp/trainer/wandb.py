"""Privacy settings of Weights & Biases, and checks whether a run can log to it."""

from __future__ import annotations

import netrc
import os
from urllib.parse import urlsplit

from jsonargparse import Namespace

# The MIMIC licence forbids that reports leave the machine. By default W&B sends the code, the git diff, the command
# line, the host, and all console output, into which a traceback or a debugging print may write report text.
WANDB_PRIVACY = {
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_HOST": "",
    "WANDB_X_DISABLE_META": "true",
    "WANDB_X_SAVE_REQUIREMENTS": "false",
}


def uses_wandb(trainer: Namespace) -> bool:
    """Return whether a Trainer's config logs to W&B online; a `fast_dev_run` logs nothing."""
    loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    loggers = [
        logger for logger in loggers if isinstance(logger, Namespace) and logger.class_path.endswith("WandbLogger")
    ]
    return not trainer.fast_dev_run and any(not logger.init_args.offline for logger in loggers)


def has_wandb_login() -> bool:
    """Return whether W&B has credentials, from `wandb login` or from the environment."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    # wandb's own look-up is not public, and it would freeze wandb's settings before the run starts.
    server = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname or "wandb"
    paths = [os.environ.get("NETRC", ""), "~/.netrc", "~/_netrc"]
    path = next((path for path in map(os.path.expanduser, paths) if os.path.isfile(path)), None)
    try:
        return path is not None and any(server in host for host in netrc.netrc(path).hosts)
    except (netrc.NetrcParseError, OSError):
        return False
