"""An encoder by one option: a checkpoint, ImageNet, chance or a file; its architecture and its normalisation."""

import pytest
import torch
from safetensors.torch import save_file

from medvlp.errors import NotFoundError, UserError
from medvlp.models import TimmEncoder
from medvlp.models.pretrained import digest, load_image_encoder

RESNET, VIT = "test_resnet.r160_in1k", "test_vit.r160_in1k"


def images(size=64):
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def trained(name=RESNET, **options):
    """An encoder of a pre-training, with a normalisation of its own."""
    torch.manual_seed(5)
    encoder = TimmEncoder(name, pretrained=False, **options).eval()
    encoder.mean.fill_(100.0)
    encoder.std.fill_(50.0)
    return encoder


def checkpoint(path, encoder, name=RESNET, **options):
    """Save what `medvlp fit` saves of a pre-training."""
    image_encoder = {"class_path": "medvlp.models.TimmEncoder", "init_args": {"name": name, **options}}
    state = {f"image_encoder.{key}": value for key, value in encoder.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"image_encoder": image_encoder}, "epoch": 1}, path)
    return str(path)


@pytest.mark.parametrize("architecture", [None, RESNET, "test_resnet"])
def test_a_checkpoint_knows_its_architecture_and_its_normalisation(tmp_path, architecture):
    first = trained()
    second = load_image_encoder(checkpoint(tmp_path / "last.ckpt", first), architecture).eval()
    assert second.mean.flatten().tolist() == [100.0] * 3
    assert digest(first) == digest(second)
    with torch.no_grad():
        torch.testing.assert_close(second(images()).pooled, first(images()).pooled, rtol=0, atol=0)


def test_a_checkpoint_from_before_normalisations_were_saved(tmp_path):
    encoder = trained()
    path = checkpoint(tmp_path / "last.ckpt", encoder)
    saved = torch.load(path, weights_only=True)
    del saved["state_dict"]["image_encoder.mean"], saved["state_dict"]["image_encoder.std"]
    torch.save(saved, path)
    expected = TimmEncoder(RESNET, pretrained=False).mean
    torch.testing.assert_close(load_image_encoder(path).mean, expected)


def test_a_mismatch_names_both_architectures(tmp_path):
    path = checkpoint(tmp_path / "last.ckpt", trained())
    with pytest.raises(UserError) as error:
        load_image_encoder(path, "resnet18")
    assert "'test_resnet'" in str(error.value)
    assert "'resnet18'" in str(error.value)
    assert path in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pth", "safetensors", "encoder", "downstream"])
def test_a_file_needs_an_architecture(tmp_path, kind):
    first = trained()
    own = {key: value.contiguous() for key, value in first.state_dict().items()}
    bare = {key: value.contiguous() for key, value in first.backbone.state_dict().items()}
    path = str(tmp_path / f"weights.{kind}")
    if kind == "safetensors":
        save_file(bare, path)
    elif kind == "downstream":
        state = {f"encoder.{key}": value for key, value in own.items()}
        torch.save({"state_dict": {**state, "head.weight": torch.zeros(3)}, "hyper_parameters": {"weights": "x"}}, path)
    else:
        torch.save(own if kind == "encoder" else bare, path)
    second = load_image_encoder(path, RESNET)
    torch.testing.assert_close(second.backbone.state_dict(), first.backbone.state_dict())
    # A bare backbone was trained as timm says.
    expected = TimmEncoder(RESNET, pretrained=False) if kind in ("pth", "safetensors") else first
    torch.testing.assert_close(second.mean, expected.mean)
    with pytest.raises(UserError, match=r"--model\.architecture"):
        load_image_encoder(path)
    with pytest.raises(UserError, match="do not fit the architecture name='resnet18'"):
        load_image_encoder(path, "resnet18")


def test_random_is_one_draw_whatever_the_seed():
    drawn = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        drawn.append(digest(load_image_encoder("random", RESNET)))
        after = torch.rand(3)
        torch.manual_seed(seed)
        torch.testing.assert_close(torch.rand(3), after)  # the run's own numbers are as before
    assert drawn[0] == drawn[1]
    assert drawn[0] != digest(trained())


def test_imagenet_is_timms_pre_training(monkeypatch):
    asked = []

    def make(name, pretrained=True, **options):
        asked.append((name, pretrained))
        return trained()

    monkeypatch.setattr("medvlp.models.pretrained.TimmEncoder", make)
    load_image_encoder("imagenet")
    load_image_encoder("imagenet", RESNET)
    load_image_encoder("random")
    assert asked == [("resnet50", True), (RESNET, True), ("resnet50", False)]


@pytest.mark.parametrize("size", [None, 160, 96])
def test_a_transformer_sees_another_size(tmp_path, size):
    path = checkpoint(tmp_path / "last.ckpt", trained(VIT, image_size=64), VIT, image_size=64)
    encoder = load_image_encoder(path, image_size=size).eval()
    side = size or 64
    with torch.no_grad():
        assert [m.shape[-1] for m in encoder.maps(images(side))] == [side // 16] * 4


def test_networks_of_any_size_ignore_the_size():
    assert digest(load_image_encoder("random", RESNET, 96)) == digest(load_image_encoder("random", RESNET))


@pytest.mark.parametrize(
    ("name", "strides"),
    [(RESNET, [2, 4, 8, 16, 32]), ("test_convnext.r160_in1k", [4, 8, 16, 32]), (VIT, [16] * 4)],
)
def test_maps_are_all_stages_from_fine_to_coarse(name, strides):
    encoder = trained(name, image_size=64 if name == VIT else None)
    with torch.no_grad():
        maps, features = encoder.maps(images()), encoder(images())
    assert encoder.map_strides == strides
    shapes = [(2, w, 64 // s, 64 // s) for w, s in zip(encoder.map_widths, strides, strict=True)]
    assert [m.shape for m in maps] == shapes
    for ours, theirs in zip(maps[-4:], features.pyramid, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_digest_is_of_all_that_matters():
    digests = {digest(trained())}
    for change in ("weight", "mean", "running"):
        encoder = trained()
        with torch.no_grad():
            if change == "weight":
                next(encoder.parameters())[0, 0, 0, 0] += 1e-3
            elif change == "mean":
                encoder.mean += 1
            else:
                next(b for name, b in encoder.named_buffers() if "running_var" in name)[0] += 1e-3
        digests.add(digest(encoder))
    assert len(digests) == 4


@pytest.mark.parametrize("content", [b"", b"no weights", torch.zeros(3), [torch.zeros(3)], {"hyper_parameters": None}])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "last.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match="no checkpoint of a pre-training"):
        load_image_encoder(str(path))
    with pytest.raises(UserError, match=r"hold no state dict|do not fit") as error:
        load_image_encoder(str(path), RESNET)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"absent\.ckpt' is neither 'imagenet' nor 'random'"):
        load_image_encoder(str(tmp_path / "absent.ckpt"))
    with pytest.raises(UserError, match="'resnet5O' is not an architecture"):
        load_image_encoder("random", "resnet5O")
