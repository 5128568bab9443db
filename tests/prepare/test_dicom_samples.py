"""The DICOM files of pydicom's own tests, decompression, and headers that are damaged at random."""

import importlib.metadata
import importlib.util
import io
import subprocess
import sys
import warnings

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom import TAGS, read_dicom
from medvlp.prepare.dicom.elements import read_content
from medvlp.prepare.dicom.layout import read_layout
from medvlp.prepare.dicom.stored import read_samples
from medvlp.prepare.images import read_image

# Files that hold one image of another file, in another encoding.
TWINS = [
    ("JPEG-lossy.dcm", "JPGExtended.dcm", 0),
    ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
    ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
    ("MR_small_RLE.dcm", "MR_small.dcm", 0),
    ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
    ("MR_small_implicit.dcm", "MR_small.dcm", 0),
    ("MR_small_expb.dcm", "MR_small.dcm", 0),
    ("RG1_UNCR.dcm", "RG1_J2KR.dcm", 0),
    ("RG3_UNCR.dcm", "RG3_J2KR.dcm", 0),
    ("693_UNCR.dcm", "693_J2KR.dcm", 0),
    ("MR2_UNCR.dcm", "MR2_J2KR.dcm", 0),
    ("US1_UNCR.dcm", "US1_J2KR.dcm", 0),
    ("SC_rgb_rle.dcm", "SC_rgb.dcm", 0),
    ("SC_rgb_rle_16bit.dcm", "SC_rgb_16bit.dcm", 0),
    ("SC_rgb_rle_32bit.dcm", "SC_rgb_32bit.dcm", 0),
    ("SC_rgb_expb_16bit.dcm", "SC_rgb_16bit.dcm", 0),
    ("SC_rgb_gdcm_KY.dcm", "SC_rgb.dcm", 0),
    ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm", 0),
    ("SC_rgb_jls_lossy_line.dcm", "SC_rgb.dcm", 2),
    ("SC_ybr_full_uncompressed.dcm", "SC_rgb.dcm", 2),
    ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm", 0),
    ("OBXXXX1A_rle.dcm", "OBXXXX1A.dcm", 0),
    ("OBXXXX1A_expb.dcm", "OBXXXX1A.dcm", 1),
    ("rtdose_rle_1frame.dcm", "rtdose_1frame.dcm", 0),
    ("rtdose_expb_1frame.dcm", "rtdose_1frame.dcm", 0),
    ("gdcm-US-ALOKA-16_big.dcm", "gdcm-US-ALOKA-16.dcm", 0),
    ("liver_expb_1frame.dcm", "liver_1frame.dcm", 0),
]
# Lowest and highest stored value, and their mean, as GDCM 3.0.21 and DCMTK 3.6.7 read them.
STORED = {
    "JPEG-LL.dcm": (0, 278, 13.719),
    "JPGExtended.dcm": (0, 264, 14.370),
    "JPGLosslessP14SV1_1s_1f_8b.dcm": (0, 255, 17.258),
    "bad_sequence.dcm": (13, 2267, 947.374),
    "JPEGLSNearLossless_08.dcm": (0, 255, 55.556),
    "JPEGLSNearLossless_16.dcm": (0, 65535, 12014.5),
    "MR_small_jpeg_ls_lossless.dcm": (127, 2145, 518.881),
}


def path_of(name):
    return get_testdata_file(name, download=False)


def stored(name):
    return stored_in(path_of(name))


def stored_in(path):
    with open(path, "rb") as file:
        content = read_content(file, TAGS)
        return read_samples(content, read_layout(content.elements, 10**8, content.pixels))


@pytest.fixture(scope="module")
def samples():
    """Return all files of pydicom and pydicom-data."""
    data = [path for path in importlib.metadata.files("pydicom-data") or [] if path.suffix == ".dcm"]
    own = [path for path in importlib.metadata.files("pydicom") or [] if "test_files" in path.parts]
    paths = [str(path.locate()) for path in own + data if path.suffix not in (".json", ".txt", ".py", ".pyc")]
    assert len(paths) > 200
    return paths


def test_every_file_is_read_or_left_out_in_words(samples):
    reasons = {}
    read = 0
    for path in samples:
        try:
            pixels, _ = read_image(path, 32, "pad")
        except LeftOutError as error:
            reasons[path.rpartition("/")[2]] = str(error)
            continue
        assert pixels.shape == (32, 32)
        read += 1
    assert read >= 129
    kinds = ("DICOM without pixels", "frames. Save the wanted one", "truncated image", "not a known format")
    others = {name: reason for name, reason in reasons.items() if not any(kind in reason for kind in kinds)}
    assert {name: reason.removeprefix("unreadable image: ") for name, reason in others.items()} == {
        "GDCMJ2K_TextGBR.dcm": "its pixels are damaged, JPEG 2000 Image Compression",
        "JPEG2000-embedded-sequence-delimiter.dcm": "its JPEG 2000 has 1024 x 3722445056 pixels of 1 samples, its "
        "header says 1024 x 256 of 1",
        "badVR.dcm": "the DICOM element NumberOfFrames is no number",
        "zipMR.gz": "the file is a gzip archive. Unpack it",
    }


@pytest.mark.parametrize(("name", "other", "difference"), TWINS)
def test_one_image_in_two_encodings(name, other, difference):
    pixels, others = (read_dicom(path_of(each), 10**8).astype(int) for each in (name, other))
    assert np.abs(pixels - others).max() <= difference


@pytest.mark.parametrize("name", STORED)
def test_stored_values_are_those_of_other_programs(name):
    values = stored(name)
    low, high, mean = STORED[name]
    assert (values.min(), values.max()) == (low, high)
    assert values.mean() == pytest.approx(mean, abs=5e-4)


@pytest.fixture
def no_imagecodecs(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: find(name) if name != "imagecodecs" else None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("JPEG-LL.dcm", "JPEG Lossless"),
        ("bad_sequence.dcm", "JPEG Lossless"),
        ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LS"),
        ("JPEGLSNearLossless_16.dcm", "JPEG-LS"),
        ("JPGExtended.dcm", "JPEG of 12 bits"),
    ],
)
def test_a_missing_decoder_is_named(no_imagecodecs, name, kind):
    with pytest.raises(LeftOutError) as error:
        read_image(path_of(name), 16, "pad")
    assert str(error.value) == (
        f"unreadable image: no decoder of {kind} is installed. Run 'pip install imagecodecs', or install the extra "
        "medvlp[dicom]"
    )


def test_other_decoders_of_pydicom_are_used_where_they_are(no_imagecodecs, monkeypatch):
    """Users may have GDCM or pylibjpeg; a decoder of pydicom's stands in for them here."""
    from pydicom.pixels.decoders.base import get_decoder

    expected = stored("MR_small.dcm")
    decoder = get_decoder("1.2.840.10008.1.2.4.80")
    monkeypatch.setitem(decoder._available, "gdcm", lambda source, runner: expected.tobytes())
    np.testing.assert_array_equal(stored("MR_small_jpeg_ls_lossless.dcm"), expected)


@pytest.mark.parametrize("kind", ["JPEG Lossless", "JPEG-LS"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_samples_of_either_sign(tmp_path, dicom, kind, bits, signed):
    values = np.tile(np.linspace(0, 2**bits - 1, 64).round(), (48, 1)).astype(int) - (2 ** (bits - 1) if signed else 0)
    cells = values.astype(np.int16 if bits > 8 else np.int8).view(np.uint16 if bits > 8 else np.uint8)
    for whole in {False, bits != 12} if signed else {False}:
        # The codec may get the cells whole, or the bits of the sample alone.
        content = cells if whole or bits != 12 else cells & 0xFFF
        if kind == "JPEG-LS":
            frame, syntax = imagecodecs.jpegls_encode(content), "1.2.840.10008.1.2.4.80"
        else:
            frame = imagecodecs.jpeg8_encode(content, lossless=True, bitspersample=max(bits, 8), level=100)
            syntax = "1.2.840.10008.1.2.4.70"
        plain = dicom(values.astype(f"{'i' if signed else 'u'}{cells.itemsize}"), bits=bits)
        ds = dcmread(io.BytesIO(plain))
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
        ds.save_as(tmp_path / "x", enforce_file_format=True)
        np.testing.assert_array_equal(stored_in(tmp_path / "x"), values)


@pytest.mark.parametrize("name", ["JPEG-LL.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm"])
def test_damaged_and_cut_streams(tmp_path, name):
    ds = dcmread(path_of(name))
    frame = ds.PixelData[ds.PixelData.index(b"\xff\xd8") :]
    generator = np.random.default_rng(0)
    for number in range(40):
        data = bytearray(frame)
        for position in generator.integers(2, min(len(data), 10 ** (2 + number % 4)), 4):
            data[position] = generator.integers(256)
        ds.PixelData = encapsulate([bytes(data[: None if number % 3 else len(data) // 2])])
        ds.save_as(tmp_path / "x", enforce_file_format=True)
        try:
            words = str(read_image(str(tmp_path / "x"), 16, "pad")[0].shape)
        except LeftOutError as error:
            words = str(error)
        assert "Error" not in words
        assert number % 3 or words.startswith(("truncated image", "unreadable image"))


def test_imagecodecs_is_imported_when_needed():
    path = path_of("MR_small_RLE.dcm")
    code = f"import sys; from medvlp.prepare.images import read_image; read_image({path!r}, 9, 'pad')"
    code += "; print('imagecodecs' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


MUTATED = ["MR_small.dcm", "JPEG-LL.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm", "vlut_04.dcm"]
MUTATED += ["MR_small_bigendian.dcm", "SC_rgb_small_odd_jpeg.dcm", "OBXXXX1A_rle.dcm", "examples_overlay.dcm"]
MUTATED += ["image_dfl.dcm", "SC_ybr_full_422_uncompressed.dcm", "liver_1frame.dcm", "JPGExtended.dcm"]


@pytest.mark.slow
def test_damaged_headers_raise_nothing_else(tmp_path_factory):
    """2,000 headers: bytes of the group of pixels and of the beginning are changed, put in or taken out."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = {name: open(path_of(name), "rb").read() for name in MUTATED}  # noqa: SIM115
    starts = {name: max(0, data.find(b"\x28\0\x02\0")) for name, data in whole.items()}
    change = st.tuples(st.sampled_from(["set", "insert", "remove"]), st.integers(0, 700), st.integers(0, 255))

    @settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(MUTATED), st.booleans(), st.lists(change, min_size=1, max_size=6), st.integers(0, 20))
    def check(name, within, changes, cut):
        data = bytearray(whole[name])
        for kind, offset, value in changes:
            position = (starts[name] if within else 126) + offset
            if kind == "set" and position < len(data):
                data[position] = value
            elif kind == "insert":
                data[position:position] = bytes([value])
            else:
                del data[position : position + 1]
        if not cut:
            data = data[: len(data) * 2 // 3]
        path = folder / "x.dcm"
        path.write_bytes(data)
        try:
            words = str(read_image(str(path), 16, "pad")[0].shape)
        except LeftOutError as error:
            words = str(error)
        assert "Error" not in words
        assert "\n" not in words

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()
