"""The objectives of labels alone, against loops from their formulas; and what of a report they read."""

import math

import pytest
import torch
from torch.nn import functional as F

from medvlp.objectives.label_alignment import LabelAlignment
from medvlp.objectives.label_classification import LabelClassification
from medvlp.objectives.study_labels import label_names
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from tests.support.joint import LABELS, STUDIES, Reader, Studies, make

everyone = range(STUDIES)


def label_sets(objective, batch):
    """Return the labels of each study that has any."""
    state, _ = objective.labels(batch)
    return [{n for n, s in zip(objective.labels.names, row, strict=True) if s == PRESENT} for row in state.tolist()]


@pytest.mark.parametrize("labels", ["chexpert", "nih", LABELS])
def test_unicl_equals_the_formula(labels):
    objective = make(LabelAlignment, labels=labels, prompt="An image of {}.")
    studies = Studies()
    image, text, batch = studies.inputs(everyone)
    sets = label_sets(objective, batch)
    kept = [b for b in everyone if sets[b]]
    assert len({frozenset(sets[b]) for b in kept}) < len(kept)

    def told(names):
        plain = [n.replace("_", " ").lower() for n in objective.labels.names if n in names]
        words = ["No acute cardiopulmonary abnormality." if n == "no finding" else f"An image of {n}." for n in plain]
        return Reader().constant(words).mean(0)

    with torch.no_grad():
        x = [objective.image_head(studies.pooled[b, 0]) for b in kept]
        y = [objective.text_head(told(sets[b])) for b in kept]
        expected = 0.0
        for rows, columns in ((x, y), (y, x)):
            for i, row in enumerate(rows):
                scores = [F.cosine_similarity(row, column, dim=0).item() / 0.07 for column in columns]
                log_sum = math.log(sum(map(math.exp, scores)))
                positive = [j for j in range(len(kept)) if sets[kept[j]] == sets[kept[i]]]
                expected -= sum(scores[j] - log_sum for j in positive) / len(positive) / len(kept)
        assert objective(image, text, batch)["contrast"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", ["chexpert", LABELS])
def test_bce_equals_the_formula(labels):
    objective = make(LabelClassification, labels=labels)
    studies = Studies(views=2)
    image, text, batch = studies.inputs(everyone)
    _, known = objective.labels(batch)
    sets = label_sets(objective, batch)
    costs = []
    for b in everyone:
        for v in range(2 if known[b] else 0):
            logits = objective.classifier(studies.pooled[b, v]).tolist()
            for name, z in zip(objective.labels.names, logits, strict=True):
                costs.append(math.log(1 + math.exp(-z if name in sets[b] else z)))
    assert objective(image, text, batch)["bce"].item() == pytest.approx(sum(costs) / len(costs), rel=1e-5)


@pytest.mark.parametrize("kind", [LabelAlignment, LabelClassification])
def test_no_report_is_read(kind):
    image, text, batch = Studies().inputs(everyone)
    objective = make(kind)
    expected = objective(image, text, batch)
    text.sections, text.sentence = {}, None
    assert objective(image, text, batch) == expected


def texts_of(objective, words):
    return objective.embed_text(Reader().constant(words))


def test_a_text_has_the_score_of_the_label_that_says_the_same():
    objective = make(LabelClassification, labels=LABELS).eval()
    image, _, _ = Studies().inputs(everyone)
    seen = objective.embed_image(image)["report"]
    torch.testing.assert_close(seen, 2 * objective.classifier(image.pooled).sigmoid() - 1)
    words = ["There is cardiomegaly.", "No pleural effusion.", "No acute cardiopulmonary abnormality."]
    scores = objective.similarity(seen, texts_of(objective, words))
    expected = torch.stack([seen[:, 0], -seen[:, 1], seen[:, 3]], 1)
    torch.testing.assert_close(scores, expected, atol=0.02, rtol=0)


def test_a_text_about_a_finding_has_the_score_of_its_labels():
    objective = make(LabelClassification, labels=LABELS).eval()
    weights = texts_of(objective, ["There is pacemaker.", "No central line.", "There is hydropneumothorax."])
    assert weights[0].argmax() == weights[1].neg().argmax() == 2
    assert weights[2].argmax() == 1
    names = label_names(["Pleural Effusion", "Pneumothorax", "Tuberculosis"])
    assert names["hydropneumothorax"] == [0, 1]
    assert names["Tuberculosis"] == [2]
    assert sum(name.lower() == "pleural effusion" for name in names) == 1


def test_weights_of_a_text_are_a_softmax_over_statements():
    objective = make(LabelClassification, labels=LABELS)
    text, names = torch.randn(2, 10), label_names(objective.labels.names)
    statements = objective.statements.embedding
    centre = statements.mean(0)
    with torch.no_grad():
        got = objective.embed_text(text)
    for m in range(2):
        scores = [F.cosine_similarity(text[m] - centre, row - centre, dim=0).item() / 0.05 for row in statements]
        mass = sum(map(math.exp, scores))
        share = [math.exp(score) / mass for score in scores]
        expected = [0.0] * 4
        for k, positions in enumerate(names.values()):
            for c in positions:
                expected[c] += share[k] - share[k + len(names)]
        assert got[m].tolist() == pytest.approx(expected, abs=1e-5)


def test_quality_is_the_auroc_of_known_labels():
    objective = make(LabelClassification, labels=LABELS)
    image, text, batch = Studies().inputs(everyone)
    batch["label"] = torch.tensor([[PRESENT, ABSENT, UNCERTAIN]] * 3 + [[ABSENT, PRESENT, PRESENT]] * 5).to(torch.int8)
    batch["label"][7] = NOT_MENTIONED
    rows = objective.evaluate(image, text, batch)
    assert (rows["label"][7] == UNCERTAIN).all()
    order = rows["probability"][:7, 0].tolist()
    wins = [(p > n) + (p == n) / 2 for p in order[:3] for n in order[3:]]
    metrics = objective.summarise(rows)
    assert metrics["auroc/Cardiomegaly"] == pytest.approx(sum(wins) / len(wins))
    assert "auroc/Support Devices" not in metrics
    assert metrics[objective.quality] == pytest.approx(
        sum(v for k, v in metrics.items() if k != objective.quality) / (len(metrics) - 1)
    )
