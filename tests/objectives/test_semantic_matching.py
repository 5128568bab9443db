"""MedCLIP's objective against its formula, one image and one sentence at a time."""

import math

import pytest
import torch
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.objectives.semantic_matching import SemanticMatching
from medvlp.objectives.tags import Tags
from medvlp.types import ABSENT, PRESENT
from tests.support.joint import LABELS, SENTENCES, STUDIES, Studies, make

everyone = range(STUDIES)


def vector(states, names):
    """Return the labels that are present or absent, as a signed vector over CheXpert's labels."""
    value = {PRESENT: 1.0, ABSENT: -1.0}
    by_name = dict(zip(names, states.tolist(), strict=True))
    return torch.tensor([value.get(by_name.get(name), 0.0) for name in Tags("chexpert").names])


def slow(objective, studies, image_labels):
    tags = Tags("chexpert")
    texts = []
    for b in everyone:
        for s in range(SENTENCES[b]):
            label = vector(tags(studies.said[b][s : s + 1])[0], tags.names)
            if label.any():
                texts.append((objective.text_head(studies.sentence[b][s]), label))
    images = [
        (objective.image_head(studies.pooled[b, 0]), label) for b, label in zip(everyone, image_labels, strict=True)
    ]
    images = [(feature, label) for feature, label in images if label.any()]
    total = 0.0
    for rows, columns in ((images, texts), (texts, images)):
        for feature, label in rows:
            likeness = [math.exp(F.cosine_similarity(label, other, dim=0)) for _, other in columns]
            scores = [F.cosine_similarity(feature, other, dim=0).item() / 0.07 for other, _ in columns]
            log_sum = math.log(sum(map(math.exp, scores)))
            for value, score in zip(likeness, scores, strict=True):
                total -= value / sum(likeness) * (score - log_sum) / len(rows) / 2
    return total


@pytest.mark.parametrize("labels", [(), LABELS])
def test_equals_the_formula(labels):
    studies, tags = Studies(), Tags("chexpert")
    objective = make(SemanticMatching, labels=labels)
    states = studies.label if labels else tags(studies.existence)
    with torch.no_grad():
        vectors = [vector(row, labels or tags.names) for row in states]
        expected = slow(objective, studies, vectors)
        got = objective(*studies.inputs(everyone))["matching"].item()
    assert got == pytest.approx(expected, rel=1e-5)


def test_pairs_do_not_count():
    """Sentences that change places with those of another study that is as well written change nothing."""
    studies = Studies(sentences=[2] * STUDIES)
    objective = make(SemanticMatching).eval()
    expected = objective(*studies.inputs(everyone))["matching"]
    studies.sentence, studies.said = studies.sentence[::-1], studies.said[::-1]
    torch.testing.assert_close(objective(*studies.inputs(everyone))["matching"], expected)


def test_labels_outside_the_label_set_are_left_out():
    studies = Studies()
    expected = make(SemanticMatching, labels=LABELS)(*studies.inputs(everyone))["matching"]
    studies.label = F.pad(studies.label, (1, 1), value=1)
    names = ["Tuberculosis", *LABELS, "No Finding"]
    got = make(SemanticMatching, labels=names)(*studies.inputs(everyone))["matching"]
    torch.testing.assert_close(got, expected)
    with pytest.raises(UserError, match=r"labels=\['Tuberculosis'\]: none is in the label set tags='chexpert'"):
        make(SemanticMatching, labels=["Tuberculosis"])
