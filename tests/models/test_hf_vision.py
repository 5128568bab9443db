"""Vision models of transformers as networks of timm: the same features, from a folder as transformers writes it."""

import json
import re

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from medvlp.errors import UserError
from medvlp.models import TimmEncoder
from medvlp.models.pretrained import load_image_encoder

SIZES = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
MLP = {"intermediate_size": 96}
PROCESSOR = {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3, "rescale_factor": 1 / 255}

# Model, its config, its own size, another size, whether it resamples positions itself.
MODELS = {
    "dinov2": (
        transformers.Dinov2Model,
        transformers.Dinov2Config(**SIZES, image_size=112, patch_size=14, mlp_ratio=2),
    ),
    "dinov2-swiglu": (
        transformers.Dinov2Model,
        transformers.Dinov2Config(**SIZES, image_size=112, patch_size=14, use_swiglu_ffn=True),
    ),
    "dinov2-registers": (
        transformers.Dinov2WithRegistersModel,
        transformers.Dinov2WithRegistersConfig(**SIZES, image_size=112, patch_size=14, mlp_ratio=2),
    ),
    "dinov3": (
        transformers.DINOv3ViTModel,
        transformers.DINOv3ViTConfig(**SIZES, **MLP, image_size=112, patch_size=16, num_register_tokens=4),
    ),
    "dinov3-gated": (
        transformers.DINOv3ViTModel,
        transformers.DINOv3ViTConfig(
            **SIZES, intermediate_size=128, image_size=112, patch_size=16, use_gated_mlp=True, hidden_act="silu"
        ),
    ),
    "vit": (transformers.ViTModel, transformers.ViTConfig(**SIZES, **MLP, image_size=112, patch_size=16)),
    "siglip": (
        transformers.SiglipVisionModel,
        transformers.SiglipVisionConfig(**SIZES, **MLP, image_size=112, patch_size=14),
    ),
    "clip": (
        transformers.CLIPVisionModel,
        transformers.CLIPVisionConfig(**SIZES, **MLP, image_size=112, patch_size=16),
    ),
}


def image(size):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=generator)


def chance(model):
    """Give every parameter a value of chance, so that no tensor may be forgotten."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def published(model, folder):
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return f"hf:{folder}"


def as_transformers_reads(images):
    """Return the pixel values of grey images as the image processors of transformers compute them."""
    processor = transformers.ViTImageProcessor(**PROCESSOR, do_resize=False)
    pictures = [Image.fromarray(picture.numpy()).convert("RGB") for picture in images]
    return processor(pictures, return_tensors="pt")["pixel_values"]


def expected(model, images):
    options = (
        {}
        if "DINOv3" in type(model).__name__ or "Dinov2" in type(model).__name__
        else {"interpolate_pos_encoding": True}
    )
    with torch.no_grad():
        output = model(as_transformers_reads(images), **options)
    hidden = output.last_hidden_state
    if isinstance(model, transformers.CLIPVisionModel):
        # transformers normalises the class token alone, timm all tokens.
        hidden = model.post_layernorm(hidden)
    return (hidden[:, 0] if isinstance(model, transformers.ViTModel) else output.pooler_output), hidden


@pytest.fixture(scope="module", params=MODELS)
def made(request, tmp_path_factory):
    kind, config = MODELS[request.param]
    torch.manual_seed(0)
    model = chance(kind(config))
    return model, published(model, tmp_path_factory.mktemp("hf") / "model")


@pytest.mark.parametrize("size", [112, 224])
def test_features_are_those_of_transformers(made, size):
    model, name = made
    ours = TimmEncoder(name).eval()
    assert ours.side == 112
    ours.fit(size)
    pooled, hidden = expected(model, image(size))
    with torch.no_grad():
        features = ours(image(size))
    torch.testing.assert_close(features.pooled, pooled, rtol=1e-4, atol=1e-4)
    patches = features.pyramid[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches, hidden[:, -patches.shape[1] :], rtol=1e-4, atol=1e-4)


def test_a_checkpoint_is_made_again_without_the_folder(made):
    _, name = made
    ours = TimmEncoder(name, image_size=224, trainable_layers=1, gradient_checkpointing=True).eval()
    options = TimmEncoder.rebuild_options({"name": name, "trainable_layers": 1}, json.loads(json.dumps(ours.recipe)))
    again = TimmEncoder(**options, image_size=224).eval()
    again.load_state_dict(ours.state_dict())
    assert all(parameter.requires_grad for parameter in again.parameters())
    with torch.no_grad():
        torch.testing.assert_close(again(image(224)).pooled, ours(image(224)).pooled, rtol=0, atol=0)
    assert again.architecture.startswith("vit_")
    assert "hf" not in again.architecture


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_vision_half_of_two_encoders(kind, tmp_path):
    vision = MODELS[kind][1]
    text = {**SIZES, **MLP, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "num_hidden_layers": 1}
    family = transformers.CLIPConfig if kind == "clip" else transformers.SiglipConfig
    config = family(text_config=text, vision_config=vision.to_dict())
    model = chance((transformers.CLIPModel if kind == "clip" else transformers.SiglipModel)(config))
    name = published(model, tmp_path / "both")
    pooled, _ = expected(model.vision_model, image(112))
    for ours in (TimmEncoder(name), load_image_encoder(name)):
        with torch.no_grad():
            torch.testing.assert_close(ours.eval()(image(112)).pooled, pooled, rtol=1e-4, atol=1e-4)


def test_names_of_older_files(tmp_path):
    # Older files of SiglipVisionModel have a prefix, and those of ViT for classification another one.
    model = chance(MODELS["siglip"][0](MODELS["siglip"][1]))
    name = published(model, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file({f"vision_model.{key}": value for key, value in load_file(file).items()}, file)
    with torch.no_grad():
        pooled = TimmEncoder(name).eval()(image(112)).pooled
    torch.testing.assert_close(pooled, expected(model, image(112))[0], rtol=1e-4, atol=1e-4)


def test_weights_in_parts_and_in_a_pickle(tmp_path):
    model = chance(MODELS["dinov2"][0](MODELS["dinov2"][1]))
    name = published(model, tmp_path / "parts")
    whole = TimmEncoder(name).state_dict()
    file = tmp_path / "parts" / "model.safetensors"
    state = load_file(file)
    file.unlink()
    for save, stem, end in ((save_file, "model", "safetensors"), (torch.save, "pytorch_model", "bin")):
        parts = {key: f"{stem}-0000{1 + i % 2}-of-00002.{end}" for i, key in enumerate(state)}
        for part in set(parts.values()):
            save({key: value for key, value in state.items() if parts[key] == part}, tmp_path / "parts" / part)
        index = tmp_path / "parts" / f"{stem}.{end}.index.json"
        index.write_text(json.dumps({"weight_map": parts}))
        assert all(torch.equal(value, whole[key]) for key, value in TimmEncoder(name).state_dict().items())
        index.unlink()
    torch.save(state, tmp_path / "parts" / "pytorch_model.bin")
    assert all(torch.equal(value, whole[key]) for key, value in TimmEncoder(name).state_dict().items())


def test_normalisation_is_that_of_the_processor(tmp_path):
    model = MODELS["dinov2"][0](MODELS["dinov2"][1])
    name = published(model, tmp_path / "model")
    file = tmp_path / "model" / "preprocessor_config.json"
    assert TimmEncoder(name, pretrained=False).mean.flatten().tolist() == pytest.approx([0.5307 * 255] * 3)
    # A processor that leaves grey levels as they are.
    file.write_text(json.dumps({"image_mean": [100.0] * 3, "image_std": [50.0] * 3, "do_rescale": False}))
    assert TimmEncoder(name, pretrained=False).std.flatten().tolist() == pytest.approx([50.0] * 3)
    file.write_text(json.dumps({"do_normalize": False}))
    assert TimmEncoder(name, pretrained=False).std.flatten().tolist() == pytest.approx([255.0] * 3)
    file.unlink()
    with pytest.raises(UserError, match=r"no preprocessor_config\.json"):
        TimmEncoder(name)
    assert TimmEncoder(name, normalisation="half").mean.flatten().tolist() == [127.5] * 3


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (None, "no file 'config.json'"),
        ("no JSON", "no JSON file"),
        ({"model_type": "no_such_model"}, "does not know the model_type"),
        ({"model_type": "swin"}, "no network with model_type='swin'"),
        ({"model_type": "siglip2_vision_model"}, "no network with model_type='siglip2_vision_model'"),
        ({"model_type": "vit", "hidden_act": "relu6"}, "no network with hidden_act='relu6'"),
        ({"model_type": "siglip_vision_model", "vision_use_head": False}, "vision_use_head=False"),
    ],
)
def test_what_is_no_vision_model_is_refused_in_one_line(tmp_path, config, match):
    if config is not None:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UserError, match=match) as error:
        TimmEncoder(f"hf:{tmp_path}")
    assert "\n" not in str(error.value)


def test_without_the_hub_the_message_says_so():
    with pytest.raises(UserError, match=r"'config\.json' of the model 'somebody/some-vit' cannot be had") as error:
        TimmEncoder("hf:somebody/some-vit")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be had"):
        load_image_encoder("hf:somebody/some-vit")


def test_a_file_of_another_network_is_refused_with_what_it_holds(tmp_path):
    model = MODELS["vit"][0](MODELS["vit"][1])
    name = published(model, tmp_path / "model")
    other = tmp_path / "other.safetensors"
    save_file({"student.layer1.0.conv1.weight": torch.zeros(2), "b": torch.zeros(1)}, other)
    text = "do not fit the architecture name='hf:.*model' (vit_base_patch16_224): 54 of 54 tensors"
    text = text.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(UserError, match=text) as error:
        TimmEncoder(name, weights=str(other))
    assert "The file holds 2 tensors. It seems to hold a ResNet of torchvision or timm under 'student.'." in str(
        error.value
    )
    assert re.search("the first is 'cls_token'", str(error.value))
