"""The folder that `medvlp export` writes and `medvlp.load` reads: weights, text encoder, protocol, description."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from medvlp import __version__
from medvlp.config.moved import with_new_names
from medvlp.errors import UserError
from medvlp.models import TextEncoder
from medvlp.models.recipe import RECIPE, rebuild_settings
from medvlp.models.weights import TEXT_ENCODER, fingerprint, write_tensors
from medvlp.tasks.checkpoints import CONFIG, MADE_OF, PROTOCOL, WEIGHTS
from medvlp.tasks.pretraining import PretrainingTask

CARD = "README.md"
IMAGE_ONNX, TEXT_ONNX = "image_encoder.onnx", "text_encoder.onnx"
REMOTE_CODE = "modeling_medvlp.py"
# Files that an export may replace; a folder with any other file is kept.
GRAPHS = {IMAGE_ONNX, TEXT_ONNX, f"{IMAGE_ONNX}.data", f"{TEXT_ONNX}.data"}
WRITTEN = {CONFIG, WEIGHTS, TEXT_ENCODER, PROTOCOL, CARD, REMOTE_CODE, *GRAPHS}
VERSION = "medvlp_version"
DESCRIBED = (VERSION, "hyper_parameters", "data", "started_from", "training", "protocol", "checkpoint_sha256")


class StandIn(TextEncoder):
    """Stand-in for a text encoder whose embeddings are among the weights: it has their width, and reads no text.

    Args:
        width: Width of the embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return zeros (M, D); the stored embeddings replace them."""
        return torch.zeros(len(texts), self.width)


def describe(weights: Path, task: PretrainingTask) -> dict[str, Any]:
    """Return the content of config.json for a task from a checkpoint or from an exported folder.

    The content holds no path on this machine.
    """
    if weights.is_dir():
        exported = json.loads((weights / CONFIG).read_text())
        return {name: exported[name] for name in DESCRIBED}
    checkpoint = torch.load(weights, "cpu", weights_only=True, mmap=True)
    settings: dict[str, Any] = with_new_names(deepcopy(checkpoint["hyper_parameters"]))
    image, text = settings["image_encoder"], settings["text_encoder"]
    started_from = {
        "image_encoder": task.image_encoder.describe_start(image.get("init_args", {})),
        "text_encoder": task.text_encoder.describe_start(text.get("init_args", {})),
    }
    settings["image_encoder"] = rebuild_settings(image, checkpoint.get(RECIPE, {}))
    settings["text_encoder"] = {**text, "init_args": {**text.get("init_args", {}), **task.text_encoder.files}}
    settings["protocol"] = task.protocol.name
    for name, objective in settings["objectives"].items():
        arguments = objective.get("init_args", {})
        if arguments.get("query_encoder"):
            width = checkpoint["state_dict"][f"objectives.{name}.queries"].shape[1]
            arguments["query_encoder"] = {"class_path": f"{__name__}.StandIn", "init_args": {"width": width}}
    config: dict[str, Any] = {
        VERSION: __version__,
        "hyper_parameters": {name: settings[name] for name in ("_class_path", *MADE_OF) if name in settings},
        "data": checkpoint["data"],
        "started_from": started_from,
        "training": {
            "epochs": checkpoint["epoch"] + 1,
            "steps": checkpoint["global_step"],
            **{name: settings[name] for name in ("optimizer", "warmup", "schedule") if name in settings},
        },
        "protocol": task.protocol.identity,
        "checkpoint_sha256": fingerprint(str(weights)),
    }
    # A checkpoint may hold other mappings and tuples; JSON makes them plain.
    plain: dict[str, Any] = json.loads(json.dumps(config))
    return plain


def write(task: PretrainingTask, config: dict[str, Any], folder: Path) -> None:
    """Write all files but the card and the additions of other formats.

    Args:
        task: The model.
        config: The content of config.json, from `describe`.
        folder: An empty folder.
    """
    state = task.state_dict()
    tensors = {
        # Files hold no channels-last layout, and no tensor under two names: both need a copy.
        key: value.clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
        # A text encoder with files of its own keeps its weights there.
        if isinstance(value, Tensor) and not (task.text_encoder.files and key.startswith(f"{TEXT_ENCODER}."))
    }
    write_tensors(tensors, folder / WEIGHTS)
    task.text_encoder.write(folder)
    content = yaml.safe_dump(dict(task.protocol.content), sort_keys=False, allow_unicode=True, width=120)
    (folder / PROTOCOL).write_text(content, encoding="utf-8")
    # Extra state, such as the number of draws of channels; the other file holds tensors only.
    extra = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    (folder / CONFIG).write_text(json.dumps({**config, "extra_state": extra}, indent=2) + "\n")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, and move it to `out` in one step at the end.

    Raises:
        UserError: If `out` holds anything but an earlier export, or cannot be written.
    """
    out = out.resolve()
    check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent)
    except OSError as error:
        raise UserError(f"--out '{out}' cannot be written: {error.strerror}.") from error
    with beside as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        yield new
        # Somebody may have written there in the meantime.
        check_replaceable(out)
        try:
            if out.exists():
                out.rename(old)
            new.rename(out)
        except BaseException:  # an interrupt, too: the earlier export would go with the scratch folder
            if old.exists() and not out.exists():
                old.rename(out)
            raise


def check_replaceable(out: Path) -> None:
    """Refuse a path that holds anything but an earlier export."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise UserError(f"--out '{out}' is a file: name a folder.")
    if out.is_mount() or out.resolve() == Path.cwd():
        raise UserError(f"--out '{out}' cannot be replaced as a whole: name a folder in it.")
    names = {path.name for path in out.iterdir()}
    foreign = sorted(names - WRITTEN)
    if names and (foreign or not is_export(out)):
        held = f"'{foreign[0]}'" if foreign else "files"
        raise UserError(
            f"--out '{out}' holds {held} that is not from an export: name another folder, or empty this one."
        )


def is_export(folder: Path) -> bool:
    """Return whether a folder was written here."""
    try:
        return VERSION in json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
