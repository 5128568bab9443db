"""Precision of retrieval by class against a slow loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.metrics.recall import class_precision


def slow_precision(similarity, query_class, candidate_class, k):
    values = []
    for row, wanted in zip(similarity, query_class, strict=True):
        # The best first; of equals the wrong ones.
        ranked = sorted(range(len(row)), key=lambda j: (-row[j], candidate_class[j] == wanted))
        hits = [candidate_class[j] == wanted for j in ranked[:k]]
        values.append(sum(hits) / len(hits))
    return sum(values) / len(values)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14), st.booleans())
def test_equals_a_slow_loop(seed, images, texts, tied):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randn(images, texts, generator=generator)
    if tied:
        similarity = similarity.round()
    image_class, text_class = (torch.randint(3, (n,), generator=generator) for n in (images, texts))
    got = class_precision(similarity, image_class, text_class, (1, 5, 100))
    lists = image_class.tolist(), text_class.tolist()
    expected = {f"i2t_P@{k}": slow_precision(similarity.tolist(), *lists, k) for k in (1, 5, 100)}
    expected |= {f"t2i_P@{k}": slow_precision(similarity.T.tolist(), *lists[::-1], k) for k in (1, 5, 100)}
    assert got == pytest.approx(expected)
    shuffled, columns = torch.randperm(images, generator=generator), torch.randperm(texts, generator=generator)
    again = class_precision(similarity[shuffled][:, columns], image_class[shuffled], text_class[columns], (1, 5, 100))
    assert again == pytest.approx(got)


def test_constant_embeddings_retrieve_nothing():
    classes = torch.arange(5).repeat_interleave(200)
    metrics = class_precision(torch.zeros(1000, 1000), classes, classes)
    assert set(metrics.values()) == {0.0}
    assert list(metrics) == [f"{way}_P@{k}" for way in ("i2t", "t2i") for k in (5, 10, 100)]


def test_classes_that_are_told_apart_are_retrieved():
    classes = torch.arange(5).repeat_interleave(200)
    similarity = (classes[:, None] == classes).float()
    assert set(class_precision(similarity, classes, classes).values()) == {1.0}
