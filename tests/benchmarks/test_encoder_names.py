"""Weights of a benchmark that are a name: a preset, or a network of another library."""

import pytest

from medvlp.benchmarks.planning import read_encoder
from medvlp.errors import NotFoundError, UserError


@pytest.mark.parametrize(
    ("weights", "label"),
    [
        ("imagenet", "imagenet"),
        ("random", "random"),
        ("timm/resnet18.a1_in1k", "timm-resnet18.a1_in1k"),
    ],
)
def test_a_name_without_files_is_the_label_of_its_results(weights, label):
    encoder = read_encoder(weights, None)
    assert (encoder.weights, encoder.label, encoder.sha256) == (weights, label, None)
    assert read_encoder(weights, "mine").label == "mine"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("rad-dino", "rad-dino"),
        ("hf:facebook/dinov2-base", "dinov2-base"),
        ("open_clip:ViT-B-32/openai", "ViT-B-32-openai"),
        ("open_clip:hf-hub:OWNER/NAME", "NAME"),
        ("torchxrayvision:densenet121-res224-all", "densenet121-res224-all"),
    ],
)
def test_published_weights_are_labelled_by_name_and_hash(name, label, tmp_path, monkeypatch):
    (tmp_path / "model.bin").write_bytes(b"weights")
    monkeypatch.setattr("medvlp.models.published.published_files", lambda name: (str(tmp_path / "model.bin"),))
    encoder = read_encoder(name, None)
    assert encoder.label == f"{label}-{encoder.sha256[:8]}"
    assert len(encoder.sha256) == 64


def test_published_weights_that_cannot_be_had_are_one_clear_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="cannot be had"):
        read_encoder("hf:nobody/nothing", None)


@pytest.mark.parametrize("weights", ["rad_dino", "resnet50", "absent.ckpt", "hf/facebook"])
def test_other_names_are_files(weights):
    with pytest.raises(NotFoundError, match=f"'{weights}': no such file.*a name such as rad-dino"):
        read_encoder(weights, None)
