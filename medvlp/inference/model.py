"""A pre-trained model for inference: embeddings, zero-shot scores, tags and heat maps of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.inference.reading import read_file
from medvlp.objectives import Objective
from medvlp.objectives.similarity import join, joined, one_vector
from medvlp.objectives.tag_prediction import TagPrediction
from medvlp.parse import LABEL_SETS
from medvlp.protocols import Protocol, standardise, tag_scores, zero_shot_scores
from medvlp.tasks.checkpoints import load_pretraining
from medvlp.tasks.pretraining import PretrainingTask
from medvlp.types import HeatSource, ImageFeatures

DEFAULT_FINDINGS = tuple(LABEL_SETS["chexpert"])
"""CheXpert's 14 labels."""

# Number of images that are encoded at once, so that memory does not grow with the number of images.
PART = 64

Output = TypeVar("Output")
File: TypeAlias = str | PathLike[str]
Seen: TypeAlias = Tensor | ImageFeatures
"""Images, uint8 (N, H, W), or their features from `Model.features`."""


class Model:
    """A pre-trained model, for inference only.

    Images are uint8 (N, H, W), preprocessed as by `read`; N may be any number. Results are on the CPU. To compute
    several results for the same images, encode them once with `features` and pass its result in place of the images.

    Args:
        task: A pre-trained task in evaluation mode.

    Attributes:
        task: The task.
        spaces: Names, `objective/section`, of the joint spaces of images and texts.
        tag_names: The T tags of the tag decoder, or of the first of several decoders; empty without a decoder.
    """

    def __init__(self, task: PretrainingTask) -> None:
        self.task = task
        objectives = cast("dict[str, Objective]", dict(task.objectives.items()))
        self._decoder = next((o for o in objectives.values() if isinstance(o, TagPrediction)), None)
        self.tag_names = list(self._decoder.tags.names) if self._decoder else []
        self.spaces = [f"{name}/{section}" for name, o in objectives.items() for section in o.sections]
        # The last prompts and their embeddings: callers score one batch after the other with the same prompts.
        self._asked: tuple[list[str], dict[str, Tensor]] = ([], {})

    @classmethod
    def load(cls, weights: File, device: str | None = "cpu", trust: Sequence[str] = ()) -> Model:
        """Load a checkpoint of `medvlp fit`, a folder of `medvlp export`, or a published pair of encoders.

        Args:
            weights: The checkpoint, the folder, or a name such as `biomedclip`, `open_clip:...` or `hf:...`.
            device: Device to compute on, such as `cuda`; None takes a GPU if there is one.
            trust: Packages other than medvlp whose classes the weights may name.

        Raises:
            UserError: If the weights or the device do not exist or cannot be used.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(load_pretraining(Path(weights), trust)).to(device)

    def to(self, device: str) -> Model:
        """Move the model to another device.

        Raises:
            UserError: If the device does not exist or cannot be used.
        """
        try:
            self.task.to(torch.device(device))
        except (AssertionError, RuntimeError) as error:  # the type depends on torch's build
            raise UserError(f"device='{device}' cannot be used: {str(error).splitlines()[0]}") from error
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing from an image file to the input of the image encoder.

        Raises:
            UserError: If the weights do not store it.
        """
        if self.task.preprocessing is None:
            raise UserError("the weights lack the preprocessing of images: train again with this version.")
        return self.task.preprocessing

    @property
    def heat_sources(self) -> list[HeatSource]:
        """Sources of heat maps that the model supports, the best first."""
        return self.task.heat_sources

    def read(self, path: File) -> Tensor:
        """Read and preprocess an image file (JPEG, PNG, DICOM ...), uint8 (crop, crop).

        Raises:
            UserError: If the file does not exist or cannot be decoded.
        """
        if not Path(path).is_file():
            raise NotFoundError(f"image '{path}': no such file.")
        try:
            pixels, _ = read_file(path, self.preprocessing)
        except LeftOutError as error:
            raise UserError(f"image '{path}' cannot be read: {error}.") from error
        return torch.from_numpy(pixels)

    def read_many(self, paths: Iterable[File]) -> Tensor:
        """Read and preprocess N image files, uint8 (N, crop, crop); see `read`."""
        images = [self.read(path) for path in paths]
        crop = self.preprocessing.crop
        return torch.stack(images) if images else torch.empty(0, crop, crop, dtype=torch.uint8)

    @torch.inference_mode()
    def features(self, images: Tensor) -> ImageFeatures:
        """Return the features of images from the image encoder, on the model's device.

        All images are encoded at once, and all features stay in memory: pass one batch at a time.

        Raises:
            ValueError: If the images are not uint8 (N, H, W).
        """
        if images.dtype != torch.uint8 or images.ndim != 3:
            raise ValueError(f"images must be uint8 (N, H, W), not {images.dtype} {tuple(images.shape)}.")
        features: ImageFeatures = self.task.image_encoder(images.to(self.task.device))
        return features

    @torch.inference_mode()
    def embed_images(self, images: Seen) -> dict[str, Tensor]:
        """Return images as the model compares them with texts, by space: vectors (N, D), or tokens (N, P, D)."""
        parts = list(self._parts(images, self.task.embed_images))
        return {space: torch.cat([part[space].cpu() for part in parts]) for space in self.spaces}

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return texts as the model compares them with images, by space: vectors (M, D), or tokens (M, L, D)."""
        starts = range(0, max(len(texts), 1), PART)
        parts = [self.task.embed_texts(list(texts[start : start + PART])) for start in starts]
        return {space: join([part[space].cpu() for part in parts]) for space in self.spaces}

    @torch.inference_mode()
    def similarity(self, images: Mapping[str, Tensor], texts: Mapping[str, Tensor]) -> Tensor:
        """Return the similarities (N, M) of images and texts, the mean over all spaces.

        Args:
            images: From `embed_images`; tensors may lie on disk.
            texts: From `embed_texts`.

        Raises:
            UserError: If the model has no joint space.
        """
        self._need_spaces()
        similarities = [self.task.compare(space, images[space], texts[space]) for space in self.spaces]
        return torch.stack(similarities).mean(0)

    def embedding(self, images: Seen) -> Tensor:
        """Return one vector per image, (N, sum of D); its dot product with a `text_embedding` is their similarity.

        The vector joins the embeddings of all spaces, each divided by the square root of the number of spaces. Its
        length is 1, and the dot product is the mean cosine over the spaces. In a space of tokens the normalised mean of
        the tokens takes their place; it compares images with images.

        Raises:
            UserError: If the model has no joint space.
        """
        self._need_spaces()
        with torch.inference_mode():
            return torch.cat([self._joined(part).cpu() for part in self._parts(images, self.task.embed_images)])

    def text_embedding(self, texts: Sequence[str]) -> Tensor:
        """Return one vector per text, (M, sum of D); see `embedding`.

        Raises:
            UserError: If the model has no joint space, or compares images with texts by other means than a cosine.
        """
        self._need_spaces()
        if not self.has_vectors:
            raise UserError(
                "the model compares texts with the parts of an image, so that no vector of a text gives their "
                "similarity: use 'similarity', or search in a prepared folder."
            )
        return self._joined(self.embed_texts(texts))

    @property
    def has_vectors(self) -> bool:
        """Whether the similarity of an image and a text is the product of one vector of each."""
        return self.task.has_vectors

    def scores(self, images: Seen, findings: Sequence[str] = DEFAULT_FINDINGS, protocol: str | None = None) -> Tensor:
        """Score L findings in images by a protocol: float64 (N, L). A higher score means a more likely finding.

        Args:
            images: The images.
            findings: Names of labels, or any texts for a protocol that has templates.
            protocol: Name of a protocol of medvlp, or a protocol file; by default the protocol of the model.

        Raises:
            UserError: If the protocol does not exist, has no prompts for a finding, or needs a part that the model
                lacks.
        """
        findings = [findings] if isinstance(findings, str) else list(findings)
        if not findings:
            raise UserError("findings are empty: name at least one.")
        read = self.task.protocol if protocol is None else Protocol.read(protocol)
        if read.score == "tags":
            return tag_scores(read, findings, self.tags(images), self.tag_names)
        self._need_spaces()
        texts = read.texts(findings)
        if self._asked[0] != texts:
            self._asked = (texts, self.embed_texts(texts))
        alone = replace(read, normalise=None)

        def score(features: ImageFeatures) -> Tensor:
            seen = {space: rows.cpu() for space, rows in self.task.embed_images(features).items()}
            return zero_shot_scores(alone, findings, seen, self._asked[1], self.task.compare)

        with torch.inference_mode():
            scores = torch.cat(list(self._parts(images, score)))
        return standardise(scores) if read.normalise == "images" else scores

    @torch.inference_mode()
    def tags(self, images: Seen) -> Tensor:
        """Return the tag probabilities (N, T) of the tag decoder.

        Raises:
            UserError: If the model has no tag decoder.
        """
        decoder = self._decoder
        if decoder is None:
            raise UserError("the model has no tag decoder (TagDecoding, QueryDecoding), so it gives no tags.")
        return torch.cat([part.cpu() for part in self._parts(images, lambda image: decoder.logits(image).sigmoid())])

    @torch.inference_mode()
    def heat_map(self, image: Tensor, text: str, source: HeatSource | None = None) -> Tensor:
        """Return the heat map of a text in an image, uint8 (H, W): (h, w), on the grid of patches.

        Args:
            image: The image.
            text: A phrase, such as `left pleural effusion`.
            source: One of `heat_sources`; by default the first.

        Raises:
            UserError: If the model has no heat maps from this source, or none for this text.
        """
        heat: Tensor = self.task.text_heat_maps(image[None].to(self.task.device), [text], source)[0, 0]
        return heat.cpu()

    def _parts(self, images: Seen, function: Callable[[ImageFeatures], Output]) -> Iterator[Output]:
        if isinstance(images, ImageFeatures):
            yield function(images)
            return
        # For zero images, split gives one empty part, so callers can always concatenate.
        parts: tuple[Tensor, ...] = torch.split(images, PART)
        yield from (function(self.features(part)) for part in parts)

    def _joined(self, embeddings: dict[str, Tensor]) -> Tensor:
        self._need_spaces()
        return joined([one_vector(rows) for rows in embeddings.values()])

    def _need_spaces(self) -> None:
        if not self.spaces:
            raise UserError(
                "the model has no joint space of whole images and texts (objectives GlobalAlignment or "
                "HierarchicalAlignment), which zero-shot scores and embeddings need."
            )
