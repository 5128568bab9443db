"""The temperature of similarities, and their bias, either fixed or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medvlp.errors import UserError


class Temperature(nn.Module):
    """Divides similarities by a temperature, and adds a bias: logits = similarity / T + b.

    Learned, the parameter is log(1 / T), as in CLIP; each training step clamps it, so that T stays at `least` or above.
    With a bias this is the affine map of SigLIP. A task logs T and b of each learned temperature.

    Args:
        temperature: The temperature T, or its first value.
        learned: Whether T, and b if there is one, are parameters; a fixed temperature has no state.
        bias: The bias b, or its first value; None for no bias.
        least: The least temperature; CLIP clamps 1 / T to 100.

    Raises:
        UserError: If the temperature is below `least`, or that is not positive.
    """

    log_scale: Tensor
    bias: Tensor | None

    def __init__(
        self, temperature: float = 0.07, learned: bool = False, bias: float | None = None, least: float = 0.01
    ) -> None:
        super().__init__()
        if not 0 < least <= temperature:
            raise UserError(f"temperature={temperature} must be at least least={least}, which must be above 0.")
        self.learned, self.least = learned, least
        values = {"log_scale": -math.log(temperature), "bias": bias}
        for name, value in values.items():
            tensor = None if value is None else torch.tensor(float(value))
            if learned:
                self.register_parameter(name, None if tensor is None else nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor, persistent=False)

    @property
    def value(self) -> Tensor:
        """The temperature T, a scalar with gradient if it is learned."""
        # The parameter itself is clamped: the gradient of a clamped value would be zero, and T would stay there. The
        # graph of an earlier use in the same step does not need it.
        self.log_scale.data.clamp_(max=-math.log(self.least))
        return (-self.log_scale).exp()

    def forward(self, similarity: Tensor) -> Tensor:
        """Return the logits of similarities of any shape."""
        logits = similarity / self.value
        return logits if self.bias is None else logits + self.bias

    @property
    def logged(self) -> dict[str, Tensor]:
        """The values to log; empty if nothing is learned."""
        if not self.learned:
            return {}
        values = {"temperature": self.value.detach()}
        return values if self.bias is None else {**values, "bias": self.bias.detach()}


def learned_temperatures(module: nn.Module) -> dict[str, Tensor]:
    """Return the values to log of all learned temperatures in a module, by their names in it."""
    return {
        f"{name}/{key}": value
        for name, part in module.named_modules()
        if isinstance(part, Temperature)
        for key, value in part.logged.items()
    }
