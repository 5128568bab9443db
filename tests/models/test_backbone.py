"""Networks of one size made fit for other images, and networks that come from the hub or from a folder."""

import json

import pytest
import timm
import torch
from timm.models import save_for_hf

from medvlp.errors import UserError
from medvlp.models import TimmEncoder
from medvlp.models.pretrained import digest, load_image_encoder

# One of each family, the smallest, with a size that is not its own: patches of 16 and 14, a token for distillation,
# relative positions, registers, windows, convolutions in front, networks that only their constructor makes fit.
FAMILIES = [
    ("test_vit.r160_in1k", 96),
    ("test_vit3.r160_in1k", 224),
    ("test_vit_relpos", 96),
    ("vit_tiny_patch16_224", 96),
    ("deit_tiny_distilled_patch16_224", 96),
    ("eva02_tiny_patch14_224", 112),
    ("swin_tiny_patch4_window7_224", 96),
    ("swinv2_cr_tiny_ns_224", 96),
    ("test_maxvit", 96),
    ("test_coatnet", 96),
    ("vit_tiny_r_s16_p8_224", 96),
    ("coat_lite_tiny", 96),
    ("xcit_nano_12_p8_224", 96),
    ("swiftformer_xs", 96),
]
LARGE = [("vit_small_patch14_dinov2", 112), ("swinv2_tiny_window8_256", 96), ("beit_base_patch16_224", 96)]
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in LARGE]
FREE = ["test_resnet.r160_in1k", "test_convnext.r160_in1k", "test_efficientnet.r160_in1k"]


def images(size, count=1):
    return torch.randint(0, 256, (count, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(name, **options):
    torch.manual_seed(1)
    return TimmEncoder(name, **{"pretrained": False, **options}).eval()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [*FAMILIES, *SLOW])
def test_the_size_of_the_images_is_taken_with_the_weights_as_timm_loads_them(name, size):
    ours = encoder(name)
    state = ours.backbone.state_dict()
    # timm's own way: a network of that size that loads pre-trained weights of another.
    source = {"state_dict": {key: value.clone() for key, value in state.items()}, "source": ""}
    options = {"num_classes": 0, "img_size": size, "pretrained_cfg_overlay": source}
    theirs = None if name == "swiftformer_xs" else timm.create_model(name, pretrained=True, **options).eval()
    ours.requires_grad_(False)
    ours.fit(size)
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    assert not any(module.training for module in ours.modules())
    with torch.no_grad():
        features = ours(images(size))
        if theirs is not None:
            torch.testing.assert_close(features.pooled, theirs(ours.normalise(images(size))), rtol=1e-3, atol=1e-4)
    strides = ours.map_strides[-4:]
    assert [m.shape[-1] for m in features.pyramid] == [-(-size // stride) for stride in strides]
    # A run of that size is made again from its name and its size.
    again = encoder(name, image_size=size)
    again.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(images(size)).pooled, features.pooled, rtol=0, atol=0)


@pytest.mark.parametrize("name", FREE)
def test_networks_of_any_size_stay_as_they_are(name):
    ours = encoder(name)
    before = digest(ours)
    ours.fit(100)
    assert digest(ours) == before == digest(encoder(name, image_size=96))
    assert ours(images(100)).pooled.isfinite().all()


def test_a_size_of_its_own_changes_nothing():
    ours = encoder("test_vit3.r160_in1k")
    before = digest(ours)
    ours.fit(160)
    assert digest(ours) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "nearest"),
    [
        ("test_vit.r160_in1k", 100, "96, 112"),
        ("eva02_tiny_patch14_224", 225, "224, 238"),
        ("swin_tiny_patch4_window7_224", 225, "224, 256"),
        ("test_maxvit", 112, "96, 128"),
        ("cait_xxs24_224", 96, "224"),
        ("crossvit_9_240", 96, "240"),
        ("hiera_tiny_224", 224, "none"),
    ],
)
def test_a_size_that_cannot_be_taken_is_refused_with_those_that_can(name, size, nearest):
    for make in (lambda: encoder(name, image_size=size), lambda: encoder(name).fit(size)):
        with pytest.raises(UserError, match=rf"{name}.*{size} x {size}.*takes: {nearest}\.$") as error:
            make()
        assert "\n" not in str(error.value)
    for other in nearest.split(", ") if nearest != "none" else []:
        encoder(name, image_size=int(other))(images(int(other)))


@pytest.mark.slow
def test_weights_of_a_run_of_another_size_are_taken(tmp_path):
    name = "test_vit3.r160_in1k"
    run = encoder(name, image_size=96)
    hyper_parameters = {"image_encoder": {"class_path": "medvlp.models.TimmEncoder", "init_args": {"name": name}}}
    state = {f"image_encoder.{key}": value for key, value in run.state_dict().items()}
    data = {"preprocessing": {"size": 128, "fit": "pad", "resize": None, "crop": 96}}
    torch.save({"state_dict": state, "hyper_parameters": hyper_parameters, "data": data}, tmp_path / "last.ckpt")
    for other in (encoder(name, weights=str(tmp_path / "last.ckpt")), load_image_encoder(str(tmp_path / "last.ckpt"))):
        with torch.no_grad():
            torch.testing.assert_close(other.eval()(images(96)).pooled, run(images(96)).pooled, rtol=0, atol=0)
            other.fit(224)
            assert other(images(224)).pooled.isfinite().all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network as timm saves one for the hub: pooled by average, normalised in its own way."""
    path = tmp_path_factory.mktemp("hub") / "vit"
    torch.manual_seed(3)
    network = timm.create_model("test_vit", num_classes=5, global_pool="avg", img_size=96)
    network.pretrained_cfg["mean"], network.pretrained_cfg["std"] = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    save_for_hf(network, path, model_config={"model_args": {"global_pool": "avg", "img_size": 96}})
    return path


def test_a_folder_of_timm(folder):
    name = f"local-dir:{folder}"
    ours, theirs = TimmEncoder(name).eval(), timm.create_model(name, pretrained=True, num_classes=0).eval()
    assert ours.mean.flatten().tolist() == pytest.approx([25.5, 51.0, 76.5])
    with torch.no_grad():
        expected = theirs(ours.normalise(images(96)))
        torch.testing.assert_close(ours(images(96)).pooled, expected, rtol=1e-4, atol=1e-5)
    # Made again without the folder, with the weights alone.
    assert ours.recipe["name"] == "test_vit"
    assert "vit" not in json.dumps(ours.recipe["arguments"])
    again = TimmEncoder(**json.loads(json.dumps(ours.recipe)), pretrained=False, image_size=ours.side).eval()
    again.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(images(96)).pooled, expected, rtol=1e-4, atol=1e-5)
    assert digest(again) == digest(ours)


def test_the_hub_is_named_when_it_cannot_be_reached(monkeypatch, tmp_path):
    for name in ("hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18.a1_in1k"):
        for pretrained in (True, False):
            with pytest.raises(UserError, match="needs the hub or its cache") as error:
                TimmEncoder(name, pretrained=pretrained)
            assert name in str(error.value)
            assert "\n" not in str(error.value)


def test_a_name_of_the_hub_is_that_of_its_architecture(monkeypatch, folder):
    monkeypatch.setattr("timm.models._hub.download_from_hf", lambda repository, file, **_: str(folder / file))
    ours = TimmEncoder("hf-hub:somebody/some-vit", pretrained=False)
    assert ours.recipe == TimmEncoder(f"local-dir:{folder}", pretrained=False).recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("local-dir:{}/absent", None),
        ("local-dir:{}", ""),
        ("local-dir:{}", "{}"),
        ("local-dir:{}", '{"architecture": "no_such_network", "pretrained_cfg": {}}'),
        ("local-dir:{}", '{"architecture": "test_vit", "pretrained_cfg": {}}'),  # no weights
        ("local-dir:", None),
        ("ftp:{}", None),
        ("{}", None),
        ("timm/no_such_network", None),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(tmp_path, name, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="image encoder name=") as error:
        TimmEncoder(name.format(tmp_path))
    assert "\n" not in str(error.value)


def test_a_resnet_is_cut_behind_a_stage():
    whole, cut = (encoder("test_resnet.r160_in1k", arguments=a) for a in ({}, {"stages": 3}))
    cut.load_state_dict({key: value for key, value in whole.state_dict().items() if "layer4" not in key})
    with torch.no_grad():
        features = cut(images(64))
        torch.testing.assert_close(features.pooled, whole.maps(images(64))[3].mean((2, 3)))
        torch.testing.assert_close(cut.places(features), features.pyramid[-1])
        torch.testing.assert_close(features.patches, whole(images(64)).patches)
    assert (cut.width, len(cut.layers()), cut.map_strides) == (cut.widths[-1], 4, [2, 4, 8, 16])
    assert encoder(**cut.recipe).width == cut.width
    for name, stages in (("test_vit", 2), ("test_resnet", 0), ("test_resnet", 5)):
        with pytest.raises(UserError, match=f"stages={stages} cuts a ResNet.* and {name} is another"):
            encoder(name, arguments={"stages": stages})


def test_one_channel_and_the_epsilon_of_norms():
    ours = encoder("test_vit", arguments={"in_chans": 1, "norm_eps": 0.5}, image_size=96)
    assert ours.mean.shape == (1, 1, 1, 1)
    assert {module.eps for module in ours.modules() if isinstance(module, torch.nn.LayerNorm)} == {0.5}
    assert ours(images(96)).pooled.isfinite().all()
    # A network that only its constructor makes fit.
    swin = encoder("swin_tiny_patch4_window7_224", arguments={"in_chans": 1, "norm_eps": 0.5, "depths": [1, 1, 1, 1]})
    swin.fit(256)
    assert {module.eps for module in swin.modules() if isinstance(module, torch.nn.LayerNorm)} == {0.5}


def test_arguments_of_the_architecture():
    assert encoder("test_vit.r160_in1k", arguments={"global_pool": "avg"}).backbone.global_pool == "avg"
    for arguments in ({"checkpoint_path": "x"}, {"pretrained_cfg": {}}, {"num_classes": 3}, {"no_such_thing": 1}):
        with pytest.raises(UserError, match="arguments="):
            encoder("test_vit.r160_in1k", arguments=arguments)
