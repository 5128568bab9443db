"""Start of a pre-training from the weights of another one: encoders and objectives, by the names of their tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from safetensors.torch import load_file
from torch import Tensor

from medvlp.config.moved import with_new_names
from medvlp.errors import NotFoundError, UserError
from medvlp.models.image import NORMALISATION, ImageEncoder
from medvlp.models.pretrained import pretrained_on
from medvlp.models.recipe import read_content
from medvlp.models.weights import EXPORTED, TEXT_ENCODER, fingerprint, locate, public_name
from medvlp.tasks.divergence import first_not_finite
from medvlp.tasks.vision_language import VisionLanguageTask

IMAGE, TEXT = "image_encoder", "text_encoder"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Options of a text encoder that do not change which space its embeddings are in.
MINOR = ("trainable_layers", "max_length", "dropout", "gradient_checkpointing")
# Names in a list before it is cut.
MOST = 3


@dataclass
class Comparison:
    """What of the tensors in a file fits those of a task, by name.

    Attributes:
        fitting: The tensors that fit.
        counts: Number of fitting tensors, and of all, of each part of the task.
        missing: Names that the file lacks.
        other: Names with another shape, or with values that this run makes of its own options, and how they differ.
        left: Names that only the file has.
    """

    fitting: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def continue_from(task: VisionLanguageTask, weights: str) -> dict[str, Any]:
    """Load what fits of another pre-training into a task, by name, and report what did not; no code of the file runs.

    The image encoder must fit as a whole; its positions are resampled to the size of the task's images. Of the text
    encoder and of each objective any tensor is loaded that has the same name and shape.

    Args:
        task: The task, fitted to its data.
        weights: A checkpoint of `medvlp fit`, or a folder of `medvlp export`.

    Returns:
        A description of the file for the checkpoints of the task: `weights`, its name; `sha256`; `fitted`, the number
        of fitting tensors and of all by part; and `data`, the description of its training data, with its own ancestors.

    Raises:
        NotFoundError: If there is no such file or folder.
        UserError: If it is something else, its image encoder is of another architecture, or weights are not finite.
    """
    content, tensors = _read(weights, task)
    if spoilt := first_not_finite(tensors):
        raise UserError(f"weights='{weights}' hold weights that are not finite, such as '{spoilt}': the run diverged.")
    settings = with_new_names(content["hyper_parameters"])
    image = _resampled(task.image_encoder, _under(tensors, IMAGE), content, settings[IMAGE], weights)
    tensors = {key: value for key, value in tensors.items() if part_of(key) != IMAGE}
    tensors |= {f"{IMAGE}.{key}": value for key, value in image.items()}
    compared = compare(task, tensors, settings["objectives"])
    task.load_state_dict(compared.fitting, strict=False)
    rank_zero_info("\n".join(_report(weights, content["data"], compared, task.text_encoder.title)))
    for warning in _text_warnings(task, tensors, content, settings[TEXT]):
        rank_zero_warn(warning)
    return {
        "weights": public_name(weights),
        "sha256": fingerprint(weights),
        "fitted": compared.counts,
        "data": content["data"],
    }


def start_of_encoder(settings: Any) -> dict[str, Any] | None:
    """Return a description of the pre-training that an image encoder alone starts from, as that of `continue_from`.

    Args:
        settings: Class and options of the image encoder in the hyper-parameters; None is returned for anything else.
    """
    weights = settings.get("init_args", {}).get("weights") if isinstance(settings, Mapping) else None
    if not weights or not (data := pretrained_on(weights)):
        return None
    return {"weights": public_name(weights), "sha256": fingerprint(weights), "fitted": {}, "data": data}


def compare(task: VisionLanguageTask, tensors: Mapping[str, Tensor], objectives: Mapping[str, Any]) -> Comparison:
    """Compare the tensors of a file with those of a task.

    Args:
        task: The task.
        tensors: The tensors of the file.
        objectives: Settings of the objectives in the file, by name.
    """
    found = Comparison()
    own = {key: value for key, value in task.state_dict().items() if isinstance(value, Tensor)}
    buffers = {name for name, _ in task.named_buffers()}
    for key, value in own.items():
        counts = found.counts.setdefault(part_of(key), [0, 0])
        counts[1] += 1
        theirs = tensors.get(key)
        constant = key in buffers and part_of(key) not in (IMAGE, TEXT) and not key.endswith(STATISTICS)
        if theirs is None:
            found.missing.append(key)
        elif theirs.shape != value.shape:
            found.other[key] = f"{tuple(theirs.shape)} there, {tuple(value.shape)} here"
        elif constant and not _alike(task, key, objectives) and not theirs.to(value).allclose(value, 1e-4, 1e-5):
            # Such as the queries of another set of tags, which can be as many.
            found.other[key] = "made from other options there"
        else:
            found.fitting[key] = theirs
            counts[0] += 1
    found.left = [key for key in tensors if key not in own]
    return found


def part_of(key: str) -> str:
    """Return the part of a task that a tensor belongs to: an encoder, or `objectives.NAME`."""
    names = key.split(".")
    return ".".join(names[: 2 if names[0] == "objectives" else 1])


def lineage(trained: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the descriptions of the folders that a model was trained on, then those of what it was continued from."""
    while trained:
        yield from trained.get("sources", [trained])
        trained = (trained.get("continued_from") or {}).get("data")


def _read(weights: str, task: VisionLanguageTask) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the content of a checkpoint or of an exported config.json, and the tensors."""
    path = Path(locate(weights))
    if not path.exists():
        raise NotFoundError(
            f"weights='{weights}': no such file. Pass a checkpoint of 'medvlp fit', runs/.../last.ckpt, or a folder of "
            "'medvlp export'."
        )
    file = path / EXPORTED if path.is_dir() else path
    content = read_content(str(file))
    try:
        state = load_file(file) if path.is_dir() else content["state_dict"]
        tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        known = all(content["hyper_parameters"][name] for name in (IMAGE, TEXT, "objectives"))
        known = known and bool(content["data"]["preprocessing"]["crop"] and _under(tensors, IMAGE))
    except (AttributeError, KeyError, OSError, TypeError):
        known = False
    if not known:
        raise UserError(
            f"weights='{weights}' is neither a checkpoint of a pre-training nor a folder of 'medvlp export'. To start "
            "from an image encoder alone, pass --model.image_encoder.weights."
        )
    if path.is_dir():
        # A text encoder with files of its own keeps its weights there.
        tensors |= {f"{TEXT}.{key}": value for key, value in task.text_encoder.read_written(path).items()}
    return content, tensors


def _resampled(
    encoder: ImageEncoder, theirs: dict[str, Tensor], content: Mapping[str, Any], settings: Any, weights: str
) -> dict[str, Tensor]:
    """Return the tensors of the file's image encoder, for images of the size that an encoder takes."""
    # The first checkpoints lack the normalisation, which is then that of the architecture.
    own = {key: value for key, value in encoder.state_dict().items() if isinstance(value, Tensor)}
    theirs = {name: own[name] for name in NORMALISATION if name in own} | theirs
    strange = sorted(own.keys() ^ theirs.keys())
    copied = copy.deepcopy(encoder)
    if not strange:
        # The stored positions have the size of the training images.
        copied.fit(content["data"]["preprocessing"]["crop"])
        shapes = {key: value.shape for key, value in copied.state_dict().items() if isinstance(value, Tensor)}
        strange = sorted(key for key, value in theirs.items() if shapes.get(key) != value.shape)
    if strange:
        name = settings.get("init_args", {}).get("name") or settings["class_path"]
        raise UserError(
            f"weights='{weights}' hold an image encoder of another architecture, {public_name(name)}; this run has "
            f"{encoder.architecture}: {len(strange)} tensors differ in name or shape, such as '{strange[0]}'."
        )
    copied.load_state_dict(theirs, strict=False)
    copied.fit(encoder.side)
    return {key: value for key, value in copied.state_dict().items() if isinstance(value, Tensor)}


def _alike(task: VisionLanguageTask, key: str, objectives: Mapping[str, Any]) -> bool:
    """Return whether the objective of a tensor has the same options in a file, but for numbers."""
    name = key.split(".")[1]
    ours, theirs = task.hparams.get("objectives", {}).get(name), objectives.get(name)
    if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
        return False
    options = [
        {k: v for k, v in settings.get("init_args", {}).items() if not isinstance(v, int | float)}
        for settings in (ours, theirs)
    ]
    return options[0] == options[1]


def _report(weights: str, data: Mapping[str, Any], found: Comparison, title: str) -> list[str]:
    """Return what fitted and what did not, on one to four lines."""
    parts = [f"{_title(part)} {fitting} of {total}" for part, (fitting, total) in found.counts.items()]
    trained = f"trained on {data['images']:,} images of {data['dataset']}"
    frozen = (
        "" if TEXT in found.counts else f" The text encoder is frozen, with the weights of '{title}', not the file's."
    )
    lines = [f"Weights of '{public_name(weights)}', {trained}, by tensors that fit: {', '.join(parts)}.{frozen}"]
    if found.missing:
        lines.append(f"Not in the file, and untrained here: {_listed(found.missing, found.counts)}.")
    if found.other:
        named = [f"{key} ({how})" for key, how in found.other.items()]
        lines.append(f"Not loaded, because they differ: {_cut(named)}.")
    if found.left:
        lines.append(f"Only in the file, and left out: {_listed(found.left, {})}.")
    return lines


def _text_warnings(
    task: VisionLanguageTask, tensors: Mapping[str, Tensor], content: Mapping[str, Any], settings: Any
) -> Iterator[str]:
    """Yield what a user should know of a text encoder that is not the one of the file."""
    in_file = bool(_under(tensors, TEXT))
    own = [key for key in task.state_dict() if part_of(key) == TEXT]
    title = task.text_encoder.title
    if in_file and not own and settings.get("init_args", {}).get("trainable_layers", 0) != 0:
        yield (
            f"the text encoder was trained in the file, and is frozen here, with the weights of '{title}': its heads "
            "were trained for other embeddings. To keep it frozen as it was trained, export the model, and pass the "
            f"folder: --model.text_encoder.name FOLDER/{TEXT_ENCODER}."
        )
        return
    if in_file and own:
        return
    ours = task.hparams.get(TEXT)
    if not isinstance(ours, Mapping):
        return
    here, there = (dict(s.get("init_args", {})) for s in (ours, settings))
    if "started_from" in content and "name" in there:
        there["name"] = content["started_from"][TEXT]
    differing = [
        f"{key}={there[key]!r} there, {here[key]!r} here"
        for key in sorted(here.keys() & there.keys() - set(MINOR))
        if here[key] != there[key] and not (key == "name" and Path(here[key]).name == Path(there[key]).name)
    ]
    if ours["class_path"].rpartition(".")[2] != settings["class_path"].rpartition(".")[2]:
        differing = [f"{settings['class_path']} there, {ours['class_path']} here"]
    if differing:
        yield f"heads that read texts were trained for another text encoder: {'; '.join(differing)}."


def _under(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    start = f"{part}."
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def _title(part: str) -> str:
    return f"objective '{part.partition('.')[2]}'" if part.startswith("objectives.") else part.replace("_", " ")


def _listed(keys: Sequence[str], counts: Mapping[str, list[int]]) -> str:
    """Return the names of tensors; a part of which none fits is one name."""
    whole = {part: [key for key in keys if part_of(key) == part] for part in dict.fromkeys(map(part_of, keys))}
    names: list[str] = []
    for part, inside in whole.items():
        if len(inside) > MOST and counts.get(part, [0])[0] == 0:
            names.append(f"{_title(part)} ({len(inside)} tensors)")
        else:
            names.append(_cut(inside))
    return ", ".join(names)


def _cut(names: Sequence[str]) -> str:
    more = len(names) - MOST
    return ", ".join([*names[:MOST], f"and {more} more"] if more > 0 else names)
