"""Copies of an image are found in whatever form they were prepared, and radiographs that look alike are none."""

import cv2
import numpy as np
import pytest
from scipy.stats import rankdata

from medvlp.data.duplicates import ALIKE, COARSE, Descriptions, candidates, copies, normalised, ranks
from medvlp.prepared import Prepared
from tests.support.radiographs import make_folder, radiograph

COUNT = 24


def encoded(picture, quality):
    """Return a picture as it comes back from a JPEG."""
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


CHANGES = {
    "the same": lambda picture: picture,
    "encoded": lambda picture: encoded(picture, 50),
    "half the size": lambda picture: cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "twice the size": lambda picture: cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "darker": lambda picture: (picture * 0.6).astype(np.uint8),
    "brighter": lambda picture: np.clip(picture * 1.15 + 5, 0, 255).astype(np.uint8),
    "gamma": lambda picture: (255 * (picture / 255) ** 0.7).astype(np.uint8),
    "noise": lambda picture: np.clip(picture + np.random.default_rng(0).normal(0, 3, picture.shape), 0, 255).astype(
        np.uint8
    ),
}


def found(first, second, elsewhere, rows=None):
    folders = [Prepared.open(root) for root in (first, second)]
    rows = rows or [np.arange(len(folder.images)) for folder in folders]
    return copies(*(Descriptions(folder, elsewhere) for folder in folders), rows)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("copies") / "originals", [radiograph(i) for i in range(COUNT)])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("size", "fit"), [(128, "pad"), (96, "squash")])
def test_all_planted_copies_are_found_and_none_else(originals, tmp_path, change, size, fit):
    # Copies of the even pictures in another order, among pictures that are not there.
    pictures = [CHANGES[change](radiograph(i)) for i in range(COUNT - 2, -1, -2)]
    pictures += [radiograph(1000 + i) for i in range(COUNT)]
    other = make_folder(tmp_path / "other", pictures, size=size, fit=fit)
    expected = {(COUNT - 2 - 2 * place, place) for place in range(COUNT // 2)}
    assert {tuple(pair) for pair in found(originals, other, tmp_path).tolist()} == expected


def test_only_the_rows_asked_for_are_compared(originals, tmp_path):
    other = make_folder(tmp_path / "other", [radiograph(i) for i in range(COUNT)])
    pairs = found(originals, other, tmp_path, [np.array([3, 5, 7]), np.array([5, 6, 7])])
    assert sorted(pairs.tolist()) == [[5, 5], [7, 7]]
    assert found(originals, other, tmp_path, [np.array([3]), np.zeros(0, np.int64)]).shape == (0, 2)


def test_blank_images_are_no_copies(originals, tmp_path):
    other = make_folder(tmp_path / "other", [np.full((50, 50), value, np.uint8) for value in (0, 0, 255)])
    assert len(found(originals, other, tmp_path)) == 0
    assert len(found(other, other, tmp_path)) == 0


def test_descriptions_are_computed_once(originals, tmp_path, monkeypatch):
    prepared = Prepared.open(originals)
    first = Descriptions(prepared, tmp_path).of(np.arange(COUNT))
    monkeypatch.setattr("medvlp.data.duplicates.ranks", None)
    np.testing.assert_array_equal(Descriptions(prepared, tmp_path).of(np.arange(COUNT)), first)


def test_ranks_are_mean_ranks():
    image = np.random.default_rng(0).integers(0, 40, (COARSE, COARSE)).astype(np.uint8)
    expected = rankdata(image.reshape(-1)) - 1
    assert np.abs(ranks(image) - expected).max() <= 0.5


def test_no_candidate_is_lost_between_chunks(monkeypatch):
    monkeypatch.setattr("medvlp.data.duplicates.CHUNK", 64)
    rng = np.random.default_rng(0)
    one = normalised(rng.normal(size=(300, COARSE**2)).astype(np.float32))
    # Correlations from 0.9 to 1 with the first ones.
    noise = normalised(rng.normal(size=(100, COARSE**2)).astype(np.float32))
    share = np.linspace(0, 0.45, 100, dtype=np.float32)[:, None]
    two = normalised(one[:100] * np.sqrt(1 - share**2) + noise * share)
    expected = np.argwhere(one @ two.T >= ALIKE)
    assert 10 < len(expected) < 100
    np.testing.assert_array_equal(sorted(np.concatenate([*candidates(one, two)]).tolist()), sorted(expected.tolist()))


def test_descriptions_are_kept_elsewhere_if_the_folder_is_read_only(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "folder", [radiograph(i) for i in range(3)])
    monkeypatch.setattr("medvlp.data.duplicates.is_writable", lambda folder: False)
    there = Descriptions(Prepared.open(root), tmp_path / "run").of(np.arange(3))
    assert not (root / "features").exists()
    assert (tmp_path / "run" / "features").exists()
    monkeypatch.undo()
    np.testing.assert_array_equal(Descriptions(Prepared.open(root), tmp_path / "run").of(np.arange(3)), there)
    # What another has described is read, not described again.
    monkeypatch.setattr("medvlp.data.duplicates.is_writable", lambda folder: False)
    monkeypatch.setattr("medvlp.data.duplicates.ranks", None)
    np.testing.assert_array_equal(Descriptions(Prepared.open(root), tmp_path / "none").of(np.arange(3)), there)
