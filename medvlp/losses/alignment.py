"""The losses of IMITATE (arXiv 2310.07355) and ASG (MICCAI 2024) as pure functions of features.

`contrastive_loss` is IMITATE's clinical-informed one. Rows are samples: x_i and y_i are two embeddings of sample i (an
image and its text, or two views of an image). With S = x y^T / T, the loss is CE(S, L) + CE(S^T, L), CE(S, L) =
-(1/B) sum_ij L_ij log softmax(S_i)_j. Plain contrastive learning has L = I; the clinical prior adds the similarity of
the reports, so that two patients with like reports are not pushed apart as if they were strangers. `soft_label_loss`
is ASG's version of that thought, from the findings that the reports name; `region_sentence_loss` compares the regions
of an image with the sentences of its report, and `tag_loss` its tags with what the report says.

The mean of every loss over the processes is the loss of the joined batch, and so are the gradients that
DistributedDataParallel averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import gather, rank, sum_over_processes, world_size


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


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the Pearson correlation between each row of a (B, D) and each row of b (M, D), shape (B, M), in fp32."""
    # In half precision (the official code's autocast) the products lose the differences the prior is made of.
    with torch.autocast(a.device.type, enabled=False):
        a, b = (F.normalize(t.float() - t.float().mean(1, keepdim=True), dim=1) for t in (a, b))
        return a @ b.T


def _everyone(tensor: Tensor, gathered: bool) -> Tensor:
    """Return the rows of all processes, or of this one alone."""
    return gather(tensor) if gathered else tensor


def _own_pairs(x: Tensor, all_x: Tensor, gathered: bool) -> Tensor:
    """Return 1 where a row of this process (B) meets its partner among the columns (M), else 0, int64 (B, M)."""
    first = rank() * len(x) if gathered else 0
    return F.one_hot(torch.arange(first, first + len(x), device=x.device), len(all_x))


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

    Samples outside the mask are in no row, no column, no prior and no denominator.

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

    Example:
        >>> x = torch.eye(2)
        >>> contrastive_loss(x, x, temperature=0.07) < contrastive_loss(x, x.flip(0), temperature=0.07)
        tensor(True)
    """
    mask = torch.ones(len(x), dtype=torch.bool, device=x.device) if mask is None else mask
    with torch.autocast(x.device.type, enabled=False):
        x, y = F.normalize(x.float(), dim=1), F.normalize(y.float(), dim=1)
        all_x, all_y, all_mask = (_everyone(tensor, gathered) for tensor in (x, y, mask))
        count = all_mask.sum().clamp(min=1)

        targets = _own_pairs(x, all_x, gathered).float()
        if prior is not None:
            if text is None:
                raise ValueError("text=None, but the prior compares texts: pass the text embeddings, or prior=None.")
            text = text.detach().float()
            all_text = _everyone(text, gathered)
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


@dataclass(frozen=True)
class SoftLabels:
    """Soft targets from the findings that reports name (ASG's ERL).

    Target of a pair: hard * I + soft * s * cos(tags_i, tags_j) + 1e-6, each row divided by its sum; tags are 1 where
    present and else 0, s is 1 on the diagonal.

    Attributes:
        hard: Weight of the own pair (official code: 0.8).
        soft: Weight of the similarity of tags (official code: 0.2).
        direction: KL(target || p), KL(p || target), or their mean (official code).
        normals_alike: Whether two reports without any tag are alike, cosine 1. In the paper theirs is 0, so that normal
            studies repel each other. The other normal reports of the batch together weigh no more than the own one:
            43 % of Open-I's reports have no tag, and 30 others of a batch of 72 would leave the own one 14 %.
        batch_size: The number of samples for which the soft part has the official weight; s = batch_size / (samples
            gathered) off the diagonal, because its mass grows with them. The official runs see 72. None: s = 1.
    """

    hard: float = 0.8
    soft: float = 0.2
    direction: Literal["forward", "backward", "symmetric"] = "symmetric"
    normals_alike: bool = True
    batch_size: int | None = 72

    def targets(self, own: Tensor, tags: Tensor, all_tags: Tensor, all_mask: Tensor) -> Tensor:
        """Return the targets (B, M), each row summing to 1 over the samples in the mask.

        Args:
            own: 1 where a row meets its own column, else 0, (B, M).
            tags: Findings that are present in the rows' reports, bool (B, T).
            all_tags: The same of the columns, bool (M, T).
            all_mask: Which columns take part, bool (M,).
        """
        others = 1.0 if self.batch_size is None else self.batch_size / all_mask.sum().clamp(min=1)
        cosine = F.normalize(tags.float(), dim=1) @ F.normalize(all_tags.float(), dim=1).T
        soft = self.soft * torch.where(own.bool(), cosine, cosine * others)
        if self.normals_alike:
            normal, all_normal = ~tags.any(1), ~all_tags.any(1) & all_mask
            bound = (self.hard + self.soft) / (all_normal.sum() - 1).clamp(min=1)
            alike = torch.where(own.bool(), self.soft, torch.clamp(bound, max=self.soft * others))
            soft = soft + alike * (normal[:, None] & all_normal)
        target = (self.hard * own + soft + 1e-6) * all_mask
        return target / target.sum(1, keepdim=True).clamp(min=1e-12)


def soft_label_loss(
    x: Tensor,
    y: Tensor,
    tags: Tensor,
    *,
    temperature: float,
    labels: SoftLabels,
    mask: Tensor | None = None,
    gathered: bool = True,
) -> Tensor:
    """Divergence between the similarities of images and reports and the soft targets; the mean of both directions.

    Args:
        x: Embeddings (B, D) of images, normalised here.
        y: Embeddings (B, D) of their reports, normalised here.
        tags: Findings that are present, bool (B, T).
        temperature: Of the softmax p of the similarities.
        labels: Says how targets are made, and which divergence it is.
        mask: Which samples take part, bool (B,); all by default. The others are in no row and no column.
        gathered: Whether the columns are those of all processes.

    Returns:
        A scalar, zero where no sample takes part.
    """
    mask = torch.ones(len(x), dtype=torch.bool, device=x.device) if mask is None else mask
    with torch.autocast(x.device.type, enabled=False):
        x, y = F.normalize(x.float(), dim=1), F.normalize(y.float(), dim=1)
        all_x, all_y, all_mask = (_everyone(tensor, gathered) for tensor in (x, y, mask))
        count = all_mask.sum().clamp(min=1)
        target = labels.targets(_own_pairs(x, all_x, gathered), tags, _everyone(tags, gathered), all_mask)
        log_target = target.clamp(min=1e-12).log()
        loss = x.new_zeros(())
        for rows, columns in ((x, all_y), (y, all_x)):
            log_p = (rows @ columns.T / temperature).masked_fill(~all_mask, -1e30).log_softmax(1)
            difference = (log_target - log_p).masked_fill(~all_mask, 0.0)
            forward, backward = (target * difference).sum(1), -(log_p.exp() * difference).sum(1)
            row = {"forward": forward, "backward": backward, "symmetric": (forward + backward) / 2}[labels.direction]
            loss = loss + (row * mask).sum() / 2
        return loss / count * (world_size() if gathered else 1)


def region_sentence_loss(
    region: Tensor,
    sentence: Tensor,
    aligned: Tensor,
    comparable: Tensor,
    *,
    temperature: float,
    gathered: bool = False,
) -> Tensor:
    """Contrastive loss between regions and sentences, where each may belong to several of the other (ASG's ARSA).

    With m = f w^T / T, a pair that belongs together costs log(1 + sum_n exp(m_n - m)) in each direction, n running
    over what it can be confused with: neither it nor anything else that belongs to the same region (sentence). The
    loss of a region is the mean over its sentences, that of the batch the mean over all regions of all processes; the
    other direction likewise; their sum is returned. Where each region has one sentence and each sentence one region,
    this is the cross entropy of ASG, equation for ARSA; where they share, ASG has false negatives.

    Args:
        region: Embeddings (R, D), normalised here.
        sentence: Embeddings (M, D), normalised here.
        aligned: Which belong together, bool (R, M).
        comparable: Which are compared at all, bool (R, M): those of one image, or all.
        temperature: T above.
        gathered: Whether these are the regions and sentences of all processes, and not of this one alone.

    Returns:
        A scalar, zero where nothing is aligned.
    """
    with torch.autocast(region.device.type, enabled=False):
        logits = F.normalize(region.float(), dim=1) @ F.normalize(sentence.float(), dim=1).T / temperature
        loss = logits.new_zeros(())
        for similarity, pair, negative in (
            (logits, aligned, comparable & ~aligned),
            (logits.T, aligned.T, (comparable & ~aligned).T),
        ):
            # A column of -1e30 for the rows without a negative, whose loss is then zero, as is their gradient.
            none = similarity.new_full((len(similarity), 1), -1e30)
            confusion = torch.cat([similarity.masked_fill(~negative, -1e30), none], 1).logsumexp(1, keepdim=True)
            cost = F.softplus(confusion - similarity) * pair
            row = cost.sum(1) / pair.sum(1).clamp(min=1)
            count = pair.any(1).sum().to(row)
            if not gathered:
                count = sum_over_processes(count) / world_size()
            loss = loss + row.sum() / count.clamp(min=1 / world_size())
        return loss


def tag_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Binary cross entropy of tags, the mean over those in the mask of all processes (ASG's IRL).

    Args:
        logits: (B, T).
        target: 0 or 1, (B, T).
        mask: Which count, bool (B, T).

    Returns:
        A scalar, zero where none counts.
    """
    with torch.autocast(logits.device.type, enabled=False):
        loss = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
        count = sum_over_processes(mask.sum().to(loss))
        return (loss * mask).sum() / count.clamp(min=1) * world_size()
