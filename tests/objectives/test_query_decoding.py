"""KAD's and MedKLIP's objective against loops, without some of its inputs, and as it learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from medvlp.objectives.query_decoding import QueryDecoding
from medvlp.objectives.similarity import blockwise
from medvlp.objectives.tags import Tags
from medvlp.parse import FINDINGS
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN, ImageFeatures
from tests.support.sentences import GRID, PATCH, STUDIES, WIDTH, WORD, Studies, make, phrases

everyone = list(range(STUDIES))
MEDKLIP = {"descriptions": True, "dim": 8, "report_weight": 0, "contrast_weight": 0, "unmentioned": "masked"}


def logit(objective, query, memory):
    return objective.classifier(objective.decoder(query[None], memory[None])[0, 0]).item()


def slow_bce(objective, studies, query, memories, masked):
    """The mean over all pairs of a memory (study, tokens) and a tag whose state in the report counts."""
    costs = []
    for study, memory in memories:
        states = Tags("chexpert")(studies.existence[[study]])[0].tolist()
        for t, state in enumerate(states):
            if state == UNCERTAIN or (masked and state == NOT_MENTIONED):
                continue
            p = 1 / (1 + math.exp(-logit(objective, query[t], memory)))
            costs.append(-math.log(p if state == PRESENT else 1 - p))
    return sum(costs) / len(costs)


@pytest.mark.parametrize("unmentioned", ["absent", "masked"])
@pytest.mark.parametrize("views", [1, 2])
def test_the_terms_equal_the_formulas(unmentioned, views):
    studies = Studies(views)
    weights = {"weight": 2.0, "report_weight": 3.0, "contrast_weight": 5.0}
    objective = make(QueryDecoding, tags="chexpert", layers=1, unmentioned=unmentioned, **weights).eval()
    image, text, batch = studies.inputs(everyone)
    with torch.no_grad():
        terms = objective(image, text, batch)
        query = objective.text_head(objective.queries)
        tokens, reports = objective.patches(image), objective.text_head(studies.report)
        views_of = [(n // views, tokens[n]) for n in range(STUDIES * views)]
        read = [(b, reports[b : b + 1]) for b in everyone if len(studies.saying[b])]
        masked = unmentioned == "masked"
        assert terms["bce"].item() == pytest.approx(2 * slow_bce(objective, studies, query, views_of, masked), rel=1e-4)
        expected = 3 * slow_bce(objective, studies, query, read, masked)
        assert terms["report_bce"].item() == pytest.approx(expected, rel=1e-4)
        total = 0.0
        for v in range(views):
            x = F.normalize(torch.stack([tokens[b * views + v].mean(0) for b, _ in read]), dim=1)
            y = F.normalize(torch.stack([report[0] for _, report in read]), dim=1)
            logits, own = x @ y.T / 0.07, torch.arange(len(read))
            total += (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)).item() / 2
        assert terms["contrast"].item() == pytest.approx(5 * total / views, rel=1e-4)


def test_without_their_weights_reports_have_no_terms_and_are_queries():
    objective = make(QueryDecoding, **MEDKLIP).eval()
    assert objective.least_studies(1) == 1
    image, text, batch = Studies().inputs(everyone)
    with torch.no_grad():
        assert list(objective(image, text, batch)) == ["bce"]
        reports = objective.embed_sections(text, batch)["report"]
    torch.testing.assert_close(reports, objective.embed_text(text.sections["report"]))


def test_a_query_is_a_name_or_a_name_with_its_description():
    assert make(QueryDecoding).texts == Tags("asg").names
    described = make(QueryDecoding, **MEDKLIP).texts
    assert described[0].startswith("pleural effusion: Fluid between lung and chest wall.")
    assert len(described) == 40
    assert make(QueryDecoding, tags="chexpert", descriptions=True).texts[8].startswith("No Finding: A normal chest.")


@pytest.mark.parametrize("block", [1, 100, 1 << 24])
def test_the_score_of_a_text_does_not_depend_on_the_others(block):
    image, _, _ = Studies().inputs(everyone)
    objective = make(QueryDecoding).eval()
    with torch.no_grad():
        tokens, texts = objective.embed_image(image)["report"], objective.embed_text(phrases().pooled)
        whole = objective.similarity(tokens, texts)
        torch.testing.assert_close(blockwise(objective.similarity, tokens, texts, block), whole)
        torch.testing.assert_close(objective.similarity(tokens, texts[1:2]), whole[:, 1:2])
        for n in everyone:
            for m in range(3):
                value = logit(objective, texts[m], tokens[n])
                assert whole[n, m].item() == pytest.approx(value / 10, rel=1e-4, abs=1e-6)


def test_the_name_of_a_tag_scores_as_its_tag():
    image, _, _ = Studies().inputs(everyone)
    objective = make(QueryDecoding).eval()
    with torch.no_grad():
        tokens, texts = objective.embed_image(image)["report"], objective.embed_text(objective.queries)
        torch.testing.assert_close(objective.similarity(tokens, texts), objective.logits(image) / 10)
        heat = objective.text_heat(image, None, phrases())
        assert heat.shape == (STUDIES, 3, GRID, GRID)
        torch.testing.assert_close(heat.sum((2, 3)), torch.ones(STUDIES, 3))
        asked = phrases([str(i) for i in range(40)])
        asked.pooled = objective.queries
        torch.testing.assert_close(objective.text_heat(image, None, asked), objective.attention(image))


def test_reports_are_compared_as_in_the_contrast():
    image, text, batch = Studies().inputs(everyone)
    objective = make(QueryDecoding).eval()
    with torch.no_grad():
        tokens, reports = objective.embed_image(image)["report"], objective.embed_sections(text, batch)["report"]
        got = objective.similarity(tokens, reports)
        expected = F.normalize(tokens.mean(1), dim=1) @ F.normalize(reports[:, 0], dim=1).T
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, MEDKLIP])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_finite_and_reach_every_parameter(options, frozen, autocast):
    studies = Studies(2, [0, 1, 0])
    studies.existence[0] = NOT_MENTIONED
    leaves = [leaf.requires_grad_() for leaf in studies.leaves()]
    objective = make(QueryDecoding, frozen, **{**options, "dropout": 0.1})
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = sum(objective(*studies.inputs(range(3))).values())
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in leaves:
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()
    for name, parameter in objective.named_parameters():
        # DistributedDataParallel would wait for it.
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    for encoder in objective._trained:
        assert encoder.layer.weight.grad is not None


def test_a_trained_text_encoder_embeds_the_queries_anew():
    objective = make(QueryDecoding, frozen=False)
    image, _, _ = Studies().inputs(everyone)
    before = objective.eval().logits(image)
    with torch.no_grad():
        objective._trained[0].layer.weight += 0.5
    assert not torch.allclose(objective.logits(image), before)
    assert not any("layer.weight" in key and "_trained" in key for key in objective.state_dict())


def test_without_any_report_the_terms_of_reports_are_zero():
    studies = Studies(1, [0] * 3)
    studies.existence[:] = NOT_MENTIONED
    terms = make(QueryDecoding, unmentioned="masked")(*studies.inputs(range(3)))
    assert {name: value.item() for name, value in terms.items()} == {"bce": 0, "report_bce": 0, "contrast": 0}


def test_it_learns_to_find_and_localise_what_a_name_asks_for():
    torch.manual_seed(0)
    names = Tags("chexpert").names
    asked = [names.index(name) for name in ("Atelectasis", "Fracture", "Cardiomegaly")]
    findings = [FINDINGS.index(name) for name in ("atelectasis", "fracture", "cardiomegaly")]
    look = 3 * torch.randn(3, PATCH)
    objective = make(QueryDecoding, tags="chexpert", layers=1, **{**MEDKLIP, "dim": None})

    def draw(count):
        there, place = torch.rand(count, 3) < 0.4, torch.randint(GRID * GRID, (count, 3))
        patches = torch.randn(count, PATCH, GRID * GRID)
        for i, j in there.nonzero().tolist():
            patches[i, :, place[i, j]] += look[j]
        existence = torch.full((count, len(FINDINGS)), NOT_MENTIONED, dtype=torch.int8)
        existence[:, findings] = torch.where(there, PRESENT, ABSENT).to(torch.int8)
        image = ImageFeatures(torch.randn(count, WIDTH), [patches.unflatten(2, (GRID, GRID))], patch_level=0)
        return image, existence, there, place

    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    _, text, batch = Studies(1, [1] * 32).inputs(range(32))
    losses = []
    for _ in range(70):
        image, batch["existence"], _, _ = draw(32)
        loss = objective(image, text, batch)["bce"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    image, existence, there, place = draw(300)
    objective.eval()
    with torch.no_grad():
        rows = objective.evaluate(image, text, {**batch, "existence": existence})
        metrics = objective.summarise(rows)
        heat = objective.attention(image).flatten(2)[:, asked]
    assert all(metrics[f"auroc/{names[a]}"] > 0.8 for a in asked)
    assert (heat.argmax(2) == place)[there].float().mean() > 0.4  # chance: 1 / 16
    assert objective.queries.shape[1] == WORD
