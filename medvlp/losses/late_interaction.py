"""Images and texts that are compared part by part: the similarity of RadZero, and InfoNCE with several positives.

Both are pure functions of what one process holds. Objectives gather texts before, and logits after the similarity, so
that each process has the logits of the joined batch: the loss of each is then that of all, and so is the mean of their
gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attended_cosine(image: Tensor, text: Tensor, temperature: Tensor | float) -> Tensor:
    """Return the cosine of each text with the tokens of each image that it attends to (RadZero's VL-CABS).

    With tokens v_p of an image and a text t, all of length 1,

        w = softmax_p(t v_p / T),    a = sum_p w_p v_p,    similarity = t a / |a|

    The map t v_p is that of the zero-shot segmentation of RadZero (arXiv 2504.07416).

    Args:
        image: Normalised tokens of N images, (N, P, D). A token of zeros is padding.
        text: Normalised texts (M, D), in the same precision.
        temperature: Temperature T.

    Returns:
        The similarities (N, M).
    """
    with torch.autocast(image.device.type, enabled=False):
        # One matrix product for all images; torch would make a small one for each of them from (N, M, P).
        cosine = image @ text.T
        padding = torch.linalg.vector_norm(image, dim=2, keepdim=True) == 0
        weight = (cosine / temperature).masked_fill(padding, -1e30).softmax(1)
        attended = weight.transpose(1, 2) @ image
        length: Tensor = torch.linalg.vector_norm(attended, dim=2)
        return (weight * cosine).sum(1) / length.clamp(min=1e-12)


def multi_positive_loss(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the InfoNCE of images and texts of which each may have several partners (MP-NCE, as in RadZero).

    A positive pair (n, m) with logit l costs, in each direction,

        log(1 + sum_k exp(l_nk - l))   over the texts k that are negatives of image n, and
        log(1 + sum_k exp(l_km - l))   over the images k that are negatives of text m

    The other positives of n and m are in neither sum. The loss of a text is the mean over its positives and both
    directions, and the result is the mean over the texts that have a positive.

    With one text an image, of which all others are negatives, this is the loss of CLIP. With several texts an image,
    each of one image alone, it is that of RadZero's code (exp/cxr_pt/model/losses.py at 524ebe1).

    Args:
        logits: Of N images with M texts, (N, M).
        positive: Mask of the positive pairs, bool (N, M).
        negative: Mask of the negative pairs, bool (N, M); the other pairs take no part.

    Returns:
        A scalar, zero if there is no positive pair.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        cost = torch.zeros_like(logits)
        for dim in (0, 1):
            # Without any negative the sum is exp(-1e30): cost and gradient of the pair are zero.
            rivals = logits.masked_fill(~negative, -1e30).logsumexp(dim, keepdim=True)
            cost = cost + F.softplus(rivals - logits)
        partners = positive.sum(0)
        of_text = (cost * positive).sum(0) / partners.clamp(min=1) / 2
        return of_text.sum() / (partners > 0).sum().clamp(min=1)
