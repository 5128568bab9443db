"""Files of a model in a local folder, on the Hugging Face hub or in its cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from medvlp.errors import UserError
from medvlp.models.weights import locate

# In the order of preference.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def find_file(model: str, name: str) -> str | None:
    """Return the path of a model's file; None if the model has no such file.

    Args:
        model: A local folder, `package:PACKAGE/PATH`, or `OWNER/NAME` on the hub.
        name: Name of the file in the model's folder.

    Raises:
        UserError: If there is neither such a folder nor such a model, or the hub cannot be reached.
    """
    folder = Path(locate(model))
    if folder.is_dir():
        return str(folder / name) if (folder / name).is_file() else None
    try:
        return hf_hub_download(model, name)
    except EntryNotFoundError as error:
        # A file that the cache lacks may exist on a hub that cannot be reached.
        if not isinstance(error, LocalEntryNotFoundError):
            return None
        reason = "neither the cache nor a reachable hub has it"
    except (OSError, ValueError) as error:
        reason = type(error).__name__
    raise UserError(
        f"image encoder: '{name}' of the model '{model}' cannot be had ({reason}). Pass a local folder with the "
        "model's files, download them once where the hub can be reached, or accept its terms and log in if it is gated."
    )


def require_file(model: str, name: str) -> str:
    """Return the path of a model's file.

    Raises:
        UserError: See `find_file`; also if the model has no such file.
    """
    path = find_file(model, name)
    if path is None:
        raise UserError(f"image encoder: the model '{model}' has no file '{name}'.")
    return path


def read_json(path: str) -> dict[str, Any]:
    """Return the content of a JSON file.

    Raises:
        UserError: If the file holds no object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"image encoder: {path} is no JSON file: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"image encoder: {path} holds no settings.")
    return content


def find_weights(model: str, names: Sequence[str] = WEIGHTS) -> tuple[str, ...]:
    """Return the paths of a model's weights: one file, or all parts of a large one.

    Args:
        model: See `find_file`.
        names: Names of the file, in the order of preference.

    Raises:
        UserError: If the model has none of them; see `find_file`.
    """
    refusal = UserError(f"image encoder: the model '{model}' has none of the files {', '.join(names)}.")
    for name in names:
        try:
            if path := find_file(model, name):
                return (path,)
            if index := find_file(model, f"{name}.index.json"):
                parts = sorted(set(read_json(index)["weight_map"].values()))
                return tuple(require_file(model, part) for part in parts)
        except UserError as error:
            # Without the hub, the cache may hold a later name.
            refusal = error
    raise refusal
