"""Which heat maps of a study are shown."""

import pytest
import torch

from medvlp.objectives import HeatMap

plots = pytest.importorskip("medvlp.demo.plots")
RIGHT, LEFT, HEART = [0.0, 0.0, 4.0, 9.0], [5.0, 0.0, 9.0, 9.0], [3.0, 3.0, 6.0, 6.0]


def heat_map(text, *boxes, study=0):
    return HeatMap(study, text, torch.zeros(2, 2), torch.tensor(boxes).reshape(-1, 4))


def test_maps_are_about_different_regions_few_at_a_time():
    drawn = [
        ("region", heat_map("lungs", RIGHT, LEFT)),
        ("region", heat_map("heart", HEART)),
        ("region", heat_map("heart again", HEART)),
        ("region", heat_map("elsewhere", HEART, study=1)),
        ("region", heat_map("right", RIGHT)),
        ("tag", heat_map("edema")),
        ("tag", heat_map("nodule")),
        ("tag", heat_map("mass")),
    ]
    shown = [(name, h.text) for name, h in plots.choose_maps(drawn, 0, 4)]
    assert sorted(shown) == [("region", "heart"), ("region", "right"), ("tag", "edema"), ("tag", "nodule")]
    assert plots.choose_maps(drawn, 2, 4) == []
