"""Similarities of many images with many texts, in blocks: neither images nor pairs need fit into the memory at once.

An objective represents an image by a vector (D,) or by tokens (P, D), and a text by a vector (D,) or by tokens (L, D).
A token of zeros is padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Similarity = Callable[[Tensor, Tensor], Tensor]
"""From n images (n, ...) and m texts (m, ...) to their similarities (n, m)."""

# Products of a token of an image with a token of a text in one block, and values of its images: 64 MB each in single
# precision.
BLOCK = 1 << 24


def cosine(image: Tensor, text: Tensor) -> Tensor:
    """Return the products (N, M) of normalised vectors (N, D) and (M, D)."""
    return image @ text.T


def blockwise(similarity: Similarity, image: Tensor, text: Tensor, block: int = BLOCK) -> Tensor:
    """Return the similarities (N, M) of images with texts, one block of pairs after the other.

    The result does not depend on the blocks, beyond rounding. Images may be a tensor on disk, such as that of a memory
    map: only the images of one block are read at a time, in the precision of the texts. With a gradient, a block is
    computed again in the backward pass, so that training needs the memory of one block as well.

    Args:
        similarity: See `Similarity`.
        image: N vectors (N, D), or tokens (N, P, D), on any device.
        text: M vectors (M, D), or tokens (M, L, D), on the device to compute on.
        block: Largest number of products of tokens, and of values of the images, in a block.
    """
    if image.ndim == text.ndim == 2:
        return similarity(image.to(text.device, text.dtype), text)
    each = _tokens(image) * _tokens(text)
    # Few texts must not put too many images into a block. And similarities that prepare each image and each text, as a
    # decoder does, prepare them least often in blocks that are square.
    images = max(1, min(math.isqrt(block // each), block // max(1, image.shape[1:].numel())))
    texts = max(1, block // (each * images))
    if images >= len(image) and texts >= len(text):
        return similarity(image.to(text.device, text.dtype), text)
    if torch.is_grad_enabled() and (image.requires_grad or text.requires_grad):
        return torch.cat([_of_images(similarity, part, text, texts) for part in image.split(images)])
    # One result for all blocks: small results between them would keep the allocator from using their memory again.
    out = torch.empty(len(image), len(text), dtype=text.dtype, device=text.device)
    for part, rows in zip(image.split(images), out.split(images), strict=True):
        moved = part.to(text.device, text.dtype)
        for some, columns in zip(text.split(texts), rows.split(texts, 1), strict=True):
            columns.copy_(similarity(moved, some))
    return out


def join(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate vectors (n, D), or tokens (n, P, D) of which the shorter are padded with zeros."""
    if parts[0].ndim == 2:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])


def one_vector(rows: Tensor) -> Tensor:
    """Return one vector (N, D) of length 1 for vectors (N, D), or for tokens (N, P, D) their mean."""
    return F.normalize(rows if rows.ndim == 2 else rows.sum(1), dim=1)


def joined(spaces: Sequence[Tensor]) -> Tensor:
    """Return one vector (N, sum of D) for the vectors (N, D) of several spaces.

    The product of an image's and a text's vector is their mean cosine over the spaces.
    """
    vectors: Tensor = torch.cat(list(spaces), 1) / len(spaces) ** 0.5
    return vectors


def _of_images(similarity: Similarity, image: Tensor, text: Tensor, texts: int) -> Tensor:
    moved = image.to(text.device, text.dtype)
    return torch.cat([checkpoint(similarity, moved, some, use_reentrant=False) for some in text.split(texts)], 1)


def _tokens(rows: Tensor) -> int:
    return rows.shape[1] if rows.ndim == 3 else 1
