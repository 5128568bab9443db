"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.types import (
    Batch,
    HeatSource,
    ImageFeatures,
    PhraseFeatures,
    RegionBatch,
    Section,
    TextFeatures,
    report_text,
)


@dataclass(frozen=True)
class HeatMap:
    """A map of the places in an image that match a text.

    Attributes:
        study: Position of the image in the batch.
        text: The text.
        heat: The map (h, w), on the grid of patches.
        box: Boxes (R, 4) of the regions that the text mentions, in pixels of the image; (0, 4) if they are not known.
    """

    study: int
    text: str
    heat: Tensor
    box: Tensor


class Objective(nn.Module, ABC):
    """One pre-training objective: its heads and all its losses, for alignment objectives in one joint space.

    A task encodes each image and each text once, passes the features to all of its objectives, and sums their terms.
    An objective never sees a data set or a trainer.
    """

    sections: tuple[Section, ...] = ()
    """Sections that whole images are aligned with; empty for objectives without a joint space of whole images."""

    reads_words: bool = False
    """Whether this objective reads the words of region sentences."""

    reads_findings: bool = False
    """Whether this objective learns from the findings in reports, `Batch.existence`."""

    quality: str | None = None
    """The metric of `summarise` that measures the quality of this objective, higher is better; None if it has none."""

    heat_source: HeatSource | None = None
    """The source of the maps of `text_heat`; None if the objective has no such maps."""

    def least_studies(self, processes: int) -> int:
        """Return the least number of studies in a batch of each process from which this objective can learn."""
        return 1

    @abstractmethod
    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the named terms of the loss, weighted, each a scalar.

        Args:
            image: Features of all views, N = B * V rows; row b * V + v is view v of study b.
            text: Features of each of `sections`, and of words if `reads_words`.
            batch: The batch of these features.
        """

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the normalised embeddings (N, D) of images, by the section that they are aligned with."""
        return {}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return normalised embeddings (M, D) of text embeddings (M, E) in the same space."""
        raise TypeError(f"{type(self).__name__} aligns no whole images with texts: it has no 'sections'.")

    def evaluate(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the inputs of `summarise` for each study of an evaluation batch (V = 1), tensors (B, ...)."""
        return {}

    def summarise(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return metrics from the rows of all studies, beyond retrieval and zero-shot classification."""
        return {}

    def heat_maps(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> list[HeatMap]:
        """Return heat maps of the sentences or findings in the reports of an evaluation batch (V = 1)."""
        return []

    def can_show(self, text: str) -> bool:
        """Return whether this objective can draw a heat map for a text."""
        return self.heat_source is not None

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return heat maps of texts in images, (N, M, h, w).

        Args:
            image: Features of N images.
            places: The pooled feature of each location taken alone, (N, D, h, w); see `ImageEncoder.places`. None
                unless `heat_source` is `global`.
            text: M texts.

        Raises:
            UserError: If `can_show` is false for a text.
        """
        raise TypeError(f"{type(self).__name__} has no heat maps of texts: it has no 'heat_source'.")


def least_contrast(gathered: bool, processes: int) -> int:
    """Return `Objective.least_studies` of an objective whose negatives are other studies."""
    return 1 if gathered and processes > 1 else 2


def embed_map(head: nn.Module, features: Tensor) -> Tensor:
    """Apply a head to each place of maps (N, C, h, w), and return the normalised outputs (N, D, h, w)."""
    rows = F.normalize(head(features.permute(0, 2, 3, 1).flatten(0, 2)).float(), dim=1)
    return torch.unflatten(rows, 0, (len(features), *features.shape[-2:])).permute(0, 3, 1, 2)


def similarity_map(features: Tensor, text: Tensor) -> Tensor:
    """Return the cosine of embedded maps (N, D, h, w) with embedded texts (M, D), (N, M, h, w)."""
    # In half precision similarities that differ little would be ties.
    with torch.autocast(features.device.type, enabled=False):
        return torch.einsum("ndhw,md->nmhw", features, text)


def section_texts(section: Section, findings: Sequence[str], impression: Sequence[str]) -> list[str]:
    """Return one text a study for a section; empty if the study lacks the section."""
    match section:
        case "findings":
            return list(findings)
        case "impression":
            return list(impression)
        case "report":
            return [report_text(f, i) for f, i in zip(findings, impression, strict=True)]


def section_mask(section: Section, batch: Batch) -> Tensor:
    """Return a mask of the studies that have a section, bool (B,)."""
    match section:
        case "findings":
            return batch["findings_mask"]
        case "impression":
            return batch["impression_mask"]
        case "report":
            return batch["findings_mask"] | batch["impression_mask"]


def regions_of(batch: Batch) -> RegionBatch:
    """Return the regions of a batch.

    Raises:
        ValueError: If the batch has no regions.
    """
    if batch["region"] is None:
        raise ValueError("the batch holds no regions, which this objective aligns: pass --data.regions true.")
    return batch["region"]
