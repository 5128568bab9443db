"""F1, Matthews' correlation and accuracy by weights against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from medvlp.metrics.decision import accuracy, decided, f1, mcc

pytestmark = pytest.mark.slow


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_measures_equal_scikit_learn(rows):
    decision, target, weight = (np.array(column) for column in zip(*rows, strict=True))
    repeated = np.repeat(np.arange(len(rows)), weight)
    truth, called = target[repeated], decision[repeated]
    measures = [
        (f1, f1_score, truth.any()),
        (mcc, matthews_corrcoef, 0 < truth.sum() < len(truth)),
        (accuracy, accuracy_score, len(truth) > 0),
    ]
    for measure, reference, defined in measures:
        value = decided(measure, decision, target)(weight.astype(float))
        expected = reference(truth, called) if defined else float("nan")
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_what_is_not_known_does_not_count():
    decision, target, known = np.random.default_rng(0).random((3, 40)) < 0.5
    for measure in (f1, mcc, accuracy):
        alone = decided(measure, decision[known], target[known])(np.ones(known.sum()))
        assert decided(measure, decision, target, known)(np.ones(40)) == pytest.approx(alone)
