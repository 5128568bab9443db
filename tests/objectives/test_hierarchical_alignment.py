"""IMITATE's objective: its terms from the formulas, missing sections, options."""

import pytest
import torch

from medvlp.losses import ClinicalPrior
from medvlp.types import ImageFeatures, TextFeatures
from tests.support.hierarchical import WIDTHS, make
from tests.support.slow import slow_loss

STUDIES, VIEWS = 7, 2


def inputs(seed=1):
    torch.manual_seed(seed)
    image = ImageFeatures(
        torch.randn(STUDIES * VIEWS, 24), [torch.randn(STUDIES * VIEWS, width, 5, 5) for width in WIDTHS]
    )
    findings, impression = torch.randn(2, STUDIES, 10) + 0.3
    masks = torch.tensor([[1, 1, 0, 1, 1, 0, 1], [1, 0, 1, 1, 1, 1, 1]]).bool()
    batch = {"image": torch.zeros(STUDIES, VIEWS, 1), "findings_mask": masks[0], "impression_mask": masks[1]}
    text = {"findings": findings, "impression": impression, "report": findings + impression}
    return image, text, batch


def call(objective, image, text, batch):
    return objective(image, TextFeatures({s: text[s] for s in objective.sections}), batch)


def test_terms_equal_the_formulas():
    image, text, batch = inputs()
    objective = make(multi_weight=0.3)
    terms = call(objective, image, text, batch)

    # The projections again, by hand, from a twin in the same state.
    twin = make(multi_weight=0.3)
    rows = torch.cat([batch["impression_mask"], batch["findings_mask"]])
    projected = torch.zeros(2 * STUDIES, 16)
    projected[rows] = twin.text_head(torch.cat([text["impression"], text["findings"]])[rows])
    impression, findings = projected.detach().split(STUDIES)
    high = twin.image_heads["high"](image.pooled).detach().view(STUDIES, VIEWS, -1)
    multi, again = (
        twin.image_heads["multi"](twin.aggregation(image.pyramid)[0]).detach().view(STUDIES, VIEWS, -1)
        for _ in range(2)
    )
    prior = ClinicalPrior()
    has_findings, has_impression = batch["findings_mask"], batch["impression_mask"]
    everyone = torch.ones(STUDIES)
    prior_impression = text["impression"] * has_impression[:, None]

    def text_term(x, y, mask, t):
        return sum(slow_loss(x[:, v], y, 0.07, mask, t, prior) for v in range(VIEWS))

    expected = {
        "high_text": text_term(high, impression, has_impression, text["impression"]),
        "multi_text": 0.3 * text_term(multi, findings, has_findings, text["findings"]),
        "high_view": 2 * slow_loss(high[:, 0], high[:, 1], 0.2, everyone, prior_impression, prior),
        "multi_view": 0.3 * 2 * slow_loss(again[:, 0], again[:, 1], 0.2, everyone, prior_impression, None),
    }
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_what_stands_in_a_missing_section_changes_nothing():
    image, text, batch = inputs()
    expected = call(make(), image, text, batch)
    for section in ("findings", "impression"):
        text[section][~batch[f"{section}_mask"]] = 1e3
    got = call(make(), image, text, batch)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)


def test_text_terms_do_not_see_images_without_the_section():
    image, text, batch = inputs()
    # In evaluation mode batch statistics tie no samples together.
    expected = call(make().eval(), image, text, batch)
    for v in range(VIEWS):
        image.pooled[1 * VIEWS + v] += 100  # study 1 has no Impression
    got = call(make().eval(), image, text, batch)
    torch.testing.assert_close(got["high_text"], expected["high_text"])
    assert not torch.allclose(got["high_view"], expected["high_view"])


def test_a_missing_section_leaves_the_other_studies_their_loss():
    image, text, batch = inputs()
    batch["impression_mask"][:] = True
    kept = torch.tensor([0, 2, 3, 4, 5, 6])
    rows = (kept[:, None] * VIEWS + torch.arange(VIEWS)).flatten()
    options = {"prior": ClinicalPrior(batch_size=None)}
    objective = make(**options).eval()
    smaller = ImageFeatures(image.pooled[rows], [m[rows] for m in image.pyramid])
    fewer = {s: t[kept] for s, t in text.items()}
    small_batch = {k: v[kept] for k, v in batch.items()}
    expected = call(objective, smaller, fewer, small_batch)["high_text"]
    batch["impression_mask"][1] = False
    torch.testing.assert_close(call(objective, image, text, batch)["high_text"], expected)


@pytest.mark.parametrize("missing", ["findings", "impression"])
def test_no_study_has_the_section(missing):
    image, text, batch = inputs()
    batch[f"{missing}_mask"][:] = False
    objective = make()
    terms = call(objective, image, text, batch)
    level = {"findings": "multi", "impression": "high"}[missing]
    assert terms[f"{level}_text"].item() == 0
    sum(terms.values()).backward()
    for name, parameter in objective.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def test_order_of_the_batch_does_not_matter():
    image, text, batch = inputs()
    expected = call(make(), image, text, batch)
    order = torch.randperm(STUDIES)
    rows = (order[:, None] * VIEWS + torch.arange(VIEWS)).flatten()
    image = ImageFeatures(image.pooled[rows], [m[rows] for m in image.pyramid])
    got = call(make(), image, {s: t[order] for s, t in text.items()}, {k: v[order] for k, v in batch.items()})
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"alignment": "flat"}, {"high_text", "high_view"}),
        ({"alignment": "reversed"}, {"high_text", "multi_text", "high_view", "multi_view"}),
        ({"view_weight": 0}, {"high_text", "multi_text"}),
        ({"prior": None}, {"high_text", "multi_text", "high_view", "multi_view"}),
        ({"mask_missing": False, "gathered": False}, {"high_text", "multi_text", "high_view", "multi_view"}),
        ({"prior_terms": ["multi_view"]}, {"high_text", "multi_text", "high_view", "multi_view"}),
    ],
)
def test_ablations(options, names):
    objective = make(**options)
    terms = call(objective, *inputs())
    assert set(terms) == names
    loss = sum(terms.values())
    loss.backward()
    unused = [name for name, p in objective.named_parameters() if p.grad is None]
    assert not unused  # DistributedDataParallel would stop


def test_reversed_swaps_the_sections():
    assert make(alignment="reversed").levels == {"high": "findings", "multi": "impression"}
    image, _, _ = inputs()
    assert set(make(alignment="flat").eval().embed_image(image)) == {"report"}
