"""SigLIP's objective."""

import pytest
import torch

from medvlp.objectives.sigmoid_alignment import SigmoidAlignment
from tests.losses.test_sigmoid import slow
from tests.support.joint import STUDIES, Studies, make


def test_equals_the_formula_and_starts_where_the_paper_starts():
    studies = Studies(views=2)
    objective = make(SigmoidAlignment)
    assert objective.temperature.value.item() == pytest.approx(0.1)
    assert objective.temperature.bias.item() == -10
    image, text, batch = studies.inputs(range(STUDIES))
    mask = batch["findings_mask"] | batch["impression_mask"]
    with torch.no_grad():
        x = objective.image_head(image.pooled).unflatten(0, (STUDIES, 2))
        y = objective.text_head(text.sections["report"])
        expected = sum(slow(x[:, v], y, 0.1, -10.0, mask) for v in range(2)) / 2
        assert objective(image, text, batch)["sigmoid"].item() == pytest.approx(expected, rel=1e-5)


def test_scale_and_bias_are_learned_and_logged():
    objective = make(SigmoidAlignment)
    objective(*Studies().inputs(range(STUDIES)))["sigmoid"].backward()
    assert objective.temperature.log_scale.grad != 0
    assert objective.temperature.bias.grad != 0
    assert objective.temperature.logged.keys() == {"temperature", "bias"}
