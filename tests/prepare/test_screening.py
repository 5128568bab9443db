"""Flags of images that are no upright frontal chest radiographs, and none of those that are."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp.errors import UserError
from medvlp.phantom.images import image as draw
from medvlp.phantom.study import patients, sample
from medvlp.prepare.images import read_image
from medvlp.prepare.regions import Square
from medvlp.prepare.regions.lung_fields import INPUT_SIDE, network_input
from medvlp.prepare.screening import FLAGS, parse_flags, screen
from medvlp.prepare.screening.picture import correlation, heart_offset, look, ranked, symmetry
from medvlp.prepare.screening.views import COUNT, features, lateral_logit, mirror, mirrored_lead
from medvlp.prepared import Geometry
from tests.prepare.conftest import dicom

RADIOGRAPHS = [path for path in Path(__file__).with_name("radiographs").glob("*.jpg")]


def flags(path):
    return screen(str(path), Square(*read_image(str(path), 256, "pad")))


def looks(pixels):
    """Flags of grey pixels (H, W)."""
    height, width = pixels.shape
    geometry = Geometry.of(height, width, 256, "pad")
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(geometry.inner, Image.Resampling.BOX)
    return look(Square(geometry.place(np.asarray(resized)), geometry))


def share(paths, *wanted):
    """Share of files with one of some flags, of any if none is said."""
    found = [flags(path) for path in paths]
    return sum(bool(set(f) & set(wanted or FLAGS)) for f in found) / len(found)


@pytest.fixture(scope="module")
def chests():
    """Real frontal radiographs, enlarged so that they are not small."""
    return [np.asarray(Image.open(path).convert("L").resize((400, 300))) for path in sorted(RADIOGRAPHS)]


@pytest.fixture(scope="module")
def phantoms():
    """Pictures of phantoms by view: frontal, lateral."""
    found = {True: [], False: []}
    for patient in patients(4711, 40):
        for study in sample(4711, *patient):
            for shot in study.shots:
                if len(found[shot.view == "LATERAL"]) < 12:
                    found[shot.view == "LATERAL"].append(draw(study, shot, 128).pixels)
    return found[False], found[True]


def test_ways_of_turning_a_chest(chests):
    for chest in chests:
        assert looks(chest) == []
        assert looks(chest // 3 + 40) == []  # another window
        assert looks(255 - chest) == ["inverted"]
        assert looks(np.rot90(chest)) == looks(np.rot90(chest, 3)) == ["turned"]
        assert looks(chest[::-1]) == looks(chest[::-1, ::-1]) == ["upside-down"]
        assert looks(np.pad(chest, 100)) == []


def test_lateral_views_by_their_looks(phantoms):
    frontal, lateral = phantoms
    assert sum(looks(picture) == ["lateral"] for picture in lateral) >= 0.9 * len(lateral)
    assert sum(looks(picture[:, ::-1]) == ["lateral"] for picture in lateral) >= 0.9 * len(lateral)
    assert not any("lateral" in looks(picture) for picture in frontal)


def test_pictures_of_other_things(tmp_path, chests):
    chest = np.asarray(Image.fromarray(chests[0]).resize((400, 400)))
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


def test_grey_in_three_channels_is_no_colour(tmp_path, chests):
    rgb = np.stack([chests[0]] * 3, 2)
    rgb[5:20, 5:40] = (255, 0, 0)  # a marker
    Image.fromarray(rgb).save(tmp_path / "x.png")
    Image.fromarray(rgb).convert("P").save(tmp_path / "x.gif")
    (tmp_path / "x").write_bytes(dicom(rgb, "RGB", 8, Modality="OT"))
    for name in ("x.png", "x.gif", "x"):
        assert "colour" not in flags(tmp_path / name), name


def test_colour_in_dicom(tmp_path, chests):
    rgb = np.stack([chests[0], chests[0] // 2, 255 - chests[0]], 2)
    (tmp_path / "x").write_bytes(dicom(rgb, "RGB", 8, Modality="OT"))
    assert "colour" in flags(tmp_path / "x")


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Modality": "DX", "ViewPosition": "PA"}, []),
        ({}, []),
        ({"Modality": "DX", "ViewPosition": "LL", "PatientOrientation": ["A", "F"]}, ["lateral"]),
        ({"Modality": "CT"}, ["other-modality"]),
        ({"PresentationIntentType": "FOR PROCESSING"}, ["for-processing"]),
        ({"BodyPartExamined": "SKULL", "SeriesDescription": "SKULL LAT"}, ["other-body-part", "lateral"]),
    ],
)
def test_headers_of_dicom(tmp_path, chests, elements, expected):
    (tmp_path / "x").write_bytes(dicom(chests[0], **elements))
    assert flags(tmp_path / "x") == expected


def test_a_damaged_element_of_dicom_costs_its_flag_alone(tmp_path, chests):
    content = dicom(chests[0], Modality="CT", ViewPosition="LL")
    assert content.count(b"\x08\x00\x60\x00CS") == 1
    (tmp_path / "x").write_bytes(content.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00FD"))
    assert flags(tmp_path / "x") == ["lateral"]


def test_correlation_symmetry_and_ranks_against_numpy():
    a, b = np.random.default_rng(0).random((2, 32, 32))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert correlation(a, np.ones((32, 32))) == 0
    assert sorted(ranked((a * 255).astype(np.uint8)).ravel()) == list(range(1024))
    even = np.concatenate([a, a[:, ::-1]], 1)[:, 16:48]
    assert symmetry(even) == pytest.approx(1)
    # The axis of the mirror may be two columns off the middle.
    assert symmetry(np.concatenate([b[:, :2], even], 1)[:, :32]) == pytest.approx(1)
    assert symmetry(b) < 0.3


def test_features_do_not_depend_on_exposure():
    image = np.random.default_rng(0).integers(20, 120, (INPUT_SIDE, INPUT_SIDE)).astype(np.uint8)
    found = features(network_input(image))
    assert found.shape == (COUNT,)
    assert found == pytest.approx(features(network_input(2 * image)), abs=1e-6)
    assert mirror(found) == pytest.approx(features(network_input(image[:, ::-1])), abs=1e-6)
    # A vertical edge is across, in the first direction, in all of its cells.
    half = np.zeros((INPUT_SIDE, INPUT_SIDE), np.uint8)
    half[:, 36:] = 200
    edges = features(half)[: 8 * 64].reshape(8, 8, 8)
    assert (edges[:, 4, 0] > 0.9).all()
    assert edges[:, 4, 1:].max() == edges[:, [0, 1, 2, 5, 6, 7]].max() == 0


def test_offset_of_the_heart():
    masks = np.zeros((3, 10, 21), bool)
    masks[0, :, :7], masks[1, :, 14:], masks[2, 5:, 9:16] = True, True, True
    assert heart_offset(masks) == pytest.approx(2 / 21)
    assert heart_offset(masks[[1, 0, 2], :, ::-1]) == pytest.approx(-2 / 21)
    assert heart_offset(np.zeros((3, 4, 4), bool)) == 0


def test_flags_that_an_option_names():
    assert parse_flags("") == []
    assert parse_flags(" Lateral,inverted,lateral ") == ["inverted", "lateral"]
    with pytest.raises(UserError, match=r"no flag 'laterl': the flags are small, .*lateral"):
        parse_flags("laterl")


def test_the_classifiers_know_frontal_views(chests):
    found = [features(network_input(chest)) for chest in chests]
    assert max(map(lateral_logit, found)) < 0
    assert np.mean([mirrored_lead(x) < 0 for x in found]) > 0.8
    assert mirrored_lead(mirror(found[0])) == pytest.approx(-mirrored_lead(found[0]))


def test_real_radiographs(shared_data):
    """Figures of all 3,035 frontal, 187 lateral and 358 NIH radiographs stand in `medvlp.prepare.screening`."""
    with (shared_data / "openi/indiana_projections.csv").open() as file:
        views = {row["filename"]: row["projection"] for row in csv.DictReader(file)}
    rng = random.Random(0)
    by_view = {
        view: [p for p in sorted((shared_data / "openi/images").iterdir()) if views[p.name] == view]
        for view in ("Frontal", "Lateral")
    }
    assert share(rng.sample(by_view["Frontal"], 200)) <= 0.015
    assert share(by_view["Lateral"], "lateral") >= 0.98
    nih = rng.sample(sorted((shared_data / "nih-mini/images").iterdir()), 100)
    assert share(nih, "small", "flat", "two-tone", "colour", "elongated", "inverted", "not-frontal") <= 0.01
    assert share(nih, "turned", "upside-down") < 0.12
    assert share(nih, "lateral") <= 0.01
    figures = [p for p in sorted((shared_data / "cc-by-samples").rglob("*.*")) if p.suffix != ".json"]
    assert share([p for p in figures if "lungmask" not in p.name]) == 0
