"""Findings of a report as the tags of a label set."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from medvlp.parse import FINDINGS, LABEL_SETS, parse_report
from medvlp.types import PRECEDENCE

LabelSet = Literal["asg", "chexpert", "nih"]


class Tags(nn.Module):
    """A label set: each tag stands for one finding of the vocabulary or several.

    Args:
        label_set: `asg` has the 40 tags of ASG, `chexpert` and `nih` their 14 labels.

    Attributes:
        names: The T tags.
    """

    members: Tensor
    precedence: Tensor

    def __init__(self, label_set: LabelSet) -> None:
        super().__init__()
        self.label_set = LABEL_SETS[label_set]
        self.names = list(self.label_set)
        members = [[finding in findings for finding in FINDINGS] for findings in LABEL_SETS[label_set].values()]
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.register_buffer("precedence", torch.tensor(PRECEDENCE, dtype=torch.int8), persistent=False)

    def forward(self, existence: Tensor) -> Tensor:
        """Return what reports say of each tag, int8 (B, T), from what they say of each finding, int8 (B, F)."""
        rank = (existence[..., None] == self.precedence).int().argmax(-1)
        return self.precedence[(rank[:, None] * self.members).amax(2)]

    def named(self, text: str) -> list[int]:
        """Return the positions of the tags that a text names.

        A tag's own name is that tag; of any other text they are the tags of the findings that it states or, where it
        states none, denies.
        """
        for position, name in enumerate(self.names):
            if text.strip().lower() == name.lower():
                return [position]
        said = parse_report({"": text})
        stated = {t.finding for t in said if t.existence != "absent"} or {t.finding for t in said}
        return [i for i, name in enumerate(self.names) if stated.intersection(self.label_set[name])]
