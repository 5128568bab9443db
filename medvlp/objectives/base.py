"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from medvlp.types import Batch, ImageFeatures, Section


class Objective(nn.Module, ABC):
    """One joint space of images and texts: its heads, and all losses computed in it.

    A task encodes each image and each text once and hands the features to all of its objectives; their terms are
    added up. An objective never sees a data set or a trainer.
    """

    sections: tuple[Section, ...] = ()
    """The texts it aligns images with."""

    @abstractmethod
    def forward(self, image: ImageFeatures, text: dict[Section, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the named terms of the loss, weighted, each a scalar.

        Args:
            image: Features of all views, N = B * V rows; row b * V + v is view v of study b.
            text: Embeddings (B, E) of each of `sections`; rows of missing sections are to be ignored.
            batch: The batch they come from.
        """

    @abstractmethod
    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the normalised embedding (N, D) of images that belongs to each section."""

    @abstractmethod
    def embed_text(self, text: Tensor) -> Tensor:
        """Return normalised embeddings (M, D) of text embeddings (M, E) in the same space."""


def section_texts(section: Section, findings: Sequence[str], impression: Sequence[str]) -> list[str]:
    """Return one text a study for a section; empty where the study has none."""
    match section:
        case "findings":
            return list(findings)
        case "impression":
            return list(impression)
        case "report":
            return [f"{f} {i}".strip() for f, i in zip(findings, impression, strict=True)]


def section_mask(section: Section, batch: Batch) -> Tensor:
    """Return which studies have a section, bool (B,)."""
    match section:
        case "findings":
            return batch["findings_mask"]
        case "impression":
            return batch["impression_mask"]
        case "report":
            return batch["findings_mask"] | batch["impression_mask"]
