"""The bootstrap by weights against resampling, and AUROC by weights against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from medvlp.metrics import Statistic, auroc
from medvlp.metrics.bootstrap import bootstrap, interval, weights


def test_weights_count_draws_with_replacement():
    drawn = list(weights(50, 200, seed=1))
    assert len(drawn) == 200
    assert all(w.sum() == 50 for w in drawn)
    assert np.mean(drawn) == 1
    # A sample is drawn at all with probability 1 - 1 / e.
    assert np.mean(np.stack(drawn) > 0) == pytest.approx(0.636, abs=0.01)
    for again, w in zip(weights(50, 200, seed=1), drawn, strict=True):
        np.testing.assert_array_equal(again, w)
    assert any((a != b).any() for a, b in zip(weights(50, 5, seed=2), drawn, strict=False))


def test_the_bootstrap_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(0).normal(3, 2, 400)
    replicates = bootstrap(lambda w: float(w @ values / w.sum()), 400)
    assert len(replicates) == 1000
    assert replicates.std() == pytest.approx(values.std() / 20, rel=0.1)
    low, high = interval(replicates)
    assert low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.05)
    assert high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.05)


def test_what_is_not_defined_is_left_out():
    assert interval(np.array([np.nan, 1.0, np.nan, 1.0])) == (1, 1)
    assert all(np.isnan(bound) for bound in interval(np.array([np.nan])))


def test_the_mean_of_metrics_is_of_those_that_are_defined():
    first = Statistic(0.5, np.array([1.0, np.nan, np.nan]))
    second = Statistic(0.7, np.array([3.0, 4.0, np.nan]))
    mean = Statistic.mean([first, second])
    assert mean.value == pytest.approx(0.6)
    np.testing.assert_array_equal(mean.replicates, [2, 4, np.nan])


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]) | st.floats(-5, 5), st.booleans(), st.integers(0, 4)),
        min_size=2,
        max_size=40,
    )
)
@settings(max_examples=200, deadline=None)
def test_weighted_auroc_equals_scikit_learn(rows):
    score, target, weight = (np.array(column) for column in zip(*rows, strict=True))
    got = auroc(score, target)(weight.astype(float))
    if len({*target[weight > 0].tolist()}) < 2:
        assert np.isnan(got)
        return
    assert got == pytest.approx(roc_auc_score(target, score, sample_weight=weight), abs=1e-12)
    repeated = np.repeat(np.arange(len(rows)), weight)
    assert got == pytest.approx(auroc(score[repeated], target[repeated])(np.ones(len(repeated))), abs=1e-12)


def test_auroc_equals_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(300, generator=generator, dtype=torch.float64)
    target = torch.rand(300, generator=generator) < 0.2
    assert auroc(score, target)(np.ones(300)) == pytest.approx(float(binary_auroc(score, target.long())), abs=1e-6)


def test_samples_that_do_not_count():
    score, target = np.random.default_rng(0).random((2, 60)).round(1)
    target, known = target < 0.4, score < 0.8
    weight = np.arange(60.0)
    alone = auroc(score[known], target[known])(weight[known])
    assert auroc(score, target, known)(weight) == pytest.approx(alone)


def test_no_samples_have_no_auroc():
    assert np.isnan(auroc([], [])(np.ones(0)))
    assert np.isnan(auroc([0.1, 0.2], [1, 1])(np.ones(2)))
