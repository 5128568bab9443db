"""The types that data, encoders, objectives and tasks share.

Letters in shapes: B studies of a batch, V views of an image (augmented copies), N = B * V images, H and W pixels,
D width of an image feature or of a joint space, E width of a text feature, C channels, L labels, F findings, T tags,
M texts. R regions, S sentences and K words are those of all studies of a batch, concatenated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar

import torch
from torch import Tensor

Section = Literal["findings", "impression", "report"]
"""A text to align images with; `report` is that of `report_text`."""

HeatSource = Literal["region", "patch", "global", "tag"]
"""The source of heat maps of texts, the best first: the similarity of patches in the space of regions (`region`), that
of patches in a space learned from sentences or reports alone (`patch`), that of places in the space of whole images
(`global`), or the attention of a decoder whose queries are texts (`tag`)."""

PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED = 1, 0, -1, -2
PRECEDENCE = (NOT_MENTIONED, ABSENT, UNCERTAIN, PRESENT)
"""Precedence, weakest first: if a report makes several statements about a finding, the strongest one wins."""

DIGEST_BYTES = 16

Entry = TypeVar("Entry")
Packed = TypeVar("Packed", "SentenceBatch", "RegionBatch")


class Batch(TypedDict):
    """One batch of `CXRDataModule`.

    Attributes:
        image: Grey images, uint8 (B, V, H, W). Only encoders normalise them.
        findings: Findings sections, B strings, empty if missing.
        impression: Impression sections, B strings, empty if missing.
        findings_mask: Mask of studies with Findings, bool (B,).
        impression_mask: Mask of studies with an Impression, bool (B,).
        label: Labels, int8 (B, L): PRESENT, ABSENT, UNCERTAIN or NOT_MENTIONED.
        existence: State of each finding of `medvlp.parse.FINDINGS` in the report, int8 (B, F), with the same values.
        index: Position of the sample in its dataset, int64 (B,).
        source: Number of the prepared folder of each sample, int64 (B,), as `CXRDataModule.roots` counts them.
        sentence: All sentences of the reports; None if no objective of the task reads sentences or words.
        region: The anatomical regions; None without `CXRDataModule(regions=True)`.
        mask: Share of each pixel that the annotation covers, 0 to 255, uint8 (B, V, H, W); None without
            `CXRDataModule(targets="mask")`.
        box: Boxes of the annotated objects in the first view of each study, B float tensors (n, 4): x1, y1, x2, y2 in
            pixels of the view, clipped to it; None without `CXRDataModule(targets="box")`.
        feature: Stored features of a frozen encoder, float16 tensors (B, ...), instead of images: `image` is then
            (B, 1, 0, 0). None if features are not stored.
    """

    image: Tensor
    findings: list[str]
    impression: list[str]
    findings_mask: Tensor
    impression_mask: Tensor
    label: Tensor
    existence: Tensor
    index: Tensor
    source: Tensor
    sentence: SentenceBatch | None
    region: RegionBatch | None
    mask: Tensor | None
    box: list[Tensor] | None
    feature: list[Tensor] | None


@dataclass
class SentenceBatch:
    """All sentences of the Findings and Impressions of a batch, in the order of the studies and of their reports.

    Attributes:
        text: S strings.
        text_id: A number for each text, int64 (S,), equal for equal texts; see `text_ids`.
        statement_id: A number for what each sentence states, int64 (S,): equal for sentences that state the same
            findings with the same existence in the same regions; 0 for a sentence that states no finding.
        study: The study of each sentence, int64 (S,), ascending.
        section: 0 for a sentence of the Findings, 1 for one of the Impression, int64 (S,).
        place: Study, start and end in `report_text` of each sentence, int64 (S, 3), ascending. It stays on the CPU,
            where the tokenizer reads it.
        existence: State of each finding of `medvlp.parse.FINDINGS` in each sentence, int8 (S, F), as in
            `Batch.existence`.
        region: Mask of the regions of `medvlp.parse.REGIONS` that each sentence mentions, bool (S, 29).
    """

    text: list[str]
    text_id: Tensor
    statement_id: Tensor
    study: Tensor
    section: Tensor
    place: Tensor
    existence: Tensor
    region: Tensor

    def to(self, device: torch.device) -> SentenceBatch:
        """Move all tensors but `place` to a device; the Trainer calls this."""
        moved = _map_tensors(self, lambda tensor: _moved(tensor, device))
        return replace(moved, place=self.place)

    def pin_memory(self) -> SentenceBatch:
        """Pin the tensors; the loader calls this."""
        return _map_tensors(self, Tensor.pin_memory)

    def take(self, index: Tensor) -> SentenceBatch:
        """Return the sentences at some positions, int64 on the CPU, ascending."""
        there = _moved(index, self.study.device)
        taken = _map_tensors(self, lambda tensor: tensor[index if tensor is self.place else there])
        return replace(taken, text=[self.text[i] for i in index.tolist()])


@dataclass
class RegionBatch:
    """The regions of all studies that a sentence of `Batch.sentence` mentions.

    Attributes:
        region_id: Position of each region in the data module's region list, int64 (R,).
        study: The study of each region, int64 (R,), ascending.
        box: Its box in each view, float (V, R, 4): x1, y1, x2, y2 in pixels, x to the right and y down.
        visible: Whether a view shows the region, bool (V, R).
        aligned: Mask of the pairs of a region and a sentence of the batch that mentions it, bool (R, S); never across
            studies.
        sentence: Positions in `Batch.sentence` of the T sentences that mention one of these regions, int64 (T,),
            ascending. It stays on the CPU, where these sentences are read.
    """

    region_id: Tensor
    study: Tensor
    box: Tensor
    visible: Tensor
    aligned: Tensor
    sentence: Tensor

    def to(self, device: torch.device) -> RegionBatch:
        """Move all tensors but `sentence` to a device; the Trainer calls this."""
        return replace(_map_tensors(self, lambda tensor: _moved(tensor, device)), sentence=self.sentence)

    def pin_memory(self) -> RegionBatch:
        """Pin the tensors; the loader calls this."""
        return _map_tensors(self, Tensor.pin_memory)


@dataclass
class ImageFeatures:
    """Outputs of an image encoder.

    Attributes:
        pooled: One vector an image, (N, D).
        pyramid: Feature maps from fine to coarse, each (N, C_l, H_l, W_l).
        patch_level: Index of the map with the patch features.
        final: The backbone's features before pooling, in its own layout; for `ImageEncoder.places`.
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
    """Outputs of a text encoder for reports.

    Attributes:
        sections: One vector a study, (B, E), by section; rows of missing sections have no meaning.
        word: Features of the words in the sentences of `Batch.sentence`, (K, E); None if no objective reads them. If
            only objectives that read regions do, the sentences are those of `RegionBatch.sentence`.
        word_sentence: The sentence of each word, int64 (K,), a position in `Batch.sentence`; ascending. A sentence
            beyond the length limit of the encoder has no word.
        sentence: One vector a sentence of `Batch.sentence`, each read alone, (S, E); None if no objective reads them.
    """

    sections: dict[Section, Tensor]
    word: Tensor | None = None
    word_sentence: Tensor | None = None
    sentence: Tensor | None = None


@dataclass
class PhraseFeatures:
    """Outputs of a text encoder for phrases outside reports.

    Attributes:
        texts: M phrases.
        pooled: One vector a phrase, (M, E).
        word: Features of their words, (K, E), like those of a sentence in a report.
        word_phrase: The phrase of each word, int64 (K,), ascending.
    """

    texts: Sequence[str]
    pooled: Tensor
    word: Tensor
    word_phrase: Tensor

    def to(self, device: torch.device) -> PhraseFeatures:
        """Move the tensors."""
        return PhraseFeatures(self.texts, *(t.to(device) for t in (self.pooled, self.word, self.word_phrase)))


def _map_tensors(packed: Packed, function: Callable[[Tensor], Tensor]) -> Packed:
    changed: dict[str, Any] = {k: function(v) for k, v in vars(packed).items() if isinstance(v, Tensor)}
    return replace(packed, **changed)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


def report_text(findings: str, impression: str) -> str:
    """Return the Findings and the Impression, joined by a blank; an empty section is left out."""
    return " ".join(filter(None, (findings, impression)))


def text_digest(text: str) -> bytes:
    """Return the key of a text: its BLAKE2b digest of `DIGEST_BYTES` bytes."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def text_ids(texts: Sequence[str]) -> Tensor:
    """Return a number for each text, int64 (M,): equal for equal texts, and 0 for an empty text."""
    numbers = [int.from_bytes(text_digest(text)[:7], "little") if text else 0 for text in texts]
    return torch.tensor(numbers, dtype=torch.int64)


def find_label(name: str, known: Iterable[str]) -> str | None:
    """Return a label as the known labels spell it; an exact match comes before other cases. None if it is unknown."""
    alike = [label for label in known if label.casefold() == name.casefold()]
    return name if name in alike else next(iter(alike), None)


def entry_of(name: str, entries: Mapping[str, Entry]) -> Entry | None:
    """Return the entry of a label in a mapping by labels, see `find_label`; None if there is none."""
    label = find_label(name, entries)
    return None if label is None else entries[label]
