"""Run lengths against a slow loop, by hand, and on any text."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medvlp.run_lengths import decode, decode_coco, encode, encode_coco

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def slow_decode(text, height, width):
    """Pixel after pixel, column after column."""
    mask, position = np.zeros((height, width), bool), 0
    numbers = [int(n) for n in text.split()]
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += offset
        for _ in range(length):
            column, row = divmod(position, height)
            mask[row, column] = True
            position += 1
    return mask


@given(MASKS)
def test_round_trip(mask):
    np.testing.assert_array_equal(decode(encode(mask), *mask.shape), mask)


@given(MASKS.filter(np.any))
def test_decoding_equals_a_slow_loop(mask):
    np.testing.assert_array_equal(slow_decode(encode(mask), *mask.shape), mask)


def test_by_hand():
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)
    assert encode(mask) == "1 4"
    assert encode(~mask) == "0 1 4 1"
    assert encode(np.zeros((2, 3), bool)) == "-1"
    # The offset counts from the end of the run before.
    np.testing.assert_array_equal(decode("1 1 2 1", 2, 3), [[0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("text", ["-1", " -1", "-1\n", "3 0"])
def test_an_empty_mask(text):
    assert not decode(text, 4, 5).any()


def test_a_mask_may_fill_the_image():
    assert decode("0 20", 4, 5).all()


@pytest.mark.parametrize(
    "text", ["", " ", "1", "1 2 3", "1 -2", "-1 2", "a b", "1.0 2", "nan", "1;2", "-1 -1", "-2", "1 9999999999"]
)
def test_what_is_no_code_is_refused(text):
    with pytest.raises(ValueError, match="pairs of offset and length"):
        decode(text, 4, 5)


@pytest.mark.parametrize("text", ["0 21", "20 1", "0 1 19 1", "0 999999999"])
def test_a_code_of_a_larger_image_is_refused(text):
    with pytest.raises(ValueError, match=r"ends at pixel \d+ of 20"):
        decode(text, 4, 5)


@given(st.text(st.sampled_from("0123456789 -;\n."), max_size=12))
def test_any_text_is_decoded_or_refused(text):
    try:
        mask = decode(text, 3, 4)
    except ValueError:
        return
    assert mask.shape == (3, 4)


def test_codes_of_siim(shared_data):
    with gzip.open(shared_data / "labels/siim-pneumothorax-train-rle.csv.gz", "rt") as lines:
        codes = [line.split(",")[1].strip() for line in lines][1:]
    for code in [code for code in codes if code != "-1"][:50]:
        mask = decode(code, 1024, 1024)
        assert mask.sum() == sum(int(n) for n in code.split()[1::2])
        assert encode(mask) == code


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(MASKS)
def test_coco_equals_pycocotools(mask):
    from pycocotools import mask as coco

    code = encode_coco(mask)
    assert code == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(decode_coco(code, *mask.shape), mask)


def test_long_runs_of_coco():
    """A run of more than 2^15 pixels, and one that is shorter than the one before the last by as much."""
    mask = np.zeros((400, 300), bool)
    mask[:, 10:200], mask[3, 250] = True, True
    np.testing.assert_array_equal(decode_coco(encode_coco(mask), 400, 300), mask)
    np.testing.assert_array_equal(decode_coco([4000, 76000, 20003, 1, 19996], 400, 300), mask)


def test_an_empty_mask_of_chexlocalize():
    """As the sample of its authors has it, of an image of 2828 x 2320 pixels."""
    assert not decode_coco("PVWX6", 2320, 2828).any()
    assert not decode_coco("nefl3", 2022, 2021).any()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("13", "ends at pixel 4 of 20"),
        ("", "ends at pixel 0 of 20"),
        ("PVWX6", "ends at pixel 6560960 of 20"),
        ("1\n3", "no code of runs"),
        ("P", "cut off"),
        ("1O2", "no lengths of runs"),
        ([4, -1, 17], "no lengths of runs"),
        ([4.0, 16], "no lengths of runs"),
        (["20"], "no lengths of runs"),
        ([21], "ends at pixel 21 of 20"),
    ],
)
def test_what_is_no_code_of_coco_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        decode_coco(counts, 4, 5)


@given(st.text(max_size=12))
def test_any_text_is_decoded_as_coco_or_refused(text):
    try:
        mask = decode_coco(text, 3, 4)
    except ValueError:
        return
    assert mask.shape == (3, 4)
