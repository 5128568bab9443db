"""Synchronised batch norms compute what the plain ones do on the joined batch, activations included."""

import copy
from functools import partial

import lightning as L
import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, DropBlock2d
from torch import nn

from medvlp.data import CXRDataModule
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.models.batch_norm import batch_norms, restore, synchronise
from medvlp.objectives import HierarchicalAlignment
from medvlp.tasks import PretrainingTask
from tests.support.processes import WORLD, ForkedProcesses, in_processes
from tests.support.tiny import make_language_model, make_prepared

pytestmark = pytest.mark.slow

# Those with an activation inside their batch norms, and those without.
WITH = [
    "densenet121",
    "efficientnet_b0",
    "regnety_016",
    "mobilenetv3_large_100",
    "resnetv2_50",
    "tf_efficientnet_lite0",
]
NETWORKS = ["resnet50", *WITH]
IMAGES = 8
CPU, GPU = torch.device("cpu"), torch.device("cuda")
# Every way in which timm makes a batch norm.
FAMILIES = {
    "plain 2d": lambda: nn.BatchNorm2d(6),
    "relu": lambda: BatchNormAct2d(6),
    "no activation": lambda: BatchNormAct2d(6, apply_act=False),
    "swish in place": lambda: BatchNormAct2d(6, act_layer="swish"),
    "hard swish": lambda: BatchNormAct2d(6, act_layer=nn.Hardswish, inplace=False),
    "leaky relu with arguments": lambda: BatchNormAct2d(6, act_layer=nn.LeakyReLU, act_kwargs={"negative_slope": 0.3}),
    "drop layer": lambda: BatchNormAct2d(6, drop_layer=partial(DropBlock2d, drop_prob=0.0)),
    "without scale and shift": lambda: BatchNormAct2d(6, affine=False),
    "cumulative momentum": lambda: BatchNormAct2d(6, momentum=None),
    "without statistics": lambda: nn.BatchNorm2d(6, track_running_stats=False),
}


def network(name):
    """Return a network with random weights and running statistics, in double precision."""
    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=0).double()
    for module in batch_norms(made).values():
        module.running_mean.normal_(0, 0.1)
        module.running_var.uniform_(0.5, 1.5)
        nn.init.uniform_(module.weight, 0.5, 1.5)
    return made


def images():
    torch.manual_seed(1)
    return torch.randn(IMAGES, 3, 32, 32, dtype=torch.double)


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_converted_network_gives_the_same_output(name, device):
    plain = network(name).eval().float()
    x = images().float()
    with torch.no_grad():
        expected = plain(x)
        norms = batch_norms(plain)
        state = {key: value.clone() for key, value in plain.state_dict().items()}
        synchronised = synchronise(plain, device)
        # DistributedDataParallel refuses torch's on a CPU.
        gpu = device == GPU
        assert {isinstance(module, nn.SyncBatchNorm) for module in batch_norms(synchronised).values()} == {gpu}
        assert not {type(module) for module in batch_norms(synchronised).values()} & {nn.BatchNorm2d, BatchNormAct2d}
        torch.testing.assert_close(synchronised(x), expected, atol=1e-6, rtol=1e-6)
        assert synchronised.state_dict().keys() == state.keys()
        # What torch's own conversion would have made of it.
        theirs = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(synchronised))(x)
        assert torch.allclose(theirs, expected, atol=1e-3) == (name not in WITH)
        restored = restore(synchronised, norms)
        assert {type(module) for module in batch_norms(restored).values()} <= {nn.BatchNorm2d, BatchNormAct2d}
        torch.testing.assert_close(restored(x), expected, atol=0, rtol=0)


def test_what_was_learnt_stays_when_the_plain_norms_are_put_back():
    plain = network("efficientnet_b0").train()
    norms = batch_norms(plain)
    synchronised = synchronise(plain, CPU)
    assert all(module.training for module in batch_norms(synchronised).values())
    # A device is changed by putting other buffers in place.
    synchronised.float()
    synchronised(images().float())
    with torch.no_grad():
        for parameter in synchronised.parameters():
            parameter.add_(0.1)
    learnt = {key: value.clone() for key, value in synchronised.state_dict().items()}
    restored = restore(synchronised.eval(), norms)
    assert not any(module.training for module in restored.modules())
    assert restored.state_dict().keys() == learnt.keys()
    for key, value in restored.state_dict().items():
        torch.testing.assert_close(value, learnt[key], atol=0, rtol=0)


def step(model, x):
    """Return output, gradients of the input and of the parameters, and buffers after a training step."""
    x = x.clone().requires_grad_()
    out = model.train()(x)
    # Each channel counts otherwise, and no power of normalised values, whose sum would be fixed.
    weight = torch.arange(out.shape[1], dtype=out.dtype).cos().view(-1, *(1,) * (out.ndim - 2))
    (out.sin() * weight).sum().backward()
    return out.detach(), x.grad, {k: p.grad for k, p in model.named_parameters()}, dict(model.named_buffers())


def models():
    """Return everything that is compared, with its input of the joined batch."""
    torch.manual_seed(2)
    small = torch.randn(IMAGES, 6, 5, 5, dtype=torch.double)
    yield from ((name, make().double(), small) for name, make in FAMILIES.items())
    yield "1d, vectors", nn.BatchNorm1d(6).double(), small.mean((2, 3))
    yield "1d, tokens", nn.BatchNorm1d(6).double(), small.flatten(2)
    yield from ((name, network(name), images()) for name in NETWORKS)


def worker(number, folder):
    share = slice(number * IMAGES // WORLD, (number + 1) * IMAGES // WORLD)
    torch.save({name: step(synchronise(model, CPU), x[share]) for name, model, x in models()}, folder / f"{number}.pt")


def test_training_on_two_processes_equals_the_joined_batch(tmp_path):
    in_processes(worker, tmp_path)
    parts = [torch.load(tmp_path / f"{number}.pt") for number in range(WORLD)]
    for name, model, x in models():
        out, gradient, parameters, buffers = step(model, x)
        found = [part[name] for part in parts]
        close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        close(torch.cat([part[0] for part in found]), out)
        scale = gradient.abs().max()
        close(torch.cat([part[1] for part in found]) / scale, gradient / scale)
        # A bias before a batch norm has no gradient but rounding errors.
        largest = max((p.abs().max() for p in parameters.values()), default=torch.ones(()))
        for key, expected in parameters.items():
            close(sum(part[2][key] for part in found) / largest, expected / largest)
        for key, expected in buffers.items():
            for part in found:
                close(part[3][key].double(), expected.double())


def tensors(module):
    """Parameters and running statistics."""
    return [(k, v) for k, v in (*module.named_parameters(), *module.named_buffers()) if v.is_floating_point()]


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "test_efficientnet.r160_in1k"])
def test_the_trainer_synchronises_and_keeps_activations(tmp_path, name):
    """`sync_batchnorm=True`: two processes are one on the joined batch, and the task is as it was afterwards."""
    data, language = make_prepared(tmp_path / "data"), make_language_model(tmp_path / "bert")
    trained = []
    for devices in (2, 1):
        L.seed_everything(0)
        task = PretrainingTask(
            TimmEncoder(name, pretrained=False),
            HFTextEncoder(str(language)),
            {"hierarchical": partial(HierarchicalAlignment, dim=16, grid=4)},
            optimizer=partial(torch.optim.SGD, lr=1e-2),
        )
        kinds = [type(module) for module in task.modules()]
        before = {k: v.detach().clone() for k, v in tensors(task)}
        trainer = L.Trainer(
            max_steps=2,
            limit_val_batches=0,
            accelerator="cpu",
            devices=devices,
            strategy=ForkedProcesses() if devices > 1 else "auto",
            sync_batchnorm=True,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path / str(devices),
        )
        trainer.fit(task, CXRDataModule(data, 8 // devices, crop=32, num_workers=0))
        assert [type(module) for module in task.modules()] == kinds
        trained.append({k: v.detach() - before[k] for k, v in tensors(task)})
    two, one = (torch.cat([v.flatten() for _, v in sorted(state.items())]) for state in trained)
    assert one.norm() > 0
    assert (two - one).norm() / one.norm() < 1e-3
