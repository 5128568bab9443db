"""The sentence of each study that ConVIRT reads."""

import pytest
import torch

from medvlp.objectives import GlobalAlignment
from medvlp.objectives.draws import draw_sentences
from tests.support.joint import CONVIRT, SENTENCES, STUDIES, TEXT, Studies, make
from tests.support.slow import slow_loss

STUDY = torch.tensor([b for b, count in enumerate(SENTENCES) for _ in range(count)])


def test_each_sentence_is_drawn_as_often_as_the_others():
    torch.manual_seed(0)
    counts = torch.zeros(len(STUDY))
    for _ in range(3000):
        position, there = draw_sentences(STUDY, STUDIES, random=True)
        assert (STUDY[position[there]] == there.nonzero()[:, 0]).all()
        counts[position[there]] += 1
    expected = torch.tensor([3000 / SENTENCES[b] for b in STUDY])
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


def test_a_draw_is_a_function_of_the_seed():
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(draw_sentences(STUDY, STUDIES, random=True)[0].tolist())
    assert draws[0] == draws[1] != draws[2]


def test_without_a_draw_it_is_the_first():
    position, there = draw_sentences(STUDY, STUDIES, random=False)
    first = [STUDY.tolist().index(b) if SENTENCES[b] else len(STUDY) for b in range(STUDIES)]
    assert position.tolist() == first
    assert there.tolist() == [count > 0 for count in SENTENCES]


def test_no_study_and_no_sentence_are_no_error():
    assert draw_sentences(STUDY[:0], 2, random=True)[0].tolist() == [0, 0]
    assert draw_sentences(STUDY[:0], 0, random=True)[0].tolist() == []


def test_convirt_equals_its_formula():
    studies = Studies(views=2)
    objective = make(GlobalAlignment, **CONVIRT, temperature=0.1).eval()
    got = objective(*studies.inputs(range(STUDIES)))["contrastive"].item()
    there = torch.tensor(SENTENCES) > 0
    with torch.no_grad():
        x = objective.image_head(studies.pooled.flatten(0, 1)).unflatten(0, (STUDIES, 2))
        y = torch.stack([rows[0] if len(rows) else torch.zeros(TEXT) for rows in studies.sentence])
        y = objective.text_head(y)
        # The sum over both directions of a pair of rows, one direction at a time.
        expected = 0.0
        for v in range(2):
            scores = (
                torch.nn.functional.normalize(x[there, v]) @ torch.nn.functional.normalize(y[there]).T / 0.1
            ).double()
            for weight, matrix in ((0.75, scores), (0.25, scores.T)):
                for i in range(len(matrix)):
                    expected -= weight * (matrix[i, i] - matrix[i].exp().sum().log()).item() / len(matrix) / 2
        # Both weights of one: the loop of all contrastive losses.
        both = make(GlobalAlignment, **{**CONVIRT, "directions": (1.0, 1.0)}, temperature=0.1).eval()
        slow = sum(slow_loss(x[:, v], y, 0.1, there, y, None) for v in range(2)) / 2
        assert both(*studies.inputs(range(STUDIES)))["contrastive"].item() == pytest.approx(slow, rel=1e-5)
    assert got == pytest.approx(expected, rel=1e-5)


def test_training_draws_and_evaluation_does_not():
    inputs = Studies().inputs(range(STUDIES))
    objective = make(GlobalAlignment, **CONVIRT)
    assert len({objective(*inputs)["contrastive"].item() for _ in range(5)}) > 1
    objective.eval()
    assert len({objective(*inputs)["contrastive"].item() for _ in range(5)}) == 1
