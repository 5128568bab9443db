"""`medvlp export`: writes a self-contained folder of a pre-trained model, and checks it before it is in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medvlp.config.options import split_commas
from medvlp.errors import UserError

if TYPE_CHECKING:
    from medvlp.inference.model import Model

EXACT = 1e-5
Format = Literal["safetensors", "onnx", "huggingface"]


def export(
    checkpoint: Path,
    *,
    out: Path,
    format: Format = "safetensors",
    results: Path | None = None,
    name: str | None = None,
    trust: str = "",
) -> None:
    """Write a pre-trained model into a folder that needs neither the checkpoint nor the config of its training.

    The folder holds encoders, heads, tokenizer, protocol and a model card, README.md. `medvlp.load(FOLDER)` reads it,
    and so does every command that takes --weights. The command writes the folder beside its place, loads it again,
    compares it with the checkpoint, and only then moves it into place.

    Args:
        checkpoint: A checkpoint of `medvlp fit`, or a folder that this command has written.
        out: The output folder. An earlier export in it is replaced.
        format: safetensors; onnx, which adds both encoders with their heads as ONNX graphs (needs the extra export);
            or huggingface, which adds the files for AutoModel and AutoProcessor of transformers.
        results: Output folder of `medvlp benchmark`; its results of this checkpoint go into the model card.
        name: Name of the model in the model card; by default the folder's name.
        trust: Packages of your own whose classes the model uses, with commas between them.

    Raises:
        UserError: If an option is wrong, or the checkpoint or an extra is missing.
    """
    # Imported late: torch takes seconds to import, which wrong arguments need not wait for.
    from medvlp.export import card, check, folder
    from medvlp.inference.model import Model
    from medvlp.models.published import names_published
    from medvlp.models.weights import fingerprint

    if names_published(str(checkpoint)):
        raise UserError(f"'{checkpoint}' is published already: export takes a checkpoint or a folder of its own.")
    folder.check_replaceable(out)
    if format == "onnx":
        from medvlp.export import onnx

        onnx.check_installed()
    packages = split_commas(trust)
    model = Model.load(checkpoint, trust=packages)
    check_format(format, model)
    config = folder.describe(checkpoint, model.task)
    place = out.resolve().name
    with folder.replacing(out) as new:
        folder.write(model.task, config, new)
        gap = check.compare(model, Model.load(new, trust=packages))
        check.require("the folder", gap, EXACT)
        hashes = {config["checkpoint_sha256"], *(fingerprint(str(path)) for path in (checkpoint, new))}
        benchmarks = card.read_results(results, hashes) if results else []
        gaps, uses = add_format(format, model, new, place, packages)
        text = card.card(model, config, name or place, [card.use(model, place, packages), *uses], benchmarks)
        (new / folder.CARD).write_text(text, encoding="utf-8")
    for reader, difference in {"medvlp.load": gap, **gaps}.items():
        print(f"{reader}: the largest difference from the checkpoint is {difference:.1e}.")
    print(f"The model is in {out}; its card is {out / folder.CARD}.")


def check_format(format: Format, model: Model) -> None:
    """Refuse a model that a format cannot hold.

    Raises:
        UserError: If the format is not safetensors, and the model has no joint space, no vectors or no language model.
    """
    from medvlp.models import HFTextEncoder

    if format == "safetensors":
        return
    if not model.spaces:
        raise UserError(f"--format {format}: the model has no joint space of whole images and texts. Use safetensors.")
    if not model.has_vectors:
        raise UserError(
            f"--format {format}: the model compares texts with the parts of an image, and this format holds one vector "
            "each. Use safetensors."
        )
    text_encoder = model.task.text_encoder
    if not isinstance(text_encoder, HFTextEncoder):
        raise UserError(
            f"--format {format} supports language models of Hugging Face only, but the text encoder is a "
            f"{type(text_encoder).__name__}. Use safetensors."
        )


def add_format(
    format: Format, model: Model, folder: Path, name: str, trust: Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """Add the files of a format to a folder that `medvlp.load` reads.

    Args:
        format: The format.
        model: The model.
        folder: The folder.
        name: Its name in instructions for use.
        trust: The packages of other classes that the model uses.

    Returns:
        The largest difference from the checkpoint by the reader of the files, and the instructions for the card.
    """
    if format == "onnx":
        from medvlp.export import onnx

        return onnx.add(model, folder), [onnx.use(model, name)]
    if format == "huggingface":
        from medvlp.export import huggingface

        huggingface.add(folder)
        return {}, [huggingface.use(name, trust)]
    return {}, []
