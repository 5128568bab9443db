"""The contract of text encoders: strings in, one embedding each; those of a frozen encoder are cached on disk."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from medvlp.models.text_cache import TextCache
from medvlp.types import PhraseFeatures, RegionBatch

BATCH = 32
# Texts that are embedded before they are written to the cache.
WRITTEN = 256
# What two encoders with the same weights must agree on to share a cache.
PROBE = ["", "No pleural effusion.", "There is a large left pneumothorax.", "The lungs are clear, heart size 12.5 cm."]


class TextEncoder(nn.Module, ABC):
    """What tasks, objectives and exports know of a text encoder.

    A subclass must set `width` and give `embed`. It can override each other method and attribute. Its parameters, its
    buffers and the options of its `__init__` are all that a checkpoint keeps of it.

    Attributes:
        width: Width D of an embedding.
        frozen: Whether the encoder stays as it is in pre-training. A frozen encoder reads each text once.
        cache: Embeddings on disk; None before `open_cache`, and of a trained encoder.
        files: Options that name files or folders, each with its name in an exported folder, where `write` puts it.
    """

    width: int
    frozen: bool = True
    cache: TextCache | None = None
    files: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed one batch of M strings, which may be empty strings; returns float (M, D)."""

    @property
    def title(self) -> str:
        """Name of the encoder for messages, model cards and the folder of its cache; by default that of the class."""
        return type(self).__name__

    @property
    def network(self) -> nn.Module:
        """The module that embeds: it is moved to a device and set to evaluation; by default the encoder itself."""
        return self

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Embed M strings; returns float (M, D) on the device of the network, or on the CPU if they are cached."""
        if not texts:
            return torch.empty(0, self.width)
        if not self.frozen:
            return self.embed(texts)
        if self.cache is None:
            return torch.cat(list(self._batches(texts)))
        missing = self.cache.missing(texts)
        if missing:
            self.fill(missing)
        return torch.from_numpy(self.cache.lookup(texts))

    def constant(self, texts: Sequence[str]) -> Tensor:
        """Embed M strings once and for all, (M, D): without gradient, and without dropout."""
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            embedded = self.embed(texts)
        self.network.train(training)
        return embedded

    def read(self, reports: Sequence[str], region: RegionBatch, pooled: bool) -> tuple[Tensor | None, Tensor, Tensor]:
        """Embed reports, and the words of their region sentences; by default each sentence is one word.

        Args:
            reports: B texts, `report_text` of each study.
            region: Says where the sentences stand in them.
            pooled: Whether the embeddings of the reports are wanted.

        Returns:
            The embeddings (B, D) or None, the words (K, D), and the sentence of each word, int64 (K,), ascending.
        """
        report = self(reports) if pooled else None
        return report, self(region.sentence), torch.arange(len(region.sentence))

    def phrases(self, texts: Sequence[str]) -> PhraseFeatures:
        """Embed M phrases, and their words as `read` embeds those of sentences."""
        pooled = self(texts)
        return PhraseFeatures(texts, pooled, pooled, torch.arange(len(texts), device=pooled.device))

    def train(self, mode: bool = True) -> TextEncoder:
        """Set the mode; a frozen encoder stays in evaluation."""
        super().train(mode and not self.frozen)
        return self

    def open_cache(self, folder: Path) -> None:
        """Use the embeddings of this very encoder under a folder; has no effect on a trained encoder."""
        if self.frozen:
            self.cache = TextCache(folder / self.identity(), self.width)

    def fill(self, texts: Sequence[str], device: torch.device | None = None, progress: bool = False) -> None:
        """Embed the texts that the open cache lacks and store them.

        Args:
            texts: Any texts.
            device: Where to embed; by default where the network is.
            progress: Whether to show a progress bar.
        """
        if self.cache is None:
            return
        # By length: batches are padded to their longest text.
        missing = sorted(self.cache.missing(texts), key=lambda text: (len(text), text))
        home = self._device()
        self.network.to(device or home)
        steps: Any = range(0, len(missing), WRITTEN)
        for start in (
            track(steps, f"Embedding {len(missing):,} texts with {self.title}") if progress and missing else steps
        ):
            chunk = missing[start : start + WRITTEN]
            self.cache.add(chunk, torch.cat(list(self._batches(chunk))).cpu().numpy().astype(np.float32))
        self.network.to(home)

    def identity(self) -> str:
        """Return the name of the encoder's cache: its title, and a hash of all that decides an embedding.

        The default hashes the class, the state and the embeddings of a few texts. An encoder with more that decides,
        such as the entries of a long vocabulary, should hash that, too.
        """
        content = hashlib.blake2b(f"{type(self).__module__}.{type(self).__qualname__}".encode(), digest_size=6)
        hash_state(content, self)
        # Rounded, because another device gives other last digits.
        content.update(self.constant(PROBE).float().cpu().numpy().astype(np.float16).tobytes())
        return f"{self.title}-{content.hexdigest()}"

    @classmethod
    def rebuild_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that make an encoder whose weights a checkpoint brings; by default those of the config.

        Args:
            options: Options of the config that the encoder was made with.
        """
        return dict(options)

    @classmethod
    def describe_start(cls, options: Mapping[str, Any]) -> str:
        """Return in a few words where the first weights come from, for model cards.

        Args:
            options: Options of the config that the encoder was made with.
        """
        return f"{cls.__module__}.{cls.__qualname__}"

    def write(self, folder: Path) -> None:
        """Write `files` into an exported folder; by default none: the weights beside them hold the parameters."""

    def _device(self) -> torch.device:
        parameter = next(self.network.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def _batches(self, texts: Sequence[str]) -> Iterator[Tensor]:
        # The same fp32 embedding whatever the precision of the training around it.
        with torch.no_grad(), torch.autocast(self._device().type, enabled=False):
            for start in range(0, len(texts), BATCH):
                yield self.embed(texts[start : start + BATCH])


def hash_state(content: Any, network: nn.Module) -> None:
    """Add names and values of a network's state to a hash."""
    for key, value in network.state_dict().items():
        content.update(key.encode())
        content.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
