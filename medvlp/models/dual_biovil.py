"""BioViL and BioViL-T: a ResNet-50 whose projected patches are compared with CXR-BERT's projected texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizer

from medvlp.errors import UserError
from medvlp.models.dual import DualEncoder, Framing, Head, State, TextTower, load_tower, pick
from medvlp.models.hub import find_weights, read_json, require_file

# Side of the image whose middle the encoder sees, as in the transforms of microsoft/hi-ml.
RESIZED = 512
PROJECTOR = "projector.model."
TO_STATIC, MISSING = "encoder.backbone_to_vit.weight", "encoder.missing_previous_emb"


def find_biovil(name: str, place: str, file: str, side: int) -> DualEncoder:
    """Return BioViL or BioViL-T.

    Args:
        name: Its preset.
        place: OWNER/NAME on the hub, or a folder with its files.
        file: Name of the file with the image encoder.
        side: Side of its images.
    """
    image, text = require_file(place, file), find_weights(place)
    return DualEncoder(
        {"name": name, "weights": image},
        partial(CxrBert, name, place, text),
        partial(image_head, name, image),
        Framing(RESIZED, "crop", side),
        (image, *text),
    )


def image_head(name: str, file: str) -> Head:
    """Return the projector of patches.

    The patches of BioViL-T are two halves: a linear map of the ResNet's, and what changed since an earlier image. For
    an image alone the second half is a learned constant. So map, constant and the projector's first layer are one
    linear layer with a bias.

    Raises:
        UserError: If the file has no projector.
    """
    state = pick([file], lambda key: key.startswith(PROJECTOR) or key in (TO_STATIC, MISSING))
    layers = {key.removeprefix(PROJECTOR): value for key, value in state.items() if key.startswith(PROJECTOR)}
    if "3.weight" not in layers:
        raise UserError(f"weights='{name}': '{file}' has no projector of patches, '{PROJECTOR}3.weight'.")
    first = layers["0.weight"].flatten(1).double()
    bias = first.new_zeros(len(first))
    if TO_STATIC in state:
        static = state[TO_STATIC].flatten(1).double()
        bias = first[:, len(static) :] @ state[MISSING].flatten().double()
        first = first[:, : len(static)] @ static
    layers |= {"0.weight": first.float(), "0.bias": bias.float(), "3.weight": layers["3.weight"].flatten(1)}
    return Head("patch", len(first), state=layers)


class CxrBert(TextTower):
    """CXR-BERT with its projection of [CLS], built of plain BERT, so that no code of the hub runs.

    Args:
        name: Name of the model in errors.
        place: A folder, or OWNER/NAME on the hub.
        files: Paths of its weights.

    Raises:
        UserError: If its files cannot be had or do not fit.
    """

    def __init__(self, name: str, place: str, files: Sequence[str]) -> None:
        super().__init__()
        settings = read_json(require_file(place, "config.json"))
        config = BertConfig(**{key: value for key, value in settings.items() if key != "model_type"})
        self.length = config.max_position_embeddings
        self.width = int(settings.get("projection_size", 128))
        try:
            # The class is named: that in the folder's settings would be code of the hub.
            self._tokenizer: Any = BertTokenizer.from_pretrained(place)
        except (OSError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"weights='{name}': its tokenizer cannot be loaded ({reason}).") from error
        self.network = nn.ModuleDict(
            {
                "bert": BertModel(config, add_pooling_layer=False),
                "cls_projection_head": _Projection(config.hidden_size, self.width),
            }
        )
        starts = tuple(f"{part}." for part in self.network)
        state = pick(files, lambda key: key.startswith(starts) and ".pooler." not in key)
        load_tower(self.network, _without_positions(state), f"weights='{name}'")

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the tokens, padded to the longest text."""
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt"
        )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the text features (M, width)."""
        hidden = self.network["bert"](input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features: Tensor = self.network["cls_projection_head"](hidden[:, 0])
        return features


class _Projection(nn.Module):
    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(width, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-12)
        self.dense_to_output = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.dense_to_output(self.LayerNorm(nn.functional.gelu(self.dense_to_hidden(hidden))))
        return output


def _without_positions(state: State) -> State:
    return {key: value for key, value in state.items() if not key.endswith("position_ids")}


def folder_of(place: str) -> str:
    """Return the folder of a path that may be a file in it."""
    return str(Path(place).parent) if Path(place).is_file() else place
