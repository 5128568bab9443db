"""The clinical-informed contrastive loss against a loop written from its formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.losses.alignment import contrastive_loss
from medvlp.losses.targets import ClinicalPrior, correlation
from tests.support.slow import slow_loss

PRIORS = [
    None,
    ClinicalPrior(),
    ClinicalPrior(batch_size=None, strength=2.0),
    ClinicalPrior(batch_size=16, normalise=True),
    ClinicalPrior(scale_by_temperature=False, batch_size=None),
    *(ClinicalPrior(smoothing=s, batch_size=None) for s in ("gaussian", "laplace", "sigmoid")),
]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("present", [1.0, 0.6, 0.1])
def test_equals_the_formula(prior, present):
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(2, 11, 5, generator=generator)
    text = torch.randn(11, 6, generator=generator) + 0.5
    mask = torch.rand(11, generator=generator) < present
    text[3] = 0
    loss = contrastive_loss(x, y, temperature=0.2, mask=mask, text=text, prior=prior)
    assert loss.item() == pytest.approx(slow_loss(x, y, 0.2, mask, text, prior), rel=1e-5, abs=1e-7)


def test_plain_contrastive_loss_is_cross_entropy():
    x, y = torch.randn(2, 8, 4, dtype=torch.float32)
    normal = torch.nn.functional.normalize
    logits = normal(x) @ normal(y).T / 0.07
    diagonal = torch.arange(8)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = cross_entropy(logits, diagonal) + cross_entropy(logits.T, diagonal)
    torch.testing.assert_close(contrastive_loss(x, y, temperature=0.07), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_masked_samples_change_nothing_and_get_no_gradient(seed, size):
    generator = torch.Generator().manual_seed(seed)
    x, y, text = torch.randn(3, size, 4, generator=generator)
    mask = torch.rand(size, generator=generator) < 0.5
    x.requires_grad_()
    loss = contrastive_loss(x, y, temperature=0.1, mask=mask, text=text, prior=ClinicalPrior())
    (grad,) = torch.autograd.grad(loss, x)
    assert torch.isfinite(grad).all()
    assert not grad[~mask].any()
    garbage = torch.where(mask[:, None], 0.0, 1e3) * torch.randn(size, 4, generator=generator)
    changed = contrastive_loss(
        x + garbage, y - garbage, temperature=0.1, mask=mask, text=text + garbage, prior=ClinicalPrior()
    )
    torch.testing.assert_close(changed, loss)


def test_nobody_takes_part():
    x = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(x, x, temperature=0.1, mask=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


def test_order_of_the_batch_does_not_matter():
    x, y, text = torch.randn(3, 9, 4)
    order = torch.randperm(9)
    options = {"temperature": 0.1, "prior": ClinicalPrior()}
    torch.testing.assert_close(
        contrastive_loss(x[order], y[order], text=text[order], **options), contrastive_loss(x, y, text=text, **options)
    )


def test_prior_mass_does_not_grow_with_the_batch():
    def mass(size):
        text = torch.ones(size, 1) * torch.arange(6.0)  # everyone says the same
        x = torch.eye(size)
        options = {"temperature": 0.2, "text": text}
        # With all similarities known, what the prior adds is its mass times a known number.
        plain = contrastive_loss(x, x, **options)
        added = contrastive_loss(x, x, prior=ClinicalPrior(), **options) - plain
        return (added / (math.log(math.exp(5) + size - 1))).item()

    assert mass(64) == pytest.approx(2 * 128 * 63 / 64 * 0.2 * (1 - math.exp(-0.2)), rel=1e-4)
    assert mass(256) == pytest.approx(mass(64), rel=0.02)


def test_prior_without_text_says_so():
    x = torch.randn(3, 4)
    with pytest.raises(ValueError, match="text=None"):
        contrastive_loss(x, x, temperature=0.1, prior=ClinicalPrior())


def test_correlation_is_fp32_under_autocast():
    text = torch.randn(5, 768)
    with torch.autocast("cpu", torch.bfloat16):
        got = correlation(text, text)
    np.testing.assert_allclose(got, np.corrcoef(text), atol=1e-5)


def test_directions_are_weighed():
    x, y = torch.randn(2, 6, 4)
    both, first, second = (
        contrastive_loss(x, y, temperature=0.1, directions=weights) for weights in ((0.75, 0.25), (1, 0), (0, 1))
    )
    torch.testing.assert_close(both, 0.75 * first + 0.25 * second)
    torch.testing.assert_close(second, contrastive_loss(y, x, temperature=0.1, directions=(1, 0)))


class AtFixedTemperature(ClinicalPrior):
    def targets(self, pairs, text, all_text, all_mask, temperature):
        return super().targets(pairs, text, all_text, all_mask, 0.2)


@pytest.mark.parametrize("prior", [None, ClinicalPrior(strength=2.0)])
def test_a_learned_temperature_has_the_gradient_of_the_softmax_alone(prior):
    x, y, text = torch.randn(3, 6, 4)
    temperature = torch.tensor(0.2, requires_grad=True)
    loss = contrastive_loss(x, y, temperature=temperature, text=text, prior=prior)
    torch.testing.assert_close(loss, contrastive_loss(x, y, temperature=0.2, text=text, prior=prior))
    loss.backward()
    fixed = prior and AtFixedTemperature(strength=prior.strength)
    high, low = (contrastive_loss(x, y, temperature=t, text=text, prior=fixed) for t in (0.202, 0.198))
    assert temperature.grad.item() == pytest.approx(((high - low) / 0.004).item(), rel=1e-2)
