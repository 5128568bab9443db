"""Prompts of zero-shot classification: what is said of a finding when it is there, and when it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

PHRASES: dict[str, Sequence[str]] = {
    "Cardiomegaly": ["cardiomegaly", "enlarged heart"],
    "Enlarged Cardiomediastinum": ["widened mediastinum"],
    "Lung Lesion": ["lung nodule", "lung mass"],
    "Pleural Effusion": ["left pleural effusion", "right pleural effusion", "bilateral pleural effusions"],
    "Pleural Other": ["pleural thickening"],
    "Pneumonia": ["consolidation concerning for pneumonia"],
    "Pneumothorax": ["left pneumothorax", "right pneumothorax"],
    "Support Devices": ["endotracheal tube", "enteric tube", "central venous catheter", "pacemaker"],
}
"""What a report says for a label, where that is not its name: several findings, or one on either side."""


NORMAL = "No Finding"
NORMAL_STUDY = (
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "Heart size is normal. The lungs are clear. No pleural effusion or pneumothorax.",
    "The cardiomediastinal silhouette is normal. No focal consolidation, effusion, or pneumothorax.",
)


@dataclass
class Prompts:
    """Templates with `{}` for the finding; the score compares the positive with the negative prompts.

    By default the negative ones say that the study is normal: a frozen sentence encoder puts "no effusion" next to
    "effusion", and normal reports far from both. `negative: ["No {}."]` is the other custom of the field.

    The embedding of a side is the mean of its prompts' embeddings, normalised again. A label that stands for several
    findings, such as Support Devices, has the score of the likeliest.

    Attributes:
        positive: Templates of a present finding.
        negative: Templates of an absent one.
        normal: Positive prompts of the label `No Finding`.
        abnormal: Its negative ones.
        phrases: What the findings of a label are called in a report; by default its name in lower case.
    """

    positive: Sequence[str] = ("{}.", "There is {}.", "Findings consistent with {}.")
    negative: Sequence[str] = NORMAL_STUDY
    normal: Sequence[str] = NORMAL_STUDY
    abnormal: Sequence[str] = ("Abnormal chest radiograph.", "Acute cardiopulmonary abnormality.")
    phrases: dict[str, Sequence[str]] = field(default_factory=dict)

    def of(self, label: str) -> list[tuple[list[str], list[str]]]:
        """Return the positive and the negative prompts of each finding that a label stands for."""
        if label == NORMAL:
            return [(list(self.normal), list(self.abnormal))]
        phrases = self.phrases.get(label) or PHRASES.get(label) or [label.lower()]
        return [(self._fill(self.positive, phrase), self._fill(self.negative, phrase)) for phrase in phrases]

    @staticmethod
    def _fill(templates: Sequence[str], phrase: str) -> list[str]:
        filled = [template.format(phrase) for template in templates]
        return [text[:1].upper() + text[1:] for text in filled]
