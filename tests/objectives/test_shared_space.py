"""The losses, heads and maps of a published pair's joint space."""

from types import SimpleNamespace

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.objectives import SharedSpace
from medvlp.types import ImageFeatures, PhraseFeatures, TextFeatures


def space(**options):
    torch.manual_seed(0)
    encoder = SimpleNamespace(width=12, widths=[4, 12])
    return SharedSpace(encoder, SimpleNamespace(width=8), **options)


def features(count):
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(count, 12, generator=generator)
    last = torch.randn(count, 12, 3, 2, generator=generator)
    return ImageFeatures(pooled, [torch.zeros(count, 4, 6, 4), last], 1)


def batch(mask):
    return {"findings_mask": torch.tensor(mask), "impression_mask": torch.zeros(len(mask), dtype=torch.bool)}


@pytest.mark.parametrize("head", ["linear", "mlp", "patch"])
def test_the_loss_of_clip(head):
    objective = space(head=head, hidden=6, temperature=0.05)
    image, text = features(5), torch.randn(5, 8)
    mask = [True, True, False, True, True]
    loss = objective(image, TextFeatures({"report": text}), batch(mask))["pair"]
    seen = objective.embed_image(image)["report"][mask]
    expected = ClipLoss()(seen, F.normalize(text[mask], dim=1), torch.tensor(20.0))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert objective.temperature.log_scale.grad is not None


def test_the_loss_of_siglip():
    objective = space(head="linear", temperature=0.008, logit_bias=-3.0)
    image, text = features(4), torch.randn(4, 8)
    loss = objective(image, TextFeatures({"report": text}), batch([True] * 4))["pair"]
    seen = objective.embed_image(image)["report"]
    expected = SigLipLoss()(seen, F.normalize(text, dim=1), torch.tensor(125.0), torch.tensor(-3.0))
    torch.testing.assert_close(loss, expected)
    # Two views of a study: the mean of their losses.
    double = ImageFeatures(image.pooled.repeat_interleave(2, 0), image.pyramid, 1)
    torch.testing.assert_close(objective(double, TextFeatures({"report": text}), batch([True] * 4))["pair"], expected)
    nothing = objective(image, TextFeatures({"report": text}), batch([False] * 4))["pair"]
    assert nothing == 0


def test_patches_average_to_the_image():
    objective = space(head="patch", hidden=6).eval()
    image, text = features(3), torch.randn(2, 8)
    phrases = PhraseFeatures(["a", "b"], text, text, torch.arange(2))
    assert objective.heat_source == "patch"
    heat = objective.text_heat(image, None, phrases)
    assert heat.shape == (3, 2, 3, 2)
    for n in range(3):
        places = objective.head(image.pyramid[-1][n].flatten(1).T)
        torch.testing.assert_close(objective.embed_image(image)["report"][n], F.normalize(places.mean(0), dim=0))
        torch.testing.assert_close(
            heat[n].flatten(1), F.normalize(text, dim=1) @ F.normalize(places, dim=1).T, atol=1e-5, rtol=0
        )


def test_a_class_token_has_no_maps():
    assert space(head="linear").heat_source is None
    assert space(head="linear", places=True).heat_source == "global"
    with pytest.raises(TypeError, match="no heat maps"):
        space(head="linear").text_heat(
            features(1), None, PhraseFeatures([], torch.zeros(0, 8), torch.zeros(0, 8), torch.arange(0))
        )


def test_without_a_head_the_widths_must_be_equal():
    with pytest.raises(UserError, match="width 12 are compared with texts of width 8"):
        space(head="none")
