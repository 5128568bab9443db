"""Findings of a report as the tags of a label set."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from medvlp.parse import DESCRIPTIONS, FINDINGS, LABEL_SETS, parse_report
from medvlp.types import PRECEDENCE

LabelSet = Literal["asg", "chexpert", "nih"]


class Tags(nn.Module):
    """A label set: each tag stands for one or several findings of the vocabulary.

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
        """Return the state of each tag in reports, int8 (B, T), from that of each finding, int8 (B, F).

        If findings of one tag differ, `PRECEDENCE` decides. See `Batch.existence` for the values.
        """
        rank = (existence[..., None] == self.precedence).int().argmax(-1)
        return self.precedence[(rank[:, None] * self.members).amax(2)]

    @property
    def described(self) -> list[str]:
        """The T tags, each with the description of its first finding."""
        first = (findings[0] if findings else "no finding" for findings in self.label_set.values())
        return [f"{name}: {DESCRIPTIONS[finding]}" for name, finding in zip(self.names, first, strict=True)]

    def named(self, text: str) -> list[int]:
        """Return the positions of the tags that a text names.

        The name of a tag, in any case, names this tag alone. Any other text names the tags of the findings that it
        states or, if it states none, of those that it denies.
        """
        for position, name in enumerate(self.names):
            if text.strip().lower() == name.lower():
                return [position]
        triplets = parse_report({"": text})
        stated = {t.finding for t in triplets if t.existence != "absent"} or {t.finding for t in triplets}
        return [i for i, name in enumerate(self.names) if stated.intersection(self.label_set[name])]
