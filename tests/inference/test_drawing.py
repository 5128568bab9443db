"""Pictures of heat maps: what is coloured, framed and said, and where."""

import numpy as np
import pytest
from PIL import Image

from medvlp.inference.drawing import FRAME, PAPER, TISSUE, Panel, Scale, coloured, draw, enlarge, holds, tint

WHOLE = (0.0, 0.0, 600.0, 500.0)


def colourfulness(picture):
    return np.ptp(np.asarray(picture, np.int64)[..., :3], axis=2)


def test_patches_lie_where_the_window_does():
    heat = np.zeros((4, 4))
    heat[1, 3] = 1
    # The window begins 100 pixels left of the image: of its columns of 100 pixels, the last ends at 300.
    large = enlarge(heat, (500, 400), (-100, 50, 300, 450))
    rows, columns = np.nonzero(large > 0.9)
    assert abs(rows.mean() - 199.5) < 0.5
    # Beyond the centre of the last column values stay as they are there.
    assert (columns.min() > 220, columns.max()) == (True, 299)
    assert np.isnan(large[:50]).all()
    assert np.isnan(large[450:]).all()
    assert np.isnan(large[:, 300:]).all()
    assert not np.isnan(large[50:450, :300]).any()
    assert (np.nanmin(large), np.nanmax(large)) == (0, 1)


def test_values_do_not_leave_the_range_of_the_map():
    rng = np.random.default_rng(0)
    heat = rng.random((5, 7))
    large = enlarge(heat, (70, 90), (0, 0, 90, 70))
    assert heat.min() - 1e-12 < large.min()
    assert large.max() < heat.max() + 1e-12


def test_what_is_at_the_bottom_of_the_scale_or_not_seen_keeps_its_grey():
    grey = np.arange(256, dtype=np.uint8).reshape(2, 128)
    for share in (np.zeros(grey.shape), np.full(grey.shape, np.nan)):
        assert (coloured(grey, share) == grey[..., None]).all()
        assert not tint(share)[..., 3].any()


def test_colour_grows_with_the_value():
    share = np.linspace(0, 1, 50)[None]
    alpha = tint(share)[0, :, 3]
    assert (np.diff(alpha.astype(int)) >= 0).all()
    # The strongest is a red, and not a dark one.
    red, green, blue = coloured(np.full((1, 1), TISSUE, np.uint8), np.ones((1, 1)))[0, 0].tolist()
    assert red > 130 > green > blue


def test_laying_the_colours_over_by_their_alpha_is_the_same():
    rng = np.random.default_rng(0)
    grey, share = rng.integers(0, 256, (20, 30), np.uint8), rng.random((20, 30))
    over = Image.fromarray(tint(share))
    base = Image.fromarray(grey).convert("RGBA")
    assert np.abs(np.asarray(Image.alpha_composite(base, over))[..., :3].astype(int) - coloured(grey, share)).max() <= 1


@pytest.mark.parametrize(("values", "shares"), [([0, 0.5, 1, 2], [0, 0.5, 1, 1]), ([np.nan], [np.nan])])
def test_shares_of_the_scale(values, shares):
    np.testing.assert_equal(Scale(0, 1, "").share(np.array(values, np.float64)), shares)


@pytest.mark.parametrize("value", [0.3, -1 / 3, 1e9])
def test_a_constant_map_has_no_colour(value):
    share = Scale(value, value, "").share(enlarge(np.full((3, 3), value), (50, 70), (0, 0, 70, 50)))
    assert not tint(share)[..., 3].any()


def sheet(count=1, shape=(500, 600), window=WHOLE, **panel):
    grey = np.full(shape, 90, np.uint8)
    heat = np.array([[0.0, 0.0], [0.0, 1.0]])
    panels = [Panel("Radiograph"), *(Panel(f"finding {i}", "score 0.50", heat) for i in range(count))]
    return draw(grey, panels, Scale(0, 1, "cosine"), window, "For research.")


def test_the_radiograph_is_shown_at_its_own_resolution_and_untouched():
    picture = np.asarray(sheet())
    plain = (picture == 90).all(2)
    rows, columns = np.flatnonzero(plain.any(1)), np.flatnonzero(plain.any(0))
    assert rows[-1] - rows[0] + 1 == 500
    # The first panel, all of it, and the quarters without heat of the second.
    assert plain[rows[0] : rows[0] + 500, columns[0] : columns[0] + 600].all()


def test_small_images_are_enlarged_so_that_captions_can_be_read():
    assert sheet(shape=(100, 120), window=(0, 0, 120, 100)).width > 2 * 480


def test_heat_is_in_its_corner_of_its_panel():
    picture = sheet()
    strong = colourfulness(picture) > 60
    # Without the scale at the right.
    rows, columns = np.nonzero(strong[:, : picture.width - 150])
    assert columns.min() > 600 + 300
    assert rows.min() > 200


def test_only_edges_inside_of_the_image_are_framed():
    def frame(window):
        return (np.asarray(sheet(window=window)) == FRAME).all(2)

    inside, whole = frame((50.0, -20.0, 700.0, 450.0)), frame(WHOLE)
    added = inside & ~whole
    columns, rows = np.flatnonzero(added.sum(0) > 100), np.flatnonzero(added.sum(1) > 100)
    # One line to the left, one below, none where the window reaches beyond the image.
    assert 1 <= len(columns) <= 3
    assert 1 <= len(rows) <= 3


def test_many_panels_go_into_rows():
    assert sheet(3).height == sheet(1).height
    assert sheet(4).height > 1.8 * sheet(3).height
    assert sheet(4).width == sheet(3).width


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (3, 2), (40, 900)])
def test_any_shape_can_be_drawn(shape):
    picture = sheet(2, shape=shape, window=(0, 0, shape[1], shape[0]))
    assert max(picture.size) < 11_000


@pytest.mark.parametrize("text", ["", "Épanchement pleural 🫁", "word" * 100, "a " * 400, "{}%s<b>[red]"])
def test_any_text_can_be_written(text):
    grey = np.zeros((200, 500), np.uint8)
    picture = draw(grey, [Panel(text, text)], Scale(0, 1, "cosine"), (0, 0, 500, 200), text)
    assert picture.getpixel((0, 0)) == PAPER


@pytest.mark.parametrize(
    ("window", "all_of_it"), [((0, 0, 10, 20), True), ((-3, -0.4, 12, 30), True), ((1, 0, 10, 20), False)]
)
def test_whether_the_model_has_seen_all(window, all_of_it):
    assert holds(window, (20, 10)) is all_of_it
