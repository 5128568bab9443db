"""Whether weights are numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def first_not_finite(state: Mapping[str, Any]) -> str | None:
    """Return the name of the first tensor of a state dict that holds NaN or infinity; None where none does.

    Minus infinity is no sign of harm: masks of attention are made of it.
    """
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not (value < math.inf).all():
            return name
    return None
