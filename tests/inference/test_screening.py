"""Flags of images that are no frontal chest radiographs, and none of those that are."""

import csv
import random

import numpy as np
import pytest
from PIL import Image

from medvlp.inference.screening import CHEST, FLAGS, correlation, look, ranked, screen, symmetry
from medvlp.phantom import phantom
from medvlp.prepare.images import read_image


def flags(path):
    return screen(str(path), *read_image(str(path), 256, "pad"))


def share(paths, *wanted):
    """Share of files with one of some flags, of any if none is said."""
    found = [flags(path) for path in paths]
    return sum(bool(set(f) & set(wanted or FLAGS)) for f in found) / len(found)


@pytest.fixture(scope="module")
def chest():
    """CHEST as a picture."""
    scaled = (CHEST - CHEST.min()) / np.ptp(CHEST) * 255
    return np.asarray(Image.fromarray(scaled.astype(np.uint8)).resize((256, 256)))


def test_ways_of_turning_a_chest(chest):
    assert look(chest) == []
    assert look(chest // 3 + 40) == []  # another window
    assert look(255 - chest) == ["inverted"]
    assert look(np.rot90(chest)) == look(np.rot90(chest, 3)) == ["turned"]
    assert look(chest[::-1]) == ["upside-down"]
    bordered = np.zeros((400, 400), np.uint8)
    bordered[100:356, 20:276] = chest
    assert look(bordered) == []


def test_pictures_of_other_things(tmp_path, chest):
    generator = np.random.default_rng(0)
    page = np.full((400, 300), 255, np.uint8)
    page[40:360:20, 40:260] = 0
    pictures = {
        "small": chest[:150],
        "elongated": np.tile(chest, (1, 3)),
        "flat": np.full((256, 256), 90, np.uint8),
        "two-tone": page,
        "not-frontal": generator.integers(0, 255, (256, 256)).astype(np.uint8),
        "colour": np.stack([chest, chest // 2, 255 - chest], 2),
    }
    for name, pixels in pictures.items():
        for suffix in ("png", "tif", "jpg"):
            Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
            assert name in flags(tmp_path / f"x.{suffix}"), (name, suffix)
    assert set(pictures) | {"inverted", "turned", "upside-down", "lateral", "other-modality"} == set(FLAGS)


def test_grey_in_three_channels_is_no_colour(tmp_path, chest):
    rgb = np.stack([chest] * 3, 2)
    rgb[5:20, 5:40] = (255, 0, 0)  # a marker
    Image.fromarray(rgb).save(tmp_path / "x.png")
    Image.fromarray(rgb).convert("P").save(tmp_path / "x.gif")
    assert flags(tmp_path / "x.png") == flags(tmp_path / "x.gif") == []


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Modality": "DX", "ViewPosition": "PA"}, []),
        ({}, []),
        ({"Modality": "DX", "ViewPosition": "LL"}, ["lateral"]),
        ({"Modality": "CT"}, ["other-modality"]),
    ],
)
def test_headers_of_dicom(tmp_path, chest, elements, expected):
    from tests.prepare.conftest import dicom

    (tmp_path / "x").write_bytes(dicom(chest, **elements))
    assert flags(tmp_path / "x") == expected


def test_a_damaged_element_of_dicom_costs_its_flag_alone(tmp_path, chest):
    from tests.prepare.conftest import dicom

    content = dicom(chest, Modality="CT", ViewPosition="PA")
    assert content.count(b"\x08\x00\x60\x00CS") == 1
    (tmp_path / "x").write_bytes(content.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00FD"))
    assert flags(tmp_path / "x") == []


def test_correlation_and_symmetry_against_numpy():
    a, b = np.random.default_rng(0).random((2, 32, 32))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert correlation(a, np.ones((32, 32))) == 0
    even = np.concatenate([a, a[:, ::-1]], 1)[:, 16:48]
    assert symmetry(even) == pytest.approx(1)
    # The axis of the mirror may be two columns off the middle.
    assert symmetry(np.concatenate([b[:, :2], even], 1)[:, :32]) == pytest.approx(1)
    assert symmetry(b) < 0.3
    assert sorted(ranked((a * 255).astype(np.uint8)).ravel()) == list(range(1024))


@pytest.mark.slow
def test_phantoms_pass(tmp_path):
    phantom(tmp_path / "p", studies=12, size=256, workers=1, layouts="nih")
    paths = sorted((tmp_path / "p/nih/images").iterdir())
    assert len(paths) > 10
    assert share(paths) <= 0.1


@pytest.mark.slow
def test_real_radiographs(shared_data):
    """Of 3,410 frontal ones, 28 are flagged, 27 of them as turned or upside down, which they are."""
    with (shared_data / "openi/indiana_projections.csv").open() as file:
        views = {row["filename"]: row["projection"] for row in csv.DictReader(file)}
    rng = random.Random(0)
    by_view = {
        view: rng.sample([p for p in sorted((shared_data / "openi/images").iterdir()) if views[p.name] == view], 150)
        for view in ("Frontal", "Lateral")
    }
    assert share(by_view["Frontal"]) <= 0.01
    assert 0.15 < share(by_view["Lateral"]) < 0.4
    nih = rng.sample(sorted((shared_data / "nih-mini/images").iterdir()), 150)
    assert share(nih, "small", "flat", "two-tone", "colour", "elongated", "inverted") == 0
    assert share(nih, "turned", "upside-down") < 0.12
    assert share(nih, "not-frontal") <= 0.01
    figures = [p for p in sorted((shared_data / "cc-by-samples").rglob("*.*")) if p.suffix != ".json"]
    assert share([p for p in figures if "lungmask" not in p.name]) == 0
