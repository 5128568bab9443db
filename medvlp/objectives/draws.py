"""One sentence of each study, drawn anew in every step."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_sentences(study: Tensor, studies: int, random: bool) -> tuple[Tensor, Tensor]:
    """Return the position of one sentence of each study, and a mask of the studies that have any.

    The draw is a function of the state of torch's generator, which a task sets by seed, step and process.

    Args:
        study: The study of each sentence, int64 (S,), ascending.
        studies: Number of studies B.
        random: Whether to draw; else it is the first sentence of each study.

    Returns:
        int64 (B,) and bool (B,); the position of a study without sentences is S.
    """
    number = torch.arange(studies, device=study.device)
    first = torch.searchsorted(study, number)
    count = torch.searchsorted(study, number, right=True) - first
    share = torch.rand(studies, device=study.device) if random else torch.zeros(studies, device=study.device)
    position = first + torch.minimum((share * count).long(), count - 1)
    return torch.where(count > 0, position, len(study)), count > 0
