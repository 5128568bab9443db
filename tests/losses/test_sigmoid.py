"""SigLIP's loss against a loop written from its formula."""

import math

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from medvlp.losses import sigmoid, sigmoid_loss


def slow(x, y, temperature, bias, mask):
    x, y = (np.asarray(rows, np.float64) for rows in (x, y))
    rows = [i for i in range(len(x)) if mask[i]]
    total = 0.0
    for i in rows:
        for j in rows:
            cosine = x[i] @ y[j] / math.sqrt(x[i] @ x[i]) / math.sqrt(y[j] @ y[j])
            logit = (cosine / temperature + bias) * (1 if i == j else -1)
            total += math.log(1 + math.exp(-logit))
    return total / max(len(rows), 1)


@pytest.mark.parametrize("present", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("block", [None, 1, 3, 50])
def test_equals_the_formula(present, block):
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(2, 11, 5, generator=generator)
    mask = torch.rand(11, generator=generator) < present
    loss = sigmoid_loss(x, y, temperature=0.1, bias=-10.0, mask=mask, block=block)
    assert loss.item() == pytest.approx(slow(x, y, 0.1, -10.0, mask), rel=1e-5, abs=1e-6)


def gradients(block):
    torch.manual_seed(0)
    x, y = torch.randn(2, 7, 5)
    leaves = [x.requires_grad_(), y.requires_grad_(), *torch.tensor([0.3, -2.0]).requires_grad_().unbind()]
    return torch.autograd.grad(sigmoid_loss(x, y, temperature=leaves[2], bias=leaves[3], block=block), leaves)


@pytest.mark.parametrize("block", [1, 2, 5])
def test_blocks_change_no_gradient(block):
    for got, expected in zip(gradients(block), gradients(None), strict=True):
        torch.testing.assert_close(got, expected)


def test_no_more_than_a_block_of_pairs_is_kept(monkeypatch):
    shapes = []

    def spy(function, x, part, **options):
        shapes.append((len(x), len(part)))
        return checkpoint(function, x, part, **options)

    monkeypatch.setattr(sigmoid, "checkpoint", spy)
    x = torch.randn(6, 4, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        sigmoid_loss(x, x, temperature=0.1, bias=0.0, block=2).backward()
    assert shapes == [(6, 2)] * 3
    assert max(kept) < 6 * 6


def test_absent_samples_change_nothing():
    x, y = torch.randn(2, 5, 4)
    loss = sigmoid_loss(x, y, temperature=0.1, bias=-1.0)
    mask = torch.arange(8) < 5
    noise = torch.randn(3, 4)
    padded = sigmoid_loss(torch.cat([x, noise]), torch.cat([y, -noise]), temperature=0.1, bias=-1.0, mask=mask)
    torch.testing.assert_close(padded, loss)


def test_order_of_the_batch_does_not_matter():
    x, y = torch.randn(2, 9, 4)
    order = torch.randperm(9)
    options = {"temperature": 0.1, "bias": -1.0, "block": 4}
    torch.testing.assert_close(sigmoid_loss(x[order], y[order], **options), sigmoid_loss(x, y, **options))
