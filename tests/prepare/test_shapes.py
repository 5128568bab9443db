"""Shapes against a loop over pixel centres."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.boxes import Boxes, boxes_text
from medvlp.prepare.annotations.shapes import ellipse, polygon, rectangle
from medvlp.prepare.datasets.object_cxr import Shapes

SIZES = st.integers(1, 12)
# Halves lie on pixel centres, where it matters which side counts.
POSITIONS = st.one_of(
    st.floats(-5, 17).map(lambda value: round(value, 9)), st.integers(-10, 34).map(lambda value: value / 2)
)
SHAPE = (20, 30)


def drawn(draw, *arguments, shape=SHAPE):
    mask = np.zeros(shape, bool)
    draw(mask, *arguments)
    return mask


def by_centre(inside, shape=SHAPE):
    height, width = shape
    return np.array([[inside(x + 0.5, y + 0.5) for x in range(width)] for y in range(height)])


def in_polygon(points, x, y):
    """Count the edges to the left."""
    inside = False
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        if (y1 <= y) != (y2 <= y):
            inside ^= x1 + (y - y1) * ((x2 - x1) / (y2 - y1)) <= x
    return inside


@given(SIZES, SIZES, POSITIONS, POSITIONS, POSITIONS, POSITIONS)
def test_rectangle(height, width, x1, y1, x2, y2):
    mask = drawn(rectangle, x1, y1, x2, y2, shape=(height, width))
    np.testing.assert_array_equal(mask, by_centre(lambda x, y: x1 <= x < x2 and y1 <= y < y2, (height, width)))


@given(SIZES, SIZES, POSITIONS, POSITIONS, POSITIONS, POSITIONS)
def test_ellipse(height, width, x1, y1, x2, y2):
    def inside(x, y):
        return x1 < x2 and y1 < y2 and ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1

    mask = drawn(ellipse, x1, y1, x2, y2, shape=(height, width))
    np.testing.assert_array_equal(mask, by_centre(inside, (height, width)))


@given(SIZES, SIZES, st.lists(st.tuples(POSITIONS, POSITIONS), min_size=1, max_size=8))
def test_polygon(height, width, points):
    mask = drawn(polygon, np.array(points, float), shape=(height, width))
    np.testing.assert_array_equal(mask, by_centre(lambda x, y: in_polygon(points, x, y), (height, width)))


def test_whole_numbers_are_indices():
    mask = drawn(rectangle, 3, 4, 10, 9)
    expected = np.zeros(SHAPE, bool)
    expected[4:9, 3:10] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(drawn(polygon, np.array([[3, 4], [10, 4], [10, 9], [3, 9.0]])), expected)


def test_areas():
    assert drawn(ellipse, 0, 0, 300, 200, shape=(200, 300)).sum() == pytest.approx(np.pi * 150 * 100, rel=1e-3)
    triangle = np.array([[0, 0], [300, 0], [0, 200.0]])
    assert drawn(polygon, triangle, shape=(200, 300)).sum() == pytest.approx(300 * 200 / 2, rel=1e-2)


def test_polygon_is_that_of_opencv_but_for_its_border():
    generator = np.random.default_rng(0)
    for _ in range(20):
        points = generator.integers(5, 95, (7, 2))
        theirs, border = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
        cv2.fillPoly(theirs, [points], 1)
        cv2.polylines(border, [points], True, 1, 3)
        ours = drawn(polygon, points + 0.5, shape=(100, 100))
        np.testing.assert_array_equal(ours[border == 0], theirs[border == 0].astype(bool))


@pytest.mark.parametrize("copy", [1, 2])
def test_boxes(copy):
    """Of an image, and of a copy of it of another size."""
    boxes = [Box("a", 1.0, 2.0, 5.0, 4.0), Box("b", 4.0, 3.0, 9.0, 9.0, "a phrase")]
    side = None if copy == 1 else 10
    annotation = Boxes(masks=True, side=side).read(boxes_text(boxes), 10 * copy, 10 * copy)
    assert annotation.boxes == [box.at(*(copy * value for value in box[1:5])) for box in boxes]
    mask = np.zeros((10, 10), bool)
    mask[2:4, 1:5] = mask[3:9, 4:9] = True
    np.testing.assert_array_equal(annotation.mask, np.kron(mask, np.ones((copy, copy), bool)))
    assert Boxes(masks=False).read(boxes_text([]), 10, 10).boxes == []
    assert Boxes(masks=False).read("[]", 10, 10).mask is None


def test_shapes_of_object_cxr():
    text = "0 10 8 2 3;1 12 2 20 8; 2 20 10 28 10 24 18;"
    annotation = Shapes().read(text, *SHAPE)
    assert annotation.boxes == [
        Box("Foreign Object", 2, 3, 10, 8),
        Box("Foreign Object", 12, 2, 20, 8),
        Box("Foreign Object", 20, 10, 28, 18),
    ]
    expected = drawn(rectangle, 2, 3, 10, 8) | drawn(ellipse, 12, 2, 20, 8)
    expected |= by_centre(lambda x, y: in_polygon([(20, 10), (28, 10), (24, 18)], x, y))
    np.testing.assert_array_equal(annotation.mask, expected)


@pytest.mark.parametrize("text", ["", " ", ";", " ; "])
def test_no_shapes(text):
    annotation = Shapes().read(text, 4, 5)
    assert annotation.boxes == []
    assert not annotation.mask.any()


@pytest.mark.parametrize(
    "text",
    ["0", "0 1 2", "0 1 2 3 x", "0 1 2 3 4 5 6", "3 1 2 3 4", "x", "1 1 2 nan 4", "2 1 2 3", "0 1 2 3 1e300", "2"],
)
def test_shapes_that_cannot_be_read(text):
    with pytest.raises(LeftOutError, match="unreadable shape"):
        Shapes().read(text, 4, 5)


@given(st.text(st.sampled_from("0123 .;-e\u0663naif"), max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        annotation = Shapes().read(text, 6, 7)
    except LeftOutError:
        return
    assert annotation.mask.shape == (6, 7)
