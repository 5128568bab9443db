"""The decoder of pairs: each output depends on its own query and its own tokens."""

import pytest
import torch
from torch.nn import functional as F

from medvlp.models.pair_decoder import PairDecoder, PairHead, scaled


def make(**options):
    torch.manual_seed(0)
    return PairDecoder(16, **{"layers": 2, "hidden": 20, "dropout": 0.0, **options})


def test_an_output_is_that_of_its_pair_alone():
    decoder, query, memory = make(), torch.randn(5, 16), torch.randn(3, 7, 16)
    outputs = decoder(query, memory)
    assert outputs.shape == (3, 5, 16)
    for n in range(3):
        for m in range(5):
            torch.testing.assert_close(decoder(query[m : m + 1], memory[n : n + 1])[0, 0], outputs[n, m])


def test_padding_does_not_matter_and_padding_alone_is_finite():
    decoder, query, memory = make(), torch.randn(5, 16), torch.randn(3, 7, 16)
    padded = F.pad(memory, (0, 0, 0, 4))
    torch.testing.assert_close(decoder(query, padded), decoder(query, memory))
    attention = decoder.attention(query, padded)
    assert not attention[..., 7:].any()
    torch.testing.assert_close(attention.sum(2), torch.ones(3, 5))
    assert torch.isfinite(decoder(query, torch.zeros(1, 2, 16))).all()


def test_attention_is_the_mean_over_the_layers():
    decoder, query, memory = make(layers=3), torch.randn(4, 16), torch.randn(2, 5, 16)
    seen = []
    for layer in decoder.layers:
        layer.attention.register_forward_hook(lambda *call: seen.append(call[2][1]))
    attention = decoder.attention(query, memory)
    weights = [weight for weight in seen if weight is not None]
    assert len(weights) == 3
    torch.testing.assert_close(attention, sum(weights) / 3)


def test_attention_is_what_a_layer_attends_with():
    decoder, query, memory = make(layers=1, heads=1), torch.randn(2, 16), torch.randn(1, 3, 16)
    attention = decoder.attention(query, memory)[0]
    layer = decoder.layers[0]
    q_weight, k_weight, _ = layer.attention.in_proj_weight.chunk(3)
    q = layer.attention_norm(decoder.norm(query)) @ q_weight.T
    k = decoder.norm(memory[0]) @ k_weight.T
    torch.testing.assert_close(attention, (q @ k.T / 4).softmax(1), rtol=1e-4, atol=1e-5)


def test_layers_start_apart():
    first, second = make().layers
    assert not torch.equal(first.hidden[0].weight, second.hidden[0].weight)


def test_a_width_that_the_heads_do_not_divide_has_fewer():
    assert PairDecoder(9, layers=1).layers[0].attention.num_heads == 3


def test_scaled_logits_keep_the_order_of_differences():
    """Pairs of prompts are ranked by the difference of their logits, whatever both have in common."""
    positive, negative, common = torch.randn(3, 50)
    differences = scaled(positive + 10 * common) - scaled(negative + 10 * common)
    assert torch.equal(differences.argsort(), (positive - negative).argsort())


def test_the_head_has_the_layers_of_carzero():
    shapes = [tuple(layer.weight.shape) for layer in PairHead(768, 3, 0.1) if hasattr(layer, "weight")]
    assert shapes == [(1024, 768), (512, 1024), (256, 512), (3, 256)]
    assert PairHead(8, 1, 0.1, bias=False)[-1].bias is None


@pytest.mark.parametrize("layers", [1, 3])
def test_every_parameter_has_a_gradient(layers):
    decoder = make(layers=layers)
    decoder(torch.randn(5, 16), torch.randn(3, 7, 16)).square().sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
