"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.objectives.similarity import cosine
from medvlp.types import (
    Batch,
    HeatSource,
    ImageFeatures,
    PhraseFeatures,
    RegionBatch,
    Section,
    SentenceBatch,
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

    reads_reports: bool = True
    """Whether this objective reads `TextFeatures.sections`, the embeddings of its `sections`."""

    trains_texts: bool = True
    """Whether the gradient of its loss reaches a trained text encoder through what it reads."""

    reads_sentences: bool = False
    """Whether this objective reads `TextFeatures.sentence`, the embedding of each sentence alone."""

    reads_words: bool = False
    """Whether this objective reads `TextFeatures.word`, the words of the sentences in their reports."""

    reads_regions: bool = False
    """Whether this objective reads `Batch.region`; evaluation leaves it out where a batch has none."""

    reads_findings: bool = False
    """Whether this objective learns from the findings in reports, `Batch.existence`."""

    reads_labels: Sequence[str] = ()
    """All labels of the prepared folder, in its order, if this objective learns from `Batch.label`."""

    quality: str | None = None
    """The metric of `summarise` that measures the quality of this objective, higher is better; None if it has none."""

    heat_source: HeatSource | None = None
    """The source of the maps of `text_heat`; None if the objective has no such maps."""

    @property
    def is_cosine(self) -> bool:
        """Whether its similarity is the cosine, the product of one vector an image and one a text."""
        return type(self).similarity is Objective.similarity

    @property
    def reads_pooled(self) -> bool:
        """Whether its gradient reaches `ImageFeatures.pooled`; by default if it aligns whole images."""
        return bool(self.sections)

    def least_studies(self, processes: int) -> int:
        """Return the least number of studies in a batch of each process from which this objective can learn."""
        return 1

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for a training epoch; what this changes must be part of the state, for runs resumed in the epoch.

        Args:
            epoch: Number of epochs before.
        """

    @abstractmethod
    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the named terms of the loss, weighted, each a scalar.

        Args:
            image: Features of all views, N = B * V rows; row b * V + v is view v of study b.
            text: Features of each of `sections` if `reads_reports`, of sentences if `reads_sentences`, and of words if
                `reads_words`.
            batch: The batch of these features.
        """

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the images by the section that they are aligned with: what `similarity` compares with texts.

        Returns:
            Normalised vectors (N, D), or tokens (N, P, D) if texts are compared with the parts of an image.
        """
        return {}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return texts, given their embeddings (M, E), for `similarity`: by default normalised vectors (M, D)."""
        raise TypeError(f"{type(self).__name__} aligns no whole images with texts: it has no 'sections'.")

    def embed_phrases(self, text: PhraseFeatures) -> Tensor:
        """Return texts, given their embeddings and words, for `similarity`; by default `embed_text` of the former.

        Returns:
            Vectors (M, D), or tokens (M, L, D) with zeros as padding.
        """
        return self.embed_text(text.pooled)

    def embed_sections(self, text: TextFeatures, batch: Batch) -> dict[Section, Tensor]:
        """Return the sections of the reports in a batch for `similarity`, each (B, D) or (B, L, D)."""
        return {section: self.embed_text(text.sections[section]) for section in self.sections}

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the similarities (N, M) of images from `embed_image` with texts; by default the cosine.

        Zero-shot classification, retrieval and search rank by it, and average it over the spaces of a model: it should
        be of the order of a cosine. They call it through `medvlp.objectives.similarity.blockwise`.

        Args:
            image: (N, D) or (N, P, D), in single or double precision.
            text: (M, D) or (M, L, D), likewise.
        """
        return cosine(image, text)

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


def sentences_of(batch: Batch) -> SentenceBatch:
    """Return the sentences of a batch.

    Raises:
        ValueError: If the batch has no sentences.
    """
    if batch["sentence"] is None:
        raise ValueError("the batch holds no sentences, which this objective reads.")
    return batch["sentence"]


def regions_of(batch: Batch) -> RegionBatch:
    """Return the regions of a batch.

    Raises:
        ValueError: If the batch has no regions.
    """
    if batch["region"] is None:
        raise ValueError("the batch holds no regions, which this objective aligns: pass --data.regions true.")
    return batch["region"]
