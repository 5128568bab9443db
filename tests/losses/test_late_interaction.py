"""Late interaction against loops written from the formulas."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medvlp.losses import attended_cosine, contrastive_loss, multi_positive_loss
from medvlp.objectives.similarity import blockwise
from tests.support.slow_pairs import slow_attended_cosine, slow_multi_positive_loss


def tokens(*shape, seed=0, dtype=torch.float32):
    noise = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=noise, dtype=dtype), dim=-1)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_attended_cosine_equals_the_formula(temperature):
    image, text = tokens(3, 5, 8), tokens(4, 8, seed=1)
    got = attended_cosine(image, text, temperature)
    expected = [[slow_attended_cosine(v, t, temperature) for t in text] for v in image]
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_one_token_has_its_cosine_and_few_degrees_attend_to_the_best():
    image, text = tokens(3, 1, 8), tokens(4, 8, seed=1)
    torch.testing.assert_close(attended_cosine(image, text, 0.07), image[:, 0] @ text.T)
    image = tokens(3, 5, 8)
    torch.testing.assert_close(attended_cosine(image, text, 1e-3), (image @ text.T).amax(1), rtol=1e-3, atol=1e-4)


def test_padding_and_the_order_of_tokens_do_not_matter():
    image, text = tokens(3, 5, 8), tokens(4, 8, seed=1)
    expected = attended_cosine(image, text, 0.07)
    padded = F.pad(image, (0, 0, 0, 3))[:, torch.randperm(8)]
    torch.testing.assert_close(attended_cosine(padded, text, 0.07), expected)
    nothing = attended_cosine(torch.zeros(1, 2, 8), text, 0.07)
    assert torch.isfinite(nothing).all()


def test_gradients_are_those_of_the_formula():
    image, text = (t.double().requires_grad_() for t in (tokens(2, 3, 4), tokens(3, 4, seed=1)))
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attended_cosine, (image, text, temperature))


@pytest.mark.parametrize("block", [1, 7, 50, 1 << 24])
def test_blocks_change_neither_similarities_nor_gradients(block):
    image, text = tokens(7, 5, 8).requires_grad_(), tokens(6, 8, seed=1).requires_grad_()
    temperature = torch.tensor(0.2, requires_grad=True)
    weight = torch.randn(7, 6, generator=torch.Generator().manual_seed(2))
    whole = attended_cosine(image, text, temperature)
    expected = torch.autograd.grad((whole * weight).sum(), (image, text, temperature))
    parts = blockwise(lambda v, t: attended_cosine(v, t, temperature), image, text, block)
    torch.testing.assert_close(parts, whole)
    got = torch.autograd.grad((parts * weight).sum(), (image, text, temperature))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("texts", "tokens_of_text"), [(1, 1), (200, 1), (3, 4), (1000, 90)])
def test_a_block_never_holds_more_than_it_may(texts, tokens_of_text):
    block, sizes = 4096, []
    text = torch.zeros(texts, tokens_of_text, 8)

    def similarity(image, some):
        sizes.append((image.numel(), image.shape[0] * image.shape[1] * some.shape[0] * some.shape[1]))
        return torch.zeros(len(image), len(some))

    assert blockwise(similarity, torch.zeros(40, 30, 8).half(), text, block).shape == (40, texts)
    one = 30 * tokens_of_text
    assert all(values <= block and products <= max(block, one) for values, products in sizes)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 999))
def test_multi_positive_loss_equals_the_formula(images, texts, seed):
    torch.manual_seed(seed)
    logits = (4 * torch.randn(images, texts)).requires_grad_()
    draw = torch.rand(images, texts)
    positive, negative = draw < 0.3, draw > 0.5
    loss = multi_positive_loss(logits, positive, negative)
    assert loss.item() == pytest.approx(
        slow_multi_positive_loss(logits.detach(), positive, negative), rel=1e-4, abs=1e-6
    )
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[~positive & ~negative].any()


def test_one_to_one_it_is_the_loss_of_clip():
    x, y, one = tokens(5, 8), tokens(5, 8, seed=1), torch.eye(5).bool()
    expected = contrastive_loss(x, y, temperature=0.07) / 2
    torch.testing.assert_close(multi_positive_loss(x @ y.T / 0.07, one, ~one), expected)


def test_several_texts_an_image_have_the_loss_of_the_released_code():
    """Its rows are texts over images, and its columns have each positive beside the negatives of its image."""
    study = torch.tensor([0, 0, 1, 2, 2, 2])
    logits = torch.randn(3, 6)
    own = torch.arange(3)[:, None] == study
    rows = F.cross_entropy(logits.T, study)
    columns = []
    for text, image in enumerate(study.tolist()):
        rivals = logits[image][~own[image]]
        columns.append(F.cross_entropy(torch.cat([logits[image, text : text + 1], rivals])[None], torch.tensor([0])))
    expected = (rows + torch.stack(columns).mean()) / 2
    torch.testing.assert_close(multi_positive_loss(logits, own, ~own), expected)


def test_the_order_of_images_and_texts_does_not_matter():
    torch.manual_seed(0)
    logits, draw = torch.randn(5, 7), torch.rand(5, 7)
    positive, negative = draw < 0.3, draw > 0.3
    i, j = torch.randperm(5), torch.randperm(7)
    shuffled = [t[i][:, j] for t in (logits, positive, negative)]
    torch.testing.assert_close(multi_positive_loss(*shuffled), multi_positive_loss(logits, positive, negative))


def test_large_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = multi_positive_loss(logits, ~torch.eye(2).bool(), torch.eye(2).bool())
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert torch.isfinite(logits.grad).all()
