"""IMITATE: hierarchical alignment of visual features with the sections of a report (arXiv 2310.07355)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.losses import ClinicalPrior, contrastive_loss
from medvlp.models import ChannelAggregation, ImageEncoder, ProjectionHead, Temperature, TextEncoder
from medvlp.objectives.base import Objective, embed_map, least_contrast, section_mask, similarity_map
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures

Level = Literal["high", "multi"]
Term = Literal["high_text", "multi_text", "high_view", "multi_view"]

IMITATE_PRIOR = ClinicalPrior()
LEVELS: dict[str, dict[Level, Section]] = {
    "hierarchical": {"high": "impression", "multi": "findings"},
    "reversed": {"high": "findings", "multi": "impression"},
    "flat": {"high": "report"},
}


class HierarchicalAlignment(Objective):
    """Aligns high-level features with the Impression and multi-level features with the Findings.

    Let d be the projection of the pooled feature, and r that of the aggregated channels of all stages. Let 1 and 2 be
    the two views of an image, t the projected text, and CICL the clinical-informed contrastive loss of `medvlp.losses`:

        high_text   CICL(d1, t_imp) + CICL(d2, t_imp)
        multi_text  w (CICL(r1, t_find) + CICL(r2, t_find))
        high_view   v CICL(d1, d2)
        multi_view  w v CICL(r1', r2')      r' from another draw of channels

    with T = temperature in the first two and T = view_temperature in the others, w = multi_weight, v = view_weight.
    A study without a section takes no part in the term of this section, and its image stays in the view terms.

    Deviations from the official code (IMITATE-TMI2024 at cd1c575), which `imitate_official.yaml` undoes if they move
    the optimum:

    - The encoder runs once a view; the official code runs it twice.
    - Negatives, prior and batch statistics come from all processes.
    - The text head sees Findings and Impression in one batch. Its running statistics are therefore those of its
      training, and a batch with a single Findings section has a variance.

    Args:
        image_encoder: The image encoder, for its widths; features come with each call.
        text_encoder: The text encoder, for its width.
        dim: Dimension of the joint space.
        alignment: `hierarchical` as in the paper; `reversed` swaps the sections; `flat` aligns pooled features with
            the whole report and has no other level.
        temperature: Temperature T between images and texts.
        view_temperature: Temperature T between views.
        multi_weight: Weight w of the multi-level terms. The official code lowers w to 0.3 between epochs 30 and 50, but
            its runs end at epoch 20.
        view_weight: Weight v of the terms between views; 0 turns them off. The official code adds the symmetric
            loss twice.
        prior: The clinical prior; null is plain contrastive learning.
        prior_terms: Terms with the prior. In the official code `multi_view` has no prior.
        mask_missing: Leave missing sections out. The official code aligns images with a blank text instead.
        gathered: Negatives, prior and batch statistics of all processes; the official code uses those of one.
        ratios: Shares of channels to draw, one for each of the four stages.
        grid: Side of a channel token.
        heads: Number of attention heads in the aggregation.
        position: See `ChannelAggregation`, also for the options below.
        replacement: Draw with replacement.
        single_stage: Draw one stage, and use all its channels.
        evaluation: Tokens in evaluation.
        padding: Number of tokens to pad to.
        learned_temperature: Whether T between images and texts is a parameter, with `temperature` as its first value.
    """

    heat_source = "global"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        alignment: Literal["hierarchical", "reversed", "flat"] = "hierarchical",
        temperature: float = 0.07,
        view_temperature: float = 0.2,
        multi_weight: float = 1.0,
        view_weight: float = 2.0,
        prior: ClinicalPrior | None = IMITATE_PRIOR,
        prior_terms: Sequence[Term] = ("high_text", "multi_text", "high_view"),
        mask_missing: bool = True,
        gathered: bool = True,
        ratios: Sequence[float] = (0.25, 0.15, 0.10, 0.10),
        grid: int = 16,
        heads: int = 4,
        position: Literal["channel", "slot", "none"] = "channel",
        replacement: bool = False,
        single_stage: bool = False,
        evaluation: Literal["all", "subset"] = "all",
        padding: int | None = None,
        learned_temperature: bool = False,
    ) -> None:
        super().__init__()
        self.levels = LEVELS[alignment]
        self.sections = tuple(self.levels.values())
        self.temperature = Temperature(temperature, learned_temperature)
        self.view_temperature = view_temperature
        self.weight = {"high": 1.0, "multi": multi_weight}
        self.view_weight = view_weight
        self.prior, self.prior_terms = prior, tuple(prior_terms)
        self.mask_missing, self.gathered = mask_missing, gathered
        width = image_encoder.width
        self.image_heads = nn.ModuleDict({"high": ProjectionHead(width, width, dim, sync=gathered)})
        if "multi" in self.levels:
            self.aggregation = ChannelAggregation(
                image_encoder.widths, ratios, grid, heads, position, replacement, single_stage, evaluation, padding
            )
            width = self.aggregation.width
            self.image_heads["multi"] = ProjectionHead(width, width, dim, sync=gathered)
        self.text_head = ProjectionHead(text_encoder.width, 1024, dim, sync=gathered)
        self.register_load_state_dict_pre_hook(_rename_heads)  # type: ignore[no-untyped-call]

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(self.gathered, processes)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `high_text`, `multi_text`, `high_view` and `multi_view`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        texts = {s: text.sections[s] for s in self.sections}
        masks = {s: section_mask(s, batch) for s in texts}
        if not self.mask_missing:
            masks = {s: torch.ones_like(mask) for s, mask in masks.items()}
        projected = self._project_text(texts, masks)
        temperature = self.temperature.value
        terms: dict[str, Tensor] = {}
        for level, section in self.levels.items():
            mask, prior_text = masks[section], texts[section] * masks[section][:, None]
            compare_views = views > 1 and self.view_weight > 0
            # The view terms use a second draw of channels: see r' in the class.
            projections = self._project_image(level, image, draws=2 if compare_views else 1)
            x = projections[0].unflatten(0, (studies, views))
            losses = [
                contrastive_loss(
                    x[:, v],
                    projected[section],
                    temperature=temperature,
                    mask=mask,
                    text=prior_text,
                    prior=self._prior(f"{level}_text"),
                    gathered=self.gathered,
                )
                for v in range(views)
            ]
            terms[f"{level}_text"] = self.weight[level] * torch.stack(losses).sum()
            if not compare_views:
                continue
            x = projections[-1].unflatten(0, (studies, views))
            losses = [
                contrastive_loss(
                    x[:, v],
                    x[:, w],
                    temperature=self.view_temperature,
                    text=prior_text,
                    prior=self._prior(f"{level}_view"),
                    gathered=self.gathered,
                )
                for v, w in combinations(range(views), 2)
            ]
            terms[f"{level}_view"] = self.weight[level] * self.view_weight * torch.stack(losses).sum()
        return terms

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the embedding of each level, by the section that it is aligned with."""
        return {
            section: F.normalize(self._project_image(level, image)[0].float(), dim=1)
            for level, section in self.levels.items()
        }

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the normalised projection of texts of any section."""
        return F.normalize(self.text_head(text).float(), dim=1)

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the cosine of each place, projected by the high level's head, with the texts.

        See `Objective.text_heat`.
        """
        assert places is not None  # of its heat source
        return similarity_map(embed_map(self.image_heads["high"], places), self.embed_text(text.pooled))

    def _prior(self, term: str) -> ClinicalPrior | None:
        return self.prior if term in self.prior_terms else None

    def _project_image(self, level: Level, image: ImageFeatures, draws: int = 1) -> list[Tensor]:
        features = [image.pooled] if level == "high" else self.aggregation(image.pyramid, draws)
        return [self.image_heads[level](feature) for feature in features]

    def _project_text(self, text: dict[Section, Tensor], masks: dict[Section, Tensor]) -> dict[Section, Tensor]:
        """Project the texts that exist, in one batch; the rows of the others stay zero."""
        rows = torch.cat([masks[s] for s in text])
        kept = self.text_head(torch.cat(list(text.values()))[rows])
        everything = kept.new_zeros(len(rows), kept.shape[1]).masked_scatter(rows[:, None], kept)
        return dict(zip(text, everything.chunk(len(text)), strict=True))


def _rename_heads(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Rename the projection heads in a checkpoint of version 0.1 from `heads` to `image_heads`."""
    for key in [key for key in state if key.startswith(f"{prefix}heads.")]:
        state[f"{prefix}image_{key.removeprefix(prefix)}"] = state.pop(key)
