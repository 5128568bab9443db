"""Text encoder: any Hugging Face BERT, frozen and cached or trained."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from medvlp.errors import UserError
from medvlp.models.weights import locate
from medvlp.text_cache import TextCache

# Tokenisation happens beside data loader processes that were forked, where a thread pool would only warn and idle.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class TextEncoder(nn.Module):
    """A Hugging Face language model that takes strings and returns one embedding each.

    A frozen model is no sub-module: it has no parameters for the optimiser, DistributedDataParallel or the
    checkpoint, stays in evaluation mode, and reads each text once when a cache is open.

    Args:
        name: Model on the hub, a local folder, or `package:PACKAGE/PATH` for a folder in an installed package.
            IMITATE freezes `emilyalsentzer/Bio_ClinicalBERT`.
        trainable_layers: How many of the last layers are trained; 0 freezes the model, None trains all of it.
        pooling: The embedding is the last hidden state of [CLS] (both papers), or the mean over tokens.
        max_length: Word pieces after which a text is cut (IMITATE: 256).
        dropout: Leave the dropout of a frozen model on, and so embed every text anew at each step, as the official
            code does unintendedly.

    Attributes:
        width: Width D of an embedding.

    Raises:
        UserError: If the model cannot be had.
    """

    def __init__(
        self,
        name: str = "emilyalsentzer/Bio_ClinicalBERT",
        trainable_layers: int | None = 0,
        pooling: Literal["cls", "mean"] = "cls",
        max_length: int = 256,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.pooling, self.max_length = name, pooling, max_length
        path = locate(name)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModel.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"text encoder name={name!r} could not be loaded ({str(error).splitlines()[0][:200]}). Give the name "
                "of a model on the Hugging Face hub, or a local folder with config.json, tokenizer and weights."
            ) from error
        # BERT's pooler is not used; trained without a gradient it would stop DistributedDataParallel.
        model.pooler = None
        self.width = int(model.config.hidden_size)
        self.frozen = trainable_layers == 0
        if not self.frozen and trainable_layers is not None:
            model.requires_grad_(False)
            for layer in model.encoder.layer[-trainable_layers:]:
                layer.requires_grad_(True)
        self.dropout = dropout
        self.cache: TextCache | None = None
        if self.frozen:
            # In a tuple, where nn.Module does not look for sub-modules.
            self._frozen: tuple[Any] = (model.requires_grad_(False).train(dropout),)
        else:
            # It comes in evaluation mode, in which the Trainer would leave it.
            self.model = model.train()

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Embed M strings; returns float (M, D) on the device of the model, or of the cache's reader."""
        if not self.frozen:
            return self._embed(self.model, texts)
        if self.cache is None or self.dropout:
            return torch.cat(list(self._batches(texts)))
        missing = self.cache.missing(texts)
        if missing:
            self.fill(missing)
        return torch.from_numpy(self.cache.lookup(texts))

    def _apply(self, fn: Any, recurse: bool = True) -> TextEncoder:
        if self.dropout and self.frozen:
            # It embeds at each step, and so belongs where the training is.
            self._frozen[0]._apply(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def open_cache(self, folder: Path) -> None:
        """Use the embeddings of this very model under a folder; has no effect on a trained model."""
        if self.frozen and not self.dropout:
            self.cache = TextCache(folder / self._key(), self.width)

    def fill(self, texts: Sequence[str], device: torch.device | None = None, progress: bool = False) -> None:
        """Embed the texts that the open cache lacks and store them.

        Args:
            texts: Any texts.
            device: Where to embed; by default where the model is.
            progress: Whether to show a progress bar.
        """
        if self.cache is None:
            return
        # By length: batches are padded to their longest text.
        missing = sorted(self.cache.missing(texts), key=lambda text: (len(text), text))
        model = self._frozen[0]
        home = next(model.parameters()).device
        model.to(device or home)
        size = 256
        steps: Any = range(0, len(missing), size)
        for start in (
            track(steps, f"Embedding {len(missing):,} texts with {self.name}") if progress and missing else steps
        ):
            chunk = missing[start : start + size]
            self.cache.add(chunk, torch.cat(list(self._batches(chunk))).cpu().numpy().astype(np.float32))
        model.to(home)

    def _batches(self, texts: Sequence[str], size: int = 32) -> Iterator[Tensor]:
        model = self._frozen[0]
        device = next(model.parameters()).device
        # The same fp32 embedding whatever the precision of the training around it.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for start in range(0, len(texts), size):
                yield self._embed(model, texts[start : start + size])

    def _embed(self, model: Any, texts: Sequence[str]) -> Tensor:
        device = next(model.parameters()).device
        tokens = self.tokenizer(
            list(texts), max_length=self.max_length, truncation=True, padding=True, return_tensors="pt"
        ).to(device)
        hidden: Tensor = model(**tokens).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        weight: Tensor = tokens["attention_mask"][..., None].to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)

    def _key(self) -> str:
        """Name of the cache: the model's own name for the reader, and a hash of all that decides an embedding."""
        content = hashlib.blake2b(digest_size=6)
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # These two are the state of the last call, not of the tokenizer.
        del tokenizer["padding"], tokenizer["truncation"]
        config = self._frozen[0].config.to_dict()
        for name in ("_name_or_path", "transformers_version"):
            config.pop(name, None)
        settings = [self.pooling, self.max_length, tokenizer, config]
        content.update(json.dumps(settings, sort_keys=True, default=str).encode())
        for key, value in self._frozen[0].state_dict().items():
            content.update(key.encode())
            content.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{Path(self.name).name}-{content.hexdigest()}"
