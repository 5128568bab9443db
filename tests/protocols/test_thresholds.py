"""Thresholds against a slow loop and scikit-learn's curve."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef, precision_recall_curve

from medvlp.protocols import best_threshold, find_thresholds
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN

REFERENCES = {"f1": f1_score, "mcc": matthews_corrcoef}
SAMPLES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9]) | st.floats(0, 1), st.booleans()), min_size=1, max_size=30
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(SAMPLES, st.sampled_from(["f1", "mcc"]))
def test_equals_a_slow_loop(samples, criterion):
    score, target = (np.array(column) for column in zip(*samples, strict=True))
    got = best_threshold(score, target, criterion)
    if target.all() or not target.any():
        assert math.isnan(got)
        return
    values = {threshold: REFERENCES[criterion](target, score >= threshold) for threshold in score}
    assert got in values
    assert values[got] == pytest.approx(max(values.values()), abs=1e-12)


def test_of_thresholds_as_good_the_lowest():
    # F1 is 2/3 at 0.9 and at 0.3.
    assert best_threshold([0.9, 0.5, 0.4, 0.3, 0.1], [1, 0, 0, 1, 0]) == 0.3


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_precision_recall_curve(seed):
    rng = np.random.default_rng(seed)
    target = rng.random(400) < 0.2
    score = (0.3 * target + rng.random(400)).round(2)
    precision, recall, steps = precision_recall_curve(target, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert best_threshold(score, target) == steps[f1[:-1].argmax()]


def test_samples_that_are_not_known_do_not_count():
    score, target = np.random.default_rng(0).random((2, 50))
    target, known = target < 0.3, score < 0.7
    assert best_threshold(score, target, "mcc", known) == best_threshold(score[known], target[known], "mcc")


@pytest.mark.parametrize(("rule", "criterion"), [("validation", "f1"), ("oracle-f1", "f1"), ("oracle-mcc", "mcc")])
def test_thresholds_of_labels(rule, criterion):
    scores = torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    label = torch.randint(-2, 2, (60, 3), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    label[:, 2] = ABSENT
    got = find_thresholds(rule, scores, label)
    assert math.isnan(got[2])
    for i in range(2):
        known = (label[:, i] != UNCERTAIN).numpy()
        target = (label[:, i] == PRESENT).numpy()
        assert got[i] == best_threshold(scores[known, i], target[known], criterion)
    label[label == NOT_MENTIONED] = ABSENT
    np.testing.assert_array_equal(find_thresholds(rule, scores, label), got)
