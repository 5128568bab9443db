"""Pairs of images and sentences for contrastive losses: which are positive, which negative, over all processes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medvlp.distributed import gather, rank, world_size
from medvlp.objectives.sentences import everywhere, said
from medvlp.types import SentenceBatch

Alike = Literal["positive", "excluded", "negative"]
"""What a sentence of another study is to an image whose own report says the same."""


def image_sentence_pairs(sentence: SentenceBatch, kept: Tensor, studies: int, alike: Alike) -> tuple[Tensor, Tensor]:
    """Return masks of the positive and of the negative pairs of all studies and sentences, bool (B_all, S_all).

    The sentences of its own report are the positives of an image. A study without any sentence takes no part: nobody
    knows what its image shows.

    Args:
        sentence: The sentences of this process.
        kept: Mask of those that take part, bool (S,); the columns are the kept sentences of all processes.
        studies: Number of this process's studies B.
        alike: See `Alike`. RadZero and CARZero take each sentence of another study for a negative.
    """
    study = torch.arange(studies, device=kept.device)
    # Studies get numbers that are unique over all processes.
    of_sentence = everywhere(sentence.study * world_size() + rank(), True)
    own = (study * world_size() + rank())[:, None] == of_sentence
    same = said(sentence, studies, True)
    positive = same if alike == "positive" else own
    negative = ~(own if alike == "negative" else same) & own.any(1, keepdim=True)
    columns = everywhere(kept, True)
    return gather(positive[:, columns]), gather(negative[:, columns])
