"""The relation of a sentence to an image, from what the sentence and the image's own report state about findings."""

from __future__ import annotations

import torch
from torch import Tensor

from medvlp.losses.mentions import CONTRADICTS, ENTAILS, NEUTRAL
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN


def relations(report: Tensor, sentence: Tensor) -> Tensor:
    """Return the relation of each sentence to the image of each report, int64 (B, M).

    A sentence contradicts an image if it states a finding that the report denies, or denies one that it states. It is
    entailed if the report agrees with all that it says: findings that it states are stated, and those that it denies
    are denied or not mentioned, since reports leave out most of what is absent. Everything else is neutral: a finding
    that the report does not mention, doubt on one side alone, and sentences that say nothing about findings.

    Args:
        report: State of each finding in the reports, int8 (B, F); see `Batch.existence`.
        sentence: Likewise in the sentences, int8 (M, F).
    """
    present, absent, uncertain = ((sentence == state).float() for state in (PRESENT, ABSENT, UNCERTAIN))
    stated, denied, doubted = ((report == state).float() for state in (PRESENT, ABSENT, UNCERTAIN))
    missing = (report == NOT_MENTIONED).float()
    conflicts = denied @ present.T + stated @ absent.T
    agrees = stated @ present.T + (denied + missing) @ absent.T + doubted @ uncertain.T
    said = (present + absent + uncertain).sum(1)
    relation = torch.full(conflicts.shape, NEUTRAL, device=report.device)
    relation[(agrees == said) & (said > 0)] = ENTAILS
    relation[conflicts > 0] = CONTRADICTS
    return relation
