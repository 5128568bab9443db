"""The vocabulary that data, encoders, objectives and tasks share.

Letters in shapes: B studies of a batch, V views of an image (augmented copies), N = B * V images, H and W pixels,
D width of a feature, C channels, L labels, M texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from torch import Tensor

Section = Literal["findings", "impression", "report"]
"""A text that images are aligned with; the report is the Findings followed by the Impression."""

PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED = 1, 0, -1, -2


class Batch(TypedDict):
    """One batch, as `CXRDataModule` collates it.

    Attributes:
        image: Grey images, uint8 (B, V, H, W). Encoders normalise them, nobody else.
        findings: Findings sections, B strings, empty where missing.
        impression: Impression sections, B strings, empty where missing.
        findings_mask: Which studies have Findings, bool (B,).
        impression_mask: Which studies have an Impression, bool (B,).
        label: int8 (B, L): PRESENT, ABSENT, UNCERTAIN or NOT_MENTIONED.
        index: Position of the sample in its dataset, int64 (B,).
    """

    image: Tensor
    findings: list[str]
    impression: list[str]
    findings_mask: Tensor
    impression_mask: Tensor
    label: Tensor
    index: Tensor


@dataclass
class ImageFeatures:
    """What an image encoder sees.

    Attributes:
        pooled: One vector an image, (N, D).
        pyramid: Feature maps from fine to coarse, each (N, C_l, H_l, W_l). The last one holds the patch features.
    """

    pooled: Tensor
    pyramid: list[Tensor]

    @property
    def patches(self) -> Tensor:
        """Patch features: the coarsest map, (N, C, H, W)."""
        return self.pyramid[-1]
