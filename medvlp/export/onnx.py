"""ONNX graphs of both encoders with their heads; each graph is compared with PyTorch when it is written."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from medvlp.errors import UserError
from medvlp.export.check import TEXTS, difference, images, require
from medvlp.export.folder import IMAGE_ONNX, TEXT_ONNX
from medvlp.export.towers import ImageTower, TextTower
from medvlp.inference.model import Model

TOLERANCE = 1e-4
# The weights of larger graphs go into a second file, because a graph file is limited to 2 GiB.
LARGEST = 1.9e9
USE = """Without torch, from `image_encoder.onnx` and `text_encoder.onnx`:

```python
import numpy, onnxruntime, tokenizers

image = onnxruntime.InferenceSession("{name}/image_encoder.onnx")
text = onnxruntime.InferenceSession("{name}/text_encoder.onnx")
tokenizer = tokenizers.Tokenizer.from_file("{name}/text_encoder/tokenizer.json")
tokenizer.enable_truncation({length})
tokenizer.enable_padding(pad_id={pad_id}, pad_token="{pad}")

spaces = {spaces}
pixels = numpy.zeros((1, {crop}, {crop}), numpy.uint8)  # images, as said below
tokens = tokenizer.encode_batch(["Pleural effusion.", "The lungs are clear."])
inputs = {{{inputs}}}
seen = image.run(spaces, {{"image": pixels}})
read = text.run(spaces, {{name: numpy.array(rows, numpy.int64) for name, rows in inputs.items()}})
similarity = numpy.mean([i @ t.T for i, t in zip(seen, read)], axis=0)  # cosines (images, texts)
```"""
# Inputs of a language model, and their names in the tokenizers library.
ATTRIBUTES = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


def check_installed() -> None:
    """Refuse to begin if a package is missing.

    Raises:
        UserError: If one is; the message names the extra to install.
    """
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {', '.join(missing)}: 'pip install medvlp[export]' (in a checkout: "
            "'pip install -e .[export]')."
        )


def use(model: Model, name: str) -> str:
    """Return for the model card how to use the graphs."""
    encoder = TextTower(model.task).encoder
    tokenizer = encoder.tokenizer
    inputs = (f'"{key}": [t.{ATTRIBUTES[key]} for t in tokens]' for key in encoder.inputs)
    return USE.format(
        name=name,
        length=encoder.max_length,
        pad_id=tokenizer.pad_token_id,
        pad=tokenizer.pad_token,
        spaces=str(model.spaces).replace("'", '"'),
        crop=model.preprocessing.crop,
        inputs=",".join(f"\n    {line}" for line in inputs) + "\n",
    )


def add(model: Model, folder: Path) -> dict[str, float]:
    """Write both graphs, each for any number of images or texts.

    Args:
        model: The model, on the CPU, with joint spaces.
        folder: Output folder.

    Returns:
        The largest difference between the outputs of PyTorch and onnxruntime for the same images and texts, by file.

    Raises:
        UserError: If the exporter cannot make a graph of the model.
        RuntimeError: If a difference is too large.
    """
    image = ImageTower(model.task).eval()
    pixels = images(model)
    gaps = {IMAGE_ONNX: _convert(image, ["image"], (pixels[:2],), (pixels,), folder / IMAGE_ONNX, {0: Dim("images")})}
    text = TextTower(model.task).eval()
    axes = {0: Dim("texts"), 1: Dim("length", max=text.encoder.max_length)}
    short, long = text.tokens(TEXTS[:2]), text.tokens(TEXTS)
    gaps[TEXT_ONNX] = _convert(text, text.inputs, short, long, folder / TEXT_ONNX, axes)
    return gaps


class _InOrder(nn.Module):
    """A tower with a tuple of outputs, because the exporter may reorder those of a dictionary."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.tower(*inputs).values())


def _convert(
    tower: nn.Module,
    names: list[str],
    example: tuple[Tensor, ...],
    other: tuple[Tensor, ...],
    path: Path,
    axes: dict[int, Dim],
) -> float:
    """Write a graph from an example; return its largest error on other inputs, all of them and the first alone."""
    import onnxruntime

    size = sum(parameter.nbytes for parameter in tower.parameters())
    # It logs each constant that it cannot fold.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    outputs = list(tower(*example))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _InOrder(tower),
                example,
                path,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=((axes,) * len(names),),
                external_data=size > LARGEST,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f"--format onnx: this model cannot be converted to {path.name}: {reason}") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    gap = 0.0
    for rows in (slice(None), slice(1)):
        given = [tensor[rows] for tensor in other]
        values = session.run(outputs, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})
        arrays = {name: torch.from_numpy(array) for name, array in zip(outputs, values, strict=True)}
        with torch.inference_mode():
            gap = max(gap, difference(tower(*given), arrays))
    require(path.name, gap, TOLERANCE)
    return gap
