"""Tokens of texts from the packed words of a batch: padded, or averaged to one vector a text."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.objectives.base import sentences_of
from medvlp.types import Batch, PhraseFeatures, TextFeatures


def words_of(text: TextFeatures, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the words (K, E) of the reports in a batch, and the study of each word, int64 (K,), ascending."""
    assert text.word is not None  # the task reads words where an objective asks for them
    assert text.word_sentence is not None
    return text.word, sentences_of(batch).study[text.word_sentence]


def padded(word: Tensor, owner: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the words of texts as tokens (M, L, D), and a mask of those that exist, bool (M, L); L >= 1.

    Zeros follow the words of the shorter texts.

    Args:
        word: The words (K, D).
        owner: The text of each word, int64 (K,), ascending.
        number: Number of texts M.
    """
    counts = owner.bincount(minlength=number)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(owner), device=owner.device)
    longest = max(1, int(counts.amax())) if number else 1
    tokens = word.new_zeros(number, longest, word.shape[1]).index_put((owner, place - first[owner]), word)
    return tokens, torch.arange(longest, device=owner.device) < counts[:, None]


def text_tokens(pooled: Tensor, word: Tensor, owner: Tensor) -> Tensor:
    """Return the tokens (M, 1 + L, D) of texts: the pooled vector (M, D) first, and then the words; see `padded`."""
    return torch.cat([pooled[:, None], padded(word, owner, len(pooled))[0]], 1)


def mean_words(embedded: Tensor, text: PhraseFeatures) -> Tensor:
    """Return the mean (M, D) of the normalised words of phrases.

    Args:
        embedded: The embedded words (K, D) of the phrases.
        text: The phrases.

    Raises:
        UserError: If a phrase has no words.
    """
    number = len(text.texts)
    counts = text.word_phrase.bincount(minlength=number)
    if not counts.all():
        raise UserError(f"text {text.texts[int(counts.argmin())]!r} has no words that the text encoder knows.")
    rows = F.normalize(embedded.float(), dim=1)
    return rows.new_zeros(number, rows.shape[1]).index_add(0, text.word_phrase, rows) / counts[:, None]
