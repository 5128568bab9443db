import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import MPEG2MPML, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom import TAGS, read_dicom
from medvlp.prepare.dicom.layout import NEEDED
from medvlp.prepare.images import read_image

RSNA = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"
RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
WIDE = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1))


def read(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    return read_dicom(str(tmp_path / "x"), 10**6)


def left_out(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(LeftOutError) as error:
        read_image(str(tmp_path / "x"), 16, "pad")
    assert str(tmp_path) not in str(error.value)
    return str(error.value)


def table(values, first=0, bits=16):
    """Return a LUT; a first value below zero would need signed pixels."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, bits])
    item.add_new("LUTData", "US", [int(value) for value in values])
    return item


def test_8_bits_stay_as_they_are(tmp_path, dicom):
    np.testing.assert_array_equal(read(tmp_path, dicom(RAMP // 2)), RAMP // 2)
    np.testing.assert_array_equal(read(tmp_path, dicom(RAMP, RescaleSlope=1, RescaleIntercept=0)), RAMP)


def test_8_bits_in_words_of_16_stay_as_they_are(tmp_path, dicom):
    np.testing.assert_array_equal(read(tmp_path, dicom((RAMP // 2).astype(np.uint16), bits=8)), RAMP // 2)


def test_a_slope_of_0_is_none(tmp_path, dicom):
    flat = dicom(WIDE, bits=12, RescaleSlope=0, RescaleIntercept=5)
    np.testing.assert_array_equal(read(tmp_path, flat), read(tmp_path, dicom(WIDE, bits=12)))


def test_monochrome1_is_inverted(tmp_path, dicom):
    np.testing.assert_array_equal(read(tmp_path, dicom(255 - RAMP, "MONOCHROME1")), RAMP)
    wide = read(tmp_path, dicom(4095 - WIDE, "MONOCHROME1", 12))
    np.testing.assert_array_equal(wide, np.rint(WIDE * (255 / 4095)))


@pytest.mark.parametrize("bits", [10, 12, 15, 16])
def test_more_bits_are_scaled_from_their_own_range(tmp_path, dicom, bits):
    stored = (300 + WIDE.astype(int) * (2**bits - 400) // 4095).astype(np.uint16)
    pixels = read(tmp_path, dicom(stored, bits=bits))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert (np.diff(pixels[0].astype(int)) >= 0).all()


def test_signed_values(tmp_path, dicom):
    np.testing.assert_array_equal(
        read(tmp_path, dicom(WIDE.astype(np.int16) - 2000)), np.rint(WIDE * (255 / 4095)).astype(np.uint8)
    )


def shown(tmp_path, data):
    """Return what pydicom's own modality LUT and VOI LUT give, from 0 to 1."""
    (tmp_path / "x").write_bytes(data)
    ds = dcmread(tmp_path / "x")
    with np.errstate(over="ignore"):
        values = apply_voi_lut(apply_modality_lut(pixel_array(ds), ds), ds)
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    return (values - intercept) / (slope * (2**ds.BitsStored - 1))


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(2000, 1500), (0, 4000), (1000.5, 2), ([2000, 9], [500, 9])])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 2, "RescaleIntercept": -1024}])
def test_windows_are_those_of_pydicom(tmp_path, dicom, function, centre, width, rescale):
    elements = {"WindowCenter": centre, "WindowWidth": width, **rescale}
    if function:
        elements["VOILUTFunction"] = function
    data = dicom(WIDE, bits=12, **elements)
    np.testing.assert_allclose(read(tmp_path, data) / 255, shown(tmp_path, data), atol=0.51 / 255)


def test_inversion_follows_the_window(tmp_path, dicom):
    window = {"WindowCenter": 1000, "WindowWidth": 800}
    seen = read(tmp_path, dicom(WIDE, bits=12, **window))
    np.testing.assert_array_equal(read(tmp_path, dicom(WIDE, "MONOCHROME1", 12, **window)), 255 - seen)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 9000, "WindowWidth": 100},
        {"WindowCenter": 2000, "WindowWidth": 1},
        {"WindowCenter": 2000, "WindowWidth": -5},
        {"WindowCenter": 2000},
        {"WindowCenter": None, "WindowWidth": None},
    ],
    ids=["beside the values", "of width 1", "negative", "half", "empty"],
)
def test_windows_that_show_nothing_are_ignored(tmp_path, dicom, elements):
    np.testing.assert_array_equal(
        read(tmp_path, dicom(WIDE, bits=12, **elements)), np.rint(WIDE * (255 / 4095)).astype(np.uint8)
    )


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_lut(tmp_path, dicom, bits):
    """Of 8 bits too, where pydicom's own wraps around; values beyond the table are its ends."""
    entries = np.rint((2**bits - 1) * np.linspace(0, 1, 1000) ** 2)
    data = dicom(WIDE, bits=12, VOILUTSequence=[table(entries, 500, bits)], WindowCenter=1, WindowWidth=9)
    expected = 255 * np.clip((WIDE.astype(float) - 500) / 999, 0, 1) ** 2
    np.testing.assert_allclose(read(tmp_path, data), expected, atol=1.01)


def test_modality_lut(tmp_path, dicom):
    entries = np.linspace(4095, 0, 4096)
    data = dicom(WIDE, bits=12, ModalityLUTSequence=[table(entries, 0, 12)], WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_allclose(read(tmp_path, data), np.rint((4095 - WIDE) * (255 / 4095)), atol=1)


def test_lut_of_packed_bytes(tmp_path, dicom):
    item = table([0, 1], 0, 8)
    item.LUTDescriptor = [256, 0, 8]
    item.add_new("LUTData", "OW", bytes(range(255, -1, -1)))
    np.testing.assert_array_equal(read(tmp_path, dicom(RAMP, VOILUTSequence=[item])), 255 - RAMP)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (-2000, -1900), (-1900, -2000)])
def test_padding_is_black_and_not_in_the_range(tmp_path, dicom, photometric, value, limit):
    stored = WIDE.astype(np.int16)
    expected = read(tmp_path, dicom(stored, photometric))
    stored[:5], expected[:5] = value, 0
    elements = {} if limit is None else {"PixelPaddingRangeLimit": limit}
    padded = dicom(stored, photometric, PixelPaddingValue=value, **elements)
    np.testing.assert_array_equal(read(tmp_path, padded), expected)


def test_an_image_of_nothing_but_padding(tmp_path, dicom):
    assert not read(tmp_path, dicom(np.full((9, 8), 7, np.uint16), "MONOCHROME1", PixelPaddingValue=7)).any()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("elements", [{}, {"WindowCenter": 7, "WindowWidth": 100}])
def test_constant_image(tmp_path, dicom, photometric, elements):
    pixels = read(tmp_path, dicom(np.full((9, 8), 1, np.uint16), photometric, 16, **elements))
    assert pixels.shape == (9, 8)
    assert pixels.min() == pixels.max()


def jpeg_dicom(dicom, stored, photometric="MONOCHROME2", claimed=None, syntax=JPEGBaseline8Bit):
    """Return a DICOM file with a JPEG or JPEG 2000 in it; those of RSNA and SIIM have a JPEG."""
    file = io.BytesIO()
    if syntax == JPEGBaseline8Bit:
        Image.fromarray(stored).save(file, "JPEG", quality=95)
    else:
        Image.fromarray(stored).save(file, "JPEG2000", no_jp2=True)
    ds = dcmread(io.BytesIO(dicom(stored, photometric)))
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([file.getvalue()])
    if claimed:
        ds.Rows, ds.Columns = claimed
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("stored", [RAMP, WIDE], ids=["8 bit", "16 bit"])
def test_lossless_compression(tmp_path, dicom, stored):
    plain = read(tmp_path, dicom(stored))
    np.testing.assert_array_equal(read(tmp_path, dicom(stored, syntax=RLELossless)), plain)
    np.testing.assert_array_equal(read(tmp_path, jpeg_dicom(dicom, stored, syntax=JPEG2000Lossless)), plain)


def test_jpeg(tmp_path, dicom):
    assert np.abs(read(tmp_path, jpeg_dicom(dicom, RAMP)).astype(int) - RAMP).max() <= 3
    inverted = read(tmp_path, jpeg_dicom(dicom, 255 - RAMP, "MONOCHROME1"))
    assert np.abs(inverted.astype(int) - RAMP).max() <= 3


def test_colour_is_turned_to_luma(tmp_path, dicom):
    colour = np.stack([RAMP, RAMP[:, ::-1], RAMP], axis=-1)
    np.testing.assert_array_equal(
        read(tmp_path, dicom(colour, "RGB")), np.asarray(Image.fromarray(colour).convert("L"))
    )


@pytest.mark.parametrize("name", ["x.png", "x.dcm", "x"])
def test_known_by_content_not_by_name(tmp_path, dicom, name):
    (tmp_path / name).write_bytes(dicom(RAMP))
    pixels, geometry = read_image(str(tmp_path / name), 64, "pad")
    assert (geometry.height, geometry.width) == (48, 64)
    np.testing.assert_array_equal(pixels[8:56], RAMP)
    Image.fromarray(RAMP).save(tmp_path / "png.dcm", "PNG")
    np.testing.assert_array_equal(read_image(str(tmp_path / "png.dcm"), 64, "pad")[0], pixels)


def test_wide_images_keep_their_shape_in_the_square(tmp_path, dicom):
    (tmp_path / "x").write_bytes(dicom(np.full((30, 60), 200, np.uint8)))
    pixels, geometry = read_image(str(tmp_path / "x"), 20, "pad")
    assert geometry.inner == (20, 10)
    assert (pixels[5:15] == 200).all()
    assert not pixels[:5].any()


def test_several_frames_are_left_out(tmp_path, dicom):
    assert left_out(tmp_path, dicom(np.zeros((3, 9, 8), np.uint8))).startswith("unreadable image: 3 frames. Save")
    assert read(tmp_path, dicom(np.zeros((9, 8), np.uint8), NumberOfFrames=1)).shape == (9, 8)


def test_a_palette_becomes_luma(tmp_path, dicom):
    data = dicom(RAMP, PhotometricInterpretation="PALETTE COLOR")
    assert left_out(tmp_path, data) == "unreadable image: the palette of the DICOM file is incomplete"
    colours = {"Red": range(256), "Green": range(255, -1, -1), "Blue": [9] * 256}
    elements = {}
    for bits, scale in ((8, 1), (16, 257), (16, 1)):
        for name, entries in colours.items():
            elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
            packed = (np.array(entries) * scale).astype(np.uint8 if bits == 8 else "<u2")
            elements[f"{name}PaletteColorLookupTableData"] = packed.tobytes()
        expected = Image.fromarray(np.stack([np.array(entries, np.uint8)[RAMP] for entries in colours.values()], -1))
        pixels = read(tmp_path, dicom(RAMP, PhotometricInterpretation="palette color ", **elements))
        np.testing.assert_array_equal(pixels, np.asarray(expected.convert("L")))


def test_dicom_without_pixels_is_left_out(tmp_path, dicom):
    ds = dcmread(io.BytesIO(dicom(RAMP)))
    for name in ("PixelData", "Rows"):
        del ds[name]
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        expected = "truncated image" if name == "PixelData" else "unreadable image: DICOM without pixels"
        assert left_out(tmp_path, file.getvalue()) == expected


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_element_is_named(tmp_path, dicom, name):
    ds = dcmread(io.BytesIO(dicom(RAMP)))
    del ds[name]
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    assert left_out(tmp_path, file.getvalue()) == f"unreadable image: DICOM without {name}"


def test_unknown_compression_is_named(tmp_path, dicom):
    ds = dcmread(io.BytesIO(dicom(RAMP)))
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    ds.PixelData = encapsulate([b"\0\0\1\xb3"])
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    assert left_out(tmp_path, file.getvalue()).startswith("unreadable image: no decoder of MPEG2 Main Profile")


def test_deflated_files_are_inflated_to_a_limit(tmp_path, dicom, monkeypatch):
    ds = dcmread(io.BytesIO(dicom(RAMP)))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path, file.getvalue()), RAMP)
    monkeypatch.setattr("medvlp.prepare.dicom.elements.MAX_INFLATED", RAMP.size)
    assert left_out(tmp_path, file.getvalue()).startswith("unreadable image: too many bytes when inflated")


def test_bombs_are_not_decoded(tmp_path, dicom):
    reason = "unreadable image: too many pixels, perhaps a decompression bomb"
    assert left_out(tmp_path, dicom(RAMP, Rows=60000, Columns=60000)) == reason
    # A small image by its tags, which the JPEG inside does not keep to.
    large = jpeg_dicom(dicom, np.zeros((11000, 11000), np.uint8), claimed=(10, 10))
    assert left_out(tmp_path, large).startswith("unreadable image")


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.98])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGBaseline8Bit, JPEG2000Lossless])
def test_truncated(tmp_path, dicom, cut, syntax):
    noise = np.random.default_rng(0).integers(0, 255, (120, 100)).astype(np.uint8)
    embedded = syntax in (JPEGBaseline8Bit, JPEG2000Lossless)
    data = jpeg_dicom(dicom, noise, syntax=syntax) if embedded else dicom(noise, syntax=syntax)
    assert left_out(tmp_path, data[: int(len(data) * cut)]) == "truncated image"


def test_truncated_in_the_header(tmp_path, dicom):
    data = dicom(RAMP)
    for length in range(132, data.index(b"MONOCHROME2"), 7):
        assert left_out(tmp_path, data[:length]).startswith(("unreadable image", "truncated image"))


def test_flipped_bytes_never_raise_anything_else(tmp_path, dicom):
    generator = np.random.default_rng(0)
    files = [dicom(WIDE, bits=12, WindowCenter=9, WindowWidth=9), jpeg_dicom(dicom, RAMP)]
    for number in range(300):
        data = bytearray(files[number % 2])
        for position in generator.integers(132, min(len(data), 1500), 4):
            data[position] = generator.integers(256)
        (tmp_path / "x").write_bytes(data)
        try:
            pixels, _ = read_image(str(tmp_path / "x"), 16, "pad")
        except LeftOutError:
            continue
        assert pixels.shape == (16, 16)


def test_pydicom_is_imported_when_needed():
    code = "import sys, medvlp.prepare.dicom, medvlp.prepare.images; print('pydicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_tags_are_known():
    from pydicom.datadict import tag_for_keyword

    assert all(tag_for_keyword(name) for name in TAGS)


def test_real_jpeg_and_its_inverted_twin(shared_data):
    plain, geometry = read_image(str(shared_data / "dicom" / RSNA), 256, "pad")
    inverted, _ = read_image(str(shared_data / "dicom/Fake_MONOHR1.dcm"), 256, "pad")
    assert (geometry.height, geometry.width) == (1024, 1024)
    assert np.abs(255 - plain.astype(int) - inverted).max() <= 1
    # Lungs are dark: the middle of each side is darker than the spine between them.
    assert plain[100:150, 60:90].mean() < plain[100:150, 120:136].mean()


def test_real_jpeg_2000_of_15_bits(shared_data):
    pixels, geometry = read_image(str(shared_data / "dicom/RG1_J2KI.dcm"), 256, "pad")
    assert (geometry.height, geometry.width) == (1955, 1841)
    # MONOCHROME1: by its window, air is dark and the abdomen bright.
    assert pixels[60:120, 60:90].mean() < pixels[220:250, 100:150].mean()
    assert pixels.max() - int(pixels.min()) > 200


def test_real_constant_image(shared_data):
    pixels, geometry = read_image(str(shared_data / "dicom/1.dcm"), 64, "pad")
    assert (geometry.height, geometry.width) == (256, 256)
    assert not pixels.any()


@pytest.mark.parametrize("cut", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("name", [RSNA, "RG1_J2KI.dcm", "1.dcm"])
def test_real_truncated(shared_data, tmp_path, name, cut):
    data = (shared_data / "dicom" / name).read_bytes()
    assert left_out(tmp_path, data[: int(len(data) * cut)]) == "truncated image"
