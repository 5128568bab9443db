"""Image towers of open_clip as networks of timm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.errors import UserError
from medvlp.models.hub import find_weights, read_json, require_file
from medvlp.models.sources import NORMALISATIONS, Source, extra, of_size, unsupported

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
# Options of open_clip's own ViT that timm's lacks, and the values that change nothing.
PLAIN = {
    "attentional_pool": False,
    "block_type": None,
    "final_ln_after_pool": False,
    "no_ln_pre": False,
    "norm_kwargs": None,
    "pool_type": "tok",
    "pos_embed_type": "learnable",
}
RESNETS = {
    ((3, 4, 6, 3), 64): "resnet50_clip",
    ((3, 4, 23, 3), 64): "resnet101_clip",
    ((4, 6, 10, 6), 80): "resnet50x4_clip",
    ((6, 8, 18, 8), 96): "resnet50x16_clip",
    ((3, 15, 36, 10), 128): "resnet50x64_clip",
}


class OpenClip(NamedTuple):
    """A model of open_clip.

    Attributes:
        config: Its model_cfg.
        preprocessing: Its preprocess_cfg.
        files: Paths of the weights; empty if they were not asked for.
        folder: Its local folder; None if it has none.
    """

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    files: tuple[str, ...]
    folder: str | None = None


def find_open_clip(model: str, weights: bool) -> Source:
    """Return the source of the image tower of a model of open_clip; see `read_open_clip`."""
    found = read_open_clip(model, weights)
    return _tower(found.config, found.preprocessing, found.files)


def read_open_clip(model: str, weights: bool) -> OpenClip:
    """Return the settings of a model of open_clip, and the paths of its weights.

    Args:
        model: NAME/TAG in open_clip, `hf-hub:OWNER/NAME`, a folder with an open_clip_config.json, or a file in such a
            folder. NAME alone has no weights.
        weights: Whether to find the weights.

    Raises:
        UserError: If there is no such model, timm has no such network, or the files cannot be had.
    """
    on_hub = model.removeprefix("hf-hub:")
    folder = Path(model).parent if Path(model).is_file() else Path(model)
    if on_hub != model or folder.is_dir():
        where = on_hub if on_hub != model else str(folder)
        content = read_json(require_file(where, OPEN_CLIP_CONFIG))
        found: tuple[str, ...] = ()
        if weights:
            found = (model,) if Path(model).is_file() else find_weights(where, OPEN_CLIP_WEIGHTS)
        if not isinstance(content.get("model_cfg"), dict):
            raise UserError(f"'{OPEN_CLIP_CONFIG}' of 'open_clip:{model}' has no entry 'model_cfg'.")
        local = str(folder) if folder.is_dir() and on_hub == model else None
        return OpenClip(content["model_cfg"], content.get("preprocess_cfg", {}), found, local)
    open_clip: Any = extra("open_clip", f"open_clip:{model}")
    name, _, tag = model.partition("/")
    config = open_clip.get_model_config(name)
    if config is None:
        raise UserError(f"image encoder name='open_clip:{model}': open_clip has no model '{name}'.")
    pretrained = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    if (tag and not pretrained) or (weights and not tag):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
        raise UserError(f"image encoder name='open_clip:{model}': say which weights, as {name}/TAG: {tags or 'none'}.")
    found = ()
    if weights:
        try:
            found = (open_clip.download_pretrained(pretrained),)
        except (OSError, RuntimeError, ValueError) as error:
            kind = type(error).__name__
            raise UserError(f"the weights of 'open_clip:{model}' could not be downloaded ({kind}).") from error
    quick = pretrained.get("quick_gelu", config.get("quick_gelu", False))
    return OpenClip({**config, "quick_gelu": quick}, pretrained, found)


def _tower(config: Mapping[str, Any], preprocessing: Mapping[str, Any], files: tuple[str, ...]) -> Source:
    """Return the source of an image tower from the config of open_clip."""
    vision = config["vision_cfg"]
    mean, std = NORMALISATIONS["clip"]
    normalisation = preprocessing.get("mean") or mean, preprocessing.get("std") or std
    side = vision.get("image_size", 224)
    if name := vision.get("timm_model_name"):
        pool = vision.get("timm_pool", "avg")
        if pool in ("abs_attn", "rot_attn"):
            raise unsupported("timm_pool", pool)
        return Source(name, {"global_pool": pool} if pool else {}, side, normalisation, files)
    if not isinstance(vision["layers"], int):
        key = tuple(vision["layers"]), vision["width"]
        if key not in RESNETS:
            raise unsupported("layers", list(key[0]))
        return Source(RESNETS[key], {"img_size": side}, side, normalisation, files)
    for option, value in PLAIN.items():
        if vision.get(option, value) != value:
            raise unsupported(option, vision[option])
    width = vision["width"]
    arguments = {
        "img_size": side,
        "patch_size": vision["patch_size"],
        "embed_dim": width,
        "depth": vision["layers"],
        "num_heads": width // vision.get("head_width", 64),
        "mlp_ratio": float(vision.get("mlp_ratio", 4.0)),
        "act_layer": "quick_gelu" if config.get("quick_gelu") else "gelu",
    }
    if vision.get("ls_init_value") is not None:
        arguments["init_values"] = vision["ls_init_value"]
    return Source(
        of_size("vit_{}_patch{}_clip_224", width, vision["patch_size"]), arguments, side, normalisation, files
    )
