"""MGCA's token-wise and prototype alignment against loops written from the formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.losses import prototype_loss, sinkhorn, token_loss, token_weights

WORDS = (3, 0, 1, 4)


def unit(v):
    return v / v.norm()


def softmax(values):
    top = max(values)
    exponentials = [math.exp(v - top) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def slow_one_way(a, b, weight, t):
    """Return the loss of telling the contexts of the tokens a among the tokens b from each other."""
    contexts = []
    for token in a:
        share = softmax([float(token @ other) / t for other in b])
        contexts.append(unit(sum(s * other for s, other in zip(share, b, strict=True))))
    z = [[float(token @ context) / t for context in contexts] for token in a]
    loss = 0.0
    for i in range(len(a)):
        forward, backward = softmax(z[i])[i], softmax([row[i] for row in z])[i]
        loss -= float(weight[i]) * (math.log(forward) + math.log(backward)) / 2
    return loss


def slow_token_loss(patch, words, patch_weight, word_weight, t):
    losses = []
    for b, own in enumerate(words):
        if len(own):
            v, w = [unit(p) for p in patch[b].double()], [unit(p) for p in own.double()]
            losses.append(slow_one_way(w, v, word_weight[b], t) + slow_one_way(v, w, patch_weight[b], t))
    return sum(losses) / max(1, len(losses))


def batch(seed, counts=WORDS, patches=5, width=4, padding=0):
    torch.manual_seed(seed)
    longest = max(1, *counts) + padding
    words = [torch.randn(count, width) for count in counts]
    padded, present = torch.zeros(len(counts), longest, width), torch.zeros(len(counts), longest, dtype=torch.bool)
    for b, own in enumerate(words):
        padded[b, : len(own)], present[b, : len(own)] = own, True
    patch = torch.randn(len(counts), patches, width)
    patch_weight = torch.rand(len(counts), patches).softmax(1)
    word_weight = (torch.rand(len(counts), longest) * present).nan_to_num()
    return patch, words, padded, present, patch_weight, word_weight


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=4), st.integers(0, 999))
def test_tokens_equal_the_formula(counts, seed):
    patch, words, padded, present, patch_weight, word_weight = batch(seed, counts)
    got = token_loss(patch, padded, present, patch_weight, word_weight, temperature=0.3)
    assert got.item() == pytest.approx(
        slow_token_loss(patch, words, patch_weight, word_weight, 0.3), rel=1e-4, abs=1e-5
    )


def test_padding_and_order_of_tokens_do_not_matter():
    patch, _, padded, present, patch_weight, word_weight = batch(2)
    expected = token_loss(patch, padded, present, patch_weight, word_weight)
    wider = (torch.cat([t, torch.zeros_like(t[:, :2])], 1) for t in (padded, present, word_weight))
    word, there, weight = wider
    torch.testing.assert_close(token_loss(patch, word, there, patch_weight, weight), expected)
    flipped = token_loss(patch.flip(1), padded, present, patch_weight.flip(1), word_weight)
    torch.testing.assert_close(flipped, expected)
    noise = torch.randn_like(padded) * ~present[:, :, None]
    torch.testing.assert_close(token_loss(patch, padded + noise, present, patch_weight, word_weight), expected)


def test_studies_without_words_get_zero_and_no_gradient():
    patch, _, padded, present, patch_weight, word_weight = batch(3)
    patch.requires_grad_()
    token_loss(patch, padded, present, patch_weight, word_weight).backward()
    assert patch.grad[0].any()
    assert not patch.grad[1].any()
    loss = token_loss(patch, padded, present & False, patch_weight, word_weight * 0)
    (grad,) = torch.autograd.grad(loss, patch)
    assert loss.item() == 0
    assert not grad.any()


def test_weights_of_tokens_equal_the_rule():
    _, words, padded, present, _, _ = batch(4, (3, 0, 1, 7))
    pooled = torch.randn(4, 4)
    got = token_weights(pooled, padded, present, temperature=0.5)
    for b, own in enumerate(words):
        if len(own):
            share = np.array(softmax([float(unit(pooled[b]) @ unit(w)) / 0.5 for w in own]))
            cut = share.clip(np.quantile(share, 0.1), np.quantile(share, 0.9))
            np.testing.assert_allclose(got[b, : len(own)], cut / cut.sum(), rtol=1e-4)
        assert not got[b, len(own) :].any()


def slow_sinkhorn(score, epsilon, iterations):
    code = [[math.exp(value / epsilon) for value in row] for row in score]
    for _ in range(iterations):
        for k in range(len(code[0])):
            total = sum(row[k] for row in code)
            for row in code:
                row[k] /= total * len(code[0])
        for row in code:
            total = sum(row)
            row[:] = [value / total for value in row]
    return np.array(code)


def slow_prototype_loss(u, t, mask, temperature):
    kept = [i for i in range(len(mask)) if mask[i]]
    if not kept:
        return 0.0
    total = 0.0
    for known, guessed in ((u, t), (t, u)):
        code = slow_sinkhorn([known[i].tolist() for i in kept], 0.05, 3)
        for row, i in enumerate(kept):
            guess = softmax([value / temperature for value in guessed[i].tolist()])
            total -= sum(q * math.log(p) for q, p in zip(code[row], guess, strict=True)) / 2
    return total / len(kept)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 999))
def test_prototypes_equal_the_formula(studies, prototypes, seed):
    torch.manual_seed(seed)
    u, t = (2 * torch.rand(2, studies, prototypes) - 1) * 0.9
    mask = torch.rand(studies) < 0.7
    got = prototype_loss(u, t, mask, temperature=0.2)
    expected = slow_prototype_loss(u.double(), t.double(), mask, 0.2)
    assert got.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_samples_are_shared_out_evenly_among_prototypes():
    torch.manual_seed(0)
    score = torch.rand(60, 4) * 0.2
    score[:, 0] += 0.6  # everyone's favourite
    code = sinkhorn(score, iterations=30)
    torch.testing.assert_close(code.sum(1), torch.ones(60))
    torch.testing.assert_close(code.sum(0), torch.full((4,), 15.0), rtol=1e-2, atol=0)


def test_assignments_are_single_precision_under_autocast():
    score = torch.rand(50, 20) * 0.02 + 0.9
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(sinkhorn(score), sinkhorn(score.double()).float(), rtol=1e-3, atol=1e-5)
