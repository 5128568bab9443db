"""A pre-trained model for use: embeddings, zero-shot scores, tags and heat maps of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.inference.reading import read_file
from medvlp.objectives import Objective, TagDecoding
from medvlp.parse import LABEL_SETS
from medvlp.protocols import Protocol, tag_scores, zero_shot_scores
from medvlp.tasks.checkpoints import load_pretraining
from medvlp.tasks.pretraining import PretrainingTask
from medvlp.types import HeatSource, ImageFeatures

DEFAULT_FINDINGS = tuple(LABEL_SETS["chexpert"])
"""CheXpert's 14 labels."""

# Of more images than this one part is encoded after the other, so that memory does not grow with their number.
PART = 64

Output = TypeVar("Output")
File: TypeAlias = str | PathLike[str]
Seen: TypeAlias = Tensor | ImageFeatures
"""Images, uint8 (N, H, W), or what `Model.features` has made of them."""


class Model:
    """A pre-trained model, for inference only.

    Images are uint8 (N, H, W), as many as you like, seen as `read` returns them. Results lie on the CPU. Where several
    things are wanted of the same images, `features` encodes them once: its result can be given in their place.

    Args:
        task: A pre-trained task in evaluation mode.

    Attributes:
        task: The task.
        spaces: Names, `objective/section`, of the joint spaces of images and texts.
        tag_names: The T tags of the tag decoder, the first if there are several; none without a decoder.
    """

    def __init__(self, task: PretrainingTask) -> None:
        self.task = task
        objectives = cast("dict[str, Objective]", dict(task.objectives.items()))
        self._decoder = next((o for o in objectives.values() if isinstance(o, TagDecoding)), None)
        self.tag_names = list(self._decoder.tags.names) if self._decoder else []
        self.spaces = [f"{name}/{section}" for name, o in objectives.items() for section in o.sections]
        # The prompts that were asked last: the same are asked of one image after the other.
        self._asked: tuple[list[str], dict[str, Tensor]] = ([], {})

    @classmethod
    def load(cls, weights: File, device: str | None = "cpu", trust: Sequence[str] = ()) -> Model:
        """Load a checkpoint of `medvlp fit`, or a folder of `medvlp export`.

        Args:
            weights: The checkpoint or folder.
            device: Where to compute, such as `cuda`; None for a GPU where there is one.
            trust: Packages beside medvlp whose classes may be made because the weights name them.

        Raises:
            UserError: If the weights or the device are not there or cannot be used.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(load_pretraining(Path(weights), trust)).to(device)

    def to(self, device: str) -> Model:
        """Compute on another device.

        Raises:
            UserError: If there is no such device.
        """
        try:
            self.task.to(torch.device(device))
        except (AssertionError, RuntimeError) as error:  # which of them, depends on how torch was built
            raise UserError(f"device='{device}' cannot be used: {str(error).splitlines()[0]}") from error
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """How a file becomes what the image encoder sees.

        Raises:
            UserError: If the weights do not say.
        """
        if self.task.preprocessing is None:
            raise UserError("the weights do not say how images become what the model sees: train with this version.")
        return self.task.preprocessing

    @property
    def heat_sources(self) -> list[HeatSource]:
        """What heat maps can be had from, the best first."""
        return self.task.heat_sources

    def read(self, path: File) -> Tensor:
        """Read an image file (JPEG, PNG, DICOM ...) as the model sees it, uint8 (crop, crop).

        Raises:
            UserError: If it is not there or cannot be decoded.
        """
        if not Path(path).is_file():
            raise NotFoundError(f"image '{path}': no such file.")
        try:
            pixels, _ = read_file(path, self.preprocessing)
        except LeftOutError as error:
            raise UserError(f"image '{path}' cannot be read: {error}.") from error
        return torch.from_numpy(pixels)

    def read_many(self, paths: Iterable[File]) -> Tensor:
        """Read N image files, uint8 (N, crop, crop); see `read`."""
        images = [self.read(path) for path in paths]
        crop = self.preprocessing.crop
        return torch.stack(images) if images else torch.empty(0, crop, crop, dtype=torch.uint8)

    @torch.inference_mode()
    def features(self, images: Tensor) -> ImageFeatures:
        """Return what the image encoder sees in images, on the model's device.

        All of it is kept: hand in a batch at a time.

        Raises:
            ValueError: If they are no uint8 (N, H, W).
        """
        if images.dtype != torch.uint8 or images.ndim != 3:
            raise ValueError(f"images must be uint8 (N, H, W), not {images.dtype} {tuple(images.shape)}.")
        features: ImageFeatures = self.task.image_encoder(images.to(self.task.device))
        return features

    @torch.inference_mode()
    def embed_images(self, images: Seen) -> dict[str, Tensor]:
        """Return the normalised embeddings (N, D) of images, by space."""
        parts = list(self._parts(images, self.task.embed_images))
        return {space: torch.cat([part[space].cpu() for part in parts]) for space in self.spaces}

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the normalised embeddings (M, D) of texts, by space."""
        starts = range(0, max(len(texts), 1), PART)
        parts = [self.task.embed_texts(list(texts[start : start + PART])) for start in starts]
        return {space: torch.cat([part[space].cpu() for part in parts]) for space in self.spaces}

    def embedding(self, images: Seen) -> Tensor:
        """Return one vector (N, sum of D) an image; its product with one of `text_embedding` is their similarity.

        That is the mean of their cosines over the spaces: embeddings come one after the other, each divided by the
        root of the number of spaces. Their length is 1.

        Raises:
            UserError: If the model has no joint space.
        """
        return self._joined(self.embed_images(images))

    def text_embedding(self, texts: Sequence[str]) -> Tensor:
        """Return one vector (M, sum of D) a text; see `embedding`."""
        return self._joined(self.embed_texts(texts))

    def scores(self, images: Seen, findings: Sequence[str] = DEFAULT_FINDINGS, protocol: str | None = None) -> Tensor:
        """Score L findings in images by a protocol: float64 (N, L), the higher the likelier.

        Args:
            images: The images.
            findings: Names of labels, or any texts for a protocol that has templates.
            protocol: Name of a protocol of medvlp, or the file of one; by default the one that the model came with.

        Raises:
            UserError: If there is no such protocol, it does not know a finding, or asks for what the model lacks.
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
        return zero_shot_scores(read, findings, self.embed_images(images), self._asked[1])

    @torch.inference_mode()
    def tags(self, images: Seen) -> Tensor:
        """Return the probabilities (N, T) that the tag decoder gives.

        Raises:
            UserError: If the model has no tag decoder.
        """
        decoder = self._decoder
        if decoder is None:
            raise UserError("the model has no tag decoder (objective TagDecoding), so it gives no tags.")
        return torch.cat([part.cpu() for part in self._parts(images, lambda seen: decoder.logits(seen).sigmoid())])

    @torch.inference_mode()
    def heat_map(self, image: Tensor, text: str, source: HeatSource | None = None) -> Tensor:
        """Return where an image, uint8 (H, W), shows what a text says: (h, w), on the grid of patches.

        Args:
            image: The image.
            text: Such as `left pleural effusion`.
            source: One of `heat_sources`; by default the first.

        Raises:
            UserError: If the model has no heat maps of the source, or of the text.
        """
        heat: Tensor = self.task.text_heat_maps(image[None].to(self.task.device), [text], source)[0, 0]
        return heat.cpu()

    def _parts(self, images: Seen, function: Callable[[ImageFeatures], Output]) -> Iterator[Output]:
        if isinstance(images, ImageFeatures):
            yield function(images)
            return
        # split gives one part of no images where there are none.
        parts: tuple[Tensor, ...] = torch.split(images, PART)
        yield from (function(self.features(part)) for part in parts)

    def _joined(self, embeddings: dict[str, Tensor]) -> Tensor:
        self._need_spaces()
        joined: Tensor = torch.cat(list(embeddings.values()), 1) / len(self.spaces) ** 0.5
        return joined

    def _need_spaces(self) -> None:
        if not self.spaces:
            raise UserError(
                "the model has no joint space of whole images and texts (objectives GlobalAlignment or "
                "HierarchicalAlignment), which zero-shot scores and embeddings need."
            )
