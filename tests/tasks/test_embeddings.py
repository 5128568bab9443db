"""Collected embeddings, retrieval by section and report, and zero-shot scores against slow computations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.tasks.embeddings import EmbeddingCollector, report_retrieval
from medvlp.types import text_ids
from tests.support.slow import slow_retrieval

SECTIONS = ["a/findings", "a/impression"]


def cohort(seed, size):
    """Embeddings of images and texts; few distinct texts, some missing; equal texts have equal embeddings."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.nn.functional.normalize

    def draw(high):
        return torch.randint(high, (size,), generator=generator).tolist()

    texts = {s: [["", "one", "two", "three", "four"][k] for k in draw(5)] for s in SECTIONS}
    words = {
        s: {t: normal(torch.randn(5, generator=generator), dim=0) for t in ["", "one", "two", "three", "four"]}
        for s in SECTIONS
    }
    image = {s: normal(torch.randn(size, 5, generator=generator), dim=1) for s in SECTIONS}
    text = {s: torch.stack([words[s][t] for t in texts[s]]) for s in SECTIONS}
    return texts, image, text


def slow_report_retrieval(texts, image, text, sections):
    """Every image against every distinct report, section by section."""
    size = len(texts[sections[0]])
    reports = [tuple(texts[s][i] for s in sections) for i in range(size)]
    kept = [i for i in range(size) if any(reports[i])]
    if not kept:
        return None
    distinct = sorted({reports[i] for i in kept})
    similarity = []
    for i in kept:
        row = []
        for report in distinct:
            j = reports.index(report)
            parts = [float(image[s][i] @ text[s][j]) for s, said in zip(sections, report, strict=True) if said]
            row.append(sum(parts) / len(parts))
        similarity.append(row)
    return slow_retrieval(similarity, [distinct.index(reports[i]) for i in kept], (1, 5, 10))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14))
def test_retrieval_equals_a_slow_loop(seed, size):
    texts, image, text = cohort(seed, size)
    got = report_retrieval(image, text, {s: text_ids(texts[s]) for s in SECTIONS})
    groups = {**{s: [s] for s in SECTIONS}, "report": SECTIONS}
    expected = {name: slow_report_retrieval(texts, image, text, sections) for name, sections in groups.items()}
    assert set(got) == {name for name, metrics in expected.items() if metrics}
    for name, metrics in got.items():
        assert metrics == pytest.approx(expected[name]), name


def test_retrieval_does_not_depend_on_the_order():
    texts, image, text = cohort(3, 30)
    ids = {s: text_ids(texts[s]) for s in SECTIONS}
    order = torch.randperm(30)
    shuffled = [{s: value[order] for s, value in values.items()} for values in (image, text, ids)]
    assert report_retrieval(*shuffled) == report_retrieval(image, text, ids)


def test_ids_of_texts():
    ids = text_ids(["a", "", "b", "a", " a"])
    assert ids[0] == ids[3]
    assert ids[1] == 0
    assert len(ids.unique()) == 4


def test_a_sample_that_comes_twice_is_kept_once():
    collector = EmbeddingCollector()
    for index in ([4, 2], [0, 4], [7]):
        collector.add(torch.tensor(index), {"x": torch.tensor([[10.0 * i] for i in index]), "y": torch.tensor(index)})
    rows = collector.collect()
    assert rows["y"].tolist() == [0, 2, 4, 7]
    assert rows["x"].flatten().tolist() == [0, 20, 40, 70]
    collector.add(torch.tensor([1]), {"y": torch.tensor([1])})
    assert collector.collect()["y"].tolist() == [1]


@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_collected_rows_do_not_depend_on_batches(batch_size):
    x, order, collector = torch.randn(11, 3), torch.randperm(11), EmbeddingCollector()
    for index in order.split(batch_size):
        collector.add(index, {"x": x[index]})
    torch.testing.assert_close(collector.collect()["x"], x, rtol=0, atol=0)
