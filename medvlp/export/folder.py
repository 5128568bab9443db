"""The folder that `medvlp export` writes and `medvlp.load` reads: weights, text encoder, protocol, what they are."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from medvlp import __version__
from medvlp.errors import UserError
from medvlp.models import TextEncoder
from medvlp.models.recipe import image_encoder_options
from medvlp.models.weights import PACKAGE, fingerprint
from medvlp.tasks.checkpoints import CONFIG, MADE_OF, PROTOCOL, TEXT_ENCODER, WEIGHTS
from medvlp.tasks.pretraining import PretrainingTask

CARD = "README.md"
IMAGE_ONNX, TEXT_ONNX = "image_encoder.onnx", "text_encoder.onnx"
REMOTE_CODE = "modeling_medvlp.py"
# What a folder may hold that is written anew: what else somebody has put there must not go.
GRAPHS = {IMAGE_ONNX, TEXT_ONNX, f"{IMAGE_ONNX}.data", f"{TEXT_ONNX}.data"}
WRITTEN = {CONFIG, WEIGHTS, TEXT_ENCODER, PROTOCOL, CARD, REMOTE_CODE, *GRAPHS}
VERSION = "medvlp_version"
DESCRIBED = (VERSION, "hyper_parameters", "data", "started_from", "training", "protocol", "checkpoint_sha256")


class StandIn(TextEncoder):
    """Takes the place of a text encoder whose embeddings are among the weights: it has its width, and reads nothing.

    Args:
        width: Width of the embeddings.
    """

    def __init__(self, width: int) -> None:
        super(TextEncoder, self).__init__()
        self.width = width

    def constant(self, texts: Sequence[str]) -> Tensor:
        """Return zeros (M, D), which the weights replace."""
        return torch.zeros(len(texts), self.width)


def describe(weights: Path, task: PretrainingTask) -> dict[str, Any]:
    """Return the content of config.json for a task loaded from a checkpoint, or from a folder like this.

    Nothing in it is a path on this machine.
    """
    if weights.is_dir():
        exported = json.loads((weights / CONFIG).read_text())
        return {name: exported[name] for name in DESCRIBED}
    checkpoint = torch.load(weights, "cpu", weights_only=True, mmap=True)
    settings: dict[str, Any] = deepcopy(checkpoint["hyper_parameters"])
    image, text = (settings[part]["init_args"] for part in ("image_encoder", "text_encoder"))
    source = public_name(image["name"].partition(":")[2]) or "timm"
    pretrained = f"pre-trained weights of {source}" if image.get("pretrained", True) else "weights of chance"
    started_from = {
        "image_encoder": public_name(image.get("weights")) or pretrained,
        "text_encoder": public_name(text["name"]),
    }
    image.update(image_encoder_options(checkpoint))
    text["name"] = TEXT_ENCODER
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
    # Plain lists and dictionaries, whatever the checkpoint has.
    plain: dict[str, Any] = json.loads(json.dumps(config))
    return plain


def public_name(name: str | None) -> str:
    """Return a name as it is, if it is one for everybody, such as one on a hub; of a path its last part."""
    if not name:
        return ""
    shared = name.startswith(PACKAGE) or re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name)
    return name if shared and not Path(name).exists() else Path(name).name


def write(task: PretrainingTask, config: dict[str, Any], folder: Path) -> None:
    """Write everything but the card and what other formats add.

    Args:
        task: The model.
        config: What `describe` returns.
        folder: An empty folder.
    """
    state = task.state_dict()
    tensors = {
        # Channels last, as an encoder has it, is not for files; and two names of one tensor are two tensors there.
        key: value.clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
        if isinstance(value, Tensor) and not key.startswith(f"{TEXT_ENCODER}.")
    }
    write_tensors(tensors, folder / WEIGHTS)
    write_text_encoder(task.text_encoder, folder / TEXT_ENCODER)
    content = yaml.safe_dump(dict(task.protocol.content), sort_keys=False, allow_unicode=True, width=120)
    (folder / PROTOCOL).write_text(content, encoding="utf-8")
    # Such as the number of draws of channels; the tensors are in the other file.
    extra = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    (folder / CONFIG).write_text(json.dumps({**config, "extra_state": extra}, indent=2) + "\n")


def write_text_encoder(encoder: TextEncoder, folder: Path) -> None:
    """Write language model and tokenizer as transformers reads them."""
    model = encoder.language_model
    state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()}
    with torch.device("meta"):
        whole = type(model)(model.config).state_dict()
    # A pooler that was never used, and is left out, would be missed with a warning that the model needs training.
    state |= {key: torch.zeros(value.shape) for key, value in whole.items() if key not in state}
    folder.mkdir()
    model.config.save_pretrained(folder)
    write_tensors(state, folder / WEIGHTS)
    encoder.tokenizer.save_pretrained(folder)


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors, for all who may read what this process writes."""
    path.touch()
    mode = path.stat().st_mode
    # The library's file is for its owner alone.
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out` that takes its place, whole, when all is written.

    Raises:
        UserError: If something is there that is not of an earlier export, or nothing can be written there.
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
        # It may have changed in the meantime.
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
    """Refuse a path where something is that is not of an earlier export."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise UserError(f"--out '{out}' is a file: name a folder.")
    if out.is_mount() or out.resolve() == Path.cwd():
        raise UserError(f"--out '{out}' cannot be replaced as a whole: name a folder in it.")
    found = {path.name for path in out.iterdir()}
    foreign = sorted(found - WRITTEN)
    if found and (foreign or not is_export(out)):
        held = f"'{foreign[0]}'" if foreign else "files"
        raise UserError(f"--out '{out}' holds {held} that no export has written: name another folder, or empty it.")


def is_export(folder: Path) -> bool:
    """Return whether a folder was written here."""
    try:
        return VERSION in json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
