"""IMITATE's clinical-informed contrastive loss (arXiv 2310.07355) as pure functions of features.

Rows are samples: x_i and y_i are two embeddings of sample i (an image and its text, or two views of an image). With
S = x y^T / T, the loss is CE(S, L) + CE(S^T, L), CE(S, L) = -(1/B) sum_ij L_ij log softmax(S_i)_j. Plain contrastive
learning has L = I; the clinical prior adds the similarity of the reports, so that two patients with like reports are
not pushed apart as if they were strangers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import gather, rank, world_size


@dataclass(frozen=True)
class ClinicalPrior:
    """Soft targets from the similarity of reports.

    L = I + T * s * smooth(C), C the positive part of the Pearson correlation between the text embeddings of two
    samples, T the temperature of the term, s the scale of `batch_size`. The own pair gets no prior.

    Attributes:
        smoothing: `exp` is 1 - exp(-strength * C), the paper's. `gaussian`, `laplace` and `sigmoid` are the official
            code's alternatives, for ablation: the first two *fall* with the correlation.
        strength: lambda of the exponential smoothing (official code: 0.2).
        batch_size: The number of samples for which the prior has the official strength. A row of L has one entry a
            sample, so its mass would grow with batch size and number of GPUs; s = batch_size / (samples gathered)
            keeps it. The official runs see 128 samples. None: s = 1, as in the official code.
        scale_by_temperature: Whether the prior is multiplied by T (official code: yes).
        normalise: Divide each row of L by its sum (official code: not).
    """

    smoothing: Literal["exp", "gaussian", "laplace", "sigmoid"] = "exp"
    strength: float = 0.2
    batch_size: int | None = 128
    scale_by_temperature: bool = True
    normalise: bool = False

    def smooth(self, correlation: Tensor) -> Tensor:
        """Map non-negative correlations to prior targets, element by element."""
        match self.smoothing:
            case "exp":
                return 1 - torch.exp(-self.strength * correlation)
            case "gaussian":
                return torch.exp(-correlation.square() / 2) / math.sqrt(2 * math.pi)
            case "laplace":
                return torch.exp(-correlation.abs()) / 2
            case "sigmoid":
                return torch.sigmoid(correlation)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the Pearson correlation between each row of a (B, D) and each row of b (M, D), shape (B, M), in fp32."""
    # In half precision (the official code's autocast) the products lose the differences the prior is made of.
    with torch.autocast(a.device.type, enabled=False):
        a, b = (F.normalize(t.float() - t.float().mean(1, keepdim=True), dim=1) for t in (a, b))
        return a @ b.T


def contrastive_loss(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float,
    mask: Tensor | None = None,
    text: Tensor | None = None,
    prior: ClinicalPrior | None = None,
    gathered: bool = True,
) -> Tensor:
    """Symmetric contrastive loss over all processes, with soft targets where a prior is given.

    Samples outside the mask are in no row, no column, no prior and no denominator. The mean of the result over the
    processes is the loss of the joined batch, and so are the gradients that DistributedDataParallel averages.

    Args:
        x: Embeddings (B, D), normalised here.
        y: Their partners (B, D), normalised here.
        temperature: T above.
        mask: Which samples take part, bool (B,); all by default.
        text: Text embeddings (B, E) that the prior compares; samples whose text is missing are all zero and resemble
            nobody. Needed with a prior.
        prior: Soft targets; None means L = I.
        gathered: Whether negatives and prior come from all processes (the official code: from this one only).

    Returns:
        A scalar: the sum of both directions. Zero where no sample takes part.
    """
    mask = torch.ones(len(x), dtype=torch.bool, device=x.device) if mask is None else mask
    with torch.autocast(x.device.type, enabled=False):
        x, y = F.normalize(x.float(), dim=1), F.normalize(y.float(), dim=1)
        everyone = gather if gathered else (lambda tensor: tensor)
        all_x, all_y, all_mask = everyone(x), everyone(y), everyone(mask)
        first = rank() * len(x) if gathered else 0
        own = torch.arange(first, first + len(x), device=x.device)
        count = all_mask.sum().clamp(min=1)

        targets = F.one_hot(own, len(all_x)).float()
        if prior is not None:
            if text is None:
                raise ValueError("text=None, but the prior compares texts: pass the text embeddings, or prior=None.")
            text = text.detach().float()
            all_text = everyone(text)
            soft = prior.smooth(correlation(text, all_text).clamp(min=0))
            soft = soft * text.any(1)[:, None] * all_text.any(1)
            if prior.scale_by_temperature:
                soft = soft * temperature
            if prior.batch_size is not None:
                soft = soft * prior.batch_size / count
            # The own pair is set after smoothing; the official code clears the diagonal of C before, so that every
            # smoothing with smooth(0) > 0 adds to the own pair, too.
            targets = (targets + soft * (1 - targets)) * all_mask
            if prior.normalise:
                targets = targets / targets.sum(1, keepdim=True).clamp(min=1e-12)

        loss = x.new_zeros(())
        for rows, columns in ((x, all_y), (y, all_x)):
            # Finite, because a row without any column would otherwise have NaN gradients; exp(-1e30) is 0 all the same.
            logits = (rows @ columns.T / temperature).masked_fill(~all_mask, -1e30)
            loss = loss - (targets * logits.log_softmax(1)).sum(1)[mask].sum()
        # Each process holds its share of the sum; DistributedDataParallel takes the mean over the processes.
        return loss / count * (world_size() if gathered else 1)
