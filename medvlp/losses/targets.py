"""Soft targets of contrastive losses: samples with similar reports repel each other less.

`ClinicalPrior` is IMITATE's (arXiv 2310.07355), from the embeddings of reports; `SoftLabels` is ASG's (MICCAI 2024),
from the findings in reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ClinicalPrior:
    """Soft targets from the similarity of reports.

    L = I + T * s * smooth(C), and the diagonal of L stays 1. C is the positive part of the Pearson correlation between
    the text embeddings of two samples. T is the temperature of the term, and s the scale of `batch_size`.

    Attributes:
        smoothing: `exp` is 1 - exp(-strength * C), as in the paper. `gaussian`, `laplace` and `sigmoid` are the
            official code's alternatives, for ablation: the first two *fall* with the correlation.
        strength: lambda of the exponential smoothing (official code: 0.2).
        batch_size: Number of samples at which the prior has the official strength. A row of L has one entry a sample,
            so its mass would grow with the batch size and the number of GPUs. s = batch_size / (samples gathered)
            keeps the mass constant. The official runs see 128 samples. None: s = 1, as in the official code.
        scale_by_temperature: Whether to multiply the prior by T (official code: yes).
        normalise: Whether to divide each row of L by its sum (official code: no).

    Example:
        >>> ClinicalPrior().smooth(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.0952, 0.1813])
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

    def targets(
        self, pairs: Tensor, text: Tensor, all_text: Tensor, all_mask: Tensor, temperature: float | Tensor
    ) -> Tensor:
        """Return the targets L, fp32 (B, M); a column outside the mask is zero.

        Args:
            pairs: 1 for the pair of a row and its own column, else 0, (B, M).
            text: Text embeddings of the rows (B, E). A row of zeros is a missing text.
            all_text: Text embeddings of the columns (M, E).
            all_mask: Mask of the columns that take part, bool (M,).
            temperature: Temperature T.
        """
        soft = self.smooth(correlation(text, all_text).clamp(min=0))
        soft = soft * text.any(1)[:, None] * all_text.any(1)
        if self.scale_by_temperature:
            soft = soft * temperature
        if self.batch_size is not None:
            soft = soft * self.batch_size / all_mask.sum().clamp(min=1)
        # The diagonal is set after smoothing. The official code clears the diagonal of C before, so that every
        # smoothing with smooth(0) > 0 changes the diagonal of L, too.
        targets = (pairs + soft * (1 - pairs)) * all_mask
        if self.normalise:
            targets = targets / targets.sum(1, keepdim=True).clamp(min=1e-12)
        return targets


@dataclass(frozen=True)
class SoftLabels:
    """Soft targets from the findings in reports (ASG's ERL).

    Target of a pair: hard * I + soft * s * cos(tags_i, tags_j) + 1e-6, each row divided by its sum. Tags are 1 if
    present and else 0; s is 1 on the diagonal, and that of `batch_size` elsewhere.

    Attributes:
        hard: Weight of a sample's own report (official code: 0.8).
        soft: Weight of the similarity of tags (official code: 0.2).
        direction: `forward` is KL(target || p), `backward` KL(p || target), `symmetric` their mean (official code).
        normals_alike: Whether the cosine of two reports without any tag is 1. In the paper it is 0, so that normal
            studies repel each other. All other normal reports of the batch together weigh no more than a sample's own
            report. 43 % of Open-I's reports have no tag; without the bound, 30 others in a batch of 72 would leave the
            own report a weight of 14 %.
        batch_size: Number of samples at which the soft part has the official weight. Its mass grows with the number of
            samples, and s = batch_size / (samples gathered) off the diagonal keeps it constant. The official runs see
            72 samples. None: s = 1.
    """

    hard: float = 0.8
    soft: float = 0.2
    direction: Literal["forward", "backward", "symmetric"] = "symmetric"
    normals_alike: bool = True
    batch_size: int | None = 72

    def targets(self, pairs: Tensor, tags: Tensor, all_tags: Tensor, all_mask: Tensor) -> Tensor:
        """Return the targets (B, M); each row sums to 1 over the samples in the mask.

        Args:
            pairs: 1 for the pair of a row and its own column, else 0, (B, M).
            tags: Tags that are present in the reports of the rows, bool (B, T).
            all_tags: Tags that are present in the reports of the columns, bool (M, T).
            all_mask: Mask of the columns that take part, bool (M,).
        """
        others = 1.0 if self.batch_size is None else self.batch_size / all_mask.sum().clamp(min=1)
        cosine = F.normalize(tags.float(), dim=1) @ F.normalize(all_tags.float(), dim=1).T
        soft = self.soft * torch.where(pairs.bool(), cosine, cosine * others)
        if self.normals_alike:
            normal, all_normal = ~tags.any(1), ~all_tags.any(1) & all_mask
            bound = (self.hard + self.soft) / (all_normal.sum() - 1).clamp(min=1)
            alike = torch.where(pairs.bool(), self.soft, torch.clamp(bound, max=self.soft * others))
            soft = soft + alike * (normal[:, None] & all_normal)
        target = (self.hard * pairs + soft + 1e-6) * all_mask
        return target / target.sum(1, keepdim=True).clamp(min=1e-12)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the Pearson correlation between each row of a (B, D) and each row of b (M, D), shape (B, M), in fp32."""
    # The prior depends on small differences, which half precision (the official code's autocast) loses.
    with torch.autocast(a.device.type, enabled=False):
        a, b = (F.normalize(t.float() - t.float().mean(1, keepdim=True), dim=1) for t in (a, b))
        return a @ b.T
