"""The contract of text encoders: strings in, one embedding each; a frozen encoder caches embeddings on disk."""

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
from medvlp.types import PhraseFeatures, SentenceBatch

BATCH = 32
# Number of texts between two writes to the cache.
WRITTEN = 256
# Encoders with equal weights must also embed these texts alike to share a cache.
PROBE = ["", "No pleural effusion.", "There is a large left pneumothorax.", "The lungs are clear, heart size 12.5 cm."]


class TextEncoder(nn.Module, ABC):
    """Interface of text encoders for tasks, objectives and exports.

    A subclass must set `width` and define `embed`. It can override each other method and attribute. A checkpoint keeps
    its parameters, its buffers and the options of its `__init__`.

    Attributes:
        width: Width D of an embedding.
        frozen: Whether pre-training leaves the encoder unchanged. With a cache, a frozen encoder reads each text once.
        cache: Embeddings on disk; None before `open_cache`, and for a trained encoder.
        files: Options that name files or folders, with the names that `write` gives these in an exported folder.
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
        """Name of the encoder for messages, model cards and its cache folder; by default the name of the class."""
        return type(self).__name__

    @property
    def network(self) -> nn.Module:
        """The module to move to a device and to set to evaluation for embedding; by default the encoder itself."""
        return self

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Embed M strings; returns float (M, D) on the device of the network, or on the CPU with a cache."""
        if not self.frozen:
            # Without texts the gradient is zero, not missing: other processes may have some.
            return self.embed(texts) if texts else self.embed([""])[:0]
        if not texts:
            return torch.empty(0, self.width)
        if self.cache is None:
            return torch.cat(list(self._batches(texts)))
        missing = self.cache.missing(texts)
        if missing:
            self.fill(missing)
        return torch.from_numpy(self.cache.lookup(texts))

    def each(self, texts: Sequence[str]) -> Tensor:
        """Embed M strings as `forward` does, and equal ones once."""
        row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        embedded: Tensor = self(list(row))
        return embedded[torch.tensor([row[text] for text in texts], dtype=torch.int64).to(embedded.device)]

    def constant(self, texts: Sequence[str]) -> Tensor:
        """Embed M strings without gradient and without dropout; returns float (M, D)."""
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            embedded = self.embed(texts)
        self.network.train(training)
        return embedded

    def read(
        self, reports: Sequence[str], sentences: SentenceBatch, pooled: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Embed reports and the words of their sentences; by default each sentence is one word.

        Args:
            reports: B texts, `report_text` of each study.
            sentences: The sentences to read, with their places in the reports.
            pooled: Whether to return the embeddings of the reports.

        Returns:
            The embeddings (B, D) or None, the words (K, D), and the sentence of each word, int64 (K,), ascending.
        """
        report = self(reports) if pooled else None
        return report, self.each(sentences.text), torch.arange(len(sentences.text))

    def phrases(self, texts: Sequence[str]) -> PhraseFeatures:
        """Embed M phrases and their words, as `read` embeds sentences."""
        pooled = self(texts)
        return PhraseFeatures(texts, pooled, pooled, torch.arange(len(texts), device=pooled.device))

    def parameters_by_depth(self) -> list[list[nn.Parameter]]:
        """Return all parameters by depth, from the input to the output; by default all are in one list.

        See `ImageEncoder.parameters_by_depth`.
        """
        return [list(self.parameters())]

    def train(self, mode: bool = True) -> TextEncoder:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    def open_cache(self, folder: Path) -> None:
        """Use the stored embeddings of this encoder under a folder; no effect on a trained encoder."""
        if self.frozen:
            self.cache = TextCache(folder / self.identity(), self.width)

    def fill(self, texts: Sequence[str], device: torch.device | None = None, progress: bool = False) -> None:
        """Embed the texts that the open cache lacks, and store the embeddings; without a cache do nothing.

        Args:
            texts: Any texts.
            device: Device for embedding; by default that of the network.
            progress: Whether to show a progress bar.
        """
        if self.cache is None:
            return
        # Batches are padded to their longest text, so texts are sorted by length.
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
        """Return the name of the encoder's cache: its title, and a hash of everything that decides an embedding.

        The default hashes the class, the state and the embeddings of a few texts. An encoder whose embeddings depend on
        more, such as the entries of a long vocabulary, should hash that, too.
        """
        content = hashlib.blake2b(f"{type(self).__module__}.{type(self).__qualname__}".encode(), digest_size=6)
        hash_state(content, self)
        # Values are rounded, because their last digits depend on the device.
        content.update(self.constant(PROBE).float().cpu().numpy().astype(np.float16).tobytes())
        return f"{self.title}-{content.hexdigest()}"

    @classmethod
    def rebuild_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that rebuild an encoder before its weights are loaded; by default those of the config.

        Args:
            options: Options of the encoder in the config.
        """
        return dict(options)

    @classmethod
    def describe_start(cls, options: Mapping[str, Any]) -> str:
        """Return a short text on the source of the first weights, for model cards.

        Args:
            options: Options of the encoder in the config.
        """
        return f"{cls.__module__}.{cls.__qualname__}"

    def write(self, folder: Path) -> None:
        """Write `files` into an exported folder; by default none. The exported weights hold the parameters anyway."""

    def read_written(self, folder: Path) -> dict[str, Tensor]:
        """Return the tensors that `write` has written into an exported folder, with the names of the state dict.

        By default there are none. The state dict of a frozen encoder may lack these names.
        """
        return {}

    def _device(self) -> torch.device:
        parameter = next(self.network.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def _batches(self, texts: Sequence[str]) -> Iterator[Tensor]:
        # Cached embeddings must be fp32, whatever the precision of the training.
        with torch.no_grad(), torch.autocast(self._device().type, enabled=False):
            for start in range(0, len(texts), BATCH):
                yield self.embed(texts[start : start + BATCH])


def hash_state(content: Any, network: nn.Module) -> None:
    """Add names and values of a network's state to a hash."""
    for key, value in network.state_dict().items():
        content.update(key.encode())
        content.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
