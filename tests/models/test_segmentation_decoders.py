"""The decoders of segmentation: shapes, against segmentation_models_pytorch's own Unet, and what they read."""

import itertools

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from medvlp.models.setr import SETRDecoder
from medvlp.models.unet import UNetDecoder


def maps_of(name, size, batch=2):
    """Maps of a network of timm, their widths and strides."""
    net = timm.create_model(name, features_only=True, pretrained=False)
    return net(torch.randn(batch, 3, size, size)), net.feature_info.channels(), net.feature_info.reduction()


# ConvNeXt has no map of stride 2; 56 is no multiple of 32.
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("size", [64, 56])
def test_unet_returns_the_size_of_the_image(name, size):
    maps, widths, strides = maps_of(name, size)
    assert UNetDecoder(widths, strides)(maps, (size, size)).shape == (2, 1, size, size)


def test_unet_is_that_of_smp():
    net = smp.Unet("resnet18", encoder_weights=None).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = net.encoder(image)[1:]
        ours = UNetDecoder(net.encoder.out_channels[1:], [2, 4, 8, 16, 32]).eval()
        ours.decoder.load_state_dict(net.decoder.state_dict())
        ours.head.load_state_dict(net.segmentation_head.state_dict())
        torch.testing.assert_close(ours(maps, (64, 96)), net(image), rtol=0, atol=0)


def test_unet_starts_as_that_of_smp():
    torch.manual_seed(0)
    theirs = smp.Unet("resnet18", encoder_weights=None)
    ours = UNetDecoder(theirs.encoder.out_channels[1:], [2, 4, 8, 16, 32])
    pairs = zip(ours.parameters(), [*theirs.decoder.parameters(), *theirs.segmentation_head.parameters()], strict=True)
    for own, other in pairs:
        assert own.shape == other.shape
        assert own.numel() < 100 or own.std().item() == pytest.approx(other.std().item(), rel=0.1)


@pytest.mark.parametrize(("side", "size"), [(14, 224), (2, 32), (4, 56), (4, 32)])
def test_setr_returns_the_size_of_the_image(side, size):
    # Patches of 16, 16, 14 and 8 pixels.
    maps = [torch.randn(1, 24, side, side)] * 4
    assert SETRDecoder(24)(maps, (size, size)).shape == (1, 1, size, size)


def test_setr_has_the_published_layers():
    shapes = [tuple(p.shape) for name, p in SETRDecoder(768).named_parameters() if p.ndim == 4]
    widths = [768, 512, 256, 128, 64, 1]
    assert shapes == [(outputs, inputs, 3, 3) for inputs, outputs in itertools.pairwise(widths)]


def test_setr_keeps_its_place():
    # A spot stays where its patch is.
    decoder, side = SETRDecoder(1).eval(), 13
    for parameter in decoder.parameters():
        if parameter.ndim == 4:
            torch.nn.init.constant_(parameter, 0.01)
    x = torch.zeros(1, 1, side, side)
    x[..., 3, 9] = 1
    with torch.no_grad():
        heat = (decoder([x], (16 * side, 16 * side)) - decoder([x * 0], (16 * side, 16 * side)))[0, 0].double()
    pixel = torch.arange(16 * side).double()
    assert (heat.sum(1) @ pixel / heat.sum()).item() == pytest.approx(3.5 * 16 - 0.5, abs=0.01)
    assert (heat.sum(0) @ pixel / heat.sum()).item() == pytest.approx(9.5 * 16 - 0.5, abs=0.01)


@pytest.mark.parametrize("decoder", [UNetDecoder([8, 16, 24], [2, 4, 8]), SETRDecoder(24)])
def test_every_parameter_learns(decoder):
    maps = [torch.randn(2, width, 32 // stride, 32 // stride) for width, stride in [(8, 2), (16, 4), (24, 8)]]
    decoder(maps, (32, 32)).sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
