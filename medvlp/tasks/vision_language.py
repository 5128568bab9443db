"""The use of encoders with their objectives: embeddings, zero-shot scores, tags and heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

import torch
from torch import Tensor, nn

from medvlp.errors import UserError
from medvlp.metrics import label_auroc
from medvlp.models import ImageEncoder, TextEncoder
from medvlp.objectives import HeatMap, Objective
from medvlp.objectives.base import section_texts
from medvlp.objectives.similarity import blockwise
from medvlp.objectives.tag_prediction import TagPrediction
from medvlp.protocols import Protocol, zero_shot_scores
from medvlp.tasks.base import BaseTask
from medvlp.tasks.embeddings import report_retrieval, under
from medvlp.tasks.parameter_groups import Layers
from medvlp.tasks.precision import own_precision
from medvlp.types import Batch, HeatSource, ImageFeatures, Section, TextFeatures, text_ids


class VisionLanguageTask(BaseTask):
    """A task whose model is an image encoder, a text encoder and objectives. A subclass makes them.

    Attributes:
        image_encoder: The image encoder.
        text_encoder: The text encoder.
        objectives: The objectives by name.
        protocol: Protocol of zero-shot classification.
    """

    image_encoder: ImageEncoder
    text_encoder: TextEncoder
    objectives: nn.ModuleDict
    protocol: Protocol

    @property
    def encoder_layers(self) -> dict[str, Layers]:
        """The parameters of both encoders by layer; see `BaseTask.encoder_layers`."""
        return {"image": self.image_encoder.parameters_by_depth(), "text": self.text_encoder.parameters_by_depth()}

    @property
    def sections(self) -> list[Section]:
        """Sections of the report that at least one objective aligns images with."""
        return list(dict.fromkeys(section for objective in self._named() for section in objective[1].sections))

    @property
    def has_vectors(self) -> bool:
        """Whether all objectives compare images with texts by the cosine."""
        return all(objective.is_cosine for _, objective in self._named() if objective.sections)

    @property
    def read_sections(self) -> list[Section]:
        """Those of `sections` whose embeddings at least one objective reads."""
        reading = [objective for _, objective in self._named() if objective.reads_reports]
        return list(dict.fromkeys(section for objective in reading for section in objective.sections))

    @property
    def reads_sentences(self) -> bool:
        """Whether an objective reads all sentences of the reports, or their words; see `CXRDataModule`."""
        return any(o.reads_sentences or (o.reads_words and not o.reads_regions) for _, o in self._named())

    def encode_batch(self, batch: Batch) -> tuple[ImageFeatures, TextFeatures]:
        """Return the features of all views (N = B * V), and those of the texts that objectives read."""
        image = self.image_encoder(batch["image"].flatten(0, 1))
        texts = {s: section_texts(s, batch["findings"], batch["impression"]) for s in self.read_sections}
        text = TextFeatures({})
        said, read = batch["sentence"], self._sentences_read(batch)
        if said is not None and read is not None:
            reports = section_texts("report", batch["findings"], batch["impression"])
            report, *words = self.text_encoder.read(reports, said.take(read), "report" in texts)
            text.word, number, read = (part.to(self.device, non_blocking=True) for part in (*words, read))
            text.word_sentence = read[number]
            if report is not None:
                del texts["report"]
                text.sections["report"] = report.to(self.device, non_blocking=True)
        if said is not None and any(objective.reads_sentences for _, objective in self._named()):
            text.sentence = self.text_encoder.each(said.text).to(self.device, non_blocking=True)
        for section, strings in texts.items():
            text.sections[section] = self.text_encoder(strings).to(self.device, non_blocking=True)
        return image, text

    def embed_images(self, image: ImageFeatures) -> dict[str, Tensor]:
        """Return images as their objectives compare them with texts, (N, D) or (N, P, D), by `objective/section`."""
        return {
            f"{name}/{section}": embedding
            for name, objective in self._named()
            for section, embedding in objective.embed_image(image).items()
        }

    def embed_texts(self, texts: list[str]) -> dict[str, Tensor]:
        """Return texts as their objectives compare them with images, (M, D) or (M, L, D), by `objective/section`."""
        with own_precision(self):
            phrases = self.text_encoder.phrases(texts).to(self.device)
            return {
                f"{name}/{s}": embedding
                for name, objective in self._named()
                if objective.sections
                for embedding in [objective.embed_phrases(phrases)]
                for s in objective.sections
            }

    def compare(self, space: str, image: Tensor, text: Tensor) -> Tensor:
        """Return the similarities (N, M) of images with texts in a space `objective/section`.

        Cosines keep the device and the precision of the texts. Other similarities are computed on the device of the
        model in single precision, and returned on that of the texts.

        Args:
            space: The space.
            image: From `embed_images`; it may lie on disk.
            text: From `embed_texts`.
        """
        objective = dict(self._named())[space.rpartition("/")[0]]
        if objective.is_cosine:
            with torch.autocast(text.device.type, enabled=False):
                return blockwise(objective.similarity, image, text)
        with own_precision(self):
            return blockwise(objective.similarity, image, text.float().to(self.device)).to(text.device)

    def heat_maps(self, batch: Batch) -> dict[str, list[HeatMap]]:
        """Return heat maps of the reports in an evaluation batch (V = 1), by name of the objective, if it has any."""
        with own_precision(self):
            image, text = self.encode_batch(batch)
            maps = {
                name: objective.heat_maps(image, text, batch)
                for name, objective in self._named()
                if batch["region"] is not None or not objective.reads_regions
            }
        return {name: drawn for name, drawn in maps.items() if drawn}

    def embedded(self, batch: Batch, image: ImageFeatures, text: TextFeatures) -> dict[str, Tensor]:
        """Return the inputs of retrieval from an evaluation batch (V = 1), tensors (B, ...).

        The keys are `image/` and `text/` for what `compare` compares, and `id/` for the numbers of the texts, each
        followed by `objective/section`.
        """
        rows = {f"image/{key}": value for key, value in self.embed_images(image).items()}
        for name, objective in self._named():
            for section, embedding in objective.embed_sections(text, batch).items():
                rows[f"text/{name}/{section}"] = embedding
                ids = text_ids(section_texts(section, batch["findings"], batch["impression"]))
                rows[f"id/{name}/{section}"] = ids.to(self.device)
        return rows

    def measured(self, rows: dict[str, Tensor], labels: Sequence[str]) -> dict[str, float]:
        """Return retrieval, zero-shot AUROC and the objectives' own metrics of collected samples.

        Args:
            rows: Those of `embedded`, `own/NAME/...` for what the objective NAME evaluates, and `label`.
            labels: Names of the labels.
        """
        image, text, ids = (under(rows, prefix) for prefix in ("image", "text", "id"))
        metrics = {
            f"retrieval/{name}/{key}": value
            for name, values in report_retrieval(image, text, ids, self.compare).items()
            for key, value in values.items()
        }
        if (scored := [label for label in labels if self.protocol.knows(label)]) and image:
            columns = [labels.index(label) for label in scored]
            aurocs = label_auroc(self.zero_shot_scores(image, scored), rows["label"][:, columns], scored)
            metrics |= {f"zeroshot/{name}": value for name, value in aurocs.items()}
        for name, objective in self._named():
            if inputs := under(rows, f"own/{name}"):
                metrics |= {f"{name}/{key}": value for key, value in objective.summarise(inputs).items()}
        return metrics

    def zero_shot_scores(
        self, image: dict[str, Tensor], labels: Sequence[str], protocol: Protocol | None = None
    ) -> Tensor:
        """Score labels from the images of `embed_images`: float64 (N, L) on the CPU.

        Args:
            image: The images, by `objective/section`.
            labels: Labels that the protocol knows.
            protocol: A protocol with prompts; by default the task's.
        """
        protocol = protocol or self.protocol
        text = {space: rows.cpu() for space, rows in self.embed_texts(protocol.texts(labels)).items()}
        seen = {space: rows.cpu() for space, rows in image.items()}
        return zero_shot_scores(protocol, labels, seen, text, self.compare)

    @property
    def tag_decoder(self) -> TagPrediction:
        """The objective that predicts tags of images.

        Raises:
            UserError: If the model has no such objective.
        """
        for _, objective in self._named():
            if isinstance(objective, TagPrediction):
                return objective
        raise UserError("the model has no tag decoder, the objective TagDecoding or QueryDecoding.")

    @property
    def heat_sources(self) -> list[HeatSource]:
        """The sources of heat maps of texts that this model has, the best first."""
        sources = {objective.heat_source for _, objective in self._named()}
        return [source for source in get_args(HeatSource) if source in sources]

    def text_heat_maps(self, image: Tensor, texts: Sequence[str], source: HeatSource | None = None) -> Tensor:
        """Return heat maps of texts, (N, M, h, w), as the mean over all objectives of one source.

        Args:
            image: uint8 (N, H, W).
            texts: M texts.
            source: One of `heat_sources`; by default the first.

        Raises:
            UserError: If no objective has this source, or an objective cannot show a text.
        """
        source = source or next(iter(self.heat_sources), None)
        asked = [objective for _, objective in self._named() if source and objective.heat_source == source]
        if not asked:
            sources = ", ".join(self.heat_sources) or "none"
            raise UserError(f"source='{source}': the model has no heat maps of this source. It has: {sources}.")
        features = self.image_encoder(image)
        # Only this source reads the places, and an encoder need not have them.
        places = self.image_encoder.places(features) if source == "global" else None
        text = self.text_encoder.phrases(texts).to(image.device)
        return torch.stack([o.text_heat(features, places, text) for o in asked]).mean(0)

    @property
    def reads_words(self) -> bool:
        """Whether an objective reads words of the reports."""
        return any(objective.reads_words for _, objective in self._named())

    def _sentences_read(self, batch: Batch) -> Tensor | None:
        """Return the positions of the sentences whose words objectives read, on the CPU; None if none reads words."""
        said, region = batch["sentence"], batch["region"]
        readers = [o for _, o in self._named() if o.reads_words and (region is not None or not o.reads_regions)]
        if said is None or not readers:
            return None
        return region.sentence if region and all(o.reads_regions for o in readers) else torch.arange(len(said.text))

    def _named(self) -> list[tuple[str, Objective]]:
        return cast("list[tuple[str, Objective]]", list(self.objectives.items()))
