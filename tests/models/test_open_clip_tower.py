"""Image towers of open_clip as networks of timm: the same features, from folders and files as open_clip writes them."""

import json

import open_clip
import pytest
import torch
from open_clip.factory import create_model
from PIL import Image
from safetensors.torch import save_file

from medvlp.errors import UserError
from medvlp.models import TimmEncoder
from medvlp.models.pretrained import load_image_encoder

TEXT = {"context_length": 7, "vocab_size": 99, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 96, "layers": 4, "width": 64, "head_width": 32, "patch_size": 16, "mlp_ratio": 2.0}
TRUNK = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
CONFIGS = {
    "vit": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT},
    "quick": {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "scaled": {"embed_dim": 16, "custom_text": True, "vision_cfg": {**VIT, "ls_init_value": 0.1}, "text_cfg": TEXT},
    # As BiomedCLIP.
    "trunk": {"embed_dim": 16, "custom_text": True, "vision_cfg": TRUNK, "text_cfg": TEXT},
    # As SigLIP, whose trunk ends with an attention.
    "map": {
        "embed_dim": 768,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_siglip_224",
            "timm_pool": "map",
            "timm_proj": "none",
            "image_size": 224,
        },
        "text_cfg": TEXT,
    },
    "resnet": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64},
        "text_cfg": TEXT,
    },
}
SLOW = ("map", "resnet")
NAMES = [name if name not in SLOW else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def image(size):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=generator)


def tower(config, side=None):
    """Return a model of open_clip with values of chance, for images of a side."""
    vision = config["vision_cfg"] if side is None else {**config["vision_cfg"], "image_size": side}
    torch.manual_seed(0)
    open_clip.factory._MODEL_CONFIGS["tiny"] = {**config, "vision_cfg": vision}
    model = create_model("tiny").eval()
    del open_clip.factory._MODEL_CONFIGS["tiny"]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.state_dict().values():
            # Without kernels of convolutions, or the sums of a ResNet that no training has scaled would overflow.
            if value.is_floating_point() and value.ndim < 4:
                value.add_(torch.rand(value.shape, generator=generator) * 0.02)
    return model


def published(config, folder):
    """Write a model as open_clip pushes it to the hub, and return it."""
    model = tower(config)
    folder.mkdir()
    content = {"model_cfg": config, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return model


def pixels(images):
    """Return the input of open_clip for grey images, by its own transform."""
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=images.shape[-1], mean=MEAN, std=STD), is_train=False
    )
    return torch.stack([transform(Image.fromarray(picture.numpy())) for picture in images])


def projected(ours, model):
    """Project our features as the tower does: they are those in front of its projection."""
    visual = model.visual
    if hasattr(visual, "trunk"):
        return visual.head(ours)
    if hasattr(visual, "attnpool"):
        return visual.attnpool.c_proj(ours)
    return ours @ visual.proj


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_open_clip(name, tmp_path):
    model = published(CONFIGS[name], tmp_path / "model")
    side = CONFIGS[name]["vision_cfg"]["image_size"]
    for ours in (TimmEncoder(f"open_clip:{tmp_path / 'model'}"), load_image_encoder(f"open_clip:{tmp_path / 'model'}")):
        assert ours.side == side
        assert ours.mean.flatten() / 255 == pytest.approx(torch.tensor(MEAN))
        with torch.no_grad():
            got = projected(ours.eval()(image(side)).pooled, model)
            torch.testing.assert_close(got, model.encode_image(pixels(image(side))), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["vit", "quick"])
def test_positions_are_resampled_as_open_clip_does(name, tmp_path):
    model = published(CONFIGS[name], tmp_path / "model")
    other = tower(CONFIGS[name], 224)
    state = model.state_dict()
    open_clip.model.resize_pos_embed(state, other)
    other.load_state_dict(state)
    ours = TimmEncoder(f"open_clip:{tmp_path / 'model'}", image_size=224).eval()
    with torch.no_grad():
        got = projected(ours(image(224)).pooled, other)
        torch.testing.assert_close(got, other.encode_image(pixels(image(224))), rtol=1e-4, atol=1e-4)


def test_a_file_and_its_forms(tmp_path):
    model = published(CONFIGS["quick"], tmp_path / "model")
    whole = TimmEncoder(f"open_clip:{tmp_path / 'model'}").state_dict()
    file = tmp_path / "model" / "open_clip_pytorch_model.bin"
    # As its training writes it, from several GPUs.
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "x", "state_dict": state, "optimizer": {"state": {0: {"step": 1}}}}, file)
    (tmp_path / "model" / "open_clip_model.safetensors").unlink()
    for name in (f"open_clip:{tmp_path / 'model'}", f"open_clip:{file}"):
        got = TimmEncoder(name).state_dict()
        assert all(torch.equal(value, whole[key]) for key, value in got.items())
    by_hand = {"img_size": 96, "patch_size": 16, "embed_dim": 64, "depth": 4, "num_heads": 2, "mlp_ratio": 2.0}
    options = {"arguments": by_hand, "weights": str(file), "normalisation": "clip"}
    got = TimmEncoder("vit_base_patch16_clip_quickgelu_224", **options).state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in got.items() if key.startswith("backbone"))


def test_names_of_open_clip_itself():
    ours = TimmEncoder("open_clip:ViT-B-32/openai", pretrained=False)
    assert (ours.architecture, ours.recipe["arguments"]["act_layer"]) == ("vit_base_patch32_clip_224", "quick_gelu")
    assert ours.mean.flatten().tolist() == pytest.approx([0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255])
    assert TimmEncoder("open_clip:ViT-B-32", pretrained=False).recipe["arguments"]["act_layer"] == "gelu"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("open_clip:no-such-model/x", "open_clip has no model 'no-such-model'"),
        ("open_clip:ViT-B-32", "as ViT-B-32/TAG: openai, laion400m"),
        ("open_clip:ViT-B-32/no_tag", "as ViT-B-32/TAG: openai"),
        ("open_clip:ViT-B-32/openai", "could not be downloaded"),
        (
            "open_clip:hf-hub:somebody/some-clip",
            r"'open_clip_config\.json' of the model 'somebody/.* cannot be",
        ),
        ("open_clip:{}", r"no file 'open_clip_config\.json'"),
    ],
)
def test_what_is_no_model_of_open_clip_is_refused_in_one_line(tmp_path, name, match):
    with pytest.raises(UserError, match=match) as error:
        TimmEncoder(name.format(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("vision", "match"),
    [
        ({**VIT, "pool_type": "avg"}, "pool_type='avg'"),
        ({**VIT, "attentional_pool": True}, "attentional_pool=True"),
        ({**TRUNK, "timm_pool": "abs_attn"}, "timm_pool='abs_attn'"),
        ({"image_size": 96, "layers": [1, 1, 1, 1], "width": 8}, r"layers=\[1, 1, 1, 1\]"),
    ],
)
def test_towers_that_timm_lacks_are_refused(tmp_path, vision, match):
    content = {"model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"no network with {match}"):
        TimmEncoder(f"open_clip:{tmp_path}", pretrained=False)


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    published(CONFIGS["vit"], tmp_path / "model")
    monkeypatch.setattr("medvlp.models.sources.find_spec", lambda name: None)
    # A folder needs no package, a name does.
    TimmEncoder(f"open_clip:{tmp_path / 'model'}")
    for name in ("open_clip:ViT-B-32/openai", "torchxrayvision:densenet121-res224-all"):
        with pytest.raises(UserError, match=r"pip install medvlp\[encoders\]"):
            TimmEncoder(name)
