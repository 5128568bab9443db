"""CARZero's objective against loops, without some of its inputs, and as it learns."""

from __future__ import annotations

import pytest
import torch

from medvlp.objectives.cross_attention_alignment import CrossAttentionAlignment
from medvlp.objectives.similarity import blockwise
from medvlp.types import ImageFeatures, PhraseFeatures
from tests.support.sentences import GRID, PATCH, STUDIES, WIDTH, WORD, Studies, make, phrases
from tests.support.slow_pairs import slow_multi_positive_loss, slow_pairs

everyone = list(range(STUDIES))
SMALL = {"layers": 2, "hidden": 20}


def first_with_words(studies):
    """The first sentence of each study that was not cut off."""
    return {
        i: next(j for j, words in enumerate(of) if len(words))
        for i, of in enumerate(studies.words)
        if any(map(len, of))
    }


def logit(objective, query, memory):
    """The logit of one query (D,) and one set of tokens (P, D)."""
    return objective.classifier(objective.decoder(query[None], memory[None])[0, 0]).item()


@pytest.mark.parametrize("alike", ["positive", "excluded", "negative"])
@pytest.mark.parametrize("views", [1, 2])
def test_the_term_equals_the_formula(alike, views):
    studies = Studies(views)
    objective = make(CrossAttentionAlignment, weight=2.0, alike=alike, **SMALL).eval()
    image, text, batch = studies.inputs(everyone)
    got = objective(image, text, batch)["contrastive"]
    chosen = first_with_words(studies)
    positive, negative, columns = slow_pairs(studies, everyone, lambda i, j: chosen.get(i) == j, alike)
    assert len(columns) == len(chosen) < STUDIES
    total = 0.0
    with torch.no_grad():
        tokens = objective.tokens(image).unflatten(0, (STUDIES, views))
        words = [studies.words[i][j] for i, j in columns]
        texts = [torch.cat([word.mean(0, keepdim=True), word]) for word in words]
        for v in range(views):
            i2t = [[logit(objective, t[0], tokens[n, v]) for t in texts] for n in everyone]
            t2i = [[logit(objective, tokens[n, v, 0], t) for t in texts] for n in everyone]
            total += sum(slow_multi_positive_loss(logits, positive, negative) for logits in (i2t, t2i))
    assert got.item() == pytest.approx(2 * total / views, rel=1e-4)


def test_training_draws_another_sentence_at_each_step():
    studies = Studies()
    objective = make(CrossAttentionAlignment, **SMALL).train()
    _, text, batch = studies.inputs(everyone)
    torch.manual_seed(0)
    seen = set()
    for _ in range(100):
        chosen = objective._choose(text, batch).nonzero().flatten().tolist()
        study = batch["sentence"].study[chosen].tolist()
        assert study == sorted(first_with_words(studies))
        seen.update(chosen)
    assert seen == set(text.word_sentence.tolist())
    torch.manual_seed(0)
    assert objective._choose(text, batch).nonzero().flatten().tolist()[0] in seen


@pytest.mark.parametrize("views", [1, 2])
def test_order_of_the_batch_does_not_matter(views):
    studies = Studies(views)
    expected = make(CrossAttentionAlignment, **SMALL).eval()(*studies.inputs(everyone))["contrastive"]
    order = torch.randperm(STUDIES).tolist()
    got = make(CrossAttentionAlignment, **SMALL).eval()(*studies.inputs(order))["contrastive"]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sentences", [[0] * 4, [1, 0, 0, 0], [1] * 4, [3, 3]])
@pytest.mark.parametrize("autocast", [False, True])
def test_edge_cases_are_finite_and_reach_every_parameter(sentences, autocast):
    studies = Studies(2, sentences)
    leaves = [leaf.requires_grad_() for leaf in studies.leaves()]
    objective = make(CrossAttentionAlignment, dropout=0.1, **SMALL).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = objective(*studies.inputs(range(len(sentences))))["contrastive"]
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in leaves:
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()
    for name, parameter in objective.named_parameters():
        # DistributedDataParallel would wait for it.
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if not sum(sentences):
            assert not parameter.grad.any(), name
    if not sum(sentences):
        assert loss.item() == 0


@pytest.mark.parametrize("block", [1, 300, 1 << 24])
def test_blocks_do_not_change_similarities(block):
    image, text, batch = Studies().inputs(everyone)
    objective = make(CrossAttentionAlignment, **SMALL).eval()
    with torch.no_grad():
        tokens = objective.embed_image(image)["report"]
        for texts in (objective.embed_phrases(phrases()), objective.embed_sections(text, batch)["report"]):
            whole = objective.similarity(tokens, texts)
            assert whole.shape == (STUDIES, len(texts))
            assert whole.abs().max() < 1
            torch.testing.assert_close(blockwise(objective.similarity, tokens, texts, block), whole)


def test_similarity_is_that_of_the_pair():
    image, _, _ = Studies().inputs(everyone)
    objective, texts = make(CrossAttentionAlignment, **SMALL).eval(), phrases()
    with torch.no_grad():
        tokens = objective.embed_image(image)["report"]
        got = objective.similarity(tokens, objective.embed_phrases(texts))
        for m in range(3):
            words = texts.word[texts.word_phrase == m]
            text = torch.cat([words.mean(0, keepdim=True), words])
            for n in everyone:
                both = (logit(objective, text[0], tokens[n]) + logit(objective, tokens[n, 0], text)) / 2
                assert got[n, m].item() == pytest.approx(both / 10, rel=1e-4, abs=1e-6)


def test_a_text_without_words_is_one_token():
    objective = make(CrossAttentionAlignment, **SMALL).eval()
    image, _, _ = Studies().inputs(everyone)
    with torch.no_grad():
        tokens = objective.embed_image(image)["report"]
        alone = objective.similarity(tokens, objective.embed_text(phrases().pooled))
        # A frozen text encoder has one word a text: the same embedding twice has the attention of one.
        twice = PhraseFeatures(["a"] * 3, phrases().pooled, phrases().pooled, torch.arange(3))
        torch.testing.assert_close(objective.similarity(tokens, objective.embed_phrases(twice)), alone)


def test_a_heat_map_is_the_attention_to_the_patches():
    image, _, _ = Studies().inputs(everyone)
    objective, texts = make(CrossAttentionAlignment, **SMALL).eval(), phrases()
    with torch.no_grad():
        heat = objective.text_heat(image, None, texts)
        assert heat.shape == (STUDIES, 3, GRID, GRID)
        query = objective.embed_phrases(texts)[:, 0]
        attention = objective.decoder.attention(query, objective.tokens(image))
    torch.testing.assert_close(heat.flatten(2), attention[..., 1:])
    assert (heat.sum((2, 3)) < 1).all()


def test_it_learns_which_sentence_an_image_shows():
    torch.manual_seed(0)
    look, whole, name = 3 * torch.randn(4, PATCH), torch.randn(4, WIDTH), torch.randn(4, WORD)
    objective = make(CrossAttentionAlignment, layers=1, hidden=20)

    def draw(count):
        finding = torch.randint(4, (count,))
        patches = torch.randn(count, PATCH, GRID * GRID)
        patches[torch.arange(count), :, torch.randint(GRID * GRID, (count,))] += look[finding]
        image = ImageFeatures(
            torch.randn(count, WIDTH) + whole[finding], [patches.unflatten(2, (GRID, GRID))], patch_level=0
        )
        return image, finding

    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    losses = []
    for _ in range(80):
        image, finding = draw(32)
        studies = Studies(1, [1] * 32)
        studies.saying = studies.statement = [finding[i : i + 1].numpy() + 1 for i in range(32)]
        studies.words = [[name[i][None]] for i in finding]
        _, text, batch = studies.inputs(range(32))
        loss = objective(image, text, batch)["contrastive"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    image, finding = draw(200)
    with torch.no_grad():
        scores = objective.eval().similarity(objective.embed_image(image)["report"], objective.embed_text(name))
    assert (scores.argmax(1) == finding).float().mean() > 0.7  # chance: 1 / 4
