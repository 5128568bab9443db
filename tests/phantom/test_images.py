"""Every finding can be seen where its mask says it is, and the anatomy does not depend on the size."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from medvlp.phantom import study
from medvlp.phantom.images import image
from medvlp.phantom.world import Finding, Study

ONE = study.sample(0, 0, 0, 1)[0]


def posed(view: str = "PA", *findings: Finding, seed: int = 0) -> Study:
    base = study.sample(seed, 0, 0, 1)[0]
    shot = replace(base.shots[0], view=view, turn=0.0, border=(0.0, 0.0, 0.0, 0.0), marker="", exposure=0.0)
    return replace(base, findings=findings, shots=(shot,))


CASES = [
    # finding, sign of the change of brightness, least change (grey levels) at 128 pixels
    (Finding("pleural effusion", "left", None, "moderate"), 1, 20),
    (Finding("pleural effusion", "right", None, "severe"), 1, 30),
    (Finding("pneumothorax", "right", None, "severe"), -1, 8),
    (Finding("consolidation", "right", "mid", "moderate"), 1, 15),
    (Finding("consolidation", "left", "upper", "severe"), 1, 25),
    (Finding("atelectasis", "right", "lower", "moderate"), 1, 5),
    (Finding("edema", "bilateral", None, "moderate"), 1, 8),
    (Finding("nodule", "left", "upper", "moderate"), 1, 10),
    (Finding("pacemaker", "left", None, "moderate"), 1, 20),
    (Finding("central line", "right", None, "moderate"), 1, 4),
    (Finding("endotracheal tube", None, None, "moderate"), 1, 4),
    (Finding("enteric tube", None, None, "moderate"), 1, 3),
    (Finding("sternotomy wires", None, None, "moderate"), 1, 4),
]


@pytest.mark.slow
@pytest.mark.parametrize(("finding", "sign", "least"), CASES, ids=lambda c: getattr(c, "name", None))
@pytest.mark.parametrize("seed", [0, 7])
def test_finding_changes_the_picture_where_it_is(finding: Finding, sign: int, least: float, seed: int) -> None:
    ill, well = posed("PA", finding, seed=seed), posed("PA", seed=seed)
    a, b = image(ill, ill.shots[0], 128), image(well, well.shots[0], 128)
    mask = a.masks[finding.name]
    change = (a.pixels.astype(float) - b.pixels.astype(float))[mask].mean()
    assert sign * change > least


def test_heart_grows() -> None:
    ratios = []
    for severity in (None, "mild", "moderate", "severe"):
        one = posed("PA", *([Finding("cardiomegaly", None, None, severity)] if severity else []))
        ratios.append(image(one, one.shots[0], 96).heart_ratio)
    assert ratios == sorted(ratios)
    assert ratios[0] < 0.5 < ratios[1]


@pytest.mark.parametrize("view", ["PA", "AP", "LATERAL"])
def test_same_anatomy_at_another_size(view: str) -> None:
    one = posed(view, Finding("consolidation", "right", "mid", "severe"), Finding("nodule", "left", "upper", "severe"))
    small, large = image(one, one.shots[0], 128), image(one, one.shots[0], 512)
    shrunk = cv2.resize(large.pixels, small.pixels.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - small.pixels).mean() < 6
    assert np.corrcoef(shrunk.ravel(), small.pixels.ravel())[0, 1] > 0.99
    for name, (x1, y1, x2, y2) in small.regions.items():
        assert np.allclose(np.array([x1, y1, x2, y2]) * 4, large.regions[name], atol=8)


def test_lateral_shows_effusion_and_consolidation() -> None:
    well = posed("LATERAL")
    for f in (
        Finding("pleural effusion", "bilateral", None, "moderate"),
        Finding("consolidation", "right", "mid", "severe"),
    ):
        ill = posed("LATERAL", f)
        a, b = image(ill, ill.shots[0], 128), image(well, well.shots[0], 128)
        assert (a.pixels.astype(float) - b.pixels)[a.masks[f.name]].mean() > 10


def test_sides_are_the_patients() -> None:
    for side, sign in (("right", -1), ("left", 1)):
        one = posed("PA", Finding("pleural effusion", side, None, "severe"))
        made = image(one, one.shots[0], 128)
        heart = np.nonzero(made.masks["heart"])[1].mean()
        assert sign * (np.nonzero(made.masks["pleural effusion"])[1].mean() - heart) > 0
