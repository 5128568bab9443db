"""The vocabulary that data, encoders, objectives and tasks share.

Letters in shapes: B studies of a batch, V views of an image (augmented copies), N = B * V images, H and W pixels,
D width of a feature, C channels, L labels, F findings, T tags, M texts; R regions, S sentences and K words of all
studies of a batch, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar

import torch
from torch import Tensor

Section = Literal["findings", "impression", "report"]
"""A text that images are aligned with; the report is `report_text`."""

HeatSource = Literal["region", "global", "tag"]
"""What heat maps of texts are made from, the best first: the similarity of patches in the space of regions, that of
places in the space of whole images, or the attention of the tag decoder."""

PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED = 1, 0, -1, -2
PRECEDENCE = (NOT_MENTIONED, ABSENT, UNCERTAIN, PRESENT)
"""Precedence, weakest first: if a report makes several statements about a finding, the strongest one wins."""

DIGEST_BYTES = 16

Entry = TypeVar("Entry")


class Batch(TypedDict):
    """One batch, as `CXRDataModule` collates it.

    Attributes:
        image: Grey images, uint8 (B, V, H, W). Encoders normalise them, nobody else.
        findings: Findings sections, B strings, empty where missing.
        impression: Impression sections, B strings, empty where missing.
        findings_mask: Which studies have Findings, bool (B,).
        impression_mask: Which studies have an Impression, bool (B,).
        label: int8 (B, L): PRESENT, ABSENT, UNCERTAIN or NOT_MENTIONED.
        existence: What the report says of each finding of `medvlp.parse.FINDINGS`, int8 (B, F), likewise.
        index: Position of the sample in its dataset, int64 (B,).
        region: The anatomical regions; None without `CXRDataModule(regions=True)`.
        mask: How much of each pixel the annotation covers, 0 to 255, uint8 (B, V, H, W); None without
            `CXRDataModule(targets="mask")`.
        box: The annotated objects of each study in its first view, B float tensors (n, 4): x1, y1, x2, y2 in pixels
            of the view, cut to it; None without `CXRDataModule(targets="box")`.
        feature: What a frozen encoder has seen in the images, float16 tensors (B, ...), in their place: `image` is
            then (B, 1, 0, 0). None where features are not cached.
    """

    image: Tensor
    findings: list[str]
    impression: list[str]
    findings_mask: Tensor
    impression_mask: Tensor
    label: Tensor
    existence: Tensor
    index: Tensor
    region: RegionBatch | None
    mask: Tensor | None
    box: list[Tensor] | None
    feature: list[Tensor] | None


@dataclass
class RegionBatch:
    """The regions of all studies that a sentence speaks of, and these sentences.

    Attributes:
        region_id: Position of each region in the data module's region list, int64 (R,).
        study: The study of each region, int64 (R,), ascending.
        box: Its box in each view, float (V, R, 4): x1, y1, x2, y2 in pixels, x to the right and y down.
        visible: Whether a view shows the region, bool (V, R).
        sentence: S strings.
        sentence_id: A number for each sentence, int64 (S,), the same for the same words.
        sentence_study: The study of each sentence, int64 (S,), ascending.
        sentence_place: Study, start and end in `report_text` of each sentence, int64 (S, 3), ascending. It stays on
            the CPU, where the tokenizer reads it.
        aligned: Which sentence speaks of which region, bool (R, S); never across studies.
    """

    region_id: Tensor
    study: Tensor
    box: Tensor
    visible: Tensor
    sentence: list[str]
    sentence_id: Tensor
    sentence_study: Tensor
    sentence_place: Tensor
    aligned: Tensor

    def to(self, device: torch.device) -> RegionBatch:
        """Move the tensors, as the Trainer moves those of the batch."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=torch.device(device).type == "cuda"))
        return replace(moved, sentence_place=self.sentence_place)

    def pin_memory(self) -> RegionBatch:
        """Pin the tensors, as the loader pins those of the batch."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> RegionBatch:
        changed: dict[str, Any] = {k: function(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **changed)


@dataclass
class ImageFeatures:
    """What an image encoder sees.

    Attributes:
        pooled: One vector an image, (N, D).
        pyramid: Feature maps from fine to coarse, each (N, C_l, H_l, W_l).
        patch_level: Which of them holds the patch features.
        final: What the backbone pools, as it lays it out; for `ImageEncoder.places`.
    """

    pooled: Tensor
    pyramid: list[Tensor]
    patch_level: int = -1
    final: Tensor | None = None

    @property
    def patches(self) -> Tensor:
        """Patch features (N, C, H, W)."""
        return self.pyramid[self.patch_level]


@dataclass
class TextFeatures:
    """What a text encoder reads.

    Attributes:
        sections: One vector (B, E) a study by section; rows of missing sections are to be ignored.
        word: Words of the batch's region sentences, (K, E); None where no objective reads them.
        word_sentence: The sentence of each word, int64 (K,), a position in `RegionBatch.sentence`; ascending. A
            sentence that was cut off has no word.
    """

    sections: dict[Section, Tensor]
    word: Tensor | None = None
    word_sentence: Tensor | None = None


@dataclass
class PhraseFeatures:
    """What a text encoder reads in phrases that stand in no report.

    Attributes:
        texts: M phrases.
        pooled: One vector (M, E) each.
        word: Their words, (K, E), as a sentence of a report has them.
        word_phrase: The phrase of each word, int64 (K,), ascending.
    """

    texts: Sequence[str]
    pooled: Tensor
    word: Tensor
    word_phrase: Tensor

    def to(self, device: torch.device) -> PhraseFeatures:
        """Move the tensors."""
        return PhraseFeatures(self.texts, *(t.to(device) for t in (self.pooled, self.word, self.word_phrase)))


def report_text(findings: str, impression: str) -> str:
    """Return the Findings followed by the Impression."""
    return " ".join(filter(None, (findings, impression)))


def text_digest(text: str) -> bytes:
    """Return the key of a text."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def text_ids(texts: Sequence[str]) -> Tensor:
    """Return a number for each text (N,), the same for the same text, and 0 for an empty one."""
    numbers = [int.from_bytes(text_digest(text)[:7], "little") if text else 0 for text in texts]
    return torch.tensor(numbers, dtype=torch.int64)


def find_label(name: str, known: Iterable[str]) -> str | None:
    """Return how the known labels spell a label; the very same spelling before others, None where it is none."""
    alike = [label for label in known if label.casefold() == name.casefold()]
    return name if name in alike else next(iter(alike), None)


def entry_of(name: str, entries: Mapping[str, Entry]) -> Entry | None:
    """Return the entry of a label in a mapping by labels; None where there is none."""
    label = find_label(name, entries)
    return None if label is None else entries[label]
