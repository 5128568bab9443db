import importlib

import numpy as np
import pytest
import torch

from medvlp.errors import UserError
from medvlp.localiser import train
from medvlp.localiser.pictures import KEPT, augment, laterals, pictures
from medvlp.localiser.unet import quantised
from medvlp.phantom.world import REGIONS
from medvlp.prepare.regions.automatic import Localiser, localiser
from medvlp.prepare.regions.network import LOGIT_STEPS, LOGIT_ZERO, STEP, Network

training = importlib.import_module("medvlp.localiser.training")


@pytest.fixture(scope="module")
def shown():
    return pictures(12, 5, vary=True)


@pytest.fixture(scope="module")
def trained(shown):
    return training.train_network(shown, steps=4, batch_size=4, seed=0)


@pytest.mark.slow
def test_whole_numbers_compute_what_torch_computes(trained, shown):
    network = Network.of(quantised(trained))
    rng = np.random.default_rng(0)
    images = np.stack([augment(picture, rng)[0] for picture in shown])
    with torch.no_grad():
        logits = trained(torch.from_numpy(images)[:, None].float() * STEP).numpy()
    outputs = np.stack([network(image) for image in images])
    wanted = np.clip(LOGIT_ZERO + LOGIT_STEPS * logits, 0, 255)
    assert outputs.shape == wanted.shape == (12, 3, 32, 32)
    assert np.abs(outputs - wanted).mean() < 1
    assert np.corrcoef(outputs.ravel(), wanted.ravel())[0, 1] > 0.9


def test_same_seed_same_network(trained, shown):
    again = quantised(training.train_network(shown, steps=4, batch_size=4, seed=0))
    for name, array in quantised(trained).items():
        assert array.dtype == again[name].dtype
        assert np.array_equal(array, again[name]), name


@pytest.mark.slow
def test_untrained_network_is_an_error(tmp_path):
    with pytest.raises(UserError, match="give more --steps"):
        train(tmp_path / "x.npz", studies=8, held_out=1, steps=2, batch_size=2)
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.slow
def test_atlas_knows_the_pictures_it_was_fitted_on(shown):
    plain = pictures(16, 6, vary=False)
    network = localiser().network
    atlas = training.fit_atlas(network, plain)
    table = training.figures(Localiser(network, atlas), plain)
    assert len(table.rows) == 3 + len(REGIONS)
    assert np.mean([float(cell) for cell in table.columns[1].cells]) > 0.8


def test_pictures_show_what_they_claim(shown):
    for picture in shown:
        right, left, heart = (np.argwhere(mask > 127).mean(axis=0) for mask in picture.masks)
        assert right[1] < heart[1] < left[1]
        assert picture.boxes.shape == (29, 4)
        assert (picture.boxes[:, 2:] > picture.boxes[:, :2]).all()
    assert not any(picture.masks.any() for picture in laterals(3, 5))
    assert pictures(2, 5, vary=True)[1].pixels.tobytes() == shown[1].pixels.tobytes()


def test_augmented_pictures(shown):
    rng = np.random.default_rng(0)
    made = [augment(shown[0], rng) for _ in range(200)]
    assert all(image.shape == (64, 64) and image.dtype == np.uint8 for image, _ in made)
    assert all(masks.shape == (3, 64, 64) for _, masks in made)
    empty = sum(not masks.any() for _, masks in made)
    assert 10 < empty < 50
    assert shown[0].pixels.shape == (KEPT, KEPT)


def test_overlap_loss_of_a_perfect_and_of_no_answer():
    target = torch.zeros(2, 3, 8, 8)
    target[:, :, 2:5] = 1
    assert training.overlap_loss(target * 40 - 20, target) < 0.01
    assert training.overlap_loss(20 - target * 40, target) > 10


def test_intersection_over_union():
    assert training.intersection_over_union((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert training.intersection_over_union((0, 0, 1, 1), (2, 2, 3, 3)) == 0
