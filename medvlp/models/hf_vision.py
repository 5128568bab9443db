"""Vision models of transformers as networks of timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AutoConfig

from medvlp.errors import UserError
from medvlp.models.hub import find_file, find_weights, read_json, require_file
from medvlp.models.sources import Normalisation, Source, activation, mlp_ratio, of_size, unsupported


def find_transformers(model: str, weights: bool) -> Source:
    """Return the source of a vision model of transformers, or of the vision half of a CLIP or SigLIP.

    Args:
        model: A folder, or OWNER/NAME on the hub.
        weights: Whether to find the weights.

    Raises:
        UserError: If there is no such model, timm has no such network, or the files cannot be had.
    """
    file = require_file(model, "config.json")
    read_json(file)
    try:
        config: Any = AutoConfig.from_pretrained(file)
    except (KeyError, OSError, ValueError) as error:
        raise UserError(
            f"image encoder name='hf:{model}': without remote code, transformers does not know the model_type in its "
            "config.json. Name the architecture in timm, and pass the file of its weights as weights=FILE."
        ) from error
    config = getattr(config, "vision_config", config)
    kind = config.model_type
    if kind not in ARCHITECTURES:
        raise unsupported("model_type", kind)
    architecture, arguments = ARCHITECTURES[kind](config)
    arguments |= {"img_size": config.image_size, "patch_size": config.patch_size, "in_chans": config.num_channels}
    arguments |= {"embed_dim": config.hidden_size, "depth": config.num_hidden_layers}
    arguments |= {"num_heads": config.num_attention_heads, "norm_eps": config.layer_norm_eps}
    if arguments["in_chans"] == 3:
        del arguments["in_chans"]
    return Source(
        architecture,
        arguments,
        config.image_size,
        _processor(model),
        find_weights(model) if weights else (),
        # DINOv2 with registers was trained with smoothed positions, the others without.
        antialias=kind == "dinov2_with_registers",
    )


def read_processor(model: str) -> dict[str, Any] | None:
    """Return the settings of a model's image processor; None if it has none.

    They are in preprocessor_config.json, or in the processor_config.json of models with a text half.
    """
    if file := find_file(model, "preprocessor_config.json"):
        return read_json(file)
    file = find_file(model, "processor_config.json")
    return read_json(file).get("image_processor") if file else None


def _processor(model: str) -> Normalisation | None:
    """Return mean and std of a model's image processor; None if it has none."""
    settings = read_processor(model)
    if settings is None:
        return None
    # What the stored grey levels are multiplied with, as a share of white.
    scale = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255.0
    if not settings.get("do_normalize", True):
        return (0.0,), (1 / scale,)
    return [mean / scale for mean in settings["image_mean"]], [std / scale for std in settings["image_std"]]


def _dinov2(config: Any) -> tuple[str, dict[str, Any]]:
    registers = getattr(config, "num_register_tokens", 0)
    gated = config.use_swiglu_ffn
    family = "vit_{}_patch{}_reg4_dinov2" if config.model_type == "dinov2_with_registers" else "vit_{}_patch{}_dinov2"
    arguments = {"init_values": config.layerscale_value, "qkv_bias": config.qkv_bias}
    if gated:
        # The hidden layers of DINOv2's SwiGLU have two thirds of the width, in eights.
        hidden = (int(int(config.hidden_size * config.mlp_ratio) * 2 / 3) + 7) // 8 * 8
        arguments["mlp_ratio"] = mlp_ratio(2 * hidden, config.hidden_size)
    else:
        arguments |= {"mlp_ratio": float(config.mlp_ratio), "act_layer": activation(config.hidden_act)}
    if registers:
        arguments |= {"reg_tokens": registers, "no_embed_class": True}
    return family.format("giant", 14) if gated else of_size(family, config.hidden_size, 14), arguments


def _dinov3(config: Any) -> tuple[str, dict[str, Any]]:
    family = "vit_{}_plus_patch{}_dinov3" if config.use_gated_mlp else "vit_{}_patch{}_dinov3"
    arguments = {
        "init_values": config.layerscale_value,
        "qkv_bias": config.query_bias,
        "mlp_ratio": mlp_ratio(config.intermediate_size, config.hidden_size),
        "num_reg_tokens": config.num_register_tokens,
        "rope_temperature": config.rope_theta,
        "global_pool": "token",
    }
    return of_size(family, config.hidden_size, 16), arguments


def _vit(config: Any) -> tuple[str, dict[str, Any]]:
    return of_size("vit_{}_patch{}_224", config.hidden_size, config.patch_size), {
        "qkv_bias": config.qkv_bias,
        "mlp_ratio": mlp_ratio(config.intermediate_size, config.hidden_size),
        "act_layer": activation(config.hidden_act),
    }


def _clip(config: Any) -> tuple[str, dict[str, Any]]:
    return of_size("vit_{}_patch{}_clip_224", config.hidden_size, config.patch_size), {
        "mlp_ratio": mlp_ratio(config.intermediate_size, config.hidden_size),
        "act_layer": activation(config.hidden_act),
    }


def _siglip(config: Any) -> tuple[str, dict[str, Any]]:
    if not getattr(config, "vision_use_head", True):
        raise unsupported("vision_use_head", False)
    return of_size("vit_{}_patch{}_siglip_224", config.hidden_size, config.patch_size), {
        "mlp_ratio": mlp_ratio(config.intermediate_size, config.hidden_size),
        "act_layer": activation(config.hidden_act),
    }


ARCHITECTURES: dict[str, Callable[[Any], tuple[str, dict[str, Any]]]] = {
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2,
    "dinov3_vit": _dinov3,
    "vit": _vit,
    "clip_vision_model": _clip,
    "siglip_vision_model": _siglip,
}
"""Functions from a config of transformers to name and arguments in timm, by model_type."""
