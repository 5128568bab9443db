"""Parameter groups of an optimiser: learning rates by part of the model and by layer, and what weight decay spares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from medvlp.errors import UserError

Layers = list[list[nn.Parameter]]
"""Parameters by layer of a network, from input to output."""
PARTS = {"head": "objectives and heads", "image": "image encoder", "text": "text encoder"}
RATES = ("image_lr", "text_lr", "head_lr", "layer_decay", "exclude_bias_and_norm")
"""Options of tasks that make parameter groups."""
# Ends of the names of matrices. A parameter of another name is a token, a position or a temperature.
MATRICES = ("weight", "proj", "projection")
# Position embeddings that are matrices by name, in embedding layers of transformers.
POSITIONS = re.compile(r"position|relative|rel_embed|\bwpe\b")


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Return whether weight decay should shrink a parameter: matrices yes; norms, biases, tokens, positions no."""
    matrix = parameter.ndim > 1 and name.rpartition(".")[2].endswith(MATRICES)
    return matrix and not POSITIONS.search(name)


def make_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    parts: Mapping[str, Layers],
    layer_decay: float | None = None,
    exclude_bias_and_norm: bool = False,
) -> list[dict[str, Any]]:
    """Sort the trained parameters of a task into groups: by part, layer and weight decay.

    Args:
        named: The parameters of the task by name.
        parts: The layers of each part, from input to output; see `BaseTask.parts`.
        layer_decay: Rate of a layer as a share of that of the next one; None for one rate.
        exclude_bias_and_norm: Whether weight decay applies to matrices alone; see `is_decayed`.

    Returns:
        Groups for an optimiser, each with its `part` and the `scale` of its rate. The first group of each part has
        the part's own rate.

    Raises:
        UserError: If `layer_decay` is not between 0 and 1, or an encoder has no layers.
    """
    if layer_decay is not None and not 0 < layer_decay < 1:
        raise UserError(f"layer_decay={layer_decay}: pass a share between 0 and 1, such as 0.75, or null.")
    names = {parameter: name for name, parameter in named}
    groups: list[dict[str, Any]] = []
    for part, layers in parts.items():
        if layer_decay is None or part == "head":
            layers = [[parameter for layer in layers for parameter in layer]]
        elif len(layers) == 1 and trained(layers):
            raise UserError(
                f"layer_decay={layer_decay}, but the {PARTS[part]} does not say which layers it has: the class does "
                "not order its parameters by depth. Leave layer_decay out, or give all of it a lower rate."
            )
        for height, layer in enumerate(reversed(layers)):
            group = {"part": part, "scale": (layer_decay or 1) ** height}
            kept = [p for p in layer if p.requires_grad]
            spared = [p for p in kept if exclude_bias_and_norm and not is_decayed(names[p], p)]
            decayed = [p for p in kept if p not in set(spared)]
            groups += [{**group, "params": decayed}] if decayed else []
            groups += [{**group, "params": spared, "weight_decay": 0.0}] if spared else []
    return groups


def set_rates(optimizer: Optimizer, rates: Mapping[str, float | None]) -> None:
    """Set the rate of each group of `make_groups`: that of its part times its scale.

    Args:
        optimizer: The optimiser.
        rates: The rate of each part; None for that of the optimiser.
    """
    for group in optimizer.param_groups:
        rate = rates[group["part"]]
        group["lr"] = (optimizer.defaults["lr"] if rate is None else rate) * group.pop("scale")


def check_rates(parts: Mapping[str, Layers], rates: Mapping[str, float | None]) -> None:
    """Refuse rates for parts that are not trained.

    Raises:
        UserError: If a rate is not above 0, or no parameter of its part is trained.
    """
    for part, rate in rates.items():
        if rate is None:
            continue
        if rate <= 0:
            raise UserError(f"{part}_lr={rate}: pass a rate above 0; to train a part no further, freeze it.")
        if not trained(parts.get(part, [])):
            raise UserError(f"{part}_lr={rate}, but nothing of the {PARTS[part]} is trained: leave it out.")


def check_schedule(optimizer: Optimizer, before: Sequence[float], scheduler: LRScheduler) -> None:
    """Refuse a scheduler of torch that puts one rate in the place of those of the groups.

    Args:
        optimizer: The optimiser.
        before: The rates of its groups before the scheduler was made.
        scheduler: The scheduler.

    Raises:
        UserError: If the rates are not multiples of those before, all by the same factor.
    """
    factors = [group["lr"] / rate for group, rate in zip(optimizer.param_groups, before, strict=True)]
    if max(factors) > (1 + 1e-6) * min(factors):
        raise UserError(
            f"schedule {type(scheduler).__name__} sets one learning rate for all parts of the model, in place of those "
            "by part and layer: leave out image_lr, text_lr, head_lr and layer_decay, or the schedule."
        )


def rates_by_part(optimizer: Optimizer) -> dict[str, float]:
    """Return the current rate of each part, that of its last layer; empty if all parts have the same."""
    first: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        first.setdefault(group.get("part", ""), group)
    # A schedule may end with rates of 0.
    differ = len({group["initial_lr"] for group in first.values()}) > 1
    return {part: group["lr"] for part, group in first.items()} if differ else {}


def trained(layers: Layers) -> bool:
    """Return whether any parameter of the layers is trained."""
    return any(parameter.requires_grad for layer in layers for parameter in layer)
