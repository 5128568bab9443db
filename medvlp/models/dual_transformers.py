"""CLIP and SigLIP of transformers, such as MedSigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, CLIPTextModelWithProjection, SiglipTextModel

from medvlp.errors import UserError
from medvlp.models.dual import DualEncoder, Framing, Head, TextTower, load_tower, pick, temperature_of
from medvlp.models.hf_vision import read_processor
from medvlp.models.hub import find_weights, require_file
from medvlp.models.weights import locate

PROJECTION = "visual_projection.weight"
# Starts of the names of a text half.
TEXT = ("text_model.", "text_projection.")


def find_transformers_dual(model: str) -> DualEncoder:
    """Return a CLIP or a SigLIP of transformers: a folder, or OWNER/NAME on the hub.

    Raises:
        UserError: If it is neither, its files cannot be had, or they say of no preprocessing that medvlp has.
    """
    file = require_file(model, "config.json")
    try:
        config: Any = AutoConfig.from_pretrained(file, trust_remote_code=False)
        kind = config.model_type
    except (KeyError, OSError, ValueError) as error:
        raise UserError(f"weights='hf:{model}': transformers knows no model_type of its config.json.") from error
    if kind not in ("clip", "siglip"):
        raise UserError(
            f"weights='hf:{model}' is a model of type '{kind}': here CLIP and SigLIP alone compare images with texts. "
            "Others can be image encoders, --model.image_encoder.init_args.name of 'medvlp fit'."
        )
    if kind == "clip":
        # The whole model's counts; the halves may state others.
        config.text_config.projection_dim = config.projection_dim
    files = find_weights(model)
    return DualEncoder(
        {"name": f"hf:{model}"},
        partial(TransformersText, model, kind, config.text_config, files),
        partial(image_head, files),
        _framing(model, config.vision_config.image_size),
        files,
        # The attention that pools the places of a SigLIP reads the value of each.
        places=kind == "siglip",
    )


def image_head(files: Sequence[str]) -> Head:
    """Return the projection of CLIP's image features; SigLIP has none."""
    state = pick(files, lambda key: key in (PROJECTION, "logit_scale", "logit_bias"))
    values = temperature_of(state)
    if PROJECTION in state:
        return Head("linear", state={"weight": state[PROJECTION]}, **values)
    return Head(**values)


def _framing(model: str, side: int) -> Framing:
    settings = read_processor(model)
    if settings is None:
        raise UserError(f"weights='hf:{model}' have no preprocessor_config.json to say how images are resized.")
    size = settings.get("size", side)
    crop = settings.get("crop_size", side)
    crop = crop if isinstance(crop, int) else crop["height"]
    cropped = settings.get("do_center_crop", False)
    if isinstance(size, int):
        size = {"shortest_edge": size} if cropped else {"height": size, "width": size}
    if "shortest_edge" in size and cropped:
        return Framing(size["shortest_edge"], "crop", crop)
    if "height" in size and size["height"] == size["width"]:
        return Framing(size["height"], "squash", crop if cropped else size["height"])
    raise UserError(f"weights='hf:{model}' resize images to {size}, which is no square.")


class TransformersText(TextTower):
    """The text half of a CLIP or a SigLIP of transformers, with its own pooling and projection.

    A text of CLIP is padded to the longest, and its features are those of its end. A SigLIP was trained with texts that
    are all padded to its context length, and its last position, which may be padding, sees all others.

    Args:
        model: A folder, or OWNER/NAME on the hub.
        kind: `clip` or `siglip`.
        config: Its text_config.
        files: Paths of its weights.

    Raises:
        UserError: If it cannot be loaded.
    """

    def __init__(self, model: str, kind: str, config: Any, files: Sequence[str]) -> None:
        super().__init__()
        self.kind, self.length = kind, config.max_position_embeddings
        place = locate(model)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        except (ImportError, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"weights='hf:{model}': its tokenizer cannot be loaded ({reason}).") from error
        network: Any = CLIPTextModelWithProjection if kind == "clip" else SiglipTextModel
        self.network: Any = network(config)
        # transformers would warn of the tensors of images, and make up those that are missing.
        state = pick(files, lambda key: key.startswith(TEXT) and not key.endswith("position_ids"))
        if not any(key.startswith(TEXT[0]) for key in self.network.state_dict()):
            state = {key.removeprefix(TEXT[0]): value for key, value in state.items()}
        load_tower(self.network, state, f"weights='hf:{model}'")
        self.width = config.projection_dim if kind == "clip" else config.projection_size

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the tokens as the model was trained with."""
        padding = "max_length" if self.kind == "siglip" else True
        tokens = self._tokenizer(
            list(texts), padding=padding, truncation=True, max_length=self.length, return_tensors="pt"
        )
        names = ("input_ids",) if self.kind == "siglip" else ("input_ids", "attention_mask")
        return {name: tokens[name] for name in names}

    def forward(self, **tokens: Tensor) -> Tensor:
        """Return the text features (M, width)."""
        output = self.network(**tokens)
        features: Tensor = output.text_embeds if self.kind == "clip" else output.pooler_output
        return features
