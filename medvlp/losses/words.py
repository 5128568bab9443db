"""GLoRIA's similarity of an image with a text, from the words and the patches that they attend to (ICCV 2021)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Pairs of a word and a patch in a block of texts: 64 MB in single precision.
BLOCK = 1 << 24


def word_cosine(patch: Tensor, word: Tensor, present: Tensor, attention: float) -> Tensor:
    """Return the cosine of each word of a text with the mean patch that it attends to, (N, M, L).

    With the patches v_p of an image and the words w_l of a text:

        s_lp = w_l . v_p
        b_lp = exp(s_lp) / (1 + sum_k exp(s_kp))        words compete for a patch
        a_lp = softmax over p of (attention b_lp)
        c_l  = sum_p a_lp v_p,    cos(c_l, w_l)

    The 1 stands for a word that is like no patch: with it, a text of one word attends to some patches more than to
    others. In the official code [CLS] is that word, and one of the text in Z as well.

    Args:
        patch: Patches (N, P, D) of N images.
        word: Words (M, L, D) of M texts.
        present: Mask of the words that exist, bool (M, L); the cosines of the others have no meaning.
        attention: Factor of the attention; the larger, the fewer patches count.
    """
    score = torch.einsum("npd,mld->nmlp", patch, word)
    told = score.masked_fill(~present[:, :, None], -1e30)
    share = (told - F.softplus(told.logsumexp(2, keepdim=True))).exp()
    weight = (attention * share).softmax(3)
    # c_l . w_l and |c_l|^2 without c_l, which has D numbers a word and an image.
    square = torch.einsum("nmlp,npq,nmlq->nml", weight, patch @ patch.transpose(1, 2), weight)
    length = square.clamp(min=1e-12).sqrt() * word.norm(dim=2).clamp(min=1e-6)
    cosine: Tensor = (weight * score).sum(3) / length
    return cosine


def text_similarity(patch: Tensor, word: Tensor, present: Tensor, attention: float, sharpness: float) -> Tensor:
    """Return the similarity of images with texts, Z = log sum_l exp(sharpness cos(c_l, w_l)), (N, M).

    The arguments are those of `word_cosine`. The similarity with a text without words is 0.
    """
    cosine = word_cosine(patch, word, present, attention).masked_fill(~present, -1e30)
    similarity: Tensor = (sharpness * cosine).logsumexp(2) * present.any(1)
    return similarity


def local_similarity(
    patch: Tensor, word: Tensor, present: Tensor, *, attention: float = 4.0, sharpness: float = 5.0
) -> Tensor:
    """Return the similarities (N, M) of images with texts, one block of texts after the other; see `text_similarity`.

    The attention of all pairs would not fit into the memory: 48 images with 361 patches and 48 reports with 100 words
    have 83 million pairs of a word and a patch. So the backward pass computes that of each block anew.

    Args:
        patch: Patches (N, P, D) of N images.
        word: Words (M, L, D) of M texts.
        present: Mask of the words that exist, bool (M, L).
        attention: Factor of the attention.
        sharpness: Factor of the cosines; the larger, the less the words beyond the best count.
    """
    one = partial(text_similarity, attention=attention, sharpness=sharpness)
    texts = max(1, BLOCK // (patch.shape[0] * patch.shape[1] * word.shape[1]))
    with torch.autocast(patch.device.type, enabled=False):
        patch, blocks = patch.float(), zip(word.float().split(texts), present.split(texts), strict=True)
        return torch.cat([checkpoint(one, patch, *block, use_reentrant=False) for block in blocks], 1)
