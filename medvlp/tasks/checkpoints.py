"""Loads pre-trained models from files, and runs no code of these files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import instantiate_module
from safetensors.torch import load_file

from medvlp.config.moved import with_new_names
from medvlp.config.parser import concise
from medvlp.config.trust import TRUSTED, check_trusted, named
from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import NotFoundError, UserError
from medvlp.models import TextEncoder
from medvlp.models.published import NAMES, names_published
from medvlp.models.recipe import RECIPE, rebuild_settings
from medvlp.models.weights import EXPORTED, TEXT_ENCODER
from medvlp.tasks.pretraining import PretrainingTask
from medvlp.tasks.published import load_published

# What `medvlp export` writes.
CONFIG, WEIGHTS, PROTOCOL = "config.json", EXPORTED, "protocol.yaml"
# Schemes of published weights, by what a folder of theirs holds.
FOLDERS = {"open_clip": "open_clip_config.json", "biovil-t": "biovil_t_image_model_proj_size_128.pt", "hf": CONFIG}
# The hyper-parameters that decide what a model computes; optimiser and schedule are training's.
MADE_OF = ("image_encoder", "text_encoder", "objectives", "protocol")


def load_pretraining(weights: str | Path, trust: Sequence[str] = ()) -> PretrainingTask:
    """Rebuild the task of a checkpoint of `medvlp fit`, of a folder of `medvlp export`, or of published weights.

    Args:
        weights: The file or folder, or the name of a published pair of encoders; see
            `medvlp.models.published.find_dual`.
        trust: Packages beside medvlp whose classes the model may be made of.

    Returns:
        The task, in evaluation mode.

    Raises:
        NotFoundError: If there is no such file or folder.
        UserError: If it holds something else, or classes of packages that are not trusted.
    """
    path = Path(weights)
    if names_published(str(weights)):
        return load_published(str(weights))
    if not path.exists():
        raise NotFoundError(
            f"weights='{weights}': no such file. Pass a checkpoint of 'medvlp fit', runs/.../last.ckpt, a folder of "
            f"'medvlp export', or published weights: {NAMES}."
        )
    try:
        checkpoint = _read(path)
        hyper_parameters = with_new_names(checkpoint["hyper_parameters"])
        made_of = {k: v for k, v in hyper_parameters.items() if k in ("_class_path", *MADE_OF)}
        crop = Preprocessing(**checkpoint["data"]["preprocessing"]).crop
    except Exception as error:  # whatever a damaged or foreign file makes of the unpickler
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        advice = next(
            (f". Is it {scheme}:{weights}?" for scheme, file in FOLDERS.items() if (path / file).is_file()), ""
        )
        raise UserError(f"weights='{weights}' is not a checkpoint of 'medvlp fit': {reason}{advice}") from error
    check_trusted(made_of, [*TRUSTED, *trust], f"weights='{weights}'")
    try:
        # The checkpoint holds its weights: those it started from need not be at hand.
        made_of["image_encoder"] = rebuild_settings(made_of["image_encoder"], checkpoint.get(RECIPE, {}))
        _rebuild_text_encoders(made_of, path if path.is_dir() else None)
        with warnings.catch_warnings():
            # A task made from settings stores these, not its modules.
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module` and is already saved")
            task: PretrainingTask = instantiate_module(PretrainingTask, made_of)
        task.image_encoder.fit(crop)
        task.on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        if (path / TEXT_ENCODER).is_dir():
            # A trained text encoder has read its weights from its own folder.
            state |= {key: value for key, value in task.state_dict().items() if key.startswith(f"{TEXT_ENCODER}.")}
        task.load_state_dict(state)
    except UserError:
        raise
    except Exception as error:  # what does not fit together, in the words of whatever finds out first
        reason = concise(str(error)) or type(error).__name__
        raise UserError(f"weights='{weights}' cannot be rebuilt by this medvlp: {reason}") from error
    return task.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Any]:
    """Return hyper-parameters, weights and `data` of a checkpoint or an exported folder."""
    if path.is_file():
        checkpoint: dict[str, Any] = torch.load(path, "cpu", weights_only=True, mmap=True)
        return checkpoint
    exported: dict[str, Any] = json.loads((path / CONFIG).read_text())
    exported["hyper_parameters"]["protocol"] = str(path / PROTOCOL)
    return {**exported, "state_dict": {**load_file(path / EXPORTED), **exported["extra_state"]}}


def _rebuild_text_encoders(settings: Any, folder: Path | None) -> None:
    """Replace the options of text encoders by those that make them again; their files lie in an exported folder."""
    if isinstance(settings, dict):
        kind = named(settings["class_path"]) if "class_path" in settings else None
        if isinstance(kind, type) and issubclass(kind, TextEncoder):
            options = kind.rebuild_options(settings.get("init_args", {}))
            # The last part alone: nothing outside the folder.
            files = {name: str(folder / Path(options[name]).name) for name in kind.files} if folder else {}
            settings["init_args"] = {**options, **files}
        for value in settings.values():
            _rebuild_text_encoders(value, folder)
