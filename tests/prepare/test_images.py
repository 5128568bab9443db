import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from medvlp.errors import LeftOutError
from medvlp.prepare.images import read_image
from medvlp.prepare.pixels import scale_to_bytes
from medvlp.prepared import Geometry

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))


def saved(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return str(tmp_path / name)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "P", "RGBA", "LA", "1", "YCbCr"])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
def test_modes(tmp_path, mode, name):
    grey = Image.fromarray(RAMP)
    image = grey.convert(mode) if mode in ("P", "LA", "1") else grey.convert("RGB").convert(mode)
    try:
        path = saved(tmp_path, image, name)
    except (OSError, KeyError):
        pytest.skip(f"{name} does not hold {mode}")
    pixels, _ = read_image(path, 64, "pad")
    means = pixels.mean(axis=0)
    if mode == "1":
        assert means[:8].mean() < 40
        assert means[-8:].mean() > 210
    else:
        assert np.abs(means - RAMP[0]).max() < 8


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bits_are_scaled_not_wrapped(tmp_path, name):
    wide = np.tile(np.linspace(1000, 40000, 64).astype(np.uint16), (64, 1))
    pixels, _ = read_image(saved(tmp_path, Image.fromarray(wide), name), 64, "pad")
    assert pixels[0, 0] == 0
    assert pixels[0, -1] == 255
    assert (np.diff(pixels[0].astype(int)) > 0).all()


def test_float_image(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.tile(np.linspace(-2, 3, 64, dtype=np.float32), (64, 1))), "x.tif")
    assert np.abs(read_image(path, 64, "pad")[0][5].astype(int) - RAMP[0]).max() <= 1


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_constant_image(tmp_path, value):
    path = saved(tmp_path, Image.fromarray(np.full((9, 9), value, np.uint16)))
    assert not read_image(path, 8, "pad")[0].any()


def test_scale_to_bytes_of_what_is_not_finite():
    assert scale_to_bytes(np.array([np.nan, np.inf, 0.0, 5.0])).tolist() == [0, 255, 0, 255]


def test_brightest_pixel_stays_bright(tmp_path):
    pixels, _ = read_image(saved(tmp_path, Image.new("L", (50, 50), 255)), 16, "squash")
    assert (pixels == 255).all()


@pytest.mark.parametrize("name", ["x.jpg", "x.png"])
@pytest.mark.parametrize("cut", [0.2, 0.6, 0.98])
def test_truncated(tmp_path, name, cut):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8)
    path = tmp_path / name
    saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(LeftOutError, match="truncated image"):
        read_image(str(path), 32, "pad")


def test_truncated_where_only_the_end_marker_is_missing(tmp_path):
    saved(tmp_path, Image.fromarray(RAMP), "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(LeftOutError):
        read_image(str(tmp_path / "x.jpg"), 64, "pad")


def bomb():
    """A PNG that claims 60000x60000 pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\1\0IDAT"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "unreadable image: not a known format"),
        (b"\xff\xd8\xff\xe0", "unreadable image"),
        (bomb(), "unreadable image: too many pixels"),
        (None, "missing file"),
    ],
    ids=["empty", "text", "header", "bomb", "missing"],
)
def test_unreadable(tmp_path, data, reason):
    if data is not None:
        (tmp_path / "x").write_bytes(data)
    with pytest.raises(LeftOutError, match=reason) as error:
        read_image(str(tmp_path / "x"), 16, "pad")
    assert str(tmp_path) not in str(error.value)
    assert "0x" not in str(error.value)


def test_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(LeftOutError, match="Is a directory"):
        read_image(str(tmp_path), 16, "pad")


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "JPEG")
    generator = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(file.getvalue())
        for position in generator.integers(0, len(data), 4):
            data[position] = generator.integers(256)
        (tmp_path / "x.jpg").write_bytes(data)
        try:
            pixels, _ = read_image(str(tmp_path / "x.jpg"), 16, "pad")
        except LeftOutError:
            continue
        assert pixels.shape == (16, 16)


@pytest.mark.parametrize("shape", [(2001, 1003), (640, 640), (37, 91), (5, 3000), (1, 1)])
@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_geometry(tmp_path, shape, resize):
    pixels, geometry = read_image(saved(tmp_path, Image.new("L", shape[::-1], 200), "x.jpg"), 64, resize)
    left, top = geometry.corner
    width, height = geometry.inner
    inside = np.zeros((64, 64), bool)
    inside[top : top + height, left : left + width] = True
    assert (np.abs(pixels[inside].astype(int) - 200) <= 2).all()
    assert not pixels[~inside].any()
    assert max(width, height) == 64
    if resize == "squash":
        assert inside.all()
    else:
        # Symmetric to a pixel, and the aspect kept to a pixel.
        assert abs(64 - width - 2 * left) <= 1
        assert abs(64 - height - 2 * top) <= 1
        assert abs(width / 64 - shape[1] / max(shape)) <= 1 / 64
    assert geometry.box(0, 0, shape[1], shape[0]) == pytest.approx((left, top, left + width, top + height))


def test_reduced_decoding_is_close_to_full_decoding(tmp_path):
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 255, (60, 50)).astype(np.uint8)).resize((2003, 2401), 3)
    noisy = np.clip(np.asarray(smooth) + generator.normal(0, 5, (2401, 2003)), 0, 255).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(noisy), "x.jpg", quality=95)
    pixels, geometry = read_image(path, 256, "pad")
    full = np.asarray(Image.open(path).resize(geometry.inner, Image.Resampling.HAMMING)).astype(float)
    left, top = geometry.corner
    part = pixels[top : top + full.shape[0], left : left + full.shape[1]].astype(float)
    assert np.sqrt(np.mean((part - full) ** 2)) < 1


def test_box_of_a_known_geometry():
    assert Geometry.of(100, 200, 50, "pad").box(20, 10, 40, 30) == (5, 14.5, 10, 19.5)
    assert Geometry.of(100, 200, 50, "squash").box(20, 10, 40, 30) == (5, 5, 10, 15)
