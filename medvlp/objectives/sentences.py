"""Which sentences say the same: the positives that sentences and studies share, over all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from medvlp.distributed import gather_rows
from medvlp.types import SentenceBatch


def alike(sentence: SentenceBatch, gathered: bool) -> Tensor:
    """Return which pairs of sentences say the same, by the same words or by the same statement, bool (S, S_all).

    Two sentences that state nothing are alike only if they have the same words.

    Args:
        sentence: The sentences of this process.
        gathered: Whether to compare them with those of all processes, in the order of `gather_rows`, or with this
            process's own (S_all = S).
    """
    text, statement = (everywhere(ids, gathered) for ids in (sentence.text_id, sentence.statement_id))
    own = sentence.statement_id[:, None]
    return (sentence.text_id[:, None] == text) | ((own == statement) & (own != 0))


def said(sentence: SentenceBatch, studies: int, gathered: bool) -> Tensor:
    """Return which sentences each study says: its own, and those that are `alike` one of them, bool (B, S_all).

    Args:
        sentence: The sentences of this process.
        studies: Number of its studies B.
        gathered: As in `alike`.
    """
    pairs = alike(sentence, gathered)
    counts = torch.zeros(studies, pairs.shape[1], dtype=torch.int32, device=pairs.device)
    return counts.index_add(0, sentence.study, pairs.int()) > 0


def everywhere(rows: Tensor, gathered: bool) -> Tensor:
    """Return the rows of all sentences, one a sentence, in the order of `alike`: (S_all, ...) of (S, ...)."""
    return gather_rows(rows) if gathered else rows
