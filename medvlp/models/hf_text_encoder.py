"""The text encoder of transformers: any of its language models, frozen and cached or trained."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from medvlp.models.language import check_reader, freeze_but_last, inputs_of, keep_layers, load_language_model
from medvlp.models.text import TextEncoder, hash_state
from medvlp.models.weights import EXPORTED, TEXT_ENCODER, locate, public_name, write_tensors
from medvlp.types import PhraseFeatures, RegionBatch

# Tokenisation happens beside data loader processes that were forked, where a thread pool would only warn and idle.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Of loading from the disk, which takes a moment; downloads have bars of their own.
disable_progress_bar()


def sentence_words(tokens: Any, place: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find the words of sentences among the tokens of reports.

    Args:
        tokens: What a fast tokenizer returns for B reports, with offsets.
        place: Report, start and end of each sentence, (S, 3); see `RegionBatch.sentence_place`.

    Returns:
        The number of its word for each token of the (B, length), flattened, -1 outside the sentences; and the sentence
        of each of the K words. Word pieces that were cut off are no token, and so no word.
    """
    reports, length = tokens["input_ids"].shape
    # The number of its word in the report; NaN for special tokens and padding.
    word = np.array([tokens.word_ids(b) for b in range(reports)], np.float64).reshape(-1)
    # Where its last character stands: some tokenizers count the space in front of a word to it.
    last = tokens["offset_mapping"][..., 1].numpy().reshape(-1) - 1
    # Reports one after the other on one line, so that one sorted search finds the sentence of every token.
    report = np.repeat(np.arange(reports), length)
    study, begin, end = place.T
    line = 1 << 32
    sentence = np.searchsorted(study * line + begin, report * line + last, side="right") - 1
    # A sentence of no report in front of the first one.
    study, end = np.append(study, -1), np.append(end, 0)
    inside = ~np.isnan(word) & (study[sentence] == report) & (last < end[sentence])
    # A word belongs to the sentence of its first piece.
    named = report[inside] * line + word[inside].astype(np.int64)
    _, first, number = np.unique(named, return_index=True, return_inverse=True)
    out = np.full(len(word), -1)
    out[inside] = number
    return out, sentence[inside][first]


class HFTextEncoder(TextEncoder):
    """A Hugging Face language model that takes strings and returns one embedding each.

    A frozen model is no sub-module: it has no parameters for the optimiser, DistributedDataParallel or the
    checkpoint, stays in evaluation mode, and reads each text once when a cache is open.

    Args:
        name: Model on the hub, a local folder, or `package:PACKAGE/PATH` for a folder in an installed package.
            IMITATE freezes `emilyalsentzer/Bio_ClinicalBERT`.
        trainable_layers: How many of the last layers are trained; 0 freezes the model, None trains all of it.
        pooling: The embedding is the last hidden state of [CLS] (both papers), or the mean over tokens. It must be the
            mean where tokens see only those before them (CLIP, Qwen2): the first says nothing there.
        max_length: Word pieces after which a text is cut (IMITATE: 256).
        dropout: Leave the dropout of a frozen model on, and so embed every text anew at each step, as the official
            code does unintendedly.
        layers: How many of the first layers are kept; None keeps all (ASG: 6 of 12).

    Attributes:
        inputs: Names of what the model takes of the tokenizer.

    Raises:
        UserError: If the model cannot be had, or does not suit the options.
    """

    files: ClassVar[Mapping[str, str]] = {"name": TEXT_ENCODER}

    def __init__(
        self,
        name: str = "emilyalsentzer/Bio_ClinicalBERT",
        trainable_layers: int | None = 0,
        pooling: Literal["cls", "mean"] = "cls",
        max_length: int = 256,
        dropout: bool = False,
        layers: int | None = None,
    ) -> None:
        super().__init__()
        self.name, self.pooling, self.max_length = name, pooling, max_length
        model: Any
        self.tokenizer: Any
        model, self.tokenizer = load_language_model(locate(name), name)
        if layers is not None:
            keep_layers(model, layers, name)
        check_reader(model, self.tokenizer, name, pooling, max_length)
        self.inputs = inputs_of(model, self.tokenizer)
        # A tokenizer without special tokens makes nothing of an empty text, whose embedding would be no number.
        marks = (self.tokenizer.bos_token, self.tokenizer.eos_token, self.tokenizer.pad_token)
        self._empty = "" if self.tokenizer("")["input_ids"] else next(filter(None, marks))
        self.width = int(model.config.hidden_size)
        self.frozen = trainable_layers == 0
        if not self.frozen and trainable_layers is not None:
            freeze_but_last(model, trainable_layers, name)
        self.dropout = dropout
        if self.frozen:
            # In a tuple, where nn.Module does not look for sub-modules.
            self._frozen: tuple[Any] = (model.requires_grad_(False).train(dropout),)
        else:
            # It comes in evaluation mode, in which the Trainer would leave it.
            self.model = model.train()

    @property
    def language_model(self) -> Any:
        """The Hugging Face model, frozen or not."""
        return self._frozen[0] if self.frozen else self.model

    @property
    def title(self) -> str:
        """Last part of the name of the language model."""
        return Path(self.name).name

    @property
    def network(self) -> Any:
        """The language model."""
        return self.language_model

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed one batch of M strings; returns float (M, D)."""
        hidden, tokens = self._hidden(texts)
        return self.pool(hidden, tokens["attention_mask"])

    def read(self, reports: Sequence[str], region: RegionBatch, pooled: bool) -> tuple[Tensor | None, Tensor, Tensor]:
        """Embed reports, and the words of their region sentences.

        A trained model gives the contextual words of a sentence, each the sum of its word pieces (ASG), as far as the
        report is not cut off. A frozen one gives one word a sentence, the embedding of the sentence alone: it has
        few distinct sentences to read, each once, where the words of all reports would fill a disk.

        See `TextEncoder.read`.
        """
        if self.frozen:
            return super().read(reports, region, pooled)
        hidden, tokens = self._hidden(reports)
        report = self.pool(hidden, tokens["attention_mask"]) if pooled else None
        return report, *self._words(hidden, tokens, region.sentence_place.numpy())

    def phrases(self, texts: Sequence[str]) -> PhraseFeatures:
        """Embed M phrases, and their words as `read` does those of the sentences of reports."""
        if self.frozen or not texts:
            return super().phrases(texts)
        hidden, tokens = self._hidden(texts)
        place = np.array([(m, 0, len(text)) for m, text in enumerate(texts)], np.int64).reshape(-1, 3)
        pooled = self.pool(hidden, tokens["attention_mask"])
        return PhraseFeatures(texts, pooled, *self._words(hidden, tokens, place))

    def _apply(self, fn: Any, recurse: bool = True) -> HFTextEncoder:
        if self.dropout and self.frozen:
            # It embeds at each step, and so belongs where the training is.
            self._frozen[0]._apply(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def open_cache(self, folder: Path) -> None:
        """Use the embeddings of this very model under a folder; has no effect on a trained model, or with dropout."""
        if not self.dropout:
            super().open_cache(folder)

    @classmethod
    def rebuild_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without dropout, which is for training: a text must have the same embedding each time."""
        return {**options, "dropout": False}

    @classmethod
    def describe_start(cls, options: Mapping[str, Any]) -> str:
        """Return the name of the language model; of a path its last part."""
        return public_name(options["name"])

    def write(self, folder: Path) -> None:
        """Write language model and tokenizer as transformers reads them."""
        model, folder = self.language_model, folder / TEXT_ENCODER
        state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()}
        with torch.device("meta"):
            whole = type(model)(model.config).state_dict()
        # A pooler that was never used, and is left out, would be missed with a warning that the model needs training.
        state |= {key: torch.zeros(value.shape) for key, value in whole.items() if key not in state}
        folder.mkdir()
        model.config.save_pretrained(folder)
        write_tensors(state, folder / EXPORTED)
        self.tokenizer.save_pretrained(folder)

    def _words(self, hidden: Tensor, tokens: Any, place: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the words (K, D) of sentences, each the sum of its word pieces, and the sentence of each."""
        word, word_sentence = sentence_words(tokens, place)
        device = hidden.device
        inside = torch.from_numpy(np.flatnonzero(word >= 0)).to(device)
        number = torch.from_numpy(word[word >= 0]).to(device)
        pieces = hidden.flatten(0, 1)[inside]
        words = pieces.new_zeros(len(word_sentence), self.width).index_add(0, number, pieces)
        return words, torch.from_numpy(word_sentence).to(device)

    def _hidden(self, texts: Sequence[str]) -> tuple[Tensor, Any]:
        """Return the last hidden states (M, length, D), and the tokens."""
        tokens = self.tokenize(texts, return_offsets_mapping=True)
        model, device = self.language_model, self._device()
        return model(**{key: tokens[key].to(device) for key in self.inputs}).last_hidden_state, tokens

    def tokenize(self, texts: Sequence[str], **options: Any) -> Any:
        """Return the tokens of M texts, each (M, length), padded behind."""
        return self.tokenizer(
            [text if text.strip() else self._empty for text in texts],
            max_length=self.max_length,
            truncation=True,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
            **options,
        )

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the embeddings (M, D) of texts from their last hidden states (M, length, D).

        Args:
            hidden: The hidden states.
            mask: Which of them belong to tokens, 0 or 1, (M, length).
        """
        if self.pooling == "cls":
            return hidden[:, 0]
        weight = mask[..., None].to(hidden.device, hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)

    def identity(self) -> str:
        """Return the title, and a hash of tokenizer, configuration, pooling and weights."""
        content = hashlib.blake2b(digest_size=6)
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # These two are the state of the last call, not of the tokenizer.
        del tokenizer["padding"], tokenizer["truncation"]
        config = self.language_model.config.to_dict()
        for name in ("_name_or_path", "transformers_version"):
            config.pop(name, None)
        settings = [self.pooling, self.max_length, tokenizer, config]
        content.update(json.dumps(settings, sort_keys=True, default=str).encode())
        hash_state(content, self.language_model)
        return f"{self.title}-{content.hexdigest()}"
