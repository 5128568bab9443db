import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp.errors import LeftOutError, UserError
from medvlp.phantom.images import image
from medvlp.phantom.study import patients, sample
from medvlp.phantom.world import REGIONS
from medvlp.prepare.datasets.mimic_cxr import mimic_cxr
from medvlp.prepare.datasets.open_i import open_i
from medvlp.prepare.images import read_image
from medvlp.prepare.regions import Automatic
from medvlp.prepare.regions.automatic import localiser
from medvlp.prepare.regions.lung_fields import find_masks, landmarks, network_input
from medvlp.prepare.regions.network import EXACT, Layer
from medvlp.prepare.regions.square import Square, network
from medvlp.prepare.study import Picture
from medvlp.prepared import Geometry, Prepared

RADIOGRAPHS = Path(__file__).with_name("radiographs")
NAMES = sorted(path.name for path in RADIOGRAPHS.glob("*.jpg"))
FRONTAL = Picture("x", "PA", "x.jpg")


def radiograph(name):
    return np.asarray(Image.open(RADIOGRAPHS / name))


def unused(*args):
    raise AssertionError(args)


def find(pixels, size=256, resize="pad", picture=FRONTAL):
    """Boxes of an image (rows, columns), by name, and its geometry."""
    geometry = Geometry.of(*pixels.shape, size, resize)
    left, top = geometry.corner
    square = np.zeros((size, size), np.uint8)
    inner = Image.fromarray(pixels).resize(geometry.inner, Image.Resampling.BILINEAR)
    square[top : top + geometry.inner[1], left : left + geometry.inner[0]] = np.asarray(inner)
    return {name: box for name, *box in Automatic().find(picture, Square(square, geometry), unused)}, geometry


@pytest.fixture(scope="module")
def phantoms():
    """Frontal images with their true boxes, of patients that the localiser was not made from."""
    found = []
    for patient in patients(987654, 40):
        for study in sample(987654, *patient):
            shots = [shot for shot in study.shots if shot.view != "LATERAL"]
            found += [image(study, shot, 256) for shot in shots]
    return found


def overlap(a, b):
    """Intersection over union."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    both = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


def test_the_regions_are_the_29():
    assert localiser().atlas.names == list(REGIONS)


def test_lung_fields_of_real_radiographs():
    scores = []
    for name in NAMES:
        truth = np.asarray(Image.open(RADIOGRAPHS / name.replace(".jpg", "_lungs.png")))
        masks = find_masks(network(), network_input(radiograph(name)))
        for value, mask in enumerate(masks[:2], 1):
            drawn = np.asarray(Image.fromarray(mask).resize(truth.shape[::-1]))
            scores.append(2 * (drawn & (truth == value)).sum() / (drawn.sum() + (truth == value).sum()))
    assert np.mean(scores) > 0.90
    assert min(scores) > 0.75


@pytest.mark.parametrize("name", NAMES)
def test_regions_of_real_radiographs_lie_as_in_a_body(name):
    boxes, geometry = find(radiograph(name))
    assert set(boxes) == set(REGIONS) - ({"abdomen"} - set(boxes))
    middle = {region: ((x1 + x2) / 2, (y1 + y2) / 2) for region, (x1, y1, x2, y2) in boxes.items()}
    left, top, right, bottom = geometry.box(0, 0, geometry.width, geometry.height)
    for x1, y1, x2, y2 in boxes.values():
        assert left <= x1 < x2 <= right
        assert top <= y1 < y2 <= bottom
    for part in ("lung", "hilar structures", "apical zone", "costophrenic angle", "hemidiaphragm"):
        # The patient's right is on the left of the picture.
        assert middle[f"right {part}"][0] < middle["spine"][0] < middle[f"left {part}"][0]
    for side in ("right", "left"):
        zones = ("apical zone", "upper lung zone", "mid lung zone", "lower lung zone")
        heights = [middle[f"{side} {zone}"][1] for zone in zones]
        assert heights == sorted(heights)
        assert boxes[f"{side} lung"][1] <= boxes[f"{side} mid lung zone"][1]
    assert middle["upper mediastinum"][1] < middle["carina"][1] < middle["cardiac silhouette"][1]
    assert middle["right atrium"][0] < middle["cardiac silhouette"][0]


@pytest.mark.slow
def test_boxes_of_phantoms(phantoms):
    scores = {name: [] for name in REGIONS}
    for phantom in phantoms:
        boxes, geometry = find(phantom.pixels)
        for name, true in phantom.regions.items():
            scores[name].append(overlap(boxes.get(name, (0, 0, 0, 0)), geometry.box(*true)))
    means = {name: np.mean(values) for name, values in scores.items()}
    assert np.mean(list(means.values())) > 0.75
    for name in ("right lung", "left lung", "cardiac silhouette", "mediastinum", "abdomen", "left upper lung zone"):
        assert means[name] > 0.85, name
    assert min(means.values()) > 0.5, means


def test_boxes_follow_size_shape_and_padding():
    pixels = radiograph(NAMES[2])
    small, _ = find(pixels, 128)
    large, _ = find(pixels, 512)
    squashed, _ = find(pixels, 256, "squash")
    padded, geometry = find(pixels, 256)
    for name in REGIONS:
        assert np.allclose(np.array(small[name]) * 4, large[name], atol=16)
        x1, y1, x2, y2 = np.array(squashed[name]) / 256
        original = geometry.box(x1 * geometry.width, y1 * geometry.height, x2 * geometry.width, y2 * geometry.height)
        assert np.allclose(original, padded[name], atol=4)


def test_contrast_and_gamma_do_not_matter():
    pixels = radiograph(NAMES[0])
    darker = np.rint(40 + 120 * (pixels / 255) ** 1.4).astype(np.uint8)
    boxes, _ = find(pixels)
    others, _ = find(darker)
    assert all(np.allclose(boxes[name], others[name], atol=6) for name in REGIONS)


NOTHING = {
    "black": np.zeros((256, 256), np.uint8),
    "white": np.full((256, 256), 255, np.uint8),
    "ramp": np.tile(np.arange(256, dtype=np.uint8), (256, 1)),
    "noise": np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8),
    "smooth noise": np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9)).astype(np.uint8)).resize((256, 256), 3)
    ),
    "one pixel": np.full((1, 1), 9, np.uint8),
    "two pixels": np.array([[3, 200]], np.uint8),
    "a strip": np.random.default_rng(0).integers(0, 256, (300, 2)).astype(np.uint8),
    "upside down": radiograph("3.jpg")[::-1].copy(),
    "on its side": radiograph("3.jpg").T.copy(),
}


@pytest.mark.parametrize("name", NOTHING)
def test_no_lung_fields(name):
    with pytest.raises(LeftOutError, match="no lung fields found"):
        find(NOTHING[name])


@pytest.mark.parametrize("shape", [(3, 3), (8, 8), (32, 24), (5, 200)])
def test_tiny_images_never_fail(shape):
    pixels = np.asarray(Image.fromarray(radiograph(NAMES[1])).resize(shape[::-1]))
    try:
        boxes, _ = find(pixels, 32)
    except LeftOutError:
        return
    assert np.isfinite(list(boxes.values())).all()


def test_other_views_have_no_automatic_regions():
    for view in ("LATERAL", "LL", "", "LAO"):
        with pytest.raises(LeftOutError, match="frontal"):
            find(radiograph(NAMES[0]), picture=Picture("x", view, "x.jpg"))


def test_half_a_mask_is_no_lung():
    masks = find_masks(network(), network_input(radiograph(NAMES[2])))
    assert landmarks(masks) is not None
    assert landmarks(masks[[1, 0, 2]]) is None  # The sides are exchanged.
    for structure in range(3):
        without = masks.copy()
        without[structure] = False
        assert landmarks(without) is None
    scattered = masks.copy()
    scattered[0] &= np.indices(masks[0].shape).sum(axis=0) % 40 < 12
    assert landmarks(scattered) is None


def test_arithmetic_is_exact():
    """No sum can leave the whole numbers that float32 holds, so that every machine finds the same."""
    net = network()
    layers = [*(layer for pair in net.down for layer in pair), *net.up, net.head]
    for layer in layers:
        assert (layer.kernel == np.rint(layer.kernel)).all()
        assert (layer.bias == np.rint(layer.bias)).all()
        assert (255 * np.abs(layer.kernel).sum(axis=1) + np.abs(layer.bias[:, 0])).max() < EXACT
    rng = np.random.default_rng(0)
    layer = layers[-2]
    x = rng.integers(0, 256, (12, layer.kernel.shape[1] // 9, 10)).astype(np.float32)
    order = rng.permutation(x.shape[1])
    kernel = layer.kernel.reshape(len(layer.kernel), -1, 9)[:, order].reshape(len(layer.kernel), -1)
    assert (Layer(kernel, layer.bias, layer.scale)(x[:, order]) == layer(x)).all()


def test_layer_is_a_convolution():
    rng = np.random.default_rng(0)
    kernel = rng.integers(-9, 10, (2, 3, 3, 3)).astype(np.float32)
    x = rng.integers(0, 20, (4, 3, 5)).astype(np.float32)
    got = Layer(kernel.reshape(2, 27), np.array([[5], [-3]], np.float32), np.array([[0.5], [1]], np.float32))(x)
    padded = np.pad(x, ((1, 1), (0, 0), (1, 1)))
    for o, (bias, scale) in enumerate(((5, 0.5), (-3, 1))):
        for i in range(4):
            for j in range(5):
                value = ((kernel[o].swapaxes(0, 1) * padded[i : i + 3, :, j : j + 3]).sum() + bias) * scale
                assert got[i, o, j] == np.clip(np.rint(value), 0, 255)


def test_input_of_the_network_is_equalised():
    seen = network_input(radiograph(NAMES[0]))
    assert seen.shape == (64, 64)
    assert seen.min() == 0
    assert seen.max() == 255
    assert abs(np.median(seen.astype(float)) - 127) < 10


def test_import_of_the_localiser_is_light():
    code = (
        "import sys, numpy as np; from medvlp.prepare.regions.automatic import localiser\n"
        "localiser().find(np.zeros((9, 9), np.uint8)); print({'torch', 'scipy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.fixture
def raw(tmp_path, write_csv):
    """Open-I with the real radiographs, one of them also as a lateral, and one that shows nothing."""
    root = tmp_path / "raw"
    (root / "images").mkdir(parents=True)
    uids = [name[0] for name in NAMES] + ["7"]
    reports = [[uid, "normal", "normal", "The lungs are clear today.", ""] for uid in uids]
    write_csv(root / "indiana_reports.csv", ["uid", "MeSH", "Problems", "findings", "impression"], reports)
    projections = [[uid, f"{uid}.jpg", "Frontal"] for uid in uids] + [["1", "lateral.jpg", "Lateral"]]
    write_csv(root / "indiana_projections.csv", ["uid", "filename", "projection"], projections)
    for name in NAMES:
        (root / "images" / name).write_bytes((RADIOGRAPHS / name).read_bytes())
    (root / "images/lateral.jpg").write_bytes((RADIOGRAPHS / NAMES[0]).read_bytes())
    Image.fromarray(NOTHING["noise"]).save(root / "images/7.jpg")
    return root


def test_prepare_with_automatic_regions(raw, tmp_path, skipped, folder_bytes):
    open_i(raw, tmp_path / "out", views="FRONTAL,LATERAL", size=128, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert rows["lateral.jpg"]["regions"] is None
    assert rows["7.jpg"]["regions"] is None
    assert skipped(tmp_path / "out") == [
        ("regions of lateral.jpg", "no automatic regions in other than frontal views"),
        ("regions of 7.jpg", "no lung fields found"),
    ]
    assert prepared.manifest["counts"]["with_regions"] == len(NAMES)
    assert prepared.manifest["options"]["regions"] == Automatic().name
    for name in NAMES:
        _, geometry = read_image(str(raw / "images" / name), 128, "pad")
        found = Automatic().find(FRONTAL, Square(prepared.images[rows[name]["row"]], geometry), unused)
        assert [region["name"] for region in rows[name]["regions"]] == [region for region, *_ in found]
        boxes = [list(region.values())[1:] for region in rows[name]["regions"]]
        assert np.allclose(boxes, [box for _, *box in found], rtol=1e-6)
    open_i(raw, tmp_path / "again", views="FRONTAL,LATERAL", size=128, workers=2)
    assert folder_bytes(tmp_path / "again") == folder_bytes(tmp_path / "out")


def test_other_source_in_the_same_folder(raw, mimic, tmp_path):
    open_i(raw, tmp_path / "out", size=64, workers=1)
    with pytest.raises(UserError, match=r"regions is automatic, localiser \w{12} there and none now"):
        open_i(raw, tmp_path / "out", regions="none", size=64, workers=1)
    mimic_cxr(mimic.images, mimic.reports, tmp_path / "mimic", mimic.graphs, size=32, workers=1)
    with pytest.raises(UserError, match="regions is scene graphs there and automatic, localiser"):
        mimic_cxr(mimic.images, mimic.reports, tmp_path / "mimic", size=32, workers=1)


def test_other_data_of_the_localiser(raw, tmp_path, monkeypatch):
    open_i(raw, tmp_path / "out", size=64, workers=1)
    (tmp_path / "other.npz").write_bytes(b"retrained")
    monkeypatch.setattr("medvlp.prepare.regions.automatic.DATA", tmp_path / "other.npz")
    with pytest.raises(UserError, match=r"regions is automatic, localiser (\w+) there and automatic, localiser (?!\1)"):
        open_i(raw, tmp_path / "out", size=64, workers=1)


def test_open_i(shared_data):
    """Lung fields are found in nearly all real radiographs, and their boxes lie where they can."""
    with open(shared_data / "openi/indiana_projections.csv") as file:
        names = [row["filename"] for row in csv.DictReader(file) if row["projection"] == "Frontal"]
    found = []
    for name in names[::50]:
        pixels, geometry = read_image(str(shared_data / "openi/images" / name), 256, "pad")
        try:
            found.append({region: box for region, *box in Automatic().find(FRONTAL, Square(pixels, geometry), unused)})
        except LeftOutError:
            continue
    assert len(found) > 0.97 * len(names[::50])
    assert all(boxes["right lung"][0] < boxes["left lung"][0] for boxes in found)
