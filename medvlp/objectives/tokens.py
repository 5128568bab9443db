"""Tokens of texts from the packed words of a batch: padded, or averaged to one vector a text."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.objectives.base import sentences_of
from medvlp.objectives.draws import draw_sentences
from medvlp.types import NOT_MENTIONED, Batch, PhraseFeatures, TextFeatures


def words_of(text: TextFeatures, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the words (K, E) of the reports in a batch, and the study of each word, int64 (K,), ascending."""
    assert text.word is not None  # the task reads words where an objective asks for them
    assert text.word_sentence is not None
    return text.word, sentences_of(batch).study[text.word_sentence]


def drawn_sentences(text: TextFeatures, batch: Batch, training: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw one sentence a study; in evaluation it is the first one.

    Returns:
        The embeddings (B, E) of the sentences, their words (K, E), the study of each word, int64 (K,), ascending, the
        state of each finding in the sentences, int8 (B, F), and a mask of the studies that have a sentence, bool (B,).
    """
    assert text.sentence is not None  # the task reads sentences and words where an objective asks for them
    assert text.word is not None
    assert text.word_sentence is not None
    said, studies = sentences_of(batch), len(batch["image"])
    which, has = draw_sentences(said.study, studies, training)
    spoken = has.nonzero()[:, 0]
    drawn = which[spoken]
    pooled = text.sentence.new_zeros(studies, text.sentence.shape[1]).index_put((spoken,), text.sentence[drawn])
    existence = torch.full_like(batch["existence"], NOT_MENTIONED).index_put((spoken,), said.existence[drawn])
    owner = torch.full_like(said.study, -1).index_put((drawn,), spoken)[text.word_sentence]
    return pooled, text.word[owner >= 0], owner[owner >= 0], existence, has


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
