"""GLoRIA, MGCA and VECL: terms, order of the batch, edge cases, similarities in blocks, heat maps, learning."""

import pytest
import torch
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.losses import contrastive_loss, local_similarity, pair_loss, word_cosine
from medvlp.objectives.similarity import blockwise
from medvlp.objectives.tokens import padded
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, ImageFeatures, PhraseFeatures
from tests.support.reports import GRID, KINDS, PATCH, SAID, STUDIES, WORD, Reports, make, phrases


@pytest.mark.parametrize("views", [1, 2])
def test_terms_of_gloria_are_its_losses(views):
    image, text, batch = Reports(views).inputs()
    objective = make("gloria")
    terms = objective(image, text, batch)
    study = batch["sentence"].study[text.word_sentence]
    read = torch.tensor([any(counts) for counts in SAID])
    whole = local = 0.0
    for v in range(views):
        pooled = objective.image_head(image.pooled[v::views])
        patch = objective.patch_head(image.patches[v::views].flatten(2).transpose(1, 2))
        similarity = local_similarity(patch, *padded(text.word, study, STUDIES))
        whole += contrastive_loss(pooled, text.sections["report"], temperature=0.1, mask=batch["findings_mask"]) / views
        local += pair_loss(similarity / 0.1, torch.eye(STUDIES), read) / views
    torch.testing.assert_close(terms["global"], whole)
    torch.testing.assert_close(terms["local"], local)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("views", [1, 2])
def test_order_of_the_batch_does_not_matter(name, views):
    reports = Reports(views)
    # In training VECL draws a sentence of each study.
    expected = make(name).train(name != "vecl")(*reports.inputs())
    torch.manual_seed(7)
    got = make(name).train(name != "vecl")(*reports.inputs(torch.randperm(STUDIES)))
    assert set(got) == set(expected)
    for term, value in expected.items():
        assert value.ndim == 0
        torch.testing.assert_close(got[term], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("said", [[[]] * 3, [[2], [], []], [[0], [0]], [[3, 1]], [[1], [1]]])
@pytest.mark.parametrize("half", [False, True])
def test_edge_cases_are_finite_and_reach_every_parameter(name, said, half):
    reports = Reports(1, said)
    leaves = [leaf.requires_grad_() for leaf in reports.leaves()]
    objective = make(name)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = sum(objective(*reports.inputs()).values())
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in leaves:
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()
    for key, parameter in objective.named_parameters():
        # DistributedDataParallel would wait for it.
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    if not any(said):
        assert loss.item() == 0


@pytest.mark.parametrize("name", KINDS)
def test_half_precision_is_near(name):
    image, text, batch = Reports(2).inputs()
    expected = make(name)(image, text, batch)
    with torch.autocast("cpu", torch.bfloat16):
        got = make(name)(image, text, batch)
    for term, value in expected.items():
        assert got[term].item() == pytest.approx(value.item(), rel=0.1, abs=0.05)


@pytest.mark.parametrize("name", KINDS)
def test_similarities_do_not_depend_on_blocks_or_padding(name):
    image, text, batch = Reports().inputs()
    objective = make(name).eval()
    with torch.no_grad():
        images = objective.embed_image(image)["report"]
        texts = objective.embed_phrases(phrases((2, 1, 5, 3)))
        expected = objective.similarity(images, texts)
        assert expected.shape == (STUDIES, 4)
        assert expected.abs().max() <= 1 + 1e-5
        for block in (1, 30, 100_000):
            torch.testing.assert_close(blockwise(objective.similarity, images, texts, block), expected)
        if texts.ndim == 3:
            wider = F.pad(texts, (0, 0, 0, 3))
            torch.testing.assert_close(objective.similarity(images, wider), expected)
            alone = objective.embed_phrases(phrases((2,)))
            assert objective.similarity(images, alone).shape == (STUDIES, 1)
        sections = objective.embed_sections(text, batch)["report"]
        assert objective.similarity(images, sections).shape == (STUDIES, STUDIES)
        plain = objective.similarity(images, objective.embed_text(torch.randn(3, WORD)))
        assert torch.isfinite(plain).all()
        double = objective.double().similarity(images.double(), texts.double())
        torch.testing.assert_close(double.float(), expected, rtol=1e-4, atol=1e-5)


def test_similarity_of_gloria_is_that_of_its_code():
    image, _, _ = Reports().inputs()
    objective, text = make("gloria"), phrases()
    with torch.no_grad():
        got = objective.similarity(objective.embed_image(image)["report"], objective.embed_phrases(text))
        for m in range(3):
            whole = F.cosine_similarity(objective.image_head(image.pooled), text.pooled[m], dim=1)
            patch = objective.patch_head(image.patches.flatten(2).transpose(1, 2))
            own = text.word[text.word_phrase == m][None]
            words = word_cosine(patch, own, torch.ones(own.shape[:2]).bool(), 4.0)
            torch.testing.assert_close(got[:, m], (whole + 5 * words.amax((1, 2))) / 6, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gloria", "mgca"])
def test_a_map_is_the_mean_cosine_of_patches_with_words(name):
    image, _, _ = Reports().inputs()
    objective, text = make(name).eval(), phrases()
    with torch.no_grad():
        heat = objective.text_heat(image, None, text)
        words = text.word if name == "gloria" else objective.word_head(text.word)
        assert heat.shape == (STUDIES, 3, GRID, GRID)
        for n in range(STUDIES):
            patch = objective.patch_head(image.patches[n].flatten(1).T)
            for m in range(3):
                own = words[text.word_phrase == m]
                expected = F.cosine_similarity(patch[:, None], own[None], dim=2).mean(1)
                torch.testing.assert_close(heat[n, m].flatten(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gloria", "mgca"])
def test_a_text_without_words_is_explained(name):
    image, _, _ = Reports().inputs()
    nothing = PhraseFeatures(["edema", "..."], torch.randn(2, WORD), torch.randn(1, WORD), torch.tensor([0]))
    with pytest.raises(UserError, match=r"'\.\.\.' has no words"):
        make(name).eval().text_heat(image, None, nothing)


def test_prototypes_stay_in_the_first_epoch_and_have_length_one():
    image, text, batch = Reports().inputs()
    objective = make("mgca", frozen_epochs=1)
    start = objective.prototypes.detach().clone()
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0)

    def step():
        optimizer.zero_grad()
        sum(objective(image, text, batch).values()).backward()
        optimizer.step()

    objective.begin_epoch(0)
    step()
    torch.testing.assert_close(objective.prototypes.detach(), start)
    # A run resumed inside the epoch has no hook at its start: the state must say it.
    resumed = make("mgca", frozen_epochs=1)
    resumed.begin_epoch(5)
    resumed.load_state_dict(objective.state_dict())
    assert resumed.frozen
    objective.begin_epoch(1)
    step()
    assert (objective.prototypes - start).abs().max() > 1e-4
    objective(image, text, batch)
    torch.testing.assert_close(objective.prototypes.norm(dim=1), torch.ones(5))


def test_patches_of_the_last_layer_have_weights_and_others_are_equal():
    weights = make("mgca")._patch_weights
    pooled, patches = torch.randn(2, PATCH), torch.randn(2, PATCH, GRID, GRID)
    even = weights(ImageFeatures(pooled, [patches, torch.zeros(2, PATCH, 1, 1)], patch_level=0))
    torch.testing.assert_close(even, torch.full((2, GRID**2), 1 / GRID**2))
    uneven = weights(ImageFeatures(pooled, [patches]))
    torch.testing.assert_close(uneven.sum(1), torch.ones(2))
    assert uneven.std() > 0.01


STEPS = 100


def planted(studies=48, concepts=6, seed=0):
    """Studies whose reports say in words what single patches and the pooled features of the images show."""
    reports = Reports(1, [[1, 1]] * studies)
    noise = torch.Generator().manual_seed(seed)
    seen, said = torch.randn(concepts, PATCH, generator=noise), 2 * torch.randn(concepts, WORD, generator=noise)
    reports.patches *= 0.001  # a background that is everywhere alike
    for i in range(studies):
        both = torch.randperm(concepts, generator=noise)[:2]
        places = torch.randperm(GRID**2, generator=noise)[:2]
        for s, (concept, place) in enumerate(zip(both, places, strict=True)):
            reports.patches[i, 0, :, place // GRID, place % GRID] += 2 * seen[concept]
            reports.words[i][s] = said[concept][None]
            reports.sentences[i][s] = said[concept]
        reports.report[i] = said[both].sum(0)
        reports.pooled[i, 0] = F.pad(seen[both].sum(0), (0, reports.pooled.shape[2] - PATCH))
    return reports, seen, said


@pytest.mark.parametrize("name", ["gloria", "mgca"])
def test_it_learns(name):
    reports, seen, said = planted()
    wide = {"hidden": 64, "dim": 16} if name == "mgca" else {}
    objective, (image, text, batch) = make(name, **wide), reports.inputs()
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = sum(objective(image, text, batch).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    objective.eval()
    with torch.no_grad():
        similarity = objective.similarity(
            objective.embed_image(image)["report"], objective.embed_sections(text, batch)["report"]
        )
        # Reports that name the same two findings are equal.
        same = (batch_reports := text.sections["report"])[:, None].sub(batch_reports).abs().amax(2) < 1e-5
        hit = same.gather(1, similarity.argmax(1, keepdim=True)).float().mean()
        phrase = PhraseFeatures(["x"] * len(said), said, said, torch.arange(len(said)))
        heat = objective.text_heat(image, torch.zeros(1), phrase).flatten(2)
        pointed, pointings = 0, 0
        for i in range(len(image.pooled)):
            for s in range(2):
                concept = int((said - reports.sentences[i][s]).abs().amax(1).argmin())
                place = heat[i, concept].argmax()
                shown = image.patches[i].flatten(1)[:, place]
                pointed += F.cosine_similarity(shown, seen[concept], dim=0) > 0.9
                pointings += 1
    assert losses[-1] < 0.8 * losses[0]
    assert hit > 0.5  # chance is below 0.1
    assert pointed / pointings > 0.25  # chance is 1 / 9


def test_vecl_learns_what_is_there_and_what_is_not():
    """Images show one of three findings; their reports state it, and deny another one."""
    torch.manual_seed(0)
    seen, states, denies = 2 * torch.randn(3, PATCH), 2 * torch.randn(3, WORD), 2 * torch.randn(3, WORD)
    reports = Reports(1, [[1, 1]] * 12)
    reports.patches *= 0.001
    shown = torch.arange(12) % 3
    for i, finding in enumerate(shown.tolist()):
        other = (finding + 1 + i // 3 % 2) % 3
        reports.patches[i, 0, :, i % GRID, i // GRID % GRID] += seen[finding]
        reports.pooled[i, 0] = F.pad(seen[finding], (0, reports.pooled.shape[2] - PATCH))
        reports.existence[i][:] = NOT_MENTIONED
        for s, (vector, f, state) in enumerate(((states[finding], finding, PRESENT), (denies[other], other, ABSENT))):
            reports.words[i][s], reports.sentences[i][s] = vector[None], vector
            reports.existence[i][s, f] = state
    objective, (image, text, batch) = make("vecl"), reports.inputs()
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.003)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = sum(objective(image, text, batch).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    objective.eval()
    with torch.no_grad():
        images = objective.embed_image(image)["report"]
        there, missing = (objective.similarity(images, objective.embed_text(v)) for v in (states, denies))
    own = F.one_hot(shown, 3).bool()
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    # Of two images, that with the finding is the likelier to entail the statement, and the less likely the denial.
    for scores, sign in ((there, 1), (missing, -1)):
        auroc = torch.stack(
            [(sign * (scores[own[:, f], f][:, None] - scores[~own[:, f], f]) > 0).float().mean() for f in range(3)]
        )
        assert auroc.min() > 0.9, auroc
    assert (there[own] > missing[own]).all()
