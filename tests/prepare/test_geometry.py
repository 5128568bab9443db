"""The three ways to make a square of an image."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from medvlp.errors import LeftOutError
from medvlp.prepare.images import read_image
from medvlp.prepared import Geometry

SHAPES = [(60, 40), (40, 60), (48, 48), (51, 37), (7, 5), (225, 224), (224, 227), (300, 201)]


@pytest.mark.parametrize("size", [24, 33, 224])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_is_that_of_torchvision(shape, size):
    geometry = Geometry.of(*shape, size, "crop")
    image = Image.fromarray(np.zeros(shape, np.uint8))
    resized = functional.resize(image, size)
    assert geometry.inner == resized.size
    # Each pixel of the resized image has its own number.
    numbers = torch.arange(resized.width * resized.height).view(1, resized.height, resized.width)
    seen = functional.center_crop(numbers, [size, size])[0]
    left, top = -geometry.corner[0], -geometry.corner[1]
    assert torch.equal(seen, numbers[0, top : top + size, left : left + size])
    assert geometry.filled == (0, 0, size, size)


@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_shown_fills_what_is_filled(shape, resize):
    geometry = Geometry.of(*shape, 24, resize)
    assert geometry.box(*geometry.shown) == pytest.approx(geometry.filled)
    if resize != "crop":
        assert geometry.shown == pytest.approx((0, 0, shape[1], shape[0]))


def test_pixels_of_a_crop(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    read, geometry = read_image(str(tmp_path / "x.png"), 30, "crop")
    np.testing.assert_array_equal(read, pixels[:, 10:40])
    assert geometry.shown == (10, 0, 40, 30)


def test_a_strip_is_left_out(tmp_path):
    Image.fromarray(np.zeros((2, 40), np.uint8)).save(tmp_path / "x.png")
    assert read_image(str(tmp_path / "x.png"), 8, "pad")[0].shape == (8, 8)
    with pytest.raises(LeftOutError, match="16 times"):
        read_image(str(tmp_path / "x.png"), 8, "crop")
