"""The range that more than 8 bits are scaled from."""

import numpy as np
import pytest
from PIL import Image

from medvlp.prepare.pixels import find_range, scale_to_bytes, to_grey

CONTENT = np.random.default_rng(0).normal(2000, 500, (200, 160)).clip(0, 4095).astype(np.uint16)


def marked(share, value, content=CONTENT):
    pixels = content.copy()
    pixels.ravel()[: round(share * pixels.size)] = value
    return pixels


@pytest.mark.parametrize("share", [1 / CONTENT.size, 0.001, 0.02, 0.049])
@pytest.mark.parametrize("value", [65535, 20000, 10000])
def test_a_marker_far_above_the_content_is_left_out(share, value):
    pixels = marked(share, value)
    inner = pixels[pixels < 4096]
    assert find_range(pixels) == (inner.min(), inner.max())
    scaled = scale_to_bytes(pixels)
    assert (scaled[pixels == value] == 255).all()
    np.testing.assert_array_equal(scaled[pixels < 4096], scale_to_bytes(inner))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_a_marker_far_below_the_content_is_left_out(dtype):
    pixels = marked(0.02, -30000, CONTENT.astype(dtype))
    scaled = scale_to_bytes(pixels)
    assert not scaled[pixels == -30000].any()
    assert np.ptp(scaled[pixels >= 0]) == 255


def test_stray_pixels_of_many_values_are_left_out():
    pixels = CONTENT.astype(np.int32)
    pixels.ravel()[::4000] = np.linspace(-40000, 60000, len(pixels.ravel()[::4000]))
    low, high = find_range(pixels)
    assert -4000 < low < 1000
    assert 3000 < high < 8000


def test_a_frame_of_one_value_is_left_out():
    pixels = marked(0.3, 65535)
    assert find_range(pixels)[1] < 4096


def test_markers_of_two_values():
    pixels = marked(0.02, 65535)
    pixels[-1, -20:] = 20000
    assert find_range(pixels)[1] < 4096


@pytest.mark.parametrize(
    "pixels",
    [
        CONTENT,
        marked(0.02, 6000),  # less than half of the range is empty
        marked(0.06, 65535, CONTENT * 3 + np.arange(160, dtype=np.uint16) * 300),  # content throughout
        np.where(np.indices((60, 60))[0] < 2, 65535, 0),  # two values
        np.where(np.indices((60, 60))[0] % 3, 65535, np.indices((60, 60))[1]),  # most of it above
        np.concatenate([CONTENT[:99], CONTENT[99:] + 40000]),  # two halves
    ],
    ids=["noise", "near", "throughout", "two values", "bright most", "bright half"],
)
def test_the_range_of_other_images_is_whole(pixels):
    assert find_range(pixels) == (pixels.min(), pixels.max())
    low, high = float(pixels.min()), float(pixels.max())
    as_before = np.rint((pixels.astype(np.float32) - low) * (255 / (high - low)))
    np.testing.assert_array_equal(scale_to_bytes(pixels.astype(np.uint16)), as_before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_is_not_in_the_range(dtype):
    pixels = CONTENT.astype(dtype) + 1000
    expected = scale_to_bytes(pixels)
    pixels[:5, :3], pixels[5:9, :3], pixels[9:12, :3] = np.nan, np.inf, -np.inf
    scaled = scale_to_bytes(pixels)
    assert not scaled[:5, :3].any()
    assert (scaled[5:9, :3] == 255).all()
    assert not scaled[9:12, :3].any()
    np.testing.assert_array_equal(scaled[:, 3:], expected[:, 3:])
    assert not scale_to_bytes(np.full((3, 3), np.nan, dtype)).any()


def test_integers_of_32_bits_keep_their_small_differences():
    pixels = (2**30 + np.arange(256)).astype(np.int32)
    assert scale_to_bytes(pixels).tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_what_is_transparent_is_black(mode):
    grey = Image.fromarray(np.full((4, 4), 200, np.uint8))
    alpha = Image.fromarray(np.repeat([[255, 255, 0, 51]], 4, axis=0).astype(np.uint8))
    opaque = {"LA": "L", "PA": "L"}.get(mode, "RGB")
    image = grey.convert(opaque)
    image.putalpha(alpha)
    image = image.convert(mode) if mode != "PA" else image.convert("RGBA")
    assert np.abs(np.asarray(to_grey(image))[0].astype(int) - [200, 200, 0, 40]).max() <= 2


def test_a_channel_that_hides_all_is_none():
    image = Image.new("RGBA", (3, 3), (90, 90, 90, 0))
    assert (np.asarray(to_grey(image)) == 90).all()
