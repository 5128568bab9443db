"""Contrast of images with texts that are no pairs: labels say how well each image and each text go together.

Let s_ij be the cosine of image i and text j, and t_ij >= 0 a target from their labels, whose rows sum to 1. A direction
is the mean over the rows i of -sum_j t_ij log softmax_j(s_ij / T); the other direction has images and texts swapped.

`semantic_matching_loss` is MedCLIP's (EMNLP 2022, arXiv 2210.10163), with a target from the cosine of the labels.
`label_contrast_loss` is UniCL's (CVPR 2022, arXiv 2204.03610), with equal targets for all that share the labels.

The numbers of images and of texts may differ, and differ between processes. The mean over the processes is the loss of
the joined batch, and so are the gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import gather_rows, sum_over_processes, world_size


def semantic_matching_loss(
    image: Tensor, text: Tensor, image_label: Tensor, text_label: Tensor, *, temperature: float | Tensor
) -> Tensor:
    """Return the mean of both directions, t_i = softmax_j of the cosine of labels.

    Args:
        image: Embeddings (N, D); the function normalises them.
        text: Embeddings (M, D); the function normalises them.
        image_label: Labels (N, T): 1 present, -1 absent, 0 unknown.
        text_label: Labels (M, T), likewise.
        temperature: Temperature T, a number or a scalar tensor.

    Returns:
        A scalar; zero if there is no image or no text.
    """

    def target(row: Tensor, column: Tensor) -> Tensor:
        row, column = F.normalize(row.float(), dim=1), F.normalize(column.float(), dim=1)
        return (row @ column.T).softmax(1)

    return _both_directions(image, text, image_label, text_label, temperature, target) / 2


def label_contrast_loss(
    image: Tensor, text: Tensor, image_label: Tensor, text_label: Tensor, *, temperature: float | Tensor
) -> Tensor:
    """Return the sum of both directions, t_ij = 1 / n_i for the n_i columns with the labels of row i.

    Args:
        image: Embeddings (N, D); the function normalises them.
        text: Embeddings (M, D); the function normalises them.
        image_label: Which labels each image has, bool (N, T).
        text_label: Which labels each text names, bool (M, T).
        temperature: Temperature T, a number or a scalar tensor.

    Returns:
        A scalar. A row without a column of the same labels has no loss.
    """

    def target(row: Tensor, column: Tensor) -> Tensor:
        # Two sets are equal if they have as many labels in common as each has.
        row, column = row.float(), column.float()
        common = row @ column.T
        equal = ((common == row.sum(1, keepdim=True)) & (common == column.sum(1))).float()
        return equal / equal.sum(1, keepdim=True).clamp(min=1)

    return _both_directions(image, text, image_label, text_label, temperature, target)


def _both_directions(
    image: Tensor,
    text: Tensor,
    image_label: Tensor,
    text_label: Tensor,
    temperature: float | Tensor,
    target: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    with torch.autocast(image.device.type, enabled=False):
        image, text = F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)
        sides = [(image, image_label), (text, text_label)]
        everyone = [tuple(map(gather_rows, side)) for side in sides]
        loss = image.new_zeros(())
        for (row, label), (column, column_label) in zip(sides, everyone[::-1], strict=True):
            log_p = (row @ column.T / temperature).log_softmax(1)
            count = sum_over_processes(image.new_tensor(float(len(row))))
            loss = loss - (target(label, column_label) * log_p).sum() / count.clamp(min=1)
        return loss * world_size()
