"""Files of other layouts and of other image sizes in networks of timm, and what a wrong file is told to hold."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

from medvlp.errors import UserError
from medvlp.models import TimmEncoder
from medvlp.models.key_maps import describe
from medvlp.models.pretrained import load_image_encoder
from medvlp.models.sources import read_normalisation

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 2}


def images(size):
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def saved(network, path, **others):
    torch.save({**network.state_dict(), **others}, path)
    return str(path)


def dinov2(size, name="vit_small_patch14_dinov2"):
    """A network of DINOv2; its own files hold a token for masked patches, too."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, img_size=size, **SMALL).eval()
    torch.nn.init.normal_(network.cls_token)  # it starts at almost nothing
    return network


@pytest.mark.parametrize("stored", [518, 224, 112])
@pytest.mark.parametrize("wanted", [518, 224, None])
def test_positions_of_a_file_are_resampled_once(tmp_path, stored, wanted):
    network = dinov2(stored)
    path = saved(network, tmp_path / "dinov2.pth", mask_token=torch.zeros(1, 32))
    ours = TimmEncoder("vit_small_patch14_dinov2", weights=path, arguments=SMALL, image_size=wanted).eval()
    side = wanted or stored
    assert ours.side == side
    grid = [side // 14] * 2
    expected = resample_abs_pos_embed(network.pos_embed, grid, num_prefix_tokens=1)
    torch.testing.assert_close(ours.backbone.pos_embed, expected, rtol=0, atol=1e-6)
    if side == stored:
        with torch.no_grad():
            pooled = network(ours.normalise(images(side)))
            torch.testing.assert_close(ours(images(side)).pooled, pooled, rtol=1e-4, atol=1e-5)


def test_registers_of_dinov2(tmp_path):
    # In DINOv2's own files the class token has a position of its own.
    network = dinov2(224, "vit_small_patch14_reg4_dinov2")
    state = network.state_dict()
    position = torch.randn(1, 1, 32)
    others = {"mask_token": torch.zeros(1, 32), "register_tokens": state.pop("reg_token")}
    others |= {"cls_token": state["cls_token"] - position, "pos_embed": torch.cat([position, state["pos_embed"]], 1)}
    torch.save({**state, **others}, tmp_path / "reg4.pth")
    options = {"weights": str(tmp_path / "reg4.pth"), "arguments": SMALL}
    ours = TimmEncoder("vit_small_patch14_reg4_dinov2", **options).eval()
    with torch.no_grad():
        pooled = network(ours.normalise(images(224)))
        torch.testing.assert_close(ours(images(224)).pooled, pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "model.", "module.backbone.", "student.backbone."])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_any_prefix_is_found(tmp_path, name, prefix):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5)
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    torch.save({"model": state, "others.conv1.weight": torch.zeros(3)}, tmp_path / "a.pth")
    ours = TimmEncoder(name, weights=str(tmp_path / "a.pth"))
    wanted = network.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in ours.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("given", "mean", "std"),
    [
        (None, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("clip", [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        ("half", [0.5] * 3, [0.5] * 3),
        ("none", [0.0] * 3, [1.0] * 3),
        ("0.5307,0.2583", [0.5307] * 3, [0.2583] * 3),
        ("0.5307, 0.2583", [0.5307] * 3, [0.2583] * 3),
    ],
)
def test_the_normalisation_of_a_file_is_what_is_said(tmp_path, given, mean, std):
    path = saved(timm.create_model("test_resnet", num_classes=0, pretrained=False), tmp_path / "a.pth")
    for ours in (
        TimmEncoder("resnet18", pretrained=False, normalisation=given),
        TimmEncoder("test_resnet", weights=path, normalisation=given or "imagenet"),
        load_image_encoder(path, "test_resnet", normalisation=given or "imagenet"),
    ):
        assert ours.mean.flatten() / 255 == pytest.approx(torch.tensor(mean))
        assert ours.std.flatten() / 255 == pytest.approx(torch.tensor(std))
    assert "normalisation" not in ours.recipe


def test_a_checkpoint_keeps_its_normalisation_unless_another_is_given(tmp_path):
    first = TimmEncoder("test_resnet", pretrained=False, normalisation="0.25,0.125")
    torch.save({f"image_encoder.{key}": value for key, value in first.state_dict().items()}, tmp_path / "run.ckpt")
    options = {"weights": str(tmp_path / "run.ckpt")}
    assert TimmEncoder("test_resnet", **options).mean.flatten().tolist() == [63.75] * 3
    assert TimmEncoder("test_resnet", normalisation="half", **options).mean.flatten().tolist() == [127.5] * 3


@pytest.mark.parametrize("given", ["", "grey", "0.5", "0.5,0", "0.5,-1", "1,2,3", "a,b", "0.5;0.5"])
def test_other_normalisations_are_refused(given):
    with pytest.raises(UserError, match="give imagenet, clip, half, none, torchxrayvision or MEAN,STD") as error:
        read_normalisation(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["vision_model.embeddings.patch_embedding.weight"], "a CLIP or SigLIP of transformers under 'vision_model.'"),
        (["dinov2.embeddings.patch_embeddings.projection.weight"], "a ViT or DINOv2 of transformers under 'dinov2.'"),
        (["visual.transformer.resblocks.0.attn.in_proj_weight"], "a CLIP ViT of OpenAI or open_clip under 'visual.'"),
        (["module.features.denseblock1.denselayer1.conv1.weight"], "a DenseNet of torchvision under 'module.'"),
        (["layer1.0.conv1.weight"], "a ResNet of torchvision or timm"),
        (["bert.embeddings.word_embeddings.weight"], "Its first tensor is 'bert.embeddings.word_embeddings.weight'"),
    ],
)
def test_a_wrong_file_is_told_what_it_holds(names, text):
    said = describe({name: torch.zeros(1) for name in names})
    assert said == (text if text.startswith("Its") else f"It seems to hold {text}")


def test_a_network_of_another_width_is_refused(tmp_path):
    path = saved(timm.create_model("test_vit", num_classes=0), tmp_path / "vit.pth")
    message = (
        r"weights='.*' do not fit the architecture name='test_vit': 7. of 78 tensors are missing or of another shape, "
        r"the first is 'cls_token'\. The file holds 78 tensors\. It seems to hold a ViT of timm, DINOv2 or MAE\.$"
    )
    with pytest.raises(UserError, match=message):
        TimmEncoder("test_vit", weights=path, arguments={"embed_dim": 32})


def test_a_name_with_an_architecture_beside_it_is_refused():
    with pytest.raises(UserError, match="'rad-dino' name their architecture: leave architecture='resnet50' out"):
        load_image_encoder("rad-dino", "resnet50")
