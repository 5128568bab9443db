"""Classifiers of torchxrayvision as networks of timm."""

from __future__ import annotations

import re
from typing import Any

from medvlp.errors import UserError
from medvlp.models.sources import NORMALISATIONS, Source, extra


def find_xrayvision(model: str, weights: bool) -> Source:
    """Return the source of a classifier of torchxrayvision, without its classifying layer.

    Args:
        model: Its name there.
        weights: Whether to find the weights.

    Raises:
        UserError: If there is no such classifier, or its weights cannot be had.
    """
    architecture, _, rest = model.partition("-")
    if architecture not in ("densenet121", "resnet50") or not re.match(r"res\d+-", rest):
        raise UserError(
            f"image encoder name='torchxrayvision:{model}': pass densenet121-res224-all (or -nih, -pc, -chex, -rsna, "
            "-mimic_nb, -mimic_ch) or resnet50-res512-all."
        )
    files: tuple[str, ...] = ()
    if weights:
        package: Any = extra("torchxrayvision.models", f"torchxrayvision:{model}")
        try:
            files = (package.get_weights(model),)
        except Exception as error:  # the package raises the base class for an unknown name
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"the weights of 'torchxrayvision:{model}' could not be had: {reason}") from error
    side = int(rest.removeprefix("res").split("-")[0])
    return Source(architecture, {"in_chans": 1}, side, NORMALISATIONS["torchxrayvision"], files)
