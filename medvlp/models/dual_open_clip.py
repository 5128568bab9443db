"""Models of open_clip, such as BiomedCLIP, and OpenAI's CLIP as CheXzero continues it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from medvlp.errors import UserError
from medvlp.models.dual import DualEncoder, Framing, Head, TextTower, load_tower, pick, temperature_of
from medvlp.models.open_clip_tower import OpenClip, read_open_clip
from medvlp.models.sources import extra

FITS = {"shortest": "crop", "longest": "pad", "squash": "squash"}
# Places of the last linear layer over the image features, and the kind of head that each stands for.
LINEAR = ("visual.head.proj.", "visual.trunk.head.fc.", "visual.trunk.head.")
MLP = "visual.head.mlp."
# Names of a text transformer that is no module of its own in the file.
OWN_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def find_open_clip_dual(model: str) -> DualEncoder:
    """Return a model of open_clip: NAME/TAG, `hf-hub:OWNER/NAME`, a folder, or a file of weights in one."""
    found = read_open_clip(model, weights=True)
    vision = found.config.get("vision_cfg", {})
    # As in open_clip, the size of the image tower decides, whatever the preprocessing says.
    side, mode = vision.get("image_size", 224), found.preprocessing.get("resize_mode") or "shortest"
    if not isinstance(side, int) or mode not in FITS:
        raise UserError(
            f"weights='open_clip:{model}' take images of image_size={side} and resize_mode={mode!r}; here are squares "
            f"alone, by {', '.join(FITS)}."
        )
    fit = FITS[mode]
    return DualEncoder(
        {"name": f"open_clip:{model}"},
        partial(make_tower, f"open_clip:{model}", found),
        partial(image_head, found.files),
        Framing(side, fit, side),
        found.files,
        places=vision.get("timm_pool", "avg") in ("avg", "map") and "timm_model_name" in vision,
    )


def find_chexzero(name: str, file: str) -> DualEncoder:
    """Return CheXzero: the ViT-B/32 of OpenAI's CLIP with other weights, of images padded to 320 pixels."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    found = OpenClip({"embed_dim": 512, "quick_gelu": True, "text_cfg": text}, {}, (file,))
    return DualEncoder(
        {"name": name, "weights": file},
        partial(make_tower, name, found),
        partial(image_head, found.files),
        Framing(320, "pad", 224, resize=224),
        found.files,
    )


def image_head(files: Sequence[str]) -> Head:
    """Return the projection of the image features."""
    state = pick(files, lambda key: key in ("logit_scale", "logit_bias", "visual.proj") or key.startswith("visual."))
    values = temperature_of(state)
    if (projection := state.get("visual.proj")) is not None:
        return Head("linear", state={"weight": projection.T.contiguous()}, **values)
    if mlp := {key.removeprefix(MLP): value for key, value in state.items() if key.startswith(MLP)}:
        layers = {key.replace("fc1", "0").replace("fc2", "2"): value for key, value in mlp.items()}
        return Head("mlp", len(mlp["fc1.weight"]), "fc2.bias" in mlp, layers, **values)
    for place in LINEAR:
        if f"{place}weight" in state:
            linear = {key: state[place + key] for key in ("weight", "bias") if place + key in state}
            return Head("linear", bias="bias" in linear, state=linear, **values)
    return Head(**values)


def make_tower(name: str, found: OpenClip) -> OpenClipTower:
    """Return the text tower of a model of open_clip, with its weights.

    Raises:
        UserError: If the package is not installed, it has no such text tower, or the weights do not fit.
    """
    open_clip = extra("open_clip", name)
    settings = dict(found.config.get("text_cfg", {}))
    try:
        config = open_clip.CLIPTextCfg(**settings)
        kind = TransformersTower if config.hf_model_name else OwnTower
        tower: OpenClipTower = kind(name, config, found.config, _tokenizer(name, config, found.folder))
    except UserError:
        raise
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"weights='{name}': its text encoder cannot be made ({reason}).") from error
    state = pick(found.files, lambda key: key.startswith(("text.", *OWN_TEXT)))
    if any(key.startswith("text.") for key in state):
        state = {key.removeprefix("text."): value for key, value in state.items() if key.startswith("text.")}
    # Older versions of transformers stored the numbers of the positions, too.
    state = {key: value for key, value in state.items() if not key.endswith(("position_ids", "attn_mask"))}
    load_tower(tower.network, state, f"weights='{name}'")
    return tower


def _tokenizer(name: str, config: Any, folder: str | None) -> Any:
    """Return the tokenizer of open_clip; no code of a tokenizer's folder runs, whatever the config says."""
    tokenizers = extra("open_clip.tokenizer", name)
    options = dict(config.tokenizer_kwargs or {})
    if not config.hf_tokenizer_name:
        return tokenizers.SimpleTokenizer(context_length=config.context_length, **options)
    local = folder is not None and any(Path(folder, file).is_file() for file in TOKENIZER_FILES)
    options |= {"trust_remote_code": False}
    if mode := getattr(config, "tokenizer_mode", None):
        options["tokenizer_mode"] = mode
    return tokenizers.HFTokenizer(
        folder if local else config.hf_tokenizer_name, context_length=config.context_length, **options
    )


class OpenClipTower(TextTower):
    """A text tower whose tokens are the numbers alone, (M, context length).

    Args:
        network: The network; its parameters have the names of the file.
        tokenizer: The tokenizer of open_clip.
        width: Width of the text features.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, width: int) -> None:
        super().__init__()
        self.network: nn.Module = network
        self.width = width
        self._tokenizer = tokenizer

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the tokens, padded to the context length."""
        return {"ids": self._tokenizer(list(texts))}

    def forward(self, ids: Tensor) -> Tensor:
        """Return the text features (M, width) of tokens (M, length)."""
        features: Tensor = self.network(ids)
        return features


class OwnTower(OpenClipTower):
    """The text transformer of open_clip.

    Args:
        name: Name of the model.
        config: Its CLIPTextCfg.
        model: Its model_cfg.
        tokenizer: Its tokenizer.
    """

    def __init__(self, name: str, config: Any, model: Mapping[str, Any], tokenizer: Any) -> None:
        transformer = extra("open_clip.transformer", name)
        taken = inspect.signature(transformer.TextTransformer).parameters
        options = {key: value for key, value in vars(config).items() if key in taken}
        activation = transformer.QuickGELU if model.get("quick_gelu") else nn.GELU
        options |= {
            "output_dim": model["embed_dim"],
            "output_tokens": False,
            "act_layer": partial(activation, **(config.act_kwargs or {})),
            "norm_layer": partial(transformer.LayerNorm, **(config.norm_kwargs or {})),
        }
        super().__init__(transformer.TextTransformer(**options), tokenizer, model["embed_dim"])


class TransformersTower(OpenClipTower):
    """A language model of transformers with open_clip's pooling and projection.

    Args:
        name: Name of the model.
        config: Its CLIPTextCfg.
        model: Its model_cfg.
        tokenizer: Its tokenizer.
    """

    def __init__(self, name: str, config: Any, model: Mapping[str, Any], tokenizer: Any) -> None:
        language: Any = AutoConfig.from_pretrained(config.hf_model_name, trust_remote_code=False)
        architectures = extra("open_clip.hf_configs", name).arch_dict
        pooling = config.hf_pooler_type or architectures[language.model_type]["pooler"]
        super().__init__(
            _Pooled(language, pooling, config.hf_proj_type, model["embed_dim"]), tokenizer, model["embed_dim"]
        )


class _Pooled(nn.Module):
    def __init__(self, config: Any, pooling: str, projection: str | None, dim: int) -> None:
        super().__init__()
        self.padding, self.pooling = config.pad_token_id, pooling
        self.transformer: Any = AutoModel.from_config(config, trust_remote_code=False)
        if config.is_encoder_decoder:
            self.transformer = self.transformer.encoder
        if pooling != "cls_pooler" and getattr(self.transformer, "pooler", None) is not None:
            self.transformer.pooler = None
        width = config.hidden_size
        between = (width + dim) // 2
        self.proj: nn.Module
        if projection == "linear":
            self.proj = nn.Linear(width, dim, bias=False)
        elif projection == "mlp":
            self.proj = nn.Sequential(
                nn.Linear(width, between, bias=False), nn.GELU(), nn.Linear(between, dim, bias=False)
            )
        elif width == dim:
            self.proj = nn.Identity()
        else:
            raise UserError(f"hf_proj_type={projection!r}: a text of {width} features is not projected to {dim}.")

    def forward(self, ids: Tensor) -> Tensor:
        mask = (ids != self.padding).long()
        output = self.transformer(input_ids=ids, attention_mask=mask)
        hidden = output.last_hidden_state
        match self.pooling:
            case "mean_pooler":
                pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            case "max_pooler":
                pooled = hidden.masked_fill(~mask[..., None].bool(), -torch.inf).amax(1)
            case "cls_pooler":
                whole = getattr(output, "pooler_output", None)
                pooled = hidden[:, 0] if whole is None else whole
            case "cls_last_hidden_state_pooler":
                pooled = hidden[:, 0]
            case _:
                raise UserError(f"hf_pooler_type={self.pooling!r} is not known.")
        projected: Tensor = self.proj(pooled)
        return projected
