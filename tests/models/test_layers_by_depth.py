"""The layers of an image encoder, for learning rates that decay with the depth."""

import pytest
import timm
import torch

from medvlp.models import ImageEncoder, TimmEncoder
from medvlp.models.backbone import parameters_by_depth

# Architecture, its number of blocks, first and last parameter of the last layer.
DEPTHS = [
    ("test_vit", 6, "blocks.5.norm1.weight", "norm.bias"),
    ("test_resnet", 4, "layer4.0.conv1.weight", "layer4.0.downsample.2.bias"),
    ("test_convnext", 9, "stages.3.blocks.1.conv_dw.weight", "head.norm.bias"),
]
ALL = [
    "resnet50",
    "resnet50_clip",
    "densenet121",
    "vit_base_patch14_reg4_dinov2",
    "vit_base_patch16_dinov3",
    "vit_base_patch16_siglip_224",
    "eva02_base_patch14_224",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_050",
    "inception_v3",
    "beit_base_patch16_224",
    "test_maxvit",
    "crossvit_9_240",
]


@pytest.mark.parametrize("name", ALL)
def test_each_parameter_is_in_one_layer(name):
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    layers = parameters_by_depth(network)
    assert sorted(id(p) for layer in layers for p in layer) == sorted(id(p) for p in network.parameters())
    assert len(layers) > 3
    assert all(layers)


@pytest.mark.parametrize(("name", "count", "first", "last"), DEPTHS)
def test_layers_go_from_the_input_to_the_output(name, count, first, last):
    ours = TimmEncoder(name, pretrained=False)
    names = {id(parameter): key for key, parameter in ours.backbone.named_parameters()}
    layers = [[names[id(parameter)] for parameter in layer] for layer in ours.layers()]
    assert len(layers) == 1 + count
    assert {first, last} <= set(layers[-1])
    # A gradient that stops before a layer reaches all later layers and none before it.
    assert next(iter(names.values())) in layers[0]


def test_a_network_whose_blocks_timm_does_not_tell_apart_has_one_layer():
    with torch.device("meta"):
        network = timm.create_model("poolformer_s12", num_classes=0)
    assert len(parameters_by_depth(network)) == 1


def test_an_encoder_that_does_not_say_has_one_layer():
    ours = TimmEncoder("test_vit", pretrained=False)
    assert [len(layer) for layer in ImageEncoder.layers(ours)] == [len(list(ours.parameters()))]
