"""The contracts of encoders: what a subclass need not give, and what follows from what it gives."""

import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import medvlp
from medvlp.config.experiments import EXPERIMENTS
from medvlp.errors import UserError
from medvlp.models import ImageEncoder, TextEncoder, TimmEncoder
from medvlp.models.pretrained import digest
from medvlp.types import ImageFeatures
from tests.support.mylab import ENCODER

TEXTS = ["no effusion .", "", "there is large left pleural effusion .", "normal"]


class TwoMaps(ImageEncoder):
    """A network of two convolutions, whose pooled feature is `pool` of the second."""

    side = 32

    def __init__(self, pool="mean"):
        super().__init__(mean=[0.4], std=[0.2])
        self.pool = pool
        self.fine, self.coarse = nn.Conv2d(1, 3, 4, 4), nn.Conv2d(3, 5, 2, 2)

    def forward(self, image):
        fine = self.fine(self.normalise(image))
        coarse = self.coarse(fine)
        pooled = coarse.mean((2, 3)) if self.pool == "mean" else coarse.amax((2, 3))
        return ImageFeatures(pooled, [fine, coarse], patch_level=0)


class Lengths(TextEncoder):
    """A vector from the number of letters."""

    def __init__(self, frozen=True):
        super().__init__()
        self.width, self.frozen, self.calls = 3, frozen, 0
        self.layers = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.5))

    def embed(self, texts):
        self.calls += 1
        return self.layers(torch.tensor([[float(len(text))] for text in texts]))


def images(size=32):
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_widths_are_those_of_the_features():
    encoder = TwoMaps()
    assert (encoder.width, encoder.widths, encoder.patch_width) == (5, [3, 5], 3)
    assert (encoder.map_widths, encoder.map_strides) == ([3, 5], [4, 8])
    assert encoder.training
    assert set(encoder.state_dict()) == {"mean", "std", "fine.weight", "fine.bias", "coarse.weight", "coarse.bias"}
    for given, drawn in zip(encoder.maps(images()), encoder(images()).pyramid, strict=True):
        assert torch.equal(given, drawn)


def test_images_are_normalised_once():
    encoder = TwoMaps()
    white = encoder.normalise(torch.full((1, 2, 2), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.full((1, 1, 2, 2), (1 - 0.4) / 0.2))
    with pytest.raises(TypeError, match="pass uint8"):
        encoder.normalise(torch.zeros(1, 2, 2))


def test_locations_of_an_average_need_no_method():
    features = TwoMaps()(images())
    assert TwoMaps().places(features) is features.pyramid[-1]
    with pytest.raises(UserError, match=r"need the method 'places' of the image encoder, and \S+\.TwoMaps has none"):
        TwoMaps().places(TwoMaps("max")(images()))


def test_layers_beyond_the_patches_are_frozen():
    encoder = TwoMaps()
    encoder.freeze_beyond_patches()
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == {"fine.weight", "fine.bias"}


def test_an_encoder_without_forward_is_none():
    with pytest.raises(TypeError, match="forward"):
        type("Nothing", (ImageEncoder,), {})()
    with pytest.raises(TypeError, match="embed"):
        type("Nothing", (TextEncoder,), {})()


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("test_resnet.r160_in1k", "0f89c636d0addc3baa934701dc592f45d7eca093f47bc3aec9cc9a1501e7ae8a"),
        ("test_vit.r160_in1k", "45502a4ef5b93d0ae66d50848802be0b296e0346a4088f666b7ab1b09e563205"),
    ],
)
def test_digests_are_those_of_version_0_1(name, sha256):
    """Results and cached features of that version know an encoder by them."""
    encoder = TimmEncoder(name, pretrained=False)
    with torch.no_grad():
        for key, value in encoder.state_dict().items():
            generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            value.copy_(torch.randint(-8, 8, value.shape, generator=generator).to(value.dtype) / 8)
    assert digest(encoder) == sha256


def test_a_frozen_encoder_reads_each_text_once(tmp_path):
    encoder = Lengths().train()
    expected = encoder.constant(TEXTS)
    assert torch.equal(encoder(TEXTS), expected)
    assert not encoder(TEXTS).requires_grad
    encoder.open_cache(tmp_path)
    encoder.fill(TEXTS)
    calls = encoder.calls
    assert torch.equal(encoder([*TEXTS, *TEXTS]), expected.repeat(2, 1))
    assert encoder.calls == calls
    phrases = encoder.phrases(TEXTS)
    assert torch.equal(phrases.word, phrases.pooled)
    assert phrases.word_phrase.tolist() == [0, 1, 2, 3]


def test_a_cache_is_of_one_encoder():
    encoder = Lengths()
    names = {encoder.identity(), encoder.identity()}
    with torch.no_grad():
        encoder.layers[0].bias[1] += 0.1
    names.add(encoder.identity())
    # The same weights, used in another way.
    encoder.embed = lambda texts: -Lengths.embed(encoder, texts)
    names.add(encoder.identity())
    assert len(names) == 3


def test_a_trained_encoder_learns_and_has_no_cache(tmp_path):
    encoder = Lengths(frozen=False).train()
    encoder.open_cache(tmp_path)
    assert encoder.cache is None
    encoder(TEXTS).sum().backward()
    assert encoder.layers[0].weight.grad is not None
    assert not encoder.constant(TEXTS).requires_grad
    assert encoder.layers[1].training


@pytest.mark.slow
def test_a_new_file_is_found_by_the_name_of_its_class(tmp_path):
    shutil.copytree(Path(medvlp.__file__).parent, tmp_path / "medvlp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments", dirs_exist_ok=True)
    (tmp_path / "medvlp" / "models" / "small_net.py").write_text(ENCODER)
    command = [sys.executable, "-m", "medvlp", "fit", "-c", "imitate", "--model.image_encoder=SmallNet"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, "--print_config"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    encoder = yaml.safe_load(done.stdout)["model"]["init_args"]["image_encoder"]
    assert encoder == {"class_path": "medvlp.models.small_net.SmallNet", "init_args": {"channels": 4}}
