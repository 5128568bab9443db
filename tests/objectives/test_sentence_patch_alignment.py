"""RadZero's objective against loops, without some of its inputs, and as it learns."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medvlp.objectives.sentence_patch_alignment import SentencePatchAlignment
from medvlp.types import ImageFeatures
from tests.support.sentences import GRID, PATCH, STUDIES, WIDTH, WORD, Studies, make, phrases
from tests.support.slow_pairs import slow_attended_cosine, slow_multi_positive_loss, slow_pairs

everyone = list(range(STUDIES))


@pytest.mark.parametrize("alike", ["positive", "excluded", "negative"])
@pytest.mark.parametrize(("sentences", "views"), [("stated", 1), ("all", 2)])
def test_the_term_equals_the_formula(alike, sentences, views):
    studies = Studies(views)
    objective = make(SentencePatchAlignment, weight=2.0, sentences=sentences, alike=alike)
    image, text, batch = studies.inputs(everyone)
    got = objective(image, text, batch)["contrastive"]
    positive, negative, columns = slow_pairs(
        studies, everyone, lambda i, j: sentences == "all" or studies.statement[i][j], alike
    )
    assert positive.any(0).all()
    said = torch.stack([studies.sentence[i][j] for i, j in columns])
    with torch.no_grad():
        tokens = objective.embed_image(image)["report"].unflatten(0, (STUDIES, views))
        vectors = F.normalize(objective.norm(said), dim=1)
    losses = []
    for v in range(views):
        logits = [[slow_attended_cosine(tokens[n, v], t, 0.07) / 0.07 for t in vectors] for n in range(STUDIES)]
        losses.append(slow_multi_positive_loss(logits, positive, negative))
    assert got.item() == pytest.approx(2 * sum(losses) / views, rel=1e-4)


def test_tokens_are_the_pooled_feature_and_the_patches():
    image, _, _ = Studies().inputs(everyone)
    objective = make(SentencePatchAlignment, layers=0)
    tokens = objective.embed_image(image)["report"]
    assert tokens.shape == (STUDIES, 1 + GRID * GRID, WORD)
    torch.testing.assert_close(tokens.norm(dim=2), torch.ones(tokens.shape[:2]))
    patch = objective.tokens.patch(image.patches[2, :, 1, 3])
    torch.testing.assert_close(tokens[2, 1 + GRID + 3], F.normalize(objective.norm(patch), dim=0))
    pooled = objective.tokens.pooled(image.pooled[2])
    torch.testing.assert_close(tokens[2, 0], F.normalize(objective.norm(pooled), dim=0))


@pytest.mark.parametrize("views", [1, 2])
def test_order_of_the_batch_does_not_matter(views):
    studies = Studies(views)
    expected = make(SentencePatchAlignment)(*studies.inputs(everyone))["contrastive"]
    got = make(SentencePatchAlignment)(*studies.inputs(torch.randperm(STUDIES).tolist()))["contrastive"]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_study_without_a_report_changes_nothing():
    studies = Studies()
    assert not len(studies.saying[2])
    expected = make(SentencePatchAlignment)(*studies.inputs(everyone))["contrastive"]
    got = make(SentencePatchAlignment)(*studies.inputs([i for i in everyone if i != 2]))["contrastive"]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("sentences", [[0] * 4, [1, 0, 0, 0], [1] * 4, [3, 3]])
@pytest.mark.parametrize("autocast", [False, True])
def test_edge_cases_are_finite_and_reach_every_parameter(sentences, autocast):
    studies = Studies(2, sentences)
    leaves = [leaf.requires_grad_() for leaf in studies.leaves()]
    objective = make(SentencePatchAlignment)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = objective(*studies.inputs(range(len(sentences))))["contrastive"]
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.dtype == torch.float32
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


def test_a_report_is_as_similar_as_the_mean_of_its_sentences():
    studies = Studies()
    image, text, batch = studies.inputs(everyone)
    objective = make(SentencePatchAlignment, sentences="all")
    with torch.no_grad():
        tokens, reports = objective.embed_image(image)["report"], objective.embed_sections(text, batch)["report"]
        assert reports.shape == (STUDIES, 4, WORD)
        got = objective.similarity(tokens, reports)
        for m in everyone:
            if len(studies.sentence[m]):
                expected = objective.similarity(tokens, objective.embed_text(studies.sentence[m])).mean(1)
                torch.testing.assert_close(got[:, m], expected)
            else:
                assert not got[:, m].any()


def test_a_heat_map_is_the_cosine_of_each_patch():
    studies = Studies()
    image, text, batch = studies.inputs(everyone)
    objective = make(SentencePatchAlignment)
    with torch.no_grad():
        heat = objective.text_heat(image, None, phrases())
        tokens, texts = objective.embed_image(image)["report"], objective.embed_text(phrases().pooled)
        for n in everyone:
            for m in range(3):
                expected = torch.stack([token @ texts[m] for token in tokens[n, 1:]])
                torch.testing.assert_close(heat[n, m].flatten(), expected)
        maps = objective.heat_maps(image, text, batch)
        stated = [(i, j) for i in everyone for j in range(len(studies.saying[i])) if studies.statement[i][j]]
        assert [(m.study, m.text) for m in maps] == [(i, f"saying {studies.saying[i][j]}") for i, j in stated]
        for shown, (i, j) in zip(maps, stated, strict=True):
            expected = tokens[i, 1:] @ objective.embed_text(studies.sentence[i][j][None])[0]
            torch.testing.assert_close(shown.heat.flatten(), expected)
            assert shown.box.shape == (0, 4)


def test_it_learns_to_find_and_to_localise_what_sentences_say():
    """A patch with the direction of one of six findings, anywhere; a sentence names the finding."""
    torch.manual_seed(0)
    look, name = 3 * torch.randn(6, PATCH), torch.randn(6, WORD)
    objective = make(SentencePatchAlignment, layers=1)

    def draw(count):
        finding, place = torch.randint(6, (count,)), torch.randint(GRID * GRID, (count,))
        patches = torch.randn(count, PATCH, GRID * GRID)
        patches[torch.arange(count), :, place] += look[finding]
        image = ImageFeatures(torch.randn(count, WIDTH), [patches.unflatten(2, (GRID, GRID))], patch_level=0)
        return image, finding, place

    def quality():
        image, finding, place = draw(120)
        with torch.no_grad():
            texts = objective.embed_text(name)
            scores = objective.similarity(objective.embed_image(image)["report"], texts)
            heat = objective.text_heat(image, None, phrases_of(name)).flatten(2)[range(120), finding]
        return (scores.argmax(1) == finding).float().mean(), (heat.argmax(1) == place).float().mean()

    def phrases_of(pooled):
        texts = phrases([str(i) for i in range(len(pooled))])
        texts.pooled = pooled
        return texts

    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        image, finding, _ = draw(24)
        studies = Studies(1, [1] * 24)
        studies.saying = studies.statement = [finding[i : i + 1].numpy() + 1 for i in range(24)]
        studies.sentence = list(name[finding][:, None])
        _, text, batch = studies.inputs(range(24))
        loss = objective(image, text, batch)["contrastive"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    named, pointed = quality()
    assert named > 0.8  # chance: 1 / 6
    assert pointed > 0.3  # chance: 1 / 16
