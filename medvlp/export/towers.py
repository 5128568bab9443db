"""The two halves of a pre-trained model as plain modules from tensors to tensors, for ONNX and transformers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medvlp.models import HFTextEncoder
from medvlp.objectives.similarity import joined
from medvlp.objectives.tag_prediction import TagPrediction
from medvlp.tasks.pretraining import PretrainingTask

TAGS = "tags"
"""The output beside the joint spaces, `objective/section`: probabilities (N, T) of the tag decoder."""


class ImageTower(nn.Module):
    """Image encoder, heads, and the tag decoder if there is one."""

    def __init__(self, task: PretrainingTask) -> None:
        super().__init__()
        self.encoder, self.objectives = task.image_encoder, task.objectives

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the normalised embeddings (N, D) of images, uint8 (N, H, W), by space, and `TAGS`."""
        features = self.encoder(image)
        outputs: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            outputs |= {f"{name}/{s}": rows for s, rows in objective.embed_image(features).items()}  # type: ignore[operator]
            if isinstance(objective, TagPrediction):
                outputs.setdefault(TAGS, objective.logits(features).sigmoid())
        return outputs


class TextTower(nn.Module):
    """Language model and heads.

    Attributes:
        inputs: Names of the arguments of `forward`, in their order, as in the tokenizer.
    """

    def __init__(self, task: PretrainingTask) -> None:
        super().__init__()
        # `medvlp export --format onnx|huggingface` has refused other encoders.
        assert isinstance(task.text_encoder, HFTextEncoder)
        self.encoder: HFTextEncoder = task.text_encoder
        self.objectives = task.objectives
        # A frozen language model is no sub-module of its encoder.
        self.language_model = self.encoder.language_model
        self.inputs: list[str] = list(self.encoder.inputs)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        """Return the arguments of `forward` for M texts."""
        tokens = self.encoder.tokenize(texts)
        return tuple(tokens[name] for name in self.inputs)

    def forward(self, *tokens: Tensor) -> dict[str, Tensor]:
        """Return the normalised embeddings (M, D) of texts by space from their tokens, each int64 (M, length)."""
        given = dict(zip(self.inputs, tokens, strict=True))
        embedded = self.encoder.pool(self.language_model(**given).last_hidden_state, given["attention_mask"])
        return {
            f"{name}/{section}": objective.embed_text(embedded)  # type: ignore[operator]
            for name, objective in self.objectives.items()
            for section in objective.sections  # type: ignore[union-attr]
        }


def joined_outputs(embeddings: dict[str, Tensor]) -> Tensor:
    """Return one vector a row for the outputs of a tower; see `medvlp.objectives.similarity.joined`."""
    return joined([rows for name, rows in embeddings.items() if name != TAGS])
