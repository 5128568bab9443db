"""The channel-token aggregation against a full self-attention, and its draws."""

import pytest
import torch

from medvlp.models import ChannelAggregation
from medvlp.models.aggregation import adaptive_average_pool

WIDTHS = [8, 12, 16, 20]
RATIOS = [0.5, 0.25, 0.25, 0.1]


def pyramid(batch=3):
    return [torch.randn(batch, width, side, side) for width, side in zip(WIDTHS, (14, 7, 4, 2), strict=True)]


def aggregation(**options):
    module = ChannelAggregation(WIDTHS, RATIOS, grid=4, **options)
    for parameter in (module.cls, module.positions):
        if parameter is not None:
            torch.nn.init.normal_(parameter)
    return module


def test_equals_self_attention_over_all_tokens_and_cls():
    module, maps = aggregation(), pyramid()
    module.eval()
    tokens = torch.cat([torch.nn.functional.adaptive_avg_pool2d(m, 4).flatten(2) for m in maps], 1) + module.positions
    sequence = torch.cat([tokens, module.cls.expand(3, -1, -1)], 1)
    attended, _ = module.attention(sequence, sequence, sequence)
    torch.testing.assert_close(module(maps)[0], (sequence + attended)[:, -1])


def test_official_padding_takes_part():
    module, maps = aggregation(position="slot", padding=30, evaluation="subset"), pyramid()
    module.eval()
    kept = [m[:, chosen] for m, chosen in zip(maps, module.fixed(), strict=True)]
    tokens = torch.cat([torch.nn.functional.adaptive_avg_pool2d(m, 4).flatten(2) for m in kept], 1)
    tokens = torch.nn.functional.pad(tokens, (0, 0, 0, 30 - tokens.shape[1])) + module.positions
    sequence = torch.cat([tokens, module.cls.expand(3, -1, -1)], 1)
    attended, _ = module.attention(sequence, sequence, sequence)
    torch.testing.assert_close(module(maps)[0], (sequence + attended)[:, -1])


def test_draws_are_a_sequence_that_a_checkpoint_continues():
    first, second = aggregation(), aggregation()
    draws = [first.draw() for _ in range(4)]
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.draw(), first.draw())
    assert any(not torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    for chosen, width, count in zip(draws[0], WIDTHS, (4, 3, 4, 2), strict=True):
        assert len(chosen) == count
        assert len(chosen.unique()) == count
        assert chosen.max() < width


def test_evaluation_is_deterministic_and_ignores_the_batch():
    module, maps = aggregation(), pyramid(4)
    module.eval()
    (whole,) = module(maps)
    torch.testing.assert_close(module(maps)[0], whole, rtol=0, atol=0)
    torch.testing.assert_close(module([m[1:2] for m in maps])[0], whole[1:2])


def test_two_draws_at_once_are_two_calls():
    together, apart, maps = aggregation(), aggregation(), pyramid()
    together.load_state_dict(apart.state_dict())
    for a, b in zip(together(maps, draws=2), [*apart(maps), *apart(maps)], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "options",
    [
        {"replacement": True},
        {"single_stage": True},
        {"single_stage": True, "position": "slot"},
        {"position": "none"},
        {"position": "slot"},
        {"evaluation": "subset"},
    ],
)
def test_every_option_trains_and_evaluates(options):
    module, maps = aggregation(**options), pyramid()
    for _ in range(3):
        sum(feature.sum() for feature in module(maps, draws=2)).backward()
    assert module.eval()(maps)[0].shape == (3, 16)


def test_ratio_zero_leaves_a_stage_out():
    module = ChannelAggregation(WIDTHS, [0.5, 0.25, 0.25, 0], grid=4).eval()
    maps = pyramid()
    before = module(maps)
    maps[3] += 100
    torch.testing.assert_close(module(maps), before, rtol=0, atol=0)


def test_wrong_number_of_ratios_says_so():
    with pytest.raises(ValueError, match="4 stages"):
        ChannelAggregation(WIDTHS, [0.5])


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (28, 28), (56, 56), (3, 5), (16, 16), (33, 17)])
def test_pooling_is_torch_adaptive_pooling(size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(adaptive_average_pool(x, 16), torch.nn.functional.adaptive_avg_pool2d(x, 16))
