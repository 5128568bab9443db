"""Text encoder for language models of transformers, either frozen and cached, or trained."""

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
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar

from medvlp.models.language import (
    check_reader,
    checkpoint_layers,
    freeze_but_last,
    inputs_of,
    keep_layers,
    load_language_model,
    parameters_by_depth,
)
from medvlp.models.text import TextEncoder, hash_state
from medvlp.models.weights import EXPORTED, TEXT_ENCODER, locate, public_name, write_tensors
from medvlp.types import PhraseFeatures, SentenceBatch

# Beside forked data loader processes, the tokenizer's thread pool would only warn and idle.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Loading from the disk takes a moment only; downloads have progress bars of their own.
disable_progress_bar()


def sentence_words(tokens: Any, place: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find the words of sentences among the tokens of reports.

    Args:
        tokens: Tokens of B reports from a fast tokenizer, with offsets.
        place: Report, start and end of each sentence, (S, 3); see `SentenceBatch.place`.

    Returns:
        The word number of each token, (B * length,), with -1 outside the sentences; and the sentence of each of the K
        words. Word pieces beyond the maximum length are no tokens, and so belong to no word.
    """
    reports, length = tokens["input_ids"].shape
    # NaN stands for special tokens and padding, which belong to no word.
    word = np.array([tokens.word_ids(b) for b in range(reports)], np.float64).reshape(-1)
    # The last character decides, because some tokenizers count the space before a word as part of it.
    last = tokens["offset_mapping"][..., 1].numpy().reshape(-1) - 1
    # All reports share one axis, so that one sorted search finds the sentence of every token.
    report = np.repeat(np.arange(reports), length)
    study, begin, end = place.T
    line = 1 << 32
    sentence = np.searchsorted(study * line + begin, report * line + last, side="right") - 1
    # Index -1, for tokens before the first sentence, must match no report.
    study, end = np.append(study, -1), np.append(end, 0)
    inside = ~np.isnan(word) & (study[sentence] == report) & (last < end[sentence])
    # The first piece of a word decides its sentence.
    named = report[inside] * line + word[inside].astype(np.int64)
    _, first, number = np.unique(named, return_index=True, return_inverse=True)
    out = np.full(len(word), -1)
    out[inside] = number
    return out, sentence[inside][first]


class HFTextEncoder(TextEncoder):
    """A Hugging Face language model that returns one embedding for each text.

    Any architecture of transformers that reads texts with a fast tokenizer, and needs no code of its folder: BERT,
    RoBERTa, ModernBERT, MPNet, DeBERTa, ELECTRA, T5's encoder, CLIP's text tower. Models that are a BERT under another
    name, such as `microsoft/BiomedVLP-CXR-BERT-specialized`, are loaded as a BERT, without their projection heads.

    A frozen model is no sub-module. It has no parameters for the optimiser, DistributedDataParallel or the checkpoint,
    and stays in evaluation mode. With an open cache it reads each text once.

    Args:
        name: Model on the hub, a local folder, or `package:PACKAGE/PATH` for a folder in an installed package.
            IMITATE freezes `emilyalsentzer/Bio_ClinicalBERT`.
        trainable_layers: Number of the last layers to train; 0 freezes the model, None trains all layers.
        pooling: `cls` for the last hidden state of [CLS] (both papers), `mean` for the mean over tokens. Causal models
            (CLIP, Qwen2) need `mean`, because their first token does not see the text.
        max_length: Maximum number of word pieces; longer texts are cut (IMITATE: 256).
        dropout: Whether a frozen model keeps its dropout, and so embeds every text again at each step. The official
            code does so unintentionally.
        layers: Number of the first layers to keep; None keeps all (ASG: 6 of 12).
        gradient_checkpointing: Whether a trained model computes the activations of each layer again in the backward
            pass, which takes less memory and more time.

    Attributes:
        inputs: Names of the tokenizer's outputs that the model takes.

    Raises:
        UserError: If the model cannot be loaded, or does not suit the options.
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
        gradient_checkpointing: bool = False,
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
        # Without special tokens, an empty text has no tokens, and its mean would be NaN.
        marks = (self.tokenizer.bos_token, self.tokenizer.eos_token, self.tokenizer.pad_token)
        self._empty = "" if self.tokenizer("")["input_ids"] else next(filter(None, marks))
        self.width = int(model.config.hidden_size)
        self.frozen = trainable_layers == 0
        if not self.frozen and trainable_layers is not None:
            freeze_but_last(model, trainable_layers, name)
        if gradient_checkpointing:
            checkpoint_layers(model, self.frozen, name)
        self.dropout = dropout
        if self.frozen:
            # nn.Module does not look for sub-modules in tuples.
            self._frozen: tuple[Any] = (model.requires_grad_(False).train(dropout),)
        else:
            # transformers returns models in evaluation mode, and the Trainer would not change that.
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

    def parameters_by_depth(self) -> list[list[nn.Parameter]]:
        """Return the parameters of a trained model by depth: those before its layers, and each layer.

        What follows the last layer is in its list. Layers that share their weights are one.
        """
        return [] if self.frozen else parameters_by_depth(self.model)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed one batch of M strings; returns float (M, D)."""
        hidden, tokens = self._hidden(texts)
        return self.pool(hidden, tokens["attention_mask"])

    def read(
        self, reports: Sequence[str], sentences: SentenceBatch, pooled: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Embed reports, and the words of their sentences.

        A trained model returns the contextual words of a sentence, each the sum of its word pieces (ASG). Words beyond
        the maximum length are missing. A frozen model returns one word a sentence, the embedding of the sentence alone.
        There are few distinct sentences to cache, while the words of all reports would fill a disk.

        See `TextEncoder.read`.
        """
        if self.frozen:
            return super().read(reports, sentences, pooled)
        hidden, tokens = self._hidden(reports)
        report = self.pool(hidden, tokens["attention_mask"]) if pooled else None
        return report, *self._words(hidden, tokens, sentences.place.numpy())

    def phrases(self, texts: Sequence[str]) -> PhraseFeatures:
        """Embed M phrases and their words, as `read` embeds sentences."""
        if self.frozen or not texts:
            return super().phrases(texts)
        hidden, tokens = self._hidden(texts)
        place = np.array([(m, 0, len(text)) for m, text in enumerate(texts)], np.int64).reshape(-1, 3)
        pooled = self.pool(hidden, tokens["attention_mask"])
        return PhraseFeatures(texts, pooled, *self._words(hidden, tokens, place))

    def _apply(self, fn: Any, recurse: bool = True) -> HFTextEncoder:
        if self.dropout and self.frozen:
            # With dropout it runs at each step, so it must be on the device of the training.
            self._frozen[0]._apply(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def open_cache(self, folder: Path) -> None:
        """Use the stored embeddings of this model under a folder; no effect on a trained model or with dropout."""
        if not self.dropout:
            super().open_cache(folder)

    @classmethod
    def rebuild_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without dropout, so that a text has the same embedding each time."""
        return {**options, "dropout": False}

    @classmethod
    def describe_start(cls, options: Mapping[str, Any]) -> str:
        """Return the name of the language model; for a path, its last part."""
        return public_name(options["name"])

    def write(self, folder: Path) -> None:
        """Write language model and tokenizer in the format of transformers."""
        model, folder = self.language_model, folder / TEXT_ENCODER
        state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()}
        with torch.device("meta"):
            whole = type(model)(model.config).state_dict()
        # If the unused pooler were missing, transformers would warn that the model needs training.
        state |= {key: torch.zeros(value.shape) for key, value in whole.items() if key not in state}
        folder.mkdir()
        model.config.save_pretrained(folder)
        write_tensors(state, folder / EXPORTED)
        self.tokenizer.save_pretrained(folder)

    def read_written(self, folder: Path) -> dict[str, Tensor]:
        """Return the tensors of the language model in an exported folder; see `TextEncoder.read_written`."""
        path = folder / TEXT_ENCODER / EXPORTED
        state = load_file(path) if path.is_file() else {}
        # `write` adds the pooler, which is unused.
        return {f"model.{key}": value for key, value in state.items() if not key.startswith("pooler.")}

    def _words(self, hidden: Tensor, tokens: Any, place: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the words (K, D) of sentences, each the sum of its word pieces, and the sentence of each word."""
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
        """Return the tokens of M texts, each tensor (M, length), padded at the end."""
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
            mask: Mask of real tokens, (M, length) of 0 and 1.
        """
        if self.pooling == "cls":
            return hidden[:, 0]
        weight = mask[..., None].to(hidden.device, hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)

    def identity(self) -> str:
        """Return the title, and a hash of tokenizer, configuration, pooling and weights."""
        content = hashlib.blake2b(digest_size=6)
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # These two entries depend on the last call.
        del tokenizer["padding"], tokenizer["truncation"]
        config = self.language_model.config.to_dict()
        for name in ("_name_or_path", "transformers_version"):
            config.pop(name, None)
        settings = [self.pooling, self.max_length, tokenizer, config]
        content.update(json.dumps(settings, sort_keys=True, default=str).encode())
        hash_state(content, self.language_model)
        return f"{self.title}-{content.hexdigest()}"
