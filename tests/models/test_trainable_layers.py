"""Image encoders that are frozen or partly trained, and gradients from activations that are computed again."""

import pytest
import torch

from medvlp.errors import UserError
from medvlp.models import TimmEncoder

VIT, RESNET = "test_vit.r160_in1k", "test_resnet.r160_in1k"


def images(size=64, count=2):
    return torch.randint(0, 256, (count, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(name, **options):
    torch.manual_seed(1)
    return TimmEncoder(name, **{"pretrained": False, "image_size": 64, **options}).train()


def gradients(ours):
    ours.zero_grad()
    features = ours(images())
    (features.pooled.square().sum() + sum(level.square().mean() for level in features.pyramid)).backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in ours.named_parameters()}


@pytest.mark.parametrize("name", [VIT, RESNET])
def test_a_frozen_encoder_has_no_gradients_and_stays_in_evaluation_mode(name):
    ours = encoder(name, trainable_layers=0)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    features = ours.train()(images())
    assert not features.pooled.requires_grad
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    assert not any(module.training for module in ours.backbone.modules())
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())
    torch.testing.assert_close(features.pooled, encoder(name).eval()(images()).pooled)
    # Nothing is left to freeze, and nothing thaws.
    ours.freeze_beyond_patches()
    ours.fit(96)
    assert not any(parameter.requires_grad for parameter in ours.train().parameters())
    assert not any(module.training for module in ours.backbone.modules())


@pytest.mark.parametrize(("name", "count"), [(VIT, 1), (VIT, 3), (RESNET, 1), (RESNET, 2)])
def test_the_last_layers_are_trained_with_what_follows_them(name, count):
    ours = encoder(name, trainable_layers=count)
    ours.fit(96)
    ours.fit(64)
    ours.train()
    got = gradients(ours)
    last = {id(parameter) for layer in ours.layers()[-count:] for parameter in layer}
    for key, parameter in ours.named_parameters():
        assert (got[key] is not None) == (id(parameter) in last), key
    if name == VIT:
        assert got["backbone.norm.weight"] is not None
        assert ours.backbone.blocks[-1].training
        assert not ours.backbone.blocks[-1 - count].training


def test_statistics_of_frozen_layers_stay():
    ours = encoder(RESNET, trainable_layers=1)
    before = {key: value.clone() for key, value in ours.backbone.state_dict().items() if "running" in key}
    ours(images())
    moved = {
        key.split(".")[0]
        for key, value in ours.backbone.state_dict().items()
        if key in before and not torch.equal(value, before[key])
    }
    assert moved == {"layer4"}


def test_all_layers_of_none_are_trained_as_before():
    assert all(value is not None for value in gradients(encoder(VIT)).values())
    assert all(value is not None for value in gradients(encoder(VIT, trainable_layers=7)).values())


@pytest.mark.parametrize("count", [-1, 8])
def test_a_network_has_no_more_layers(count):
    with pytest.raises(UserError, match=f"trainable_layers={count}.*has 7 layers"):
        encoder(VIT, trainable_layers=count)


def test_what_the_patches_do_not_depend_on_is_frozen_too():
    # The patches of the ResNet are those of its third stage.
    ours = encoder(RESNET, trainable_layers=2)
    ours.freeze_beyond_patches()
    trained = {name.split(".")[1] for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert trained == {"layer3"}
    # The patches lie in front of the only trained stage.
    ours = encoder(RESNET, trainable_layers=1)
    ours.freeze_beyond_patches()
    assert not any(parameter.requires_grad for parameter in ours.parameters())


# Network, one of its blocks.
CHECKPOINTED = [
    (VIT, "blocks.2", {}),
    (RESNET, "layer2.0.conv1", {}),
    ("test_convnext.r160_in1k", "stages.2.blocks.1", {}),
    ("test_efficientnet.r160_in1k", "blocks.2.0", {}),
    ("vit_tiny_patch16_dinov3_qkvb", "blocks.1", {"depth": 4, "embed_dim": 48, "num_heads": 2}),
    ("swin_tiny_patch4_window7_224", "layers.1.blocks.0", {"embed_dim": 24, "depths": (1, 1, 2, 1)}),
    ("densenet121", "features.denseblock2.denselayer1.conv1", {"block_config": (2, 2, 2, 2)}),
]


@pytest.mark.parametrize(("name", "block", "arguments"), CHECKPOINTED)
def test_activations_that_are_computed_again_give_the_same_gradients(name, block, arguments):
    results, calls = [], []
    for again in (False, True):
        ours = encoder(name, gradient_checkpointing=again, arguments=arguments)
        ours.fit(96)
        ours.fit(64)
        # Statistics of batches would move twice.
        ours.eval()
        count = []
        ours.backbone.get_submodule(block).register_forward_pre_hook(lambda *_, count=count: count.append(1))
        results.append(gradients(ours))
        calls.append(len(count))
    assert calls == [1, 2]
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_partly_trained_and_computed_again():
    plain, again = (gradients(encoder(VIT, trainable_layers=2, gradient_checkpointing=g)) for g in (False, True))
    for key, value in plain.items():
        assert (value is None) == (again[key] is None)
        if value is not None:
            torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-6)


def test_a_network_without_it_says_so():
    with pytest.raises(UserError, match="gradient_checkpointing=True: timm has none for crossvit_9_240"):
        TimmEncoder("crossvit_9_240", pretrained=False, gradient_checkpointing=True)
