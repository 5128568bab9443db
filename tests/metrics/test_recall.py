"""Retrieval and AUROC against slow computations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medvlp.metrics import label_auroc, retrieval
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from tests.support.slow import slow_retrieval


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 9), st.booleans())
def test_equals_a_slow_loop(seed, images, texts, ties):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randn(images, texts, generator=generator)
    if ties:
        similarity = similarity.round()
    truth = torch.randint(texts, (images,), generator=generator)
    assert retrieval(similarity, truth, (1, 3)) == pytest.approx(
        slow_retrieval(similarity.tolist(), truth.tolist(), (1, 3))
    )


def test_constant_embeddings_retrieve_nothing():
    metrics = retrieval(torch.zeros(20, 20), torch.arange(20))
    assert metrics["i2t_R@10"] == 0
    assert metrics["t2i_R@10"] == 0


def test_auroc_equals_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(200, 3, generator=generator)
    label = torch.randint(-2, 2, (200, 3), generator=generator).to(torch.int8)
    got = label_auroc(scores, label, ["a", "b", "c"])
    for i, name in enumerate("abc"):
        known = label[:, i] != UNCERTAIN
        # A label that is not mentioned is absent.
        expected = roc_auc_score((label[known, i] == PRESENT).int(), scores[known, i])
        assert got[name] == pytest.approx(expected)
    assert got["macro"] == pytest.approx(sum(got[name] for name in "abc") / 3)


def test_close_scores_are_no_ties():
    scores = 1e-7 * torch.arange(6.0)[:, None]
    label = torch.tensor([[ABSENT], [ABSENT], [NOT_MENTIONED], [PRESENT], [PRESENT], [PRESENT]])
    assert label_auroc(scores, label, ["a"])["a"] == 1


def test_labels_of_one_class_have_no_auroc():
    label = torch.tensor([[PRESENT, ABSENT, PRESENT, UNCERTAIN], [PRESENT, NOT_MENTIONED, ABSENT, UNCERTAIN]])
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
    assert label_auroc(scores, label, ["all", "none", "both", "unclear"]) == {"both": 1.0, "macro": 1.0}
    assert label_auroc(scores[:, :2], label[:, :2], ["all", "none"]) == {}
