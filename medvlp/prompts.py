"""Prompts of zero-shot classification: what is said of a finding when it is there, and when it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

PHRASES: dict[str, str] = {
    "Lung Lesion": "lung nodule or mass",
    "Pleural Other": "pleural thickening",
    "Support Devices": "support device",
}
"""Labels whose name is not what a report says."""

NORMAL = "No Finding"


@dataclass
class Prompts:
    """Templates with `{}` for the finding; a label's score compares its positive and negative prompts.

    The embedding of a side is the mean of its prompts' embeddings, normalised again.

    Attributes:
        positive: Templates of a present finding.
        negative: Templates of an absent one.
        normal: Prompts of a study without findings: the positive ones of the label `No Finding`.
        abnormal: Its negative ones.
        phrases: What a label is called in a report; by default its name in lower case.
    """

    positive: Sequence[str] = ("{}.", "There is {}.", "Findings consistent with {}.")
    negative: Sequence[str] = ("No {}.", "There is no {}.", "No evidence of {}.")
    normal: Sequence[str] = ("No acute cardiopulmonary abnormality.", "Normal chest radiograph.")
    abnormal: Sequence[str] = ("Abnormal chest radiograph.", "Acute cardiopulmonary abnormality.")
    phrases: dict[str, str] = field(default_factory=dict)

    def of(self, label: str) -> tuple[list[str], list[str]]:
        """Return the positive and the negative prompts of a label."""
        if label == NORMAL:
            return list(self.normal), list(self.abnormal)
        phrase = self.phrases.get(label, PHRASES.get(label, label.lower()))
        return self._fill(self.positive, phrase), self._fill(self.negative, phrase)

    @staticmethod
    def _fill(templates: Sequence[str], phrase: str) -> list[str]:
        filled = [template.format(phrase) for template in templates]
        return [text[:1].upper() + text[1:] for text in filled]
