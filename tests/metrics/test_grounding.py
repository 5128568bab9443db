"""Grounding against slow loops, torch's interpolation and a written-out Gaussian; ties, empty boxes, borders."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.metrics.grounding import (
    THRESHOLDS,
    box_mask,
    centre_window,
    contrast_to_noise,
    overlap,
    patch_pointing,
    pointing,
    pointing_chance,
    rescale,
    smooth,
    to_image,
)

EDGE = st.floats(-4, 14).map(lambda edge: round(edge * 4) / 4)
BOXES = st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), max_size=4)
SHAPE = (7, 11)


def scene(seed, tied, margin):
    """A map, with NaN outside a crop, and the union of some boxes."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(size=SHAPE)
    if tied:
        heat = heat.round()
    heat[:, :margin] = heat[:, SHAPE[1] - margin :] = np.nan
    corner = rng.integers(0, 6, (rng.integers(1, 4), 2))
    return heat, box_mask(np.concatenate([corner, corner + rng.integers(1, 5, corner.shape)], 1), SHAPE)


def pixels(heat, truth):
    """What counts, pixel by pixel: value, and whether it is annotated."""
    rows, columns = heat.shape
    every = [(float(heat[y, x]), bool(truth[y, x])) for y in range(rows) for x in range(columns)]
    return [(value, inside) for value, inside in every if not math.isnan(value)]


def slow_contrast(heat, truth):
    parts = [[value for value, inside in pixels(heat, truth) if inside == wanted] for wanted in (True, False)]
    if not all(parts):
        return math.nan
    means = [sum(part) / len(part) for part in parts]
    variances = [sum((v - m) ** 2 for v in part) / len(part) for part, m in zip(parts, means, strict=True)]
    difference = means[0] - means[1]
    if not sum(variances):
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / math.sqrt(sum(variances))


def slow_pointing(heat, truth):
    counted = pixels(heat, truth)
    best = max(value for value, _ in counted)
    hits = [inside for value, inside in counted if value == best]
    return sum(hits) / len(hits) if any(inside for _, inside in counted) else math.nan


def slow_overlap(heat, truth, threshold):
    counted = pixels(heat, truth)
    both = sum(value > threshold and inside for value, inside in counted)
    either = sum(value > threshold or inside for value, inside in counted)
    covered, wanted = sum(value > threshold for value, _ in counted), sum(inside for _, inside in counted)
    if not wanted:
        return [math.nan] * 3
    return [both / either, 2 * both / (covered + wanted), both / wanted]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 3))
def test_metrics_equal_slow_loops(seed, tied, margin):
    heat, truth = scene(seed, tied, margin)
    contrast = slow_contrast(heat, truth)
    assert contrast_to_noise(heat, truth, signed=True) == pytest.approx(contrast, nan_ok=True)
    assert contrast_to_noise(heat, truth) == pytest.approx(abs(contrast), nan_ok=True)
    assert pointing(heat, truth) == pytest.approx(slow_pointing(heat, truth), nan_ok=True)
    thresholds = (-1, 0, *THRESHOLDS)
    expected = np.array([slow_overlap(heat, truth, t) for t in thresholds]).T
    np.testing.assert_allclose(overlap(heat, truth, thresholds), expected)
    inside = [inside for _, inside in pixels(heat, truth)]
    chance = sum(inside) / len(inside) if any(inside) else math.nan
    assert pointing_chance(heat, truth) == pytest.approx(chance, nan_ok=True)


def test_tensors_will_do():
    heat, truth = scene(0, False, 1)
    for metric in (contrast_to_noise, pointing, pointing_chance):
        assert metric(torch.from_numpy(heat), torch.from_numpy(truth)) == metric(heat, truth)
    np.testing.assert_array_equal(overlap(torch.from_numpy(heat), torch.from_numpy(truth)), overlap(heat, truth))


@settings(max_examples=100, deadline=None)
@given(BOXES)
def test_a_pixel_is_in_a_box_if_its_centre_is(boxes):
    mask = box_mask(np.array(boxes), SHAPE)
    for y in range(SHAPE[0]):
        for x in range(SHAPE[1]):
            inside = any(x1 <= x + 0.5 < x2 and y1 <= y + 0.5 < y2 for x1, y1, x2, y2 in boxes)
            assert mask[y, x] == inside


@settings(max_examples=50, deadline=None)
@given(BOXES, st.integers(0, 2**32 - 1))
def test_chance_is_what_a_random_point_has(boxes, seed):
    truth, noise = box_mask(np.array(boxes), SHAPE), np.random.default_rng(seed).random(SHAPE)
    if not truth.any():
        assert math.isnan(pointing(noise, truth))
        return
    # The maximum at each pixel in turn.
    hits = [pointing(np.roll(noise, shift), truth) for shift in range(noise.size)]
    assert np.mean(hits) == pytest.approx(pointing_chance(noise, truth))
    assert pointing(np.full(SHAPE, 0.1), truth) == pytest.approx(pointing_chance(noise, truth))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50), st.floats(-5, 5))
def test_contrast_does_not_depend_on_the_scale(seed, factor, shift):
    heat, truth = scene(seed, False, 0)
    contrast = contrast_to_noise(heat, truth, signed=True)
    assert contrast_to_noise(factor * heat + shift, truth, signed=True) == pytest.approx(contrast, rel=1e-6)
    assert contrast_to_noise(-heat, truth, signed=True) == pytest.approx(-contrast)


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3])
def test_a_constant_map_shows_nothing(value):
    truth = box_mask([[1, 1, 5, 4]], SHAPE)
    heat = np.full(SHAPE, value)
    assert contrast_to_noise(heat, truth) == 0
    assert pointing(heat, truth) == pytest.approx(12 / 77)
    assert overlap(rescale(heat), truth).iou.tolist() == [0] * 5
    assert contrast_to_noise(np.where(truth, 0.1, 0.3), truth, signed=True) == -math.inf


@pytest.mark.parametrize("boxes", [[], [[3, 3, 3, 6]], [[-5, -5, 0, 0]], [[20, 0, 30, 5]]])
def test_without_annotated_pixels_nothing_is_defined(boxes):
    heat, truth = np.random.default_rng(0).random(SHAPE), box_mask(np.array(boxes), SHAPE)
    assert not truth.any()
    values = [contrast_to_noise(heat, truth), pointing(heat, truth), pointing_chance(heat, truth)]
    assert np.isnan([*values, *np.ravel(overlap(heat, truth))]).all()


def test_annotations_outside_the_crop_do_not_count():
    heat = to_image(np.arange(4.0).reshape(2, 2), (8, 8), centre_window((8, 8), 4))
    outside, half = box_mask([[0, 0, 2, 8]], (8, 8)), box_mask([[0, 2, 4, 6]], (8, 8))
    assert np.isnan([pointing(heat, outside), contrast_to_noise(heat, outside)]).all()
    assert pointing_chance(heat, half) == 0.5
    assert overlap(heat, half, [-1]).recall == 1
    everything = np.ones((8, 8), bool)
    assert pointing(heat, everything) == 1
    assert np.isnan(contrast_to_noise(heat, everything))


def test_a_perfect_map_overlaps_wholly():
    truth = box_mask([[1, 1, 4, 3], [6, 2, 9, 6]], SHAPE)
    assert np.ravel(overlap(truth, truth)).tolist() == [1] * 15
    assert np.ravel(overlap(1 - 1.0 * truth, truth)).tolist() == [0] * 15


@pytest.mark.parametrize("shape", [(14, 14), (7, 9), (3, 4)])
def test_smoothing_is_a_gaussian_that_reflects(shape):
    heat = np.random.default_rng(0).random(shape)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    kernel /= kernel.sum()
    expected = np.zeros(shape)
    for y in range(shape[0]):
        for x in range(shape[1]):
            for i, wy in enumerate(kernel):
                for j, wx in enumerate(kernel):
                    place = []
                    for at, side in ((y + i - 6, shape[0]), (x + j - 6, shape[1])):
                        at %= 2 * side
                        place.append(at if at < side else 2 * side - 1 - at)
                    expected[y, x] += wy * wx * heat[tuple(place)]
    np.testing.assert_allclose(smooth(heat), expected, atol=1e-12)
    np.testing.assert_allclose(smooth(torch.from_numpy(heat)), expected, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (30, 21), (7, 50)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_enlarging_equals_torch(size, interpolation):
    heat = np.random.default_rng(0).random((7, 5))
    mode = {"bilinear": {"mode": "bilinear", "align_corners": False}, "nearest": {"mode": "nearest-exact"}}
    options = mode[interpolation]
    expected = torch.nn.functional.interpolate(torch.from_numpy(heat)[None, None], size, **options)[0, 0]
    got = to_image(heat, size, (0, 0, size[1], size[0]), interpolation)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_beyond_the_crop_there_is_nothing():
    heat = np.random.default_rng(0).random((4, 4))
    whole, window = to_image(heat, (10, 10), (0, 0, 10, 10)), centre_window((15, 12), 10)
    placed = to_image(heat, (15, 12), window)
    assert window == (1, 2, 11, 12)
    np.testing.assert_allclose(placed[2:12, 1:11], whole)
    assert np.isnan(placed).sum() == 15 * 12 - 100


def test_what_was_padding_is_left_out():
    heat = np.random.default_rng(0).random((6, 6))
    whole = to_image(heat, (24, 24), (0, 0, 24, 24))
    # An image of half the height, padded to a square above and below.
    np.testing.assert_allclose(to_image(heat, (12, 24), (0, -6, 24, 18)), whole[6:18])


def test_rescaling():
    heat = np.array([[np.nan, 2.0], [4.0, 3.0]])
    np.testing.assert_array_equal(rescale(heat, -1, 1), [[np.nan, -1], [1, 0]])
    np.testing.assert_array_equal(rescale(np.full((2, 2), 0.7), -1, 1), np.full((2, 2), -1))


@given(st.integers(0, 1000), st.booleans(), st.integers(1, 5), st.integers(1, 5))
def test_patch_pointing_is_by_centres(seed, tied, rows, columns):
    rng = np.random.default_rng(seed)
    heat = rng.normal(size=(rows, columns))
    heat = heat.round() if tied else heat
    truth = rng.random((12, 15)) < 0.3
    x1, y1, x2, y2 = 2, 1, 13, 11
    hits = []
    for j in range(rows):
        for i in range(columns):
            if heat[j, i] == heat.max():
                y, x = y1 + (j + 0.5) * (y2 - y1) / rows, x1 + (i + 0.5) * (x2 - x1) / columns
                hits.append(truth[math.floor(y), math.floor(x)])
    assert patch_pointing(heat, truth, (x1, y1, x2, y2)) == pytest.approx(np.mean(hits))


def test_patch_pointing_where_nothing_counts():
    truth = np.zeros((8, 8), bool)
    truth[:, :2] = True
    assert math.isnan(patch_pointing(np.eye(2), truth, (2, 2, 8, 8)))
    assert patch_pointing(np.eye(2), truth, (1, 2, 8, 8)) == 0
    assert patch_pointing(np.zeros((4, 4)), truth, (0, 0, 8, 8)) == 0.25


def test_a_patch_at_the_border_points_as_any_other():
    """The enlarged map is flat from its centre outwards, and only a part of that is in the box."""
    heat, truth = np.zeros((3, 3)), np.zeros((24, 24), bool)
    heat[1, 0] = 1
    truth[8:16, 3:8] = True
    assert patch_pointing(heat, truth, (0, 0, 24, 24)) == 1
    assert pointing(to_image(heat, (24, 24), (0, 0, 24, 24)), truth) < 0.5
