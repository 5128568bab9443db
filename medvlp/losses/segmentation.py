"""The loss of segmentation: focal loss and the logarithm of a soft Dice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import sum_over_processes


def segmentation_loss(
    logits: Tensor, target: Tensor, *, focal_weight: float = 10.0, gamma: float = 2.0
) -> dict[str, Tensor]:
    """Return the focal loss, and minus the logarithm of the soft Dice of a whole batch, as in MGCA.

    With p = sigmoid(x), the focal loss is the mean over pixels of sigmoid(-x (2t - 1))^gamma * BCE(p, t). For t of 0 or
    1 the factor is the usual (1 - p_t)^gamma. The soft Dice is (2 sum(pt) + 1) / (sum(p) + sum(t) + 1), with the sums
    over all pixels of the batch.

    Args:
        logits: Logits x, any shape.
        target: Share t of each pixel that the mask covers, 0 to 1, of the same shape.
        focal_weight: Weight of the focal loss.
        gamma: Exponent of the focal loss; larger values reduce the weight of pixels that are already right.

    Returns:
        `focal`, weighted, and `soft_dice`, scalars whose sum is the loss. `soft_dice` is that of the joined batch of
        all processes.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, target = logits.float(), target.float()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        focal = ((-logits * (2 * target - 1)).sigmoid() ** gamma * entropy).mean()
        p = logits.sigmoid()
        both, either = sum_over_processes(torch.stack([(p * target).sum(), p.sum() + target.sum()]))
        return {"focal": focal_weight * focal, "soft_dice": -((2 * both + 1) / (either + 1)).log()}
