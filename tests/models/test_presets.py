"""Presets: each loads from a file in its published layout, with the features of the code that wrote it."""

import argparse
import re

import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from timm.models.eva import Eva
from torch import nn

from medvlp.errors import UserError
from medvlp.models import TimmEncoder, presets
from medvlp.models.key_maps import fitting
from medvlp.models.pretrained import load_image_encoder
from medvlp.models.sources import read_normalisation
from tests.models.test_open_clip_tower import TEXT, tower

pytestmark = pytest.mark.slow

PRESETS = presets.presets()


class Options(argparse.Namespace):
    """The options of a training; its class is not there when somebody else reads the file."""


def image(size):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=generator)


def pixels(images, name):
    """Return the input of the authors' network, by the normalisation that their code has."""
    mean, std = read_normalisation(PRESETS[name]["normalisation"])
    rgb = (images[:, None] / 255).expand(-1, 3, -1, -1)
    return (rgb - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def chance(network):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point() and value.ndim < 4:
                value.add_(torch.rand(value.shape, generator=generator) * 0.1)
    return network.eval()


def renamed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def saved(content, path):
    """Write a file, and take away the class of its options."""
    torch.save(content, path)
    return str(path)


def rad_dino(folder):
    config = transformers.Dinov2Config(
        hidden_size=48, num_hidden_layers=4, num_attention_heads=3, image_size=518, patch_size=14
    )
    model = chance(transformers.Dinov2Model(config))
    model.save_pretrained(folder)
    arguments = {"embed_dim": 48, "depth": 4, "num_heads": 3}
    return str(folder / "model.safetensors"), arguments, lambda x: model(x).pooler_output


def rad_dino_of_dinov2(folder):
    """The file backbone_compatible.safetensors has the names of DINOv2's own code, which are timm's."""
    arguments = {"embed_dim": 48, "depth": 4, "num_heads": 3}
    model = chance(timm.create_model("vit_base_patch14_dinov2", num_classes=0, **arguments))
    path = folder / "backbone_compatible.safetensors"
    save_file({**model.state_dict(), "mask_token": torch.zeros(1, 48)}, path)
    return str(path), arguments, lambda x: model(x)


def eva_x(name, folder):
    size = {"embed_dim": 48, "depth": 4, "num_heads": 3}
    base = {"qkv_fused": False, "scale_mlp": True} if name.endswith("base") else {}
    options = {"mlp_ratio": 4 * 2 / 3, "swiglu_mlp": True, "use_rot_pos_emb": True, "ref_feat_shape": (14, 14), **base}
    # The authors' class is timm's with other defaults.
    model = chance(Eva(img_size=224, patch_size=16, num_classes=0, **size, **options))
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in (
            ("fc_norm.", "norm."),
            ("mlp.fc1_g", "mlp.w1"),
            ("mlp.fc1_x", "mlp.w2"),
            ("mlp.fc2", "mlp.w3"),
            ("mlp.norm", "mlp.ffn_ln"),
            ("attn.q_proj.bias", "attn.q_bias"),
            ("attn.v_proj.bias", "attn.v_bias"),
        ):
            key = key.replace(ours, theirs)
        state[key] = value
    state |= {"mask_token": torch.zeros(1, 1, 48), "lm_head.weight": torch.zeros(7, 48), "lm_head.bias": torch.zeros(7)}
    state |= {"rope.freqs_cos": torch.zeros(196, 16), "blocks.0.attn.rope.freqs_sin": torch.zeros(196, 16)}
    path = saved({"module": state, "epoch": 3, "args": Options(lr=1)}, folder / "eva.pt")
    return path, size, lambda x: model(x)


def biomedclip(folder):
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    model = tower({"embed_dim": 16, "custom_text": True, "vision_cfg": vision, "text_cfg": TEXT})
    path = saved(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return path, {"embed_dim": 192, "num_heads": 3}, lambda x: model.visual.trunk(x)


def resnet(folder, wrap):
    """Return a ResNet of torchvision, and a file that holds it as `wrap` says."""
    network = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
    network = chance(network)
    path = saved(wrap(network), folder / "resnet.ckpt")
    stages = list(network.children())[:-1]
    return path, {"layers": [1, 1, 1, 1]}, lambda x: nn.Sequential(*stages)(x).flatten(1)


PREVIOUS = {"encoder.missing_previous_emb": torch.zeros(1, 256, 1, 1)}


def biovil_t(folder, previous=PREVIOUS):
    others = {**previous, "projector.model.0.weight": torch.zeros(3, 3)}
    return resnet(folder, lambda network: {**others, **renamed(network.state_dict(), "encoder.encoder.")})


def mgca_resnet50(folder):
    others = {"img_encoder_q.global_embed.head.0.weight": torch.zeros(3, 3)}
    return resnet(
        folder,
        lambda network: {
            "state_dict": {**others, **renamed(network.state_dict(), "img_encoder_q.model.")},
            "hyper_parameters": Options(emb_dim=128),
            "optimizer_states": [{"state": {0: torch.zeros(1)}}],
        },
    )


def gloria(folder):
    others = {"gloria.text_encoder.model.embeddings.word_embeddings.weight": torch.zeros(9, 3)}
    return resnet(
        folder,
        lambda network: {
            "state_dict": {**others, **renamed(network.state_dict(), "gloria.img_encoder.model.")},
            "hyper_parameters": Options(model=Options(vision=1)),
        },
    )


def medklip(folder):
    network = chance(torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1]))
    features = nn.Sequential(*list(network.children())[:-3])
    state = {**renamed(features.state_dict(), "module.res_features."), "module.res_l1.weight": torch.zeros(3, 3)}
    state["module.decoder.layers.0.linear1.weight"] = torch.zeros(3, 3)
    path = saved({"model": state, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}, "epoch": 1}, folder / "x.pth")
    return path, {"layers": [1, 1, 1, 1]}, lambda x: features(x).mean((2, 3))


def vit(folder, wrap):
    arguments = {"embed_dim": 48, "depth": 4, "num_heads": 3}
    model = chance(timm.create_model("vit_base_patch16_224", num_classes=0, **arguments))
    return saved(wrap(model.state_dict()), folder / "vit.pth"), arguments, lambda x: model(x)


def mgca_vit(folder):
    return vit(
        folder, lambda state: {"state_dict": renamed(state, "img_encoder_q.model."), "callbacks": {"a": Options()}}
    )


def mrm(folder):
    others = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_embed.weight": torch.zeros(8, 48),
        "decoder_blocks.0.norm1.weight": torch.zeros(8),
        "bert_encoder.model.cls.bias": torch.zeros(4),
    }
    return vit(folder, lambda state: {"model": {**state, **others}, "epoch": 1, "args": Options(batch_size=64)})


def chexzero(folder):
    vision = {"image_size": 224, "layers": 4, "width": 64, "head_width": 32, "patch_size": 32}
    model = tower({"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT})
    path = saved(model.state_dict(), folder / "best_64_5e-05_original_22000_0.864.pt")

    def features(x):
        model.visual.proj = None
        return model.visual(x)

    return path, {"embed_dim": 64, "depth": 4, "num_heads": 2}, features


def ark_plus(folder):
    arguments = {"embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "img_size": 384}
    model = chance(timm.create_model("swin_large_patch4_window12_384", num_classes=0, **arguments))

    def older(state):
        # In timm 0.5.4 a stage ends with the merging of patches, and buffers are stored.
        pattern = re.compile(r"layers\.(\d)\.downsample")
        state = {pattern.sub(lambda m: f"layers.{int(m[1]) - 1}.downsample", k): v for k, v in state.items()}
        state |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(144, 144), "head.bias": torch.zeros(5)}
        state |= {"omni_heads.0.weight": torch.zeros(3, 8), "projector.weight": torch.zeros(8)}
        return renamed(state, "module.")

    student = {key: torch.zeros_like(value) for key, value in older(model.state_dict()).items()}
    content = {"epoch": 50, "state_dict": student, "teacher": older(model.state_dict()), "scheduler": Options()}
    return saved(content, folder / "Ark6_swinLarge768_ep50.pth.tar"), arguments, lambda x: model(x)


def medsiglip(folder):
    vision = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 3}
    text = {**vision, "vocab_size": 99, "num_hidden_layers": 1, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.SiglipConfig(text_config=text, vision_config={**vision, "image_size": 448, "patch_size": 14})
    model = chance(transformers.SiglipModel(config))
    model.save_pretrained(folder)
    arguments = {"embed_dim": 48, "depth": 4, "num_heads": 3, "mlp_ratio": 64 / 48}
    return str(folder / "model.safetensors"), arguments, lambda x: model.vision_model(x).pooler_output


def chexficient(folder):
    arguments = {"embed_dim": 48, "depth": 4, "num_heads": 3}
    model = chance(timm.create_model("vit_base_patch14_dinov2", num_classes=0, img_size=378, **arguments))
    state = {
        **renamed(model.state_dict(), "image_encoder.model."),
        "image_encoder.model.mask_token": torch.zeros(1, 48),
    }
    state |= {
        "text_encoder.model.embeddings.word_embeddings.weight": torch.zeros(9, 3),
        "prototypes": torch.zeros(2, 4),
    }
    return saved({"model": state, "subset": ["a"], "args": Options()}, folder / "pytorch_model.pth"), arguments, model


MADE = {
    "rad-dino": rad_dino,
    "rad-dino of DINOv2": rad_dino_of_dinov2,
    "eva-x-tiny": lambda folder: eva_x("eva-x-tiny", folder),
    "eva-x-small": lambda folder: eva_x("eva-x-small", folder),
    "eva-x-base": lambda folder: eva_x("eva-x-base", folder),
    "biomedclip": biomedclip,
    "biovil": lambda folder: biovil_t(folder, {}),
    "biovil-t": biovil_t,
    "mgca-resnet50": mgca_resnet50,
    "mgca-vit": mgca_vit,
    "gloria": gloria,
    "medklip": medklip,
    "mrm": mrm,
    "chexzero": chexzero,
    "ark-plus": ark_plus,
    "medsiglip": medsiglip,
    "chexficient": chexficient,
}


@pytest.fixture(scope="module", params=MADE)
def made(request, tmp_path_factory):
    torch.manual_seed(0)
    path, arguments, features = MADE[request.param](tmp_path_factory.mktemp("preset"))
    return request.param.split()[0], path, arguments, features


def test_every_preset_is_tested():
    assert {name.split()[0] for name in MADE} == PRESETS.keys()


def test_features_are_those_of_the_authors_network(made, monkeypatch):
    name, path, arguments, features = made
    # Whoever reads the file does not have the class of its options.
    monkeypatch.delitem(globals(), "Options")
    ours = TimmEncoder(name, weights=path, arguments=arguments).eval()
    side = arguments.get("img_size", PRESETS[name]["image_size"])
    assert ours.side == side
    with torch.no_grad():
        got, wanted = ours(image(side)), features(pixels(image(side), name))
        torch.testing.assert_close(got.pooled, wanted, rtol=1e-4, atol=1e-4)
        assert ours.places(got).shape[:2] == (2, ours.width)
        # At another size, too, where the authors' network takes it.
        ours.fit(224 if ours.side != 224 else 448)
        assert ours(image(ours.side)).pooled.isfinite().all()
        if ours.architecture == "resnet50":
            torch.testing.assert_close(
                ours(image(224)).pooled, features(pixels(image(224), name)), rtol=1e-4, atol=1e-4
            )
    assert len(ours.parameters_by_depth()) >= 4
    assert ours.patch_width == ours.widths[ours.patch_level]


def test_a_preset_is_trained_and_made_again(made):
    name, path, arguments, _ = made
    options = {"arguments": arguments, "trainable_layers": 1, "gradient_checkpointing": True}
    ours = TimmEncoder(name, weights=path, **options)
    sum(level.sum() for level in ours(image(ours.side)).pyramid).backward()
    assert any(parameter.grad is not None for parameter in ours.parameters())
    again = TimmEncoder(**TimmEncoder.rebuild_options({"name": name, "weights": path, **options}, ours.recipe))
    again.load_state_dict(ours.state_dict())
    assert TimmEncoder.describe_start({"name": name}) == f"pre-trained weights of {name}"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is(name):
    preset = PRESETS[name]
    known = {"arguments", "prefix", "antialias", "hub", "file"}
    required = {"architecture", "image_size", "normalisation", "licence", "paper", "source", "seen"}
    assert required <= preset.keys() <= required | known
    assert ("hub" in preset) == ("file" in preset)
    assert preset["source"].startswith("https://")
    assert timm.is_model(preset["architecture"])


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if "hub" not in preset])
def test_a_preset_that_no_program_can_download_says_where_it_is(name):
    with pytest.raises(UserError, match=f"Get the file from {PRESETS[name]['source']}.*weights=FILE"):
        TimmEncoder(name)


def test_a_preset_of_the_hub_is_looked_up_there(tmp_path, monkeypatch):
    path, arguments, _ = rad_dino(tmp_path)
    asked = []
    monkeypatch.setattr("medvlp.models.hub.hf_hub_download", lambda *names: asked.append(names) or path)
    TimmEncoder("rad-dino", arguments=arguments)
    assert asked == [("microsoft/rad-dino", "model.safetensors")]
    with pytest.raises(UserError, match="do not fit"):
        load_image_encoder("rad-dino")


@pytest.mark.parametrize("name", ["rad-dino", "medsiglip", "clip"])
def test_whole_networks_have_as_many_parameters_as_those_of_transformers(name):
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    theirs = {
        "rad-dino": lambda: transformers.Dinov2Model(transformers.Dinov2Config(image_size=518)),
        "medsiglip": lambda: transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(**vision, image_size=448, patch_size=14)
        ),
        "clip": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig()),
    }[name]
    preset = PRESETS.get(name, {"architecture": "vit_base_patch32_clip_quickgelu_224"})
    with torch.device("meta"):
        model = theirs()
        ours = timm.create_model(preset["architecture"], num_classes=0, **preset.get("arguments", {}))
    unused = {"mask_token"}
    count = sum(p.numel() for key, p in model.named_parameters() if key.split(".")[-1] not in unused)
    assert sum(p.numel() for p in ours.parameters()) == count


def test_a_downstream_task_takes_a_file_with_the_name_of_its_preset(tmp_path):
    network = torchvision.models.resnet50()
    path = saved({"state_dict": renamed(network.state_dict(), "img_encoder_q.model.")}, tmp_path / "mgca.ckpt")
    ours = load_image_encoder(path, "mgca-resnet50")
    assert torch.equal(ours.backbone.conv1.weight, network.conv1.weight)
    assert (ours.mean.flatten().tolist(), ours.std.flatten().tolist()) == ([127.5] * 3, [127.5] * 3)
    assert load_image_encoder(path, "resnet50", normalisation="none").std.flatten().tolist() == [255.0] * 3
    with pytest.raises(UserError, match=r"do not fit the architecture name='mgca-vit'.*a ResNet of torchvision"):
        load_image_encoder(path, "mgca-vit")


def test_the_averaged_network_is_taken_of_two_that_fit():
    network = timm.create_model("test_vit", num_classes=0)
    state = network.state_dict()
    both = {**renamed(state, "student.backbone."), **{f"teacher.backbone.{k}": v + 1 for k, v in state.items()}}
    _, found = fitting(both, network)
    assert torch.equal(found["norm.weight"], state["norm.weight"] + 1)
    _, found = fitting(both, network, "student.")
    assert torch.equal(found["norm.weight"], state["norm.weight"])


def test_presets_are_in_the_documentation():
    text = (presets.Path(presets.__file__).parents[1] / "docs" / "pages" / "pretrain.md").read_text()
    for name, preset in PRESETS.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == preset["licence"]
        assert cells[2:4] == [str(preset["image_size"]), preset["normalisation"]]
        assert preset["source"] in cells[4]
