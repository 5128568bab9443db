"""ASG's alignment of anatomical regions with the sentences that mention them (ARSA)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from medvlp.distributed import gather, gather_rows, rank, world_size
from medvlp.errors import UserError
from medvlp.losses import region_sentence_loss
from medvlp.models import ImageEncoder, ProjectionHead, Temperature, TextEncoder
from medvlp.objectives.base import HeatMap, Objective, embed_map, regions_of, sentences_of, similarity_map
from medvlp.objectives.parts import Said, Shown, boxed_patches
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, RegionBatch, TextFeatures


class RegionAlignment(Objective):
    """Aligns each region of an image with the sentences of its report that mention it.

    The feature of a region is the average of its box in the map of normalised projected patches (ROI-align). The
    feature of a sentence is the average of its normalised projected words. The loss is
    `medvlp.losses.region_sentence_loss`, with other regions and sentences as negatives. A view takes part with the
    regions that it shows, and the loss is the mean over the views.

    Deviations from the official code (ASGMVLP_CODE at 088e896):

    - Boxes stay with their own image. The official collate writes batch indices before it sorts the batch, so that
      98.5 % of regions are pooled from another patient.
    - A region has several positives, and none of them is a negative.
    - Averages are normalised again.
    - ROI-align does not shift boxes by half a patch.
    - Batch statistics cover words and patches without padding, and those of all processes.

    Args:
        image_encoder: The image encoder, for the width of its patches.
        text_encoder: The text encoder, for the width of its words.
        dim: Dimension of the joint space.
        hidden: Number of hidden units in the projection heads.
        temperature: Temperature of the similarities.
        weight: Weight of the loss.
        negatives: Source of the negatives: `image` for regions and sentences of the same image, `batch` for those of
            all images of all processes. With `batch`, a sentence equal to a positive of a region is also its positive.
        roi_size: Side of the grid of samples in a box; a region is the average over this grid.
        roi_aligned: See `torchvision.ops.roi_align`; the official code has False.
        gathered: Batch statistics of all processes; the official code uses those of one.
        background: Use patches around the regions as further negatives of the sentences of the same image. Their
            centres lie outside the smallest rectangle around the regions that its report mentions. The official code
            does not compare sentences with them, so that a map is often highest there.
        learned_temperature: Whether the temperature is a parameter, with `temperature` as its first value.
    """

    reads_words = True
    reads_regions = True
    heat_source = "region"
    quality = "s2r_R@1"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 128,
        hidden: int = 2048,
        temperature: float = 0.07,
        weight: float = 1.0,
        negatives: Literal["image", "batch"] = "image",
        roi_size: int = 1,
        roi_aligned: bool = True,
        gathered: bool = True,
        background: bool = False,
        learned_temperature: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, learned_temperature)
        self.weight, self.negatives = weight, negatives
        self.roi_size, self.roi_aligned = roi_size, roi_aligned
        self.background = background
        self.patch_head = ProjectionHead(image_encoder.patch_width, hidden, dim, sync=gathered)
        self.word_head = ProjectionHead(text_encoder.width, hidden, dim, sync=gathered)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `contrastive`; see `Objective.forward`."""
        region, said = regions_of(batch), self._said(text, batch)
        views, side = batch["image"].shape[1], batch["image"].shape[-1]
        patches = self.embed_patches(image).unflatten(0, (-1, views))
        losses = []
        for v in range(views):
            parts = self._see(patches[:, v], region, said.aligned, v, side)
            if self.background:
                parts = parts.with_background(patches[:, v], region.box[v], side)
            losses.append(self._loss(parts, said, region))
        return {"contrastive": self.weight * torch.stack(losses).mean()}

    def embed_patches(self, image: ImageFeatures) -> Tensor:
        """Return normalised embeddings (N, D, h, w) of patches."""
        return embed_map(self.patch_head, image.patches)

    def embed_regions(self, patches: Tensor, box: Tensor, image: Tensor, side: int) -> Tensor:
        """Return normalised embeddings (R, D) of boxes.

        Args:
            patches: Embedded patches (N, D, h, w).
            box: (R, 4), in pixels of the image.
            image: The image of each box, int64 (R,).
            side: Side of the images in pixels.
        """
        # The kernel of torchvision supports neither bf16 on a CPU nor the types that autocast would pass.
        with torch.autocast(patches.device.type, enabled=False):
            rois = torch.cat([image[:, None].to(box), box], 1)
            cells = roi_align(
                patches.float().contiguous(),
                rois,
                self.roi_size,
                spatial_scale=patches.shape[-1] / side,
                aligned=self.roi_aligned,
            )
            return F.normalize(cells.mean((2, 3)), dim=1)

    def embed_sentences(self, word: Tensor, word_sentence: Tensor, sentences: int) -> tuple[Tensor, Tensor]:
        """Return normalised embeddings (S, D) of sentences, and a mask of the sentences that have words, bool (S,).

        Args:
            word: Features of words (K, E) from the text encoder.
            word_sentence: The sentence of each word, int64 (K,).
            sentences: Number of sentences S.
        """
        word = F.normalize(self.word_head(word).float(), dim=1)
        total = word.new_zeros(sentences, word.shape[1]).index_add(0, word_sentence, word)
        # The sum has the direction of the mean.
        read = torch.zeros(sentences, dtype=torch.bool, device=word.device).index_fill(0, word_sentence, True)
        return F.normalize(total, dim=1), read

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the cosine of every patch with the texts, embedded like region sentences; see `Objective.text_heat`.

        Raises:
            UserError: If a text has no words.
        """
        sentence, read = self.embed_sentences(text.word, text.word_phrase, len(text.texts))
        if not read.all():
            raise UserError(f"text {text.texts[int(read.int().argmin())]!r} has no words that the text encoder knows.")
        return similarity_map(self.embed_patches(image), sentence)

    def evaluate(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Count queries, hits and hits by chance of region to sentence, sentence to region, and pointing.

        A region (sentence) hits if the most similar sentence (region) of the study is one of its positives. Regions
        (sentences) without negatives in the study are left out: they cannot fail. A sentence points to its most similar
        patch, and hits if the patch has its centre in the box of one of its regions.
        """
        region, side = regions_of(batch), batch["image"].shape[-1]
        said, patches = self._said(text, batch), self.embed_patches(image)
        parts = self._see(patches, region, said.aligned, 0, side)
        aligned, comparable = parts.pairs(said)
        # In half precision similarities that differ little would be ties.
        with torch.autocast(patches.device.type, enabled=False):
            similarity = parts.feature @ said.feature.T
        heat = self._heat(patches, said).flatten(1)
        rows: dict[str, Tensor] = {}

        def count(name: str, study: Tensor, query: Tensor, hit: Tensor, chance: Tensor) -> None:
            for what, value in (("queries", query), ("hits", query & hit), ("chance", query * chance)):
                total = similarity.new_zeros(len(batch["image"]))
                rows[f"{name}/{what}"] = total.index_add(0, study, value.to(total))

        for name, score, positive, others, study in (
            ("r2s", similarity, aligned, comparable, region.study),
            ("s2r", similarity.T, aligned.T, comparable.T, said.study),
        ):
            rivals = others & ~positive
            # Ties count as failures.
            best = torch.cat([score.masked_fill(~positive, -torch.inf), score.new_full((len(score), 1), -torch.inf)], 1)
            hit = ~((score >= best.amax(1, keepdim=True)) & rivals).any(1)
            count(name, study, positive.any(1) & rivals.any(1), hit, positive.sum(1) / others.sum(1).clamp(min=1))

        inside = boxed_patches(region.box[0], patches.shape[-2:], side)
        target = (aligned.T.float() @ inside.float()) > 0
        hit = target.gather(1, heat.argmax(1, keepdim=True)).squeeze(1)
        count("pointing", said.study, target.any(1), hit, target.float().mean(1))
        return rows

    def summarise(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return recall at 1 inside an image, region to sentence (r2s) and back (s2r), pointing, and their chance."""
        metrics = {}
        for name, metric in (("r2s", "r2s_R@1"), ("s2r", "s2r_R@1"), ("pointing", "pointing")):
            queries = rows[f"{name}/queries"].sum().clamp(min=1)
            metrics[metric] = (rows[f"{name}/hits"].sum() / queries).item()
            metrics[f"{name}_chance"] = (rows[f"{name}/chance"].sum() / queries).item()
        return metrics

    def heat_maps(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> list[HeatMap]:
        """Return the similarity of every region sentence with the patches of its image."""
        region, sentence, said = regions_of(batch), sentences_of(batch), self._said(text, batch)
        heat = self._heat(self.embed_patches(image), said)
        shown = zip(said.study.tolist(), region.sentence.tolist(), said.read.tolist(), heat, strict=True)
        return [
            HeatMap(study, sentence.text[s], drawn, region.box[0, region.aligned[:, s]])
            for study, s, read, drawn in shown
            if read
        ]

    def _heat(self, patches: Tensor, said: Said) -> Tensor:
        """Return the cosine of every sentence with the patches of its image, (T, h, w)."""
        with torch.autocast(patches.device.type, enabled=False):
            return torch.einsum("tdhw,td->thw", patches[said.study], said.feature)

    def _said(self, text: TextFeatures, batch: Batch) -> Said:
        """Return the sentences that mention a region; the words of others never reach the head and its statistics."""
        assert text.word is not None  # the task reads words where an objective asks for them
        assert text.word_sentence is not None
        sentence, region = sentences_of(batch), regions_of(batch)
        index = region.sentence.to(text.word.device, non_blocking=True)
        number = index.new_full((len(sentence.text),), -1)
        number[index] = torch.arange(len(index), device=index.device)
        word_sentence = number[text.word_sentence]
        own = word_sentence >= 0
        feature, read = self.embed_sentences(text.word[own], word_sentence[own], len(index))
        return Said(feature, read, sentence.study[index], sentence.text_id[index], region.aligned[:, index])

    def _see(self, patches: Tensor, region: RegionBatch, aligned: Tensor, view: int, side: int) -> Shown:
        feature = self.embed_regions(patches, region.box[view], region.study, side)
        return Shown(feature, region.study, region.visible[view], aligned)

    def _loss(self, parts: Shown, said: Said, region: RegionBatch) -> Tensor:
        temperature = self.temperature.value
        aligned, comparable = parts.pairs(said)
        if self.negatives == "image":
            return region_sentence_loss(parts.feature, said.feature, aligned, comparable, temperature=temperature)
        device = aligned.device
        counts = gather(torch.tensor([aligned.shape], device=device))
        pairs = gather_rows(aligned.nonzero() + counts[: rank()].sum(0))
        visible, read, text_id = (gather_rows(t) for t in (parts.visible, said.read, said.text_id))
        # Studies get numbers that are unique over all processes.
        study, sentence_study = (gather_rows(t * world_size() + rank()) for t in (parts.study, said.study))
        patch = gather_rows(torch.arange(len(parts.study), device=device) >= len(region.study))
        everything = torch.zeros(len(visible), len(read), device=device)
        everything[pairs[:, 0], pairs[:, 1]] = 1
        same_words = (text_id[:, None] == text_id).float()
        # A background patch of one image may show the finding of a sentence from another image.
        comparable = visible[:, None] & read & (~patch[:, None] | (study[:, None] == sentence_study))
        return region_sentence_loss(
            gather_rows(parts.feature),
            gather_rows(said.feature),
            (everything @ same_words > 0) & comparable,
            comparable,
            temperature=temperature,
            gathered=True,
        )
