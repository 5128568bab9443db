"""ASG's losses against loops written from the formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medvlp.losses import SoftLabels, region_sentence_loss, soft_label_loss, tag_loss
from tests.support.slow import slow_region_loss, slow_soft_label_loss


def tags_of(seed, studies=7, width=5):
    torch.manual_seed(seed)
    return torch.rand(studies, width) < 0.3


@pytest.mark.parametrize("direction", ["forward", "backward", "symmetric"])
@pytest.mark.parametrize("normals_alike", [True, False])
@pytest.mark.parametrize("batch_size", [None, 72])
def test_soft_labels_equal_the_formula(direction, normals_alike, batch_size):
    torch.manual_seed(0)
    x, y = torch.randn(2, 7, 6)
    tags = tags_of(1)
    tags[2:4] = False
    mask = torch.tensor([1, 1, 1, 1, 0, 1, 1]).bool()
    labels = SoftLabels(direction=direction, normals_alike=normals_alike, batch_size=batch_size)
    got = soft_label_loss(x, y, tags, temperature=0.07, labels=labels, mask=mask)
    assert got.item() == pytest.approx(slow_soft_label_loss(x, y, tags, 0.07, labels, mask), rel=1e-4)


def own_shares(labels, tags):
    """Return the target of each study's own report."""
    studies = len(tags)
    targets = labels.targets(torch.eye(studies), tags, tags, torch.ones(studies).bool())
    torch.testing.assert_close(targets.sum(1), torch.ones(studies))
    return targets.diag()


def test_two_normal_studies_are_alike():
    tags = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]]).bool()
    alike = SoftLabels(batch_size=None).targets(torch.eye(4), tags, tags, torch.ones(4).bool())
    torch.testing.assert_close(alike[0], torch.tensor([1 / 1.2, 0.2 / 1.2, 0, 0]), atol=1e-5, rtol=0)
    paper = SoftLabels(batch_size=None, normals_alike=False)
    torch.testing.assert_close(own_shares(paper, tags), torch.ones(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [None, 72])
@pytest.mark.parametrize("studies", [8, 72, 576])
@pytest.mark.parametrize("share", [0.1, 0.43, 1.0])
def test_a_normal_study_keeps_its_own_report(batch_size, studies, share):
    tags = torch.zeros(studies, 40).bool()
    ill = studies - round(share * studies)
    tags[range(ill), torch.arange(ill) % 40] = True
    own = own_shares(SoftLabels(batch_size=batch_size), tags)
    assert (own[ill:] > 0.499).all()


def test_the_bound_counts_only_reports_that_are_there():
    tags, mask = torch.zeros(6, 3).bool(), torch.tensor([1, 1, 1, 0, 0, 0]).bool()
    labels = SoftLabels(soft=0.8, hard=0.2, batch_size=None)
    targets = labels.targets(torch.eye(6), tags, tags, mask)
    torch.testing.assert_close(targets[0], torch.tensor([0.5, 0.25, 0.25, 0, 0, 0]), atol=1e-5, rtol=0)


def test_soft_labels_of_no_report_are_zero():
    x = torch.randn(3, 4, requires_grad=True)
    loss = soft_label_loss(
        x, x, torch.zeros(3, 2).bool(), temperature=0.07, labels=SoftLabels(), mask=torch.zeros(3).bool()
    )
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


def blocks(regions, sentences, seed):
    """Return which study each of some regions and sentences is of, and alignments within the studies."""
    torch.manual_seed(seed)
    study, of = torch.randint(0, 3, (regions,)).sort().values, torch.randint(0, 3, (sentences,)).sort().values
    comparable = study[:, None] == of
    return (torch.rand(regions, sentences) < 0.5) & comparable, comparable


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 999))
def test_regions_equal_the_formula(regions, sentences, seed):
    aligned, comparable = blocks(regions, sentences, seed)
    r, s = torch.randn(regions, 5, requires_grad=True), torch.randn(sentences, 5, requires_grad=True)
    loss = region_sentence_loss(r, s, aligned, comparable, temperature=0.2)
    expected = slow_region_loss(r.detach(), s.detach(), aligned, comparable, 0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    loss.backward()
    assert torch.isfinite(r.grad).all()
    assert torch.isfinite(s.grad).all()


def test_one_to_one_regions_have_the_cross_entropy_of_asg():
    torch.manual_seed(0)
    r, s = torch.randn(2, 6, 5)
    aligned, comparable = torch.eye(6).bool(), torch.ones(6, 6).bool()
    scores = F.normalize(r, dim=1) @ F.normalize(s, dim=1).T / 0.07
    expected = F.cross_entropy(scores, torch.arange(6)) + F.cross_entropy(scores.T, torch.arange(6))
    got = region_sentence_loss(r, s, aligned, comparable, temperature=0.07)
    torch.testing.assert_close(got, expected)


def test_a_second_sentence_of_a_region_is_no_negative():
    torch.manual_seed(0)
    r, s = torch.randn(1, 5), torch.randn(2, 5, requires_grad=True)
    everything = torch.ones(1, 2).bool()
    loss = region_sentence_loss(r, s, everything, everything, temperature=0.07)
    loss.backward()
    assert loss.item() == 0
    assert not s.grad.any()


def test_order_of_regions_and_sentences_does_not_matter():
    aligned, comparable = blocks(8, 7, 3)
    r, s = torch.randn(8, 5), torch.randn(7, 5)
    i, j = torch.randperm(8), torch.randperm(7)
    expected = region_sentence_loss(r, s, aligned, comparable, temperature=0.07)
    got = region_sentence_loss(r[i], s[j], aligned[i][:, j], comparable[i][:, j], temperature=0.07)
    torch.testing.assert_close(got, expected)


def test_tags_equal_the_formula():
    torch.manual_seed(0)
    logits, target, mask = torch.randn(4, 5), torch.rand(4, 5) < 0.3, torch.rand(4, 5) < 0.7
    total = [
        -math.log(1 / (1 + math.exp(-value))) if target[i, j] else -math.log(1 - 1 / (1 + math.exp(-value)))
        for i, row in enumerate(logits.tolist())
        for j, value in enumerate(row)
        if mask[i, j]
    ]
    assert tag_loss(logits, target, mask).item() == pytest.approx(sum(total) / len(total), rel=1e-5)
    assert tag_loss(logits, target, torch.zeros_like(mask)).item() == 0
