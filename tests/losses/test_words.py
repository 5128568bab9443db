"""GLoRIA's local similarity and the loss of given pairs against loops written from the formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medvlp.losses import contrastive_loss, local_similarity, pair_loss, word_cosine


def slow_similarity(patch, words, attention, sharpness):
    """Return the similarity of one image with one text, one word and one patch at a time, in double precision."""
    total = 0.0
    for word in words:
        share = []
        for v in patch:
            none = 1 + sum(math.exp(float(other @ v)) for other in words)
            share.append(math.exp(attention * math.exp(float(word @ v)) / none))
        context = sum(a / sum(share) * v for a, v in zip(share, patch, strict=True))
        total += math.exp(sharpness * float(context @ word / context.norm() / word.norm()))
    return math.log(total) if total else 0.0


def slow_pair_loss(logits, target, mask):
    total, kept = 0.0, [i for i in range(len(mask)) if mask[i]]
    for s, t in ((logits, target), (logits.T, target.T)):
        costs = []
        for i in kept:
            mass = sum(float(t[i, j]) for j in kept)
            if mass:
                log_sum = math.log(sum(math.exp(float(s[i, j])) for j in kept))
                costs.append(-sum(float(t[i, j]) / mass * (float(s[i, j]) - log_sum) for j in kept))
        total += sum(costs) / max(1, len(costs))
    return total


def features(seed, counts=(3, 1, 0, 2), images=3, patches=5, width=4):
    torch.manual_seed(seed)
    present = torch.arange(max(1, *counts, 0)) < torch.tensor(counts)[:, None]
    word = torch.randn(*present.shape, width) * present[:, :, None]
    return torch.randn(images, patches, width), word, present


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 999))
def test_local_similarity_equals_the_formula(counts, seed):
    patch, word, present = features(seed, counts)
    got = local_similarity(patch, word, present, attention=4.0, sharpness=5.0)
    for n in range(len(patch)):
        for m, count in enumerate(counts):
            expected = slow_similarity(patch[n].double(), word[m, :count].double(), 4.0, 5.0)
            assert got[n, m].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def gradients(patch, word, present):
    leaves = [patch.clone().requires_grad_(), word.clone().requires_grad_()]
    similarity = local_similarity(*leaves, present)
    return [similarity.detach(), *torch.autograd.grad(similarity.square().sum(), leaves)]


def test_blocks_and_padding_do_not_matter(monkeypatch):
    patch, word, present = features(0)
    expected = gradients(patch, word, present)
    for block in (1, 60, 1 << 20):
        monkeypatch.setattr("medvlp.losses.words.BLOCK", block)
        for got, value in zip(gradients(patch, word, present), expected, strict=True):
            torch.testing.assert_close(got, value)
    wider = F.pad(word, (0, 0, 0, 2)), F.pad(present, (0, 2))
    torch.testing.assert_close(local_similarity(patch, *wider), expected[0])
    noise = torch.randn_like(word) * ~present[:, :, None]
    torch.testing.assert_close(local_similarity(patch, word + noise, present), expected[0])


def test_a_text_of_one_word_attends_to_the_patches_that_it_resembles():
    word, present = torch.tensor([[[2.0, 0.0]]]), torch.ones(1, 1).bool()
    patch = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]]])
    # A uniform attention would see the mean patch, which is perpendicular to the word.
    assert word_cosine(patch, word, present, 4.0).item() > 0.3
    assert word_cosine(patch, word, present, 0.0).item() == pytest.approx(0, abs=1e-6)


def test_order_of_words_patches_and_images_does_not_matter():
    patch, word, present = features(1)
    expected = local_similarity(patch, word, present)
    flipped = local_similarity(patch.flip(1), word.flip(1), present.flip(1))
    torch.testing.assert_close(flipped, expected)
    torch.testing.assert_close(local_similarity(patch.flip(0), word, present), expected.flip(0))


def test_memory_of_the_backward_pass_does_not_hold_all_attention(monkeypatch):
    monkeypatch.setattr("medvlp.losses.words.BLOCK", 5000)
    patch, word = torch.randn(4, 50, 8, requires_grad=True), torch.randn(40, 5, 8, requires_grad=True)
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        local_similarity(patch, word, torch.ones(40, 5).bool()).sum()
    # The attention of all pairs alone has 40,000 numbers.
    assert sum(tensor.numel() for tensor in kept.values()) < 2 * (patch.numel() + word.numel())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 7), st.integers(0, 999))
def test_pair_loss_equals_the_formula(number, seed):
    torch.manual_seed(seed)
    logits = 3 * torch.randn(number, number)
    target, mask = torch.rand(number, number) * (torch.rand(number, number) < 0.4), torch.rand(number) < 0.7
    got = pair_loss(logits, target, mask)
    assert got.item() == pytest.approx(slow_pair_loss(logits.double(), target, mask), rel=1e-4, abs=1e-5)


def test_pair_loss_of_cosines_is_the_contrastive_loss():
    x, y = torch.randn(2, 6, 4)
    mask = torch.tensor([1, 0, 1, 1, 1, 0]).bool()
    logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / 0.2
    expected = contrastive_loss(x, y, temperature=0.2, mask=mask)
    torch.testing.assert_close(pair_loss(logits, torch.eye(6), mask), expected)


def test_pairs_without_a_target_are_left_out_and_nobody_is_zero():
    logits = torch.randn(4, 4, requires_grad=True)
    for target, mask in ((torch.zeros(4, 4), torch.ones(4)), (torch.eye(4), torch.zeros(4))):
        loss = pair_loss(logits, target, mask.bool())
        (grad,) = torch.autograd.grad(loss, logits)
        assert loss.item() == 0
        assert not grad.any()
    only = torch.zeros(4, 4)
    only[1, 2] = 0.3
    expected = -logits.log_softmax(1)[1, 2] - logits.log_softmax(0)[1, 2]
    torch.testing.assert_close(pair_loss(logits, only, torch.ones(4).bool()), expected)
