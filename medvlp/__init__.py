"""Vision-language pre-training on chest radiographs and their reports."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medvlp.model import Model

__version__ = "0.1.0"
__all__ = ["load"]


def load(weights: str | PathLike[str], device: str | None = "cpu", trust: Sequence[str] = ()) -> Model:
    """Load a pre-trained model for use, such as `medvlp.load(weights).scores(images, ["Pleural Effusion"])`.

    Args:
        weights: Checkpoint of `medvlp fit`, or folder of `medvlp export`.
        device: Where to compute, such as `cuda`; None for a GPU where there is one.
        trust: Packages beside medvlp whose classes may be made because the weights name them.

    Returns:
        See `medvlp.model.Model`.

    Raises:
        medvlp.errors.UserError: If the weights or the device are not there or cannot be used.
    """
    # Imported here: most commands need no torch.
    from medvlp.model import Model

    return Model.load(weights, device, trust)
