"""The losses of IMITATE (arXiv 2310.07355) and ASG (MICCAI 2024) as pure functions of features.

`contrastive_loss` is IMITATE's clinical-informed contrastive loss. Rows are samples: x_i and y_i are two embeddings of
sample i (an image and its text, or two views of an image). With S = x y^T / T, the loss is

    CE(S, L) + CE(S^T, L),    CE(S, L) = -(1/B) sum_ij L_ij log softmax(S_i)_j

Plain contrastive learning has L = I. The clinical prior adds the similarity of the reports to L, so that patients with
similar reports repel each other less. Weights of the two directions are ConVIRT's. `soft_label_loss` is ASG's version
of the prior, from the findings in the reports. `region_sentence_loss` compares the regions of an image with the
sentences of its report, and `tag_loss` compares predicted tags with those of the report.

A temperature can be a parameter. Its gradient comes from the softmax alone, not from the prior.

The mean of a loss over the processes is the loss of the joined batch. The same holds for the gradients, which
DistributedDataParallel averages. The exceptions are `contrastive_loss` and `soft_label_loss` with `gathered=False`:
each process then has a batch of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import gather, rank, sum_over_processes, world_size
from medvlp.losses.targets import ClinicalPrior, SoftLabels


def _everyone(tensor: Tensor, gathered: bool) -> Tensor:
    """Return the rows of all processes if `gathered`, else those of this process."""
    return gather(tensor) if gathered else tensor


def _own_pairs(x: Tensor, all_x: Tensor, gathered: bool) -> Tensor:
    """Return 1 for each row of this process (B) and its partner among the columns (M), else 0, int64 (B, M)."""
    first = rank() * len(x) if gathered else 0
    return F.one_hot(torch.arange(first, first + len(x), device=x.device), len(all_x))


def contrastive_loss(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor,
    mask: Tensor | None = None,
    text: Tensor | None = None,
    prior: ClinicalPrior | None = None,
    directions: tuple[float, float] = (1.0, 1.0),
    gathered: bool = True,
) -> Tensor:
    """Return the symmetric contrastive loss over all processes, with soft targets if there is a prior.

    Samples outside the mask are in no row, no column, no prior and no denominator.

    Args:
        x: Embeddings (B, D); the function normalises them.
        y: Their partners (B, D); the function normalises them.
        temperature: Temperature T, a number or a scalar tensor.
        mask: Mask of the samples that take part, bool (B,); all by default.
        text: Text embeddings (B, E) for the prior, which requires them. The row of a missing text is zero, and its
            prior is 0 for all other samples.
        prior: Soft targets; None means L = I.
        directions: Weights of x to y and of y to x.
        gathered: Whether negatives and prior come from all processes (the official code: from this one only).

    Returns:
        A scalar: the weighted sum of both directions. Zero if no sample takes part.

    Raises:
        ValueError: If there is a prior but no text.

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
            constant = temperature.detach() if isinstance(temperature, Tensor) else temperature
            targets = prior.targets(targets, text, _everyone(text, gathered), all_mask, constant)

        loss = x.new_zeros(())
        for weight, rows, columns in ((directions[0], x, all_y), (directions[1], y, all_x)):
            # With -inf a row without any column would have NaN gradients; exp(-1e30) is 0 as well.
            logits = (rows @ columns.T / temperature).masked_fill(~all_mask, -1e30)
            loss = loss - weight * (targets * logits.log_softmax(1)).sum(1)[mask].sum()
        # Each process has its share of the sum, and DistributedDataParallel takes the mean over the processes.
        return loss / count * (world_size() if gathered else 1)


def soft_label_loss(
    x: Tensor,
    y: Tensor,
    tags: Tensor,
    *,
    temperature: float | Tensor,
    labels: SoftLabels,
    mask: Tensor | None = None,
    gathered: bool = True,
) -> Tensor:
    """Return the divergence of image-report similarities from the soft targets, as the mean of both directions.

    Args:
        x: Embeddings (B, D) of images; the function normalises them.
        y: Embeddings (B, D) of their reports; the function normalises them.
        tags: Tags that are present, bool (B, T).
        temperature: Temperature of the softmax p of the similarities.
        labels: Definition of the targets and the divergence.
        mask: Mask of the samples that take part, bool (B,); all by default. The others are in no row and no column.
        gathered: Whether the columns are those of all processes.

    Returns:
        A scalar, zero if no sample takes part.
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
    temperature: float | Tensor,
    gathered: bool = False,
) -> Tensor:
    """Return the contrastive loss of regions and sentences with several positives each (ASG's ARSA).

    Let m = f w^T / T, with f the regions and w the sentences. A positive pair costs log(1 + sum_n exp(m_n - m)) in each
    direction. n runs over the negatives of the region (sentence), and its other positives are not among them. The loss
    of a region is the mean over its positives. The loss of a direction is the mean over the regions (sentences) of all
    processes, without those that have no positive. The result is the sum of both directions.

    With one sentence a region and one region a sentence, this is the cross entropy of ASG (equation for ARSA). With
    several, ASG has false negatives.

    Args:
        region: Embeddings (R, D); the function normalises them.
        sentence: Embeddings (M, D); the function normalises them.
        aligned: Mask of the positive pairs, bool (R, M).
        comparable: Mask of the pairs to compare, bool (R, M): those of one image, or all.
        temperature: Temperature T.
        gathered: Whether these are the regions and sentences of all processes, and not of this one alone.

    Returns:
        A scalar, zero if there is no positive pair.
    """
    with torch.autocast(region.device.type, enabled=False):
        logits = F.normalize(region.float(), dim=1) @ F.normalize(sentence.float(), dim=1).T / temperature
        loss = logits.new_zeros(())
        for similarity, pair, negative in (
            (logits, aligned, comparable & ~aligned),
            (logits.T, aligned.T, (comparable & ~aligned).T),
        ):
            # With a column of -1e30, rows without a negative have a loss and a gradient of zero.
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
    """Return the binary cross entropy of tags, the mean over the values in the masks of all processes (ASG's IRL).

    Args:
        logits: (B, T).
        target: 0 or 1, (B, T).
        mask: Mask of the values that count, bool (B, T).

    Returns:
        A scalar, zero if no value counts.
    """
    with torch.autocast(logits.device.type, enabled=False):
        loss = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
        count = sum_over_processes(mask.sum().to(loss))
        return (loss * mask).sum() / count.clamp(min=1) * world_size()
