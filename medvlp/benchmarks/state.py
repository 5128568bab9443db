"""State of a cell or a run on disk: its record, and the checkpoint from which an interrupted training goes on."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def read_state(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file; None if there is no such file."""
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, atomically: whenever the process ends, the file is the old or the new one."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(path)


def resume(folder: Path) -> list[str]:
    """Return the option that resumes an interrupted fit; without a whole checkpoint none, and the fit starts over."""
    last = next(folder.rglob("last.ckpt"), None)
    if last and is_whole(last):
        return [f"--ckpt_path={last}"]
    delete_checkpoints(folder)
    return []


def delete_checkpoints(folder: Path, but: Path | None = None) -> None:
    """Delete all checkpoints below a folder, except one of them."""
    for path in folder.rglob("*.ckpt"):
        if path.resolve() != (but and but.resolve()):
            path.unlink()


def is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint can be read: a process that ends while it writes one leaves a part."""
    try:
        return "state_dict" in torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except (AttributeError, EOFError, OSError, RuntimeError, ValueError, pickle.UnpicklingError):
        return False
