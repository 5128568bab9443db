"""The loss of segmentation: focal loss and the logarithm of a soft Dice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import sum_over_processes


def segmentation_loss(
    logits: Tensor, target: Tensor, *, focal_weight: float = 10.0, gamma: float = 2.0
) -> dict[str, Tensor]:
    """Focal loss, and minus the logarithm of the soft Dice of a whole batch as MGCA does.

    With p = sigmoid(x), the focal loss is the mean over pixels of sigmoid(-x (2t - 1))^gamma * BCE(p, t), for t of 0 or
    1 the usual (1 - p_t)^gamma; the soft Dice is (2 sum(pt) + 1) / (sum(p) + sum(t) + 1) over all pixels of the batch.

    Args:
        logits: x above, any shape.
        target: t above, the share of each pixel that is covered, 0 to 1, of the same shape.
        focal_weight: Weight of the focal loss.
        gamma: How much less pixels count that are right already.

    Returns:
        `focal`, weighted, and `soft_dice`, scalars whose sum is the loss. The batch of `soft_dice` is that of all
        processes.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, target = logits.float(), target.float()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        focal = ((-logits * (2 * target - 1)).sigmoid() ** gamma * entropy).mean()
        p = logits.sigmoid()
        both, either = sum_over_processes(torch.stack([(p * target).sum(), p.sum() + target.sum()]))
        return {"focal": focal_weight * focal, "soft_dice": -((2 * both + 1) / (either + 1)).log()}
