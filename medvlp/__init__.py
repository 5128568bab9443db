"""Vision-language pre-training on chest radiographs and their reports."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medvlp.inference.model import Model

__version__ = "0.2.0"
__all__ = ["Model", "load"]


def load(weights: str | PathLike[str], device: str | None = "cpu", trust: Sequence[str] = ()) -> Model:
    """Load a pre-trained model for use, such as `medvlp.load(weights).scores(images, ["Pleural Effusion"])`.

    Args:
        weights: Checkpoint of `medvlp fit`, folder of `medvlp export`, or a published pair of encoders, such as
            `biomedclip`, `open_clip:...` or `hf:...`.
        device: Where to compute, such as `cuda`; None for a GPU where there is one.
        trust: Packages beside medvlp whose classes may be made because the weights name them.

    Returns:
        See `medvlp.Model`.

    Raises:
        medvlp.errors.UserError: If the weights or the device are not there or cannot be used.
    """
    # Imported here: most commands need no torch.
    from medvlp.inference.model import Model

    return Model.load(weights, device, trust)


def __getattr__(name: str) -> Any:
    """Import `Model` when it is asked for, likewise."""
    if name == "Model":
        from medvlp.inference.model import Model

        return Model
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
