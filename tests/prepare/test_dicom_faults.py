"""DICOM files that are unlike most: read as a display shows them, or refused in words."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom import is_dicom, read_dicom
from medvlp.prepare.images import read_image

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
WIDE = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1))
SCALED = np.rint(WIDE * (255 / 4095)).astype(np.uint8)


def read(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    return read_dicom(str(tmp_path / "x"), 10**6)


def reason(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(LeftOutError) as error:
        read_image(str(tmp_path / "x"), 16, "pad")
    words = str(error.value)
    assert "Error" not in words
    assert "Exception" not in words
    return words


def edited(data, change, **options):
    """Return a DICOM file after a change of its data set."""
    ds = dcmread(io.BytesIO(data))
    change(ds)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True, **options)
    return file.getvalue()


def without(data, *names):
    return edited(data, lambda ds: [delattr(ds, name) for name in names])


# The beginning of the file.


def test_files_without_preamble_or_prefix(tmp_path, dicom):
    data = dicom(WIDE, bits=12)
    body = data[data.index(b"\x08\x00\x16\x00UI") :]
    variants = {
        "no preamble": data[132:],
        "prefix alone": data[128:],
        "preamble alone": data[:128] + data[132:],
        "no meta header": body,
        "preamble without meta header": data[:132] + body,
    }
    for name, variant in variants.items():
        np.testing.assert_array_equal(read(tmp_path, variant), SCALED, name)
        with open(tmp_path / "x", "rb") as file:
            assert is_dicom(file), name
        assert read_image(str(tmp_path / "x"), 64, "pad")[1].width == 64


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_of_elements(tmp_path, dicom, syntax):
    plain = dicom(WIDE, bits=12, WindowCenter=1000, WindowWidth=1500)
    expected = read(tmp_path, plain)
    explicit = syntax == ExplicitVRBigEndian
    ds = Dataset()
    ds.update({element.tag: element for element in dcmread(io.BytesIO(plain))})
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    if explicit:
        ds.PixelData = WIDE.astype(">u2").tobytes()
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    np.testing.assert_array_equal(read(tmp_path, data), expected)
    # The syntax is known by the elements, whatever the meta header says.
    name = str(syntax).encode()
    other = b"1.2.840.10008.1.2.1".ljust(len(name), b"\0")
    start = data.index(b"\x02\x00\x10\x00UI") + 8
    wrong = data[:start] + other[: len(name)] + data[start + len(name) :]
    np.testing.assert_array_equal(read(tmp_path, wrong), expected)
    body = data[data.index(b"\0\x08\0\x16UI" if explicit else b"\x08\0\x16\0") :]
    np.testing.assert_array_equal(read(tmp_path, body), expected)


def test_little_endian_elements_with_big_endian_pixels(tmp_path, dicom):
    ds = Dataset()
    ds.update({element.tag: element for element in dcmread(io.BytesIO(dicom(WIDE, bits=12)))})
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.PixelData = WIDE.astype(">u2").tobytes()
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    data = file.getvalue().replace(b"1.2.840.10008.1.2\0", b"1.2.840.113619.5.2")
    np.testing.assert_array_equal(read(tmp_path, data), SCALED)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGBaseline8Bit])
def test_a_missing_transfer_syntax(tmp_path, dicom, syntax):
    plain = jpeg(dicom, RAMP) if syntax == JPEGBaseline8Bit else dicom(RAMP, syntax=syntax)
    expected = read(tmp_path, plain)
    ds = dcmread(io.BytesIO(plain))
    uid = str(ds.file_meta.TransferSyntaxUID).encode()
    start = plain.index(b"\x02\x00\x10\x00UI")
    length = 8 + len(uid) + len(uid) % 2
    bare = plain[:start] + plain[start + length :]
    if syntax == RLELossless:
        # RLE says nothing of itself.
        assert "no decoder of the transfer syntax (none)" in reason(tmp_path, bare)
    else:
        np.testing.assert_array_equal(read(tmp_path, bare), expected)


def test_padding_of_the_transfer_syntax(tmp_path, dicom):
    data = dicom(RAMP)
    np.testing.assert_array_equal(read(tmp_path, data.replace(b"10008.1.2.1\0", b"10008.1.2.1 ")), RAMP)


def jpeg(dicom, stored, photometric="MONOCHROME2", uid=JPEGBaseline8Bit, **elements):
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "JPEG", quality=95, subsampling=0)
    return edited(dicom(stored, photometric, **elements), lambda ds: as_jpeg(ds, file.getvalue(), uid))


def as_jpeg(ds, stream, uid):
    ds.file_meta.TransferSyntaxUID = uid
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGBaseline8Bit])
def test_a_missing_sequence_delimiter(tmp_path, dicom, syntax):
    data = jpeg(dicom, RAMP) if syntax == JPEGBaseline8Bit else dicom(RAMP, syntax=syntax)
    expected = read(tmp_path, data)
    assert data[-8:] == struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    for cut in (8, 4, 1):
        np.testing.assert_array_equal(read(tmp_path, data[:-cut]), expected)
    assert reason(tmp_path, data[:-20]) == "truncated image"


def test_fragments_and_a_missing_offset_table(tmp_path, dicom):
    data = jpeg(dicom, RAMP)
    expected = read(tmp_path, data)
    ds = dcmread(io.BytesIO(data))
    stream = ds.PixelData[20:]
    stream += b"\0" * (len(stream) % 2)
    item = lambda value: struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value  # noqa: E731
    half = len(stream) // 4 * 2
    for value in (item(b"") + item(stream[:half]) + item(stream[half:]), item(stream), item(b"\0" * 4) + item(stream)):
        changed = edited(data, lambda ds, value=value: setattr(ds, "PixelData", value + b"\xfe\xff\xdd\xe0\0\0\0\0"))
        np.testing.assert_array_equal(read(tmp_path, changed), expected)


def test_a_jpeg_under_another_syntax(tmp_path, dicom):
    expected = read(tmp_path, jpeg(dicom, RAMP))
    for uid in (JPEGLosslessSV1, "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"):
        np.testing.assert_array_equal(read(tmp_path, jpeg(dicom, RAMP, uid=uid)), expected)


def test_plain_pixels_under_a_compressed_syntax(tmp_path, dicom):
    data = dicom(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    np.testing.assert_array_equal(read(tmp_path, data), RAMP)


def test_a_jpeg_of_another_size_or_kind(tmp_path, dicom):
    words = reason(tmp_path, jpeg(dicom, RAMP, Rows=47))
    assert words.endswith("its JPEG has 48 x 64 pixels of 1 samples, its header says 47 x 64 of 1")
    data = edited(jpeg(dicom, RAMP), lambda ds: setattr(ds, "PixelData", encapsulate([b"\xff\xd8" + bytes(99)])))
    assert reason(tmp_path, data) == "unreadable image: its JPEG is damaged"


def test_a_jpeg_cut_within_its_fragment(tmp_path, dicom):
    noise = np.random.default_rng(0).integers(0, 255, (120, 100)).astype(np.uint8)
    stream = dcmread(io.BytesIO(jpeg(dicom, noise))).PixelData[20:]
    for share in (0.5, 0.9):
        cut = stream[: int(len(stream) * share)]
        data = edited(jpeg(dicom, noise), lambda ds, cut=cut: setattr(ds, "PixelData", encapsulate([cut])))
        assert reason(tmp_path, data) == "truncated image"


def test_pixels_that_end_before_another_element(tmp_path, dicom):
    data = edited(dicom(RAMP), lambda ds: ds.add_new(0xFFFCFFFC, "OB", bytes(99)))
    np.testing.assert_array_equal(read(tmp_path, data), RAMP)
    short = edited(data, lambda ds: setattr(ds, "PixelData", RAMP.tobytes()[:-2]))
    assert reason(tmp_path, short) == "truncated image"


# Codes and numbers.


@pytest.mark.parametrize("spelling", ["monochrome1", " MONOCHROME1 ", "Monochrome1", "MONOCHROME 1", "MONOCHROME1\0"])
def test_spellings_of_the_photometric_interpretation(tmp_path, dicom, spelling):
    data = dicom(255 - RAMP, PhotometricInterpretation=spelling)
    np.testing.assert_array_equal(read(tmp_path, data), RAMP)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "unreadable image: DICOM without PhotometricInterpretation"),
        (None, "unreadable image: DICOM without PhotometricInterpretation"),
        ("HSV", "its PhotometricInterpretation is HSV, of 1 samples a pixel"),
        ("RGB", "its PhotometricInterpretation is RGB, of 1 samples a pixel"),
    ],
)
def test_unknown_photometric_interpretations(tmp_path, dicom, value, words):
    assert words in reason(tmp_path, dicom(RAMP, PhotometricInterpretation=value))


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", "inverse", True),
        ("MONOCHROME2", " Inverse", True),
        ("MONOCHROME1", "identity ", False),
        ("MONOCHROME1", "", True),
        ("MONOCHROME2", "OTHER", False),
    ],
)
def test_presentation_lut_shape(tmp_path, dicom, photometric, shape, inverted):
    """As DCMTK and dcm4che do, where the two contradict each other."""
    pixels = read(tmp_path, dicom(RAMP, photometric, PresentationLUTShape=shape))
    np.testing.assert_array_equal(pixels, 255 - RAMP if inverted else RAMP)


@pytest.mark.parametrize("spelling", ["sigmoid", "SIGMOID ", " Sigmoid", "SIGMOID\0"])
def test_spellings_of_the_window_function(tmp_path, dicom, spelling):
    window = {"WindowCenter": 2000, "WindowWidth": 1500}
    expected = read(tmp_path, dicom(WIDE, bits=12, VOILUTFunction="SIGMOID", **window))
    linear = read(tmp_path, dicom(WIDE, bits=12, **window))
    assert np.abs(expected.astype(int) - linear).max() > 20
    np.testing.assert_array_equal(read(tmp_path, dicom(WIDE, bits=12, VOILUTFunction=spelling, **window)), expected)
    for exact in ("linear_exact", "LINEAR EXACT"):
        read(tmp_path, dicom(WIDE, bits=12, VOILUTFunction=exact, **window))
    words = reason(tmp_path, dicom(WIDE, bits=12, VOILUTFunction="GAMMA", **window))
    assert "VOILUTFunction GAMMA is none of LINEAR" in words


def test_empty_values_of_a_window(tmp_path, dicom):
    data = dicom(WIDE, bits=12, WindowCenter=[1, 2], WindowWidth=[3, 4])
    start = data.index(b"\x28\0\x50\x10DS") + 8
    np.testing.assert_array_equal(read(tmp_path, data[:start] + b"\\2  " + data[start + 4 :]), SCALED)


def test_narrow_windows_of_the_exact_functions(tmp_path, dicom):
    elements = {"RescaleSlope": 1 / 4095, "RescaleIntercept": 0, "WindowCenter": 0.5, "WindowWidth": 1}
    pixels = read(tmp_path, dicom(WIDE, bits=12, VOILUTFunction="LINEAR_EXACT", **elements))
    np.testing.assert_allclose(pixels, SCALED, atol=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_negative_slope(tmp_path, dicom, photometric):
    data = dicom(WIDE, photometric, 12, RescaleSlope=-1, RescaleIntercept=4095)
    np.testing.assert_array_equal(read(tmp_path, data), SCALED if photometric == "MONOCHROME1" else 255 - SCALED)


@pytest.mark.parametrize("name", ["RescaleSlope", "WindowCenter", "PixelPaddingValue", "Rows"])
def test_an_element_that_is_no_number(tmp_path, dicom, name):
    data = dicom(WIDE, bits=12, WindowCenter=1000, WindowWidth=1500, RescaleSlope=2, PixelPaddingValue=9)
    start = data.index(struct.pack("<HH", 0x28, tag_for_keyword(name) & 0xFFFF)) + 4
    length = int.from_bytes(data[start + 2 : start + 4], "little")
    data = data[:start] + b"DS" + data[start + 2 : start + 4] + b"ab".ljust(length) + data[start + 4 + length :]
    assert name in reason(tmp_path, data)


@pytest.mark.parametrize("name", ["Rows", "Columns"])
def test_missing_sizes(tmp_path, dicom, name):
    assert reason(tmp_path, without(dicom(RAMP), name)) == "unreadable image: DICOM without pixels"


# Cells and samples.


@pytest.mark.parametrize("signed", [False, True])
def test_samples_at_the_top_of_their_cells(tmp_path, dicom, signed):
    window = {"WindowCenter": 0 if signed else 2048, "WindowWidth": 3000}
    stored = WIDE.astype(np.int16) - 2048 if signed else WIDE
    expected = read(tmp_path, dicom(stored, bits=12, **window))
    shifted = (stored << 4).astype(stored.dtype)
    for noise in (0, 9):
        data = dicom((shifted | noise).astype(stored.dtype), BitsStored=12, **window)
        high = edited(data, lambda ds: setattr(ds, "HighBit", 15))
        np.testing.assert_array_equal(read(tmp_path, high), expected)
    # Where the samples are at the bottom nonetheless, HighBit is wrong.
    low = edited(dicom(stored, bits=12, **window), lambda ds: setattr(ds, "HighBit", 15))
    np.testing.assert_array_equal(read(tmp_path, low), expected)


@pytest.mark.parametrize("signed", [False, True])
def test_foreign_bits_beside_the_samples(tmp_path, dicom, signed):
    stored = WIDE.astype(np.int16) - 2048 if signed else WIDE
    overlaid = (stored & 0xFFF).astype(np.uint16)
    overlaid[10:20, 10:20] |= 0xF000
    data = edited(dicom(stored, bits=12), lambda ds: setattr(ds, "PixelData", overlaid.tobytes()))
    np.testing.assert_array_equal(read(tmp_path, data), SCALED)


def test_a_high_bit_that_fits_nothing(tmp_path, dicom):
    data = edited(dicom(WIDE * 16, bits=16), lambda ds: setattr(ds, "BitsStored", 12))
    assert reason(tmp_path, edited(data, lambda ds: setattr(ds, "HighBit", 7))).startswith(
        "unreadable image: its HighBit is 7, and its BitsStored 12"
    )


@pytest.mark.parametrize(("allocated", "words"), [(12, "BitsAllocated is 12"), (10, "not packed"), (24, "is 24")])
def test_packed_cells(tmp_path, dicom, allocated, words):
    data = edited(dicom(WIDE, bits=12), lambda ds: setattr(ds, "BitsAllocated", allocated))
    assert words in reason(tmp_path, data)


def test_more_bits_stored_than_allocated(tmp_path, dicom):
    data = edited(dicom(RAMP), lambda ds: setattr(ds, "BitsStored", 12))
    assert "its BitsStored is 12, of BitsAllocated 8" in reason(tmp_path, data)


@pytest.mark.parametrize(("dtype", "name"), [("<f4", "FloatPixelData"), ("<f8", "DoubleFloatPixelData")])
def test_floating_point_pixels(tmp_path, dicom, dtype, name):
    values = WIDE.astype(dtype) / 8 - 100

    def change(ds):
        for missing in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(ds, missing)
        ds.BitsAllocated = 8 * values.itemsize
        setattr(ds, name, values.tobytes())

    data = edited(dicom(RAMP), change)
    np.testing.assert_array_equal(read(tmp_path, data), SCALED)
    assert reason(tmp_path, data[:-9]) == "truncated image"
    values[:5] = np.nan
    np.testing.assert_array_equal(read(tmp_path, edited(dicom(RAMP), change)), np.where(np.isnan(values), 0, SCALED))
    values[:5] = -1000

    def padded(ds):
        change(ds)
        ds.add_new("FloatPixelPaddingValue", "FL", -1000.0)
        ds.add_new("DoubleFloatPixelPaddingValue", "FD", -1000.0)

    np.testing.assert_array_equal(read(tmp_path, edited(dicom(RAMP), padded))[5:], SCALED[5:])


@pytest.mark.parametrize("bits", [1, 32])
def test_other_cells(tmp_path, dicom, bits):
    if bits == 1:
        values = RAMP > 100
        data = edited(dicom(RAMP), lambda ds: bit_packed(ds, values))
        np.testing.assert_array_equal(read(tmp_path, data), 255 * values)
    else:
        data = edited(dicom(WIDE), lambda ds: wide_cells(ds, WIDE.astype(np.uint32) + 2**30))
        np.testing.assert_array_equal(read(tmp_path, data), SCALED)


def wide_cells(ds, values):
    ds.BitsAllocated = ds.BitsStored = 32
    ds.HighBit = 31
    ds.PixelData = values.tobytes()


def bit_packed(ds, values):
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.PixelData = np.packbits(values, bitorder="little").tobytes()


# Padding.


@pytest.mark.parametrize(
    ("dtype", "vr", "value"),
    [(np.int16, "US", 63536), (np.int16, "SS", -2000), (np.uint16, "SS", -1), (np.uint16, "US", 65535)],
)
def test_padding_of_the_other_sign(tmp_path, dicom, dtype, vr, value):
    stored = WIDE.astype(dtype)
    stored[:5] = np.array(value).astype(dtype)
    data = edited(dicom(stored), lambda ds: ds.add_new("PixelPaddingValue", vr, value))
    expected = SCALED.copy()
    expected[:5] = 0
    np.testing.assert_array_equal(read(tmp_path, data), expected)


# Tables.


def table(values, first, *, vr="US", first_vr="US", bits=16):
    item = Dataset()
    item.add_new("LUTDescriptor", first_vr, [len(values), first, bits])
    item.add_new("LUTData", vr, [int(value) for value in values] if vr != "OW" else np.array(values, "<u2").tobytes())
    return item


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize(("first", "vr"), [(-2000, "SS"), (63536, "US")])
def test_signed_first_values(tmp_path, dicom, sequence, first, vr):
    stored = WIDE.astype(np.int16) - 2000
    item = table(np.arange(4096), first, first_vr=vr)
    data = dicom(stored, **{sequence: [item]})
    np.testing.assert_allclose(read(tmp_path, data), SCALED, atol=1)


def test_an_unsigned_first_value_written_as_signed(tmp_path, dicom):
    data = dicom(WIDE + 40000, VOILUTSequence=[table(np.arange(4096), 40000 - 65536, first_vr="SS")])
    np.testing.assert_allclose(read(tmp_path, data), SCALED, atol=1)


@pytest.mark.parametrize("vr", ["US", "SS", "OW"])
def test_entries_of_either_sign(tmp_path, dicom, vr):
    rising = np.arange(4096) * 16
    entries = rising.astype(np.uint16).astype(np.int16) if vr == "SS" else rising
    np.testing.assert_allclose(read(tmp_path, dicom(WIDE, VOILUTSequence=[table(entries, 0, vr=vr)])), SCALED, atol=1)
    signed = rising - 32768
    entries = signed if vr == "SS" else signed.astype(np.int16).view(np.uint16)
    np.testing.assert_allclose(read(tmp_path, dicom(WIDE, VOILUTSequence=[table(entries, 0, vr=vr)])), SCALED, atol=1)


def test_a_count_written_as_signed(tmp_path, dicom):
    item = table(np.arange(40000), 0)
    stored = np.linspace(0, 39999, 64).astype(np.uint16)[None].repeat(9, axis=0)
    data = dicom(stored, VOILUTSequence=[item]).replace(b"\x28\0\x02\x30US", b"\x28\0\x02\x30SS")
    assert b"\x28\0\x02\x30SS" in data
    np.testing.assert_allclose(read(tmp_path, data), np.rint(stored * (255 / 39999)), atol=1)


def test_incomplete_tables(tmp_path, dicom):
    for name in ("LUTDescriptor", "LUTData"):
        item = table(range(4096), 0)
        delattr(item, name)
        assert "look-up table" in reason(tmp_path, dicom(WIDE, VOILUTSequence=[item]))
    item = table(range(9), 0)
    item.LUTDescriptor = [4096, 0, 16]
    assert "look-up table" in reason(tmp_path, dicom(WIDE, VOILUTSequence=[item]))


# The range of images without a window.


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("size", [(1, 1), (9, 12)])
def test_a_marker_far_above_the_content(tmp_path, dicom, photometric, size):
    stored = WIDE.copy()
    stored[: size[0], : size[1]] = 65535
    pixels = read(tmp_path, dicom(stored, photometric))
    white, expected = (0, 255 - SCALED) if photometric == "MONOCHROME1" else (255, SCALED)
    np.testing.assert_array_equal(pixels[stored < 65535], expected[stored < 65535])
    assert (pixels[stored == 65535] == white).all()


# Colour.


def test_colour_of_16_bits(tmp_path, dicom):
    colour = np.stack([WIDE, WIDE, WIDE], axis=-1)
    np.testing.assert_allclose(read(tmp_path, dicom(colour, "RGB", 16)), SCALED, atol=1)


@pytest.mark.parametrize("planar", [0, 1])
def test_planes(tmp_path, dicom, planar):
    colour = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=-1)
    expected = np.asarray(Image.fromarray(colour).convert("L"))

    def change(ds):
        ds.PlanarConfiguration = planar
        ds.PixelData = (colour.transpose(2, 0, 1) if planar else colour).tobytes()

    data = edited(dicom(colour, "RGB"), change)
    np.testing.assert_array_equal(read(tmp_path, data), expected)
    assert reason(tmp_path, without(data, "PlanarConfiguration")).endswith("DICOM without PlanarConfiguration")


def test_a_jpeg_has_no_planes(tmp_path, dicom):
    colour = np.stack([RAMP, RAMP, RAMP], axis=-1)
    for change in (lambda ds: setattr(ds, "PlanarConfiguration", 1), lambda ds: delattr(ds, "PlanarConfiguration")):
        data = edited(jpeg(dicom, colour, "YBR_FULL"), change)
        np.testing.assert_allclose(read(tmp_path, data), RAMP, atol=3)


def test_luma_and_differences(tmp_path, dicom):
    colour = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=-1)
    converted = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    for spelling in ("YBR_FULL", "ybr_full", "YBR FULL"):
        data = dicom(converted, "RGB", PhotometricInterpretation=spelling)
        np.testing.assert_allclose(read(tmp_path, data), converted[..., 0], atol=2)
    assert "YBR_PARTIAL_422" in reason(tmp_path, dicom(converted, "RGB", PhotometricInterpretation="YBR_PARTIAL_422"))
    assert "of 4 samples" in reason(tmp_path, dicom(colour, "RGB", SamplesPerPixel=4))
