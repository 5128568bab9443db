"""The training of the classifiers of views; tests/prepare/test_screening.py tries them on real radiographs."""

import numpy as np
import pytest
import torch

from medvlp.localiser.pictures import pictures
from medvlp.localiser.views import fit, lateral_examples, mirrored_examples, moved, train_views, varied_laterals
from medvlp.prepare.screening import views
from medvlp.prepare.screening.views import COUNT, DATA, Classifier, mirror


@pytest.fixture(scope="module")
def drawn():
    return varied_laterals(4, 0), pictures(4, 1, vary=True)


def test_laterals_are_varied_and_the_same_for_a_seed(drawn):
    again = varied_laterals(2, 0)
    for one, other in zip(drawn[0], again, strict=False):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.masks[0].max() == one.masks[2].max() == 255
    assert not np.array_equal(again[0].pixels, again[1].pixels)


def test_examples(drawn):
    x, y = lateral_examples(*drawn, 2, np.random.default_rng(0))
    assert x.shape == (16, COUNT)
    assert y.tolist() == [1, 0] * 8
    assert torch.equal(x, lateral_examples(*drawn, 2, np.random.default_rng(0))[0])
    x, y = mirrored_examples(drawn[1], 2, np.random.default_rng(0))
    assert y.tolist() == [0, 1] * 8
    assert np.array_equal(mirror(x[0].numpy()), x[1].numpy())


def test_moved_pictures_keep_their_side():
    """A bright left half stays left, whatever the tilt."""
    half = np.zeros((128, 128), np.float32)
    half[:, :64] = 200
    rng = np.random.default_rng(0)
    for _ in range(50):
        image = moved(half, 4, rng)
        assert image[:, :20].mean() > image[:, -20:].mean() or image[:, -20:].mean() > 190  # Shifted, or bright beyond.


def test_fit_separates_and_is_the_same_for_a_seed():
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 2, 1000)).float()
    x = torch.from_numpy(rng.standard_normal((1000, COUNT))).float()
    x[:, 3] += 4 * y
    net = fit(x, y, 0)
    assert ((net(x)[:, 0] > 0) == (y > 0)).float().mean() > 0.95
    assert torch.equal(net(x), fit(x, y, 0)(x))


def test_the_package_runs_what_training_writes(tmp_path, monkeypatch, capsys):
    out = tmp_path / "views.npz"
    train_views(out, laterals=3, frontals=3, copies=1)
    assert "mirrored: it says so of" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(views, "DATA", out)
    views._classifier.cache_clear()
    found = np.random.default_rng(0).random(COUNT).astype(np.float32)
    assert np.isfinite([views.lateral_logit(found), views.mirrored_lead(found)]).all()
    with np.load(out) as made, np.load(DATA) as shipped:
        assert {name: made[name].shape for name in made} == {name: shipped[name].shape for name in shipped}
    views._classifier.cache_clear()


def test_classifier_against_numpy():
    rng = np.random.default_rng(0)
    weight, bias, last, end = rng.random((2, COUNT)), rng.random(2) - 200, rng.random((1, 2)), rng.random(1)
    x = rng.random(COUNT)
    expected = sum(last[0, i] * max(weight[i] @ x + bias[i], 0) for i in range(2)) + end[0]
    assert Classifier((weight, bias), (last, end))(x) == pytest.approx(expected)
