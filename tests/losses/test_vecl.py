"""VECL's relations of sentences to images, and their loss, against loops written from the rules."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.losses import relation_loss
from medvlp.losses.mentions import CONTRADICTS, ENTAILS, NEUTRAL
from medvlp.objectives.mentions import relations
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN

STATES = (PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED)


def slow_relation(report, sentence):
    """Return the relation of one sentence to one image, finding by finding."""
    relation = None
    for there, said in zip(report, sentence, strict=True):
        if said == NOT_MENTIONED:
            continue
        if {there, said} == {PRESENT, ABSENT}:
            return CONTRADICTS
        agrees = there == said or (said == ABSENT and there == NOT_MENTIONED)
        relation = NEUTRAL if not agrees or relation == NEUTRAL else ENTAILS
    return NEUTRAL if relation is None else relation


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 4))
def test_relations_equal_the_rule(data, findings):
    rows = st.lists(st.lists(st.sampled_from(STATES), min_size=findings, max_size=findings), min_size=1, max_size=5)
    report, sentence = data.draw(rows), data.draw(rows)
    got = relations(torch.tensor(report, dtype=torch.int8), torch.tensor(sentence, dtype=torch.int8))
    assert got.tolist() == [[slow_relation(r, s) for s in sentence] for r in report]


def test_relations_are_those_of_the_published_cases():
    """Image and text of two studies: effusion and consolidation are there in the first, and denied in the second."""
    effusion, consolidation, pneumothorax, mass = range(4)

    def study(**state):
        row = [NOT_MENTIONED] * 4
        for name, value in state.items():
            row[{"e": effusion, "c": consolidation, "p": pneumothorax, "m": mass}[name]] = value
        return row

    first, second, third = study(e=PRESENT, c=PRESENT), study(e=ABSENT, c=ABSENT, p=ABSENT), study(m=PRESENT)
    reports = torch.tensor([first, second, third], dtype=torch.int8)
    expected = [[ENTAILS, CONTRADICTS, NEUTRAL], [CONTRADICTS, ENTAILS, NEUTRAL], [NEUTRAL, ENTAILS, ENTAILS]]
    assert relations(reports, reports).tolist() == expected


def slow_relation_loss(logits, relation, mask, own_weight):
    kept = [i for i in range(len(mask)) if mask[i]]

    def contrast(scores, target):
        """Return the mean over the rows with a target of the cross entropy with the targets' shares."""
        costs = []
        for i in kept:
            mass = sum(target[i][j] for j in kept)
            if mass:
                log_sum = math.log(sum(math.exp(scores[i][j]) for j in kept))
                costs.append(-sum(target[i][j] / mass * (scores[i][j] - log_sum) for j in kept))
        return sum(costs) / max(1, len(costs))

    def both(scores, target):
        turn = [list(column) for column in zip(*scores, strict=True)], [list(c) for c in zip(*target, strict=True)]
        return contrast(scores, target) + contrast(*turn)

    total = 0.0
    for r in (ENTAILS, NEUTRAL, CONTRADICTS):
        total += both(logits[:, :, r].tolist(), (relation == r).int().tolist()) / 2
    total += own_weight / 2 * both(logits[:, :, ENTAILS].tolist(), torch.eye(len(mask)).tolist())
    return total / 4


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(0, 999))
def test_loss_equals_the_formula(studies, seed):
    torch.manual_seed(seed)
    logits, relation = 2 * torch.randn(studies, studies, 3), torch.randint(0, 3, (studies, studies))
    mask = torch.rand(studies) < 0.7
    got = relation_loss(logits, relation, mask, own_weight=3.0)
    assert got.item() == pytest.approx(slow_relation_loss(logits.double(), relation, mask, 3.0), rel=1e-4, abs=1e-5)


def test_nobody_takes_part():
    logits = torch.randn(3, 3, 3, requires_grad=True)
    loss = relation_loss(logits, torch.zeros(3, 3, dtype=torch.long), torch.zeros(3).bool())
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
