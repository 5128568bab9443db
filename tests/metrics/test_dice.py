"""Dice against a slow loop, its rules for empty masks, and its means."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medvlp.metrics.bootstrap import Statistic, weights
from medvlp.metrics.dice import dice, legacy_share, mean_dice

NONE, ALL = torch.zeros(1, 3, 3, dtype=torch.bool), torch.ones(1, 3, 3, dtype=torch.bool)
PAIRS = st.integers(1, 7).flatmap(lambda n: st.tuples(arrays(bool, (n, 2, 3)), arrays(bool, (n, 2, 3))))


def slow_dice(predicted, true):
    """One image, pixel by pixel, with the rules of the papers."""
    p, t = predicted.flatten().tolist(), true.flatten().tolist()
    if not any(t):
        return 0.0 if any(p) else 1.0
    return 2 * sum(a and b for a, b in zip(p, t, strict=True)) / (sum(p) + sum(t))


def slow_batch_mean(values, size):
    """The mean over batches of the means over their images."""
    batches = [values[i : i + size] for i in range(0, len(values), size)]
    return sum(sum(batch) / len(batch) for batch in batches) / len(batches)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_dice_equals_a_slow_loop(masks):
    predicted, true = map(torch.from_numpy, masks)
    expected = [slow_dice(p, t) for p, t in zip(predicted, true, strict=True)]
    assert dice(predicted, true).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("predicted", "true", "value"), [(NONE, NONE, 1), (ALL, NONE, 0), (NONE, ALL, 0), (ALL, ALL, 1)]
)
def test_empty_masks(predicted, true, value):
    assert dice(predicted, true).tolist() == [value]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 13))
def test_the_legacy_mean_is_that_of_batch_means(values, size):
    metric = mean_dice(np.array(values), legacy_share(len(values), size))
    assert metric(np.ones(len(values))) == pytest.approx(slow_batch_mean(values, size))


def test_means_leave_out_what_has_no_share():
    metric = mean_dice(np.array([1.0, 0.5, 0.2]), np.array([False, True, True]))
    assert metric(np.ones(3)) == pytest.approx(0.35)
    assert metric(np.array([5.0, 3, 1])) == pytest.approx((3 * 0.5 + 0.2) / 4)
    assert np.isnan(metric(np.array([2.0, 0, 0])))


def test_a_weight_is_a_repetition():
    values = np.random.default_rng(0).random(20)
    for weight in weights(20, samples=5):
        assert mean_dice(values)(weight) == pytest.approx(np.repeat(values, weight.astype(int)).mean())


def test_bootstrap_has_the_standard_error_of_the_mean():
    values = np.random.default_rng(0).random(200)
    statistic = Statistic.of(mean_dice(values), 200)
    assert statistic.value == pytest.approx(values.mean())
    assert statistic.replicates.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.1)
