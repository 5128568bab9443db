"""Weights of a benchmark that are a name: a preset, or a network of another library."""

import pytest

from medvlp.benchmarks.planning import read_encoder
from medvlp.errors import NotFoundError


@pytest.mark.parametrize(
    ("weights", "label"),
    [
        ("imagenet", "imagenet"),
        ("rad-dino", "rad-dino"),
        ("hf:facebook/dinov2-base", "hf-facebook-dinov2-base"),
        ("open_clip:ViT-B-32/openai", "open_clip-ViT-B-32-openai"),
        ("open_clip:hf-hub:OWNER/NAME", "open_clip-hf-hub-OWNER-NAME"),
        ("torchxrayvision:densenet121-res224-all", "torchxrayvision-densenet121-res224-all"),
        ("timm/resnet18.a1_in1k", "timm-resnet18.a1_in1k"),
    ],
)
def test_a_name_is_the_label_of_its_results(weights, label):
    encoder = read_encoder(weights, None)
    assert (encoder.weights, encoder.label, encoder.sha256) == (weights, label, None)
    assert read_encoder(weights, "mine").label == "mine"


@pytest.mark.parametrize("weights", ["rad_dino", "resnet50", "absent.ckpt", "hf/facebook"])
def test_other_names_are_files(weights):
    with pytest.raises(NotFoundError, match=f"'{weights}': no such file.*a name such as rad-dino"):
        read_encoder(weights, None)
