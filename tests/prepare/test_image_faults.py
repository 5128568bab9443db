"""Image files that are unlike most: read as a viewer shows them, or refused in words."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from medvlp.errors import LeftOutError
from medvlp.prepare.images import read_image

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
WIDE = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
SCALED = np.rint(WIDE * (255 / 4095)).astype(np.uint8)
# No turn or mirror image of it equals another.
ASYMMETRIC = np.add.outer(np.linspace(0, 150, 80), np.linspace(0, 100, 48) ** 1.02).clip(0, 255).astype(np.uint8)
# What each EXIF orientation does to the upright image, TIFF 6.0 and EXIF 2.32, 4.6.4.
STORED = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: lambda pixels: np.rot90(pixels, -1),
}


def read(path, size=64):
    return read_image(str(path), size, "pad")[0]


def reason(path):
    with pytest.raises(LeftOutError) as error:
        read(path)
    assert "Error" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.webp"])
def test_orientation(tmp_path, orientation, name):
    upright = np.kron(ASYMMETRIC, np.ones((4, 4), np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    image.save(tmp_path / name, exif=exif, quality=95)
    Image.fromarray(upright).save(tmp_path / f"upright_{name}", quality=95)
    for size in (320, 80, 50):
        pixels, geometry = read_image(str(tmp_path / name), size, "pad")
        expected, same = read_image(str(tmp_path / f"upright_{name}"), size, "pad")
        assert geometry == same
        assert (geometry.height, geometry.width) == (320, 192)
        assert np.abs(pixels.astype(int) - expected).max() <= 12
        assert np.abs(pixels.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_broken_metadata_does_no_harm(tmp_path, exif):
    Image.fromarray(RAMP).save(tmp_path / "x.jpg", exif=exif, quality=95)
    assert np.abs(read(tmp_path / "x.jpg").astype(int) - RAMP).max() <= 3


# What Pillow does not read of them.
NO_TIFF = {("u2", True, ">"), ("u4", False, ">")} | {
    (kind, True, order) for kind in ("i2", "u4", "i4") for order in "<>"
}


def tiff(pixels, *, photometric, order="<", kind=1):
    """Return an uncompressed TIFF of one strip; `kind` 1 is unsigned, 2 signed, 3 floating-point."""
    bits, data = 8 * pixels.itemsize, pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    height, width = pixels.shape
    fields = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, height)]
    fields += [(279, len(data)), (339, kind)]
    start = 8 + 2 + 12 * len(fields) + 4
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in fields]
    # Short values, as most fields have.
    entries[2] = struct.pack(f"{order}HHIHH", 258, 3, 1, bits, 0)
    entries[-1] = struct.pack(f"{order}HHIHH", 339, 3, 1, kind, 0)
    return head + struct.pack(f"{order}H", len(fields)) + b"".join(entries) + bytes(4) + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "kind"), [("u1", 1), ("u2", 1), ("i2", 2), ("u4", 1), ("i4", 2), ("f4", 3)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("white", [False, True])
def test_tiff_whose_lowest_value_is_white(tmp_path, dtype, kind, white, order):
    values = RAMP if dtype == "u1" else WIDE
    data = tiff(values.astype(dtype), photometric=0 if white else 1, kind=kind, order=order)
    (tmp_path / "x.tif").write_bytes(data)
    if (dtype, white, order) in NO_TIFF:
        assert "a damaged TIFF, or one of a kind that is not read. Save it as PNG" in reason(tmp_path / "x.tif")
        return
    pixels = read(tmp_path / "x.tif")
    expected = RAMP if dtype == "u1" else SCALED
    np.testing.assert_array_equal(pixels, 255 - expected if white else expected)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
@pytest.mark.parametrize("size", [(1, 1), (9, 12)])
def test_a_marker_far_above_the_content(tmp_path, name, size):
    values = WIDE.copy()
    values[: size[0], : size[1]] = 65535
    Image.fromarray(values).save(tmp_path / name)
    pixels = read(tmp_path / name)
    np.testing.assert_array_equal(pixels[values < 65535], SCALED[values < 65535])
    assert (pixels[values == 65535] == 255).all()


def test_a_tiff_with_what_is_not_finite(tmp_path):
    values = WIDE.astype(np.float32) + 1000
    values[:4], values[4:8, :9] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "x.tif")
    pixels = read(tmp_path / "x.tif")
    assert not pixels[:4].any()
    assert (pixels[4:8, :9] == 255).all()
    np.testing.assert_array_equal(pixels[8:], SCALED[8:])


def test_the_largest_page(tmp_path):
    sizes = [(16, 16), (64, 64), (64, 64), (20, 30)]
    pages = [Image.fromarray(RAMP if index == 1 else 255 - RAMP).resize(size) for index, size in enumerate(sizes)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    pixels, geometry = read_image(str(tmp_path / "x.tif"), 64, "pad")
    assert geometry.height == 64
    np.testing.assert_array_equal(pixels, RAMP)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.webp"])
def test_what_is_transparent_is_black(tmp_path, mode, name):
    image = Image.fromarray(RAMP).convert("L" if mode == "LA" else "RGB")
    alpha = np.full(RAMP.shape, 255, np.uint8)
    alpha[:9] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / name, lossless=True)
    pixels = read(tmp_path / name)
    assert not pixels[:9].any()
    assert np.abs(pixels[9:].astype(int) - RAMP[9:]).max() <= 1


def test_a_transparent_colour_is_black(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png", transparency=255)
    pixels = read(tmp_path / "x.png")
    assert not pixels[RAMP == 255].any()
    np.testing.assert_array_equal(pixels[RAMP < 255], RAMP[RAMP < 255])


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_16_bits(tmp_path, name, channels):
    colours = np.stack([WIDE, WIDE, WIDE, np.full_like(WIDE, 65535)], axis=-1)[..., :channels]
    assert cv2.imwrite(str(tmp_path / name), colours)
    assert np.abs(read(tmp_path / name).astype(int) - SCALED).max() <= 1


def png(width, height, depth, colour, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_grey_of_16_bits_with_alpha(tmp_path):
    pairs = np.stack([WIDE, np.full_like(WIDE, 65535)], axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pairs)
    (tmp_path / "x.png").write_bytes(png(64, 64, 16, 4, rows))
    assert np.abs(read(tmp_path / "x.png").astype(int) - SCALED).max() <= 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
def test_cmyk_jpeg(tmp_path, options):
    image = Image.fromarray(RAMP).convert("RGB").convert("CMYK")
    image.save(tmp_path / "x.jpg", quality=95, **options)
    assert np.abs(read(tmp_path / "x.jpg").astype(int) - RAMP).max() <= 6


def iso_media(brand):
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(12) + bytes(50)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document. Save its page as PNG"),
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b"<html><body>Sign in</body></html>", "an HTML page"),
        (b"\xef\xbb\xbf<HTML>", "an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<svg width='3'/>", "an SVG drawing"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"PK\x03\x04\0\0last/data.pkl", "a checkpoint of PyTorch"),
        (b"\x1f\x8b\x08\0", "a gzip archive. Unpack it"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (iso_media(b"avif"), "an AVIF image"),
        (iso_media(b"heic"), "a HEIC image"),
        (iso_media(b"isom"), "a video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (bytes(400), "nothing but zeros"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (bytes(344) + b"n+1\0", "a NIfTI volume"),
        (b"", "empty file"),
        (b"no image at all", "not a known format"),
        (b"II*\0" + bytes(40), "a damaged TIFF"),
        (b"\x89PNG\r\n\x1a\n", "a damaged PNG"),
        (b"GIF89a", "a damaged GIF"),
        (b"BM" + bytes(9), "a damaged BMP"),
        (b"\xff\xd8\xff\xe0", "a damaged JPEG"),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value[:12]),
)
def test_what_is_no_image_is_named(tmp_path, data, words):
    (tmp_path / "x").write_bytes(data)
    assert words in reason(tmp_path / "x")


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.bmp", "x.gif", "x.webp", "x.jp2", "x.ppm"])
def test_cut_and_changed_files_are_left_out_in_words(tmp_path, name):
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(0, 255, (120, 100, 3)).astype(np.uint8))
    file = io.BytesIO()
    noise.save(file, {"jp2": "JPEG2000", "jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper()))
    whole = file.getvalue()
    for number in range(60):
        data = bytearray(whole[: int(len(whole) * generator.random())] if number % 2 else whole)
        for position in generator.integers(0, max(1, min(len(data), 400)), 3 * (number % 3)):
            data[position : position + 1] = bytes([generator.integers(256)])
        (tmp_path / name).write_bytes(data)
        try:
            words = str(read(tmp_path / name, 16).shape)
        except LeftOutError as error:
            words = str(error)
        assert words
        assert "Error" not in words
        assert "Exception" not in words
        assert "\n" not in words


@pytest.mark.parametrize("form", ["gif", "png", "webp"])
def test_an_animation_is_no_radiograph(tmp_path, form):
    frames = [Image.fromarray(np.full((40, 40), 40 * number, np.uint8)) for number in range(3)]
    path = tmp_path / f"x.{form}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert reason(path) == "unreadable image: an animation of 3 frames"
    frames[0].save(path)
    assert read(path, 16).shape == (16, 16)
