"""Every augmentation is the one that the papers' own libraries do, on real radiographs."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from medvlp.data.transforms import SHOWN, Augmentation, Perspective, TrainTransform
from tests.data.references import (
    CROP,
    GEOMETRIC,
    OFF,
    SINGLE,
    figures,
    ours,
    radiographs,
    recipes,
    reference,
    single,
    visible_share,
)

pytestmark = pytest.mark.slow

SHARED = Path(os.environ.get("MEDVLP_SHARED", "../shared")) / "data" / "openi" / "images"
NO_BOXES = np.zeros((0, 4), np.float32)
# What two samples of 1,200 views may differ by. Ours interpolate a turned image, where torchvision takes the nearest
# pixel: sharpness is compared of the others alone.
TOLERANCE = {"grey": 3.5, "contrast": 2.5, "distance": 2.5, "distance, spread": 2.0, "black": 0.02}


@pytest.fixture(scope="module")
def images():
    return radiographs()


@pytest.mark.parametrize("name", SINGLE)
def test_views_are_like_those_of_the_reference(name, images):
    own, others = (figures(view(single(name)), images, 200) for view in (ours, reference))
    for figure, tolerance in TOLERANCE.items():
        assert own[figure] == pytest.approx(others[figure], abs=tolerance), figure
    if name not in GEOMETRIC:
        assert own["sharpness"] == pytest.approx(others["sharpness"], rel=0.1)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_views_show_as_much_of_the_chest_as_those_of_the_reference(name):
    own, others = (visible_share(view(single(name)), 100) for view in (ours, reference))
    assert own == pytest.approx(others, abs=0.02)
    if name == "perspective":
        assert own > 0.99


def test_perspective_is_torchvisions(images):
    """The same corners give the same picture."""
    inner = np.s_[16:-16, 16:-16]
    for number, image in enumerate(images):
        source = np.ascontiguousarray(image[inner])
        step = Perspective(0.5, 1.0)
        step.set_random_seed(number)
        matrix = step.get_params_dependent_on_data({"shape": source.shape}, {})["matrix"]
        corners = np.array([[0, 0], [CROP - 1, 0], [CROP - 1, CROP - 1], [0, CROP - 1]], np.float32)
        moved = cv2.perspectiveTransform(corners[None], matrix)[0].round().astype(int)
        inwards = np.abs(moved - corners)
        assert (inwards <= CROP // 4).all()
        assert (inwards > 0).any()
        theirs = F.perspective(
            Image.fromarray(source), corners.astype(int).tolist(), moved.tolist(), InterpolationMode.BILINEAR
        )
        own = step.apply(source, matrix, CROP, CROP)
        # Pillow counts from the corner of a pixel, OpenCV from its centre: edges lie up to half a pixel apart.
        assert np.abs(own.astype(int) - np.asarray(theirs)).mean() < 4
        step.distortion = 0
        np.testing.assert_array_equal(step(image=source)["image"], source)


def test_corners_move_as_torchvision_draws_them():
    step, corner = Perspective(0.5, 1.0), np.array([0, 0, 1.0])
    step.set_random_seed(0)
    shifts = np.array(
        [(step.get_params_dependent_on_data({"shape": (100, 60)}, {})["matrix"] @ corner)[:2] for _ in range(2000)]
    ).round()
    # Whole pixels from 0 to a quarter of each side, all alike.
    assert [np.unique(column).tolist() for column in shifts.T] == [[*range(16)], [*range(26)]]
    np.testing.assert_allclose(shifts.mean(0), [7.5, 12.5], atol=0.6)


@pytest.mark.parametrize("brightest", [255, 254, 128])
def test_autocontrast_is_pillows_stretch(images, brightest):
    transform = TrainTransform(CROP, single("autocontrast"))
    for image in images:
        grey = np.ascontiguousarray(image[16:-16, 16:-16] // 2 + 20)
        # A burned-in marker, which is not stretched away.
        grey[:4, :4] = brightest
        view = transform(grey, NO_BOXES, 0).image
        np.testing.assert_array_equal(view, np.asarray(ImageOps.autocontrast(Image.fromarray(grey))))
        if brightest == 255:
            # albumentations' method "pil" overlooks 255, and would stretch the chest beyond it.
            assert view[8:].max() < 180


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real radiographs in {SHARED}")
def test_autocontrast_of_open_i_is_a_stretch_and_no_equalisation():
    transform = TrainTransform(CROP, single("autocontrast"))
    crops = [np.ascontiguousarray(image[16:-16, 16:-16]) for image in radiographs(SHARED, most=22)]
    views = [transform(crop, NO_BOXES, 0).image.astype(int) for crop in crops]
    for equal, name in ((True, "autocontrast"), (False, "equalize")):
        others = [np.asarray(getattr(ImageOps, name)(Image.fromarray(crop))).astype(int) for crop in crops]
        distance = np.mean([np.abs(view - other).mean() for view, other in zip(views, others, strict=True)])
        assert (distance == 0) if equal else (distance > 20)


@pytest.mark.parametrize("recipe", ["imitate", "imitate_asg"])
def test_views_show_the_regions_that_reports_speak_of(recipe):
    """Costophrenic angles and apices, at the border of the chest, as well as the heart."""
    regions = np.array([[20, 190, 60, 236], [196, 190, 236, 236], [60, 20, 110, 60], [90, 120, 180, 200]], np.float32)
    augmentation = recipes()[recipe]
    transform, image = TrainTransform(CROP, augmentation), np.full((256, 256), 100, np.uint8)
    shown = np.mean([transform(image, regions, seed).visible for seed in range(200)], 0)
    # Turning by up to 30 degrees moves a costophrenic angle out of the frame now and then.
    assert (shown > 0.9).all()
    perspective = TrainTransform(256, Augmentation(**{**OFF, "perspective": 1}))
    for seed in range(200):
        view = perspective(image, regions, seed)
        assert view.visible.all()
        assert (view.box[:, 2:] - view.box[:, :2] > 0).all()
    assert SHOWN == 0.25


def test_every_augmentation_that_a_recipe_uses_is_compared_here():
    probabilities = set(SINGLE) - {"rotation"}
    used = {name for recipe in recipes().values() for name in probabilities if getattr(recipe, name)}
    assert used == {"horizontal_flip", "vertical_flip", "perspective", "autocontrast", "affine"}
    assert {name for name in vars(Augmentation()) if isinstance(getattr(Augmentation(), name), float)} == {
        *SINGLE,
        # How far those go.
        "distortion",
        "affine_scale",
        "affine_rotation",
    }


def test_a_view_is_a_function_of_the_seed():
    transform, image = TrainTransform(CROP, recipes()["imitate"]), radiographs(most=1)[0]
    torch.manual_seed(1)
    first = [transform(image, NO_BOXES, seed).image for seed in range(5)]
    torch.manual_seed(2)
    again = [transform(image, NO_BOXES, seed).image for seed in range(5)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({view.tobytes() for view in first}) == 5
