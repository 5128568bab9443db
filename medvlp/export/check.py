"""Checks that an export computes the same as its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from medvlp.errors import UserError
from medvlp.export.towers import TAGS
from medvlp.inference.model import Model

Outputs: TypeAlias = Mapping[str, Tensor]
TEXTS = (
    "",
    "Pleural effusion.",
    "The heart size is normal. The lungs are clear, without consolidation, effusion or pneumothorax.",
)


def images(model: Model, count: int = 3) -> Tensor:
    """Return images of noise, uint8 (N, crop, crop), the same at each call."""
    generator = torch.Generator().manual_seed(0)
    side = model.preprocessing.crop
    return torch.randint(256, (count, side, side), dtype=torch.uint8, generator=generator)


def of_images(model: Model, image: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a model for images: embeddings by space, and tags."""
    return {**model.embed_images(image), **({TAGS: model.tags(image)} if model.tag_names else {})}


def of_all(model: Model) -> dict[str, Tensor]:
    """Return the outputs of a model for fixed images and texts, and its weights."""
    weights = {key: value for key, value in model.task.state_dict().items() if isinstance(value, Tensor)}
    texts = {f"text/{space}": rows for space, rows in model.embed_texts(TEXTS).items()}
    return {**weights, **of_images(model, images(model)), **texts, "text": model.task.text_encoder(TEXTS)}


def compare(model: Model, other: Model) -> float:
    """Return the largest difference between two models, over weights and outputs.

    Raises:
        UserError: If a weight or an output of the first model is not finite.
    """
    expected = of_all(model)
    if not all(rows.isfinite().all() for rows in expected.values()):
        raise UserError(
            "outputs of the model for images or texts are not finite: its training has diverged. Use an earlier "
            "checkpoint."
        )
    return difference(expected, of_all(other))


def difference(expected: Outputs, actual: Outputs) -> float:
    """Return the largest difference between tensors of the same names; infinite if names or shapes differ."""
    if {name: rows.shape for name, rows in expected.items()} != {name: rows.shape for name, rows in actual.items()}:
        return float("inf")
    gaps = torch.stack([(rows.double() - actual[name].double()).abs().max() for name, rows in expected.items()])
    # Without this, a NaN would pass as no difference.
    return float(gaps.nan_to_num(nan=float("inf")).max())


def require(what: str, gap: float, most: float) -> None:
    """Stop if a difference is too large.

    Raises:
        RuntimeError: If it is; the cause is an error in medvlp or in a library.
    """
    if not gap <= most:
        raise RuntimeError(
            f"{what} differs from the checkpoint by {gap:.1e}, more than {most:.0e}: nothing is written."
        )
