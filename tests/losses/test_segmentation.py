"""The loss of segmentation against a slow loop, with hard and soft masks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.losses import segmentation_loss
from tests.support.processes import in_processes


def slow_loss(logits, target, weight=10.0, gamma=2.0):
    """Pixel by pixel."""
    focal, both, either = [], 0.0, 0.0
    for x, t in zip(logits.double().flatten().tolist(), target.double().flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        entropy = -t * math.log(p) - (1 - t) * math.log(1 - p)
        focal.append((1 / (1 + math.exp(x * (2 * t - 1)))) ** gamma * entropy)
        both, either = both + p * t, either + p + t
    return {"focal": weight * sum(focal) / len(focal), "soft_dice": -math.log((2 * both + 1) / (either + 1))}


def example(seed, soft, shape=(3, 1, 4, 5)):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(shape, generator=generator)
    return 3 * torch.randn(shape, generator=generator), target if soft else target.round()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_loss_equals_a_slow_loop(seed, soft):
    logits, target = example(seed, soft)
    got = segmentation_loss(logits, target)
    assert {name: float(value) for name, value in got.items()} == pytest.approx(slow_loss(logits, target), rel=1e-5)


def test_weight_and_gamma():
    logits, target = example(0, soft=True)
    got = segmentation_loss(logits, target, focal_weight=3.0, gamma=1.5)
    assert {name: float(value) for name, value in got.items()} == pytest.approx(slow_loss(logits, target, 3, 1.5))


def test_for_hard_masks_the_focal_loss_is_the_published_one():
    # Lin et al. 2017: -(1 - p_t)^gamma log(p_t).
    logits, target = example(1, soft=False)
    p = logits.sigmoid()
    p_t = torch.where(target == 1, p, 1 - p)
    assert float(segmentation_loss(logits, target)["focal"]) == pytest.approx(
        float(10 * (-((1 - p_t) ** 2) * p_t.log()).mean())
    )


@pytest.mark.parametrize("target", [torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3)])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_extreme_logits_and_empty_masks_are_finite(target, logit):
    logits = torch.full_like(target, logit, requires_grad=True)
    loss = sum(segmentation_loss(logits, target).values())
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    right = (logit > 0) == bool(target[0, 0, 0, 0]) and logit
    assert not right or float(loss.detach()) == pytest.approx(0, abs=1e-6)


def test_it_falls_towards_the_mask():
    logits, target = example(2, soft=False)
    towards = logits + 0.1 * (2 * target - 1)
    for name, value in segmentation_loss(towards, target).items():
        assert value < segmentation_loss(logits, target)[name]


def test_autocast_computes_in_32_bits():
    # 16 bits cannot count the pixels of a batch.
    logits, target = torch.full((4, 1, 64, 64), 1.0), torch.ones(4, 1, 64, 64)
    expected = segmentation_loss(logits, target)
    with torch.autocast("cpu", torch.bfloat16):
        for name, value in segmentation_loss(logits.bfloat16(), target).items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, expected[name])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="size"):
        segmentation_loss(torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3))


def worker(number, folder):
    logits, target = example(5, soft=True, shape=(4, 1, 3, 3))
    own = logits[2 * number :][:2].clone().requires_grad_()
    terms = segmentation_loss(own, target[2 * number :][:2])
    sum(terms.values()).backward()
    torch.save(({name: value.item() for name, value in terms.items()}, own.grad), folder / f"{number}.pt")


@pytest.mark.slow
def test_two_processes_are_one_on_the_joined_batch(tmp_path):
    in_processes(worker, tmp_path)
    (first, first_grad), (second, second_grad) = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    logits, target = example(5, soft=True, shape=(4, 1, 3, 3))
    logits.requires_grad_()
    terms = segmentation_loss(logits, target)
    sum(terms.values()).backward()
    for name, value in terms.items():
        assert (first[name] + second[name]) / 2 == pytest.approx(value.item(), rel=1e-5)
    # DistributedDataParallel takes the mean over the processes.
    torch.testing.assert_close(torch.cat([first_grad, second_grad]) / 2, logits.grad)
