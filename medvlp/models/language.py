"""Language models of transformers for text encoders: loading, selection of layers, and checks."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers import (  # type: ignore[attr-defined]  # finds BertTokenizerFast when it runs
    CONFIG_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    BertConfig,
    BertTokenizerFast,
    PretrainedConfig,
)

from medvlp.errors import UserError

HELP = "Give the name of a model on the Hugging Face hub, or a local folder with config.json, tokenizer and weights."
# A config with all of these is one of BERT, whatever it calls itself.
OF_BERT = {
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
}
TEXT = "The heart size is normal. There is no pleural effusion."


def load_language_model(path: str, name: str) -> tuple[Any, Any]:
    """Load a model that reads texts, in fp32, and its tokenizer.

    No code of the folder runs. If transformers does not know a model without such code, but its config is one of BERT,
    it is loaded as a BERT: CXR-BERT, whose further projection head is left out.

    Args:
        path: Model on the hub, or a local folder.
        name: Name of the model in errors.

    Raises:
        UserError: If the model cannot be loaded, its weights are not those of its network, or it has no fast tokenizer.
    """
    try:
        config, reader = _read_config(path)
        # For T5 this is the encoder; most families have a single model.
        kind: Any = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
        # Without trust_remote_code=False, transformers offers to run Python code of the folder.
        model: Any
        model, loaded = kind.from_pretrained(path, config=config, trust_remote_code=False, output_loading_info=True)
        tokenizer: Any = reader.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # transformers, and whatever it reads the files with, raise any of them
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"text encoder name={name!r} could not be loaded ({reason}). {HELP}") from error
    model = model.float()
    # transformers would only log that these are random.
    lacking = sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler."))
    unread = sorted(key for key in loaded["unexpected_keys"] if key.startswith(f"{model.base_model_prefix}."))
    if lacking or unread:
        raise UserError(
            f"text encoder name={name!r}: its weights are not those of a {type(model).__name__} of its config.json: "
            f"{len(lacking)} tensors are missing, {len(unread)} have no place, such as '{[*lacking, *unread][0]}'."
        )
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"text encoder name={name!r} has no fast tokenizer, which says where words are. {HELP}")
    # In every family, padding after a text leaves its embedding alone; padding before it may not.
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    # BERT's pooler is unused: it would get no gradient, and DistributedDataParallel would stop.
    model.pooler = None
    return model, tokenizer


def _read_config(path: str) -> tuple[Any, Any]:
    """Return the configuration of a model and the class of its tokenizer; those of BERT for a BERT of unknown name."""
    settings, _ = PretrainedConfig.get_config_dict(path)
    if settings.get("model_type") in CONFIG_MAPPING or not settings.keys() >= OF_BERT:
        return AutoConfig.from_pretrained(path, trust_remote_code=False), AutoTokenizer
    # An exported model needs no code of the folder that it came from.
    unneeded = ("architectures", "auto_map", "model_type")
    return BertConfig.from_dict({k: v for k, v in settings.items() if k not in unneeded}), BertTokenizerFast


def inputs_of(model: Any, tokenizer: Any) -> list[str]:
    """Return the names of the tokenizer's outputs that the model takes."""
    taken = inspect.signature(model.forward).parameters
    return [name for name in dict.fromkeys((*tokenizer.model_input_names, "attention_mask")) if name in taken]


def layers_of(model: Any, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds the list of a model's layers, and the list's attribute name.

    Raises:
        UserError: If there is no such list, for example because all layers share their weights.
    """
    depth = getattr(model.config, "num_hidden_layers", 0)
    for place, module in model.named_modules():
        # The order is from the outside in, so the first match is the main list.
        if isinstance(module, nn.ModuleList) and len(module) == depth > 0:
            parent, _, attribute = place.rpartition(".")
            return model.get_submodule(parent), attribute
    raise UserError(
        f"text encoder name={name!r}: a {type(model).__name__} has no list of its {depth} layers, which may be one "
        "layer used again: pass layers=null, and trainable_layers=0 or null."
    )


def keep_layers(model: Any, count: int, name: str) -> None:
    """Keep only the first layers of a model; all layers if it has no more.

    Raises:
        UserError: If the number of layers to keep is below 1, or the model has no list of layers.
    """
    holder, attribute = layers_of(model, name)
    layers = getattr(holder, attribute)
    if count < 1:
        raise UserError(f"text encoder layers={count}, but name={name!r} has {len(layers)}: pass 1 to {len(layers)}.")
    count = min(count, len(layers))
    setattr(holder, attribute, layers[:count])
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = list(model.config.layer_types[:count])


def freeze_but_last(model: Any, count: int, name: str) -> None:
    """Freeze all but the last layers of a model.

    Raises:
        UserError: If the number is below 1 or above that of the layers, or the model has no list of layers.
    """
    holder, attribute = layers_of(model, name)
    layers = getattr(holder, attribute)
    if not 1 <= count <= len(layers):
        raise UserError(
            f"text encoder trainable_layers={count}, but name={name!r} has {len(layers)} layers: pass 0 to "
            f"{len(layers)}, or null to train all of it."
        )
    model.requires_grad_(False)
    layers[-count:].requires_grad_(True)


def parameters_by_depth(model: Any) -> list[list[nn.Parameter]]:
    """Return the parameters of a model in groups from the input to the output: those before the layers, each layer.

    The norm behind the last layer is in the group of that layer. If all layers share their weights, there is one group.
    """
    try:
        holder, attribute = layers_of(model, "")
    except UserError:
        return [list(model.parameters())]
    layers = [list(layer.parameters()) for layer in getattr(holder, attribute)]
    inside = {parameter for layer in layers for parameter in layer}
    names = {parameter: name for name, parameter in model.named_parameters()}
    last = max(position for position, parameter in enumerate(names) if parameter in inside)
    outside = [(i, p, name) for i, (p, name) in enumerate(names.items()) if p not in inside]
    # Tables of relative positions, which all layers read, are also defined behind the layers.
    behind = [p for i, p, name in outside if i > last and ("norm" in name or "ln_" in name)]
    before = [p for _, p, _ in outside if p not in set(behind)]
    return [before, *layers[:-1], layers[-1] + behind]


def checkpoint_layers(model: Any, frozen: bool, name: str) -> None:
    """Make a model compute the activations of its layers again in the backward pass.

    Raises:
        UserError: If the model is frozen, or cannot do so.
    """
    if frozen or not model.supports_gradient_checkpointing:
        reason = "it is frozen" if frozen else f"transformers has none for {type(model).__name__}"
        raise UserError(f"text encoder gradient_checkpointing=true, but {reason} (name={name!r}): leave it out.")
    # The other kind would lose the gradients behind frozen layers.
    model.gradient_checkpointing_enable({"use_reentrant": False})


def check_reader(model: Any, tokenizer: Any, name: str, pooling: str, max_length: int) -> None:
    """Refuse a model that cannot embed texts, or embeds all texts alike.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        name: Name of the model in errors.
        pooling: `cls` or `mean`; see `HFTextEncoder`.
        max_length: Maximum number of tokens of a text.

    Raises:
        UserError: If it is such a model, or reads fewer than `max_length` tokens.
    """
    if model.config.is_encoder_decoder:
        raise UserError(f"text encoder name={name!r}: a {type(model).__name__} does not read texts alone. {HELP}")
    training = model.training
    try:
        hidden = _read_two(model.eval(), tokenizer)
    except Exception as error:  # a model may raise anything on unexpected inputs
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"text encoder name={name!r}: a {type(model).__name__} does not read texts alone ({reason}). {HELP}"
        ) from error
    model.train(training)
    for place, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "position_embedding" in place:
            # Positions of RoBERTa begin after the index of the padding.
            most = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            if max_length > most:
                raise UserError(
                    f"text encoder max_length={max_length}, but name={name!r} reads {most} tokens at most: pass "
                    f"max_length={most}."
                )
    first, second = hidden[:, 0]
    if pooling == "cls" and (first - second).norm() <= 1e-5 * first.norm():
        raise UserError(
            f"text encoder name={name!r}: the first token of a {type(model).__name__} does not see the others, so that "
            "with pooling=cls all texts have one embedding: pass pooling=mean."
        )


@torch.no_grad()
def _read_two(model: Any, tokenizer: Any) -> Any:
    """Return the last hidden states (2, length, D) of two texts that differ from their second token on."""
    tokens = tokenizer([TEXT, TEXT], padding=True, truncation=True, max_length=16, return_tensors="pt")
    ids = tokens["input_ids"]
    ids[1, 1:] = (ids[1, 1:] + 1) % model.get_input_embeddings().num_embeddings
    return model(**{key: tokens[key] for key in inputs_of(model, tokenizer) if key in tokens}).last_hidden_state
