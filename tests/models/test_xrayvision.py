"""Classifiers of torchxrayvision as networks of timm: the same features, in its range of grey levels."""

import pytest
import torch
import torchvision
import torchxrayvision

from medvlp.errors import UserError
from medvlp.models import TimmEncoder

pytestmark = pytest.mark.slow  # whole networks

DENSENET, RESNET = "torchxrayvision:densenet121-res224-all", "torchxrayvision:resnet50-res512-all"


def image(size):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=generator)


def pixels(images):
    return torch.from_numpy(torchxrayvision.utils.normalize(images.numpy(), 255))[:, None].float()


def chance(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running" in name or "norm" in name or "bn" in name:
                value.add_((torch.rand(value.shape, generator=generator) * 0.2).to(value.dtype))
    return model.eval()


@pytest.fixture(scope="module")
def densenet():
    torch.manual_seed(0)
    return chance(torchxrayvision.models.DenseNet(num_classes=18, in_channels=1))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder where the package looks for its weights."""
    monkeypatch.setattr("torchxrayvision.utils.get_cache_dir", lambda: f"{tmp_path}/")
    return tmp_path


def published(model, cache, name):
    url = torchxrayvision.models.model_urls[name.partition(":")[2]]["weights_url"]
    return cache / url.rpartition("/")[2]


@pytest.mark.parametrize("size", [224, 512])
def test_densenet(densenet, cache, size):
    # The package publishes the pickled network.
    torch.save(densenet, published(densenet, cache, DENSENET))
    ours = TimmEncoder(DENSENET).eval()
    assert ours.mean.shape == (1, 1, 1, 1)
    assert ours.normalise(torch.tensor([[[0, 255]]], dtype=torch.uint8)).flatten().tolist() == [-1024, 1024]
    with torch.no_grad():
        features = ours(image(size))
        torch.testing.assert_close(features.pooled, densenet.features2(pixels(image(size))), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.places(features).mean((2, 3)), features.pooled, rtol=1e-4, atol=1e-4)
    options = TimmEncoder.rebuild_options({"name": DENSENET}, ours.recipe)
    again = TimmEncoder(**options).eval()
    again.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(image(64)).pooled, ours(image(64)).pooled, rtol=0, atol=0)


def test_a_downloaded_file_needs_no_package(densenet, tmp_path, monkeypatch):
    torch.save(densenet, tmp_path / "densenet.pt")
    monkeypatch.setattr("medvlp.models.sources.find_spec", lambda name: None)
    ours = TimmEncoder(DENSENET, weights=str(tmp_path / "densenet.pt")).eval()
    with torch.no_grad():
        pooled = densenet.features2(pixels(image(224)))
        torch.testing.assert_close(ours(image(224)).pooled, pooled, rtol=1e-4, atol=1e-4)


def test_resnet(cache):
    torch.manual_seed(0)
    network = chance(torchvision.models.resnet50(num_classes=18))
    network.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    torch.save(network.state_dict(), published(network, cache, RESNET))
    ours, theirs = TimmEncoder(RESNET).eval(), torchxrayvision.models.get_model("resnet50-res512-all").eval()
    with torch.no_grad():
        pooled = theirs.features(pixels(image(512)))
        # The sums of 50 layers of large grey levels.
        scale = pooled.abs().max()
        torch.testing.assert_close(ours(image(512)).pooled / scale, pooled / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["densenet121-all", "resnet18-res512-all", "jfhealthcare", "densenet121-res224-none"])
def test_other_names_are_refused(name, cache):
    with pytest.raises(UserError, match=f"torchxrayvision:{name}") as error:
        TimmEncoder(f"torchxrayvision:{name}")
    assert "\n" not in str(error.value)
