"""The check of `--ckpt_path`: a checkpoint must not silently replace the settings of the config."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from medvlp.config.moved import with_new_names
from medvlp.config.parser import CLASS_PACKAGES
from medvlp.config.trust import check_no_text, import_paths
from medvlp.errors import NotFoundError, UserError
from medvlp.tasks.divergence import first_not_finite


def check_checkpoint(path: str, model: dict[str, Any], verb: str, trust: Sequence[str] = ()) -> None:
    """Refuse a checkpoint whose stored settings would silently replace those of the config.

    Lightning lets the hyper-parameters of `--ckpt_path`, the class of the task included, override every config and
    command line. A resumed run therefore needs the same config as before; an evaluation only prints the differences.

    Args:
        path: Value of `--ckpt_path`.
        model: `model` of the parsed config: class_path and init_args.
        verb: The Trainer's verb.
        trust: Packages whose classes the checkpoint may name even if the config does not.

    Raises:
        NotFoundError: If the file does not exist.
        UserError: If the file is no checkpoint, or holds another task, weights that are not finite, or text in place of
            settings. Also if it names classes that neither the config nor `trust` covers. For `fit`, also if its
            hyper-parameters differ from those of the config.
    """
    # The Trainer itself resolves these words and addresses.
    if path in ("last", "best", "hpc") or "://" in path:
        return
    if not Path(path).is_file():
        raise NotFoundError(f"--ckpt_path '{path}' is not a file.")
    try:
        # Memory-mapped, because the Trainer reads the weights again.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        stored, weights = with_new_names(checkpoint.get("hyper_parameters", {})), checkpoint.get("state_dict", {})
    except (AttributeError, EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"--ckpt_path '{path}' is not a checkpoint of medvlp.") from error
    task, expected = stored.get("_class_path", model["class_path"]), model["class_path"]
    if task != expected:
        raise UserError(
            f"--ckpt_path '{path}' holds a {task.rpartition('.')[2]}, but the config asks for a "
            f"{expected.rpartition('.')[2]}. --ckpt_path resumes or evaluates the same task; give another task its "
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
    """Yield the differences between the hyper-parameters of a checkpoint and of a config, one per innermost key."""
    if isinstance(stored, dict) and isinstance(given, dict):
        # A key that only the config has is an option newer than the checkpoint: the config's value applies.
        for name, value in stored.items():
            yield from differences(value, given.get(name), f"{key}.{name}")
    elif stored != given:
        yield f"{key.replace('.init_args', '')} = {stored!r} there, {given!r} here"
