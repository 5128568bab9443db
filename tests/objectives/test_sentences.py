"""Sentences that say the same are positives of each other, on one process and on several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.objectives.sentences import alike, said
from medvlp.types import SentenceBatch, text_ids
from tests.support.processes import in_processes

TEXTS = ["No effusion.", "Clear.", "There is no effusion.", "As before.", "Large heart."]
# The first and the third state the same; the fourth states nothing.
STATEMENTS = [11, 12, 11, 0, 13]


def batch(studies):
    """Return the sentences of studies, each a list of numbers of texts."""
    texts = [TEXTS[t] for study in studies for t in study]
    number = torch.tensor([b for b, study in enumerate(studies) for _ in study], dtype=torch.long)
    rows = torch.zeros(len(texts), 1)
    statement = torch.tensor([STATEMENTS[t] for study in studies for t in study], dtype=torch.long)
    return SentenceBatch(texts, text_ids(texts), statement, number, rows, rows, rows, rows)


def same(a, b):
    return TEXTS[a] == TEXTS[b] or (STATEMENTS[a] == STATEMENTS[b] and STATEMENTS[a] != 0)


def slow(own, everyone):
    """Return `alike` and `said` by their definition."""
    every = [t for study in everyone for t in study]
    pairs = [[same(t, other) for other in every] for study in own for t in study]
    return pairs, [[any(same(t, other) for t in study) for other in every] for study in own]


STUDIES = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=5)


@settings(deadline=None)
@given(STUDIES)
def test_masks_equal_their_definition(studies):
    sentence = batch(studies)
    pairs, says = slow(studies, studies)
    for gathered in (True, False):
        assert alike(sentence, gathered).tolist() == pairs
        assert said(sentence, len(studies), gathered).reshape(len(studies), -1).tolist() == says


def test_a_study_says_its_own_sentences():
    sentence = batch([[0, 3], [], [3]])
    assert said(sentence, 3, False).tolist() == [[True, True, True], [False] * 3, [False, True, True]]


SHARES = [[[0, 3], [1], []], [[2, 4, 3], [], [0]]]


def worker(number: int, folder: Path) -> None:
    sentence = batch(SHARES[number])
    masks = [f.tolist() for g in (True, False) for f in (alike(sentence, g), said(sentence, 3, g))]
    torch.save(masks, folder / f"{number}.pt")


@pytest.mark.slow
def test_sentences_of_all_processes_are_compared(tmp_path):
    in_processes(worker, tmp_path)
    for number, own in enumerate(SHARES):
        masks = torch.load(tmp_path / f"{number}.pt")
        assert masks == [*slow(own, [*SHARES[0], *SHARES[1]]), *slow(own, own)]
