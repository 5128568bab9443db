"""Pre-training with an image encoder that is frozen or partly trained, on one process and on two."""

from functools import partial

import lightning as L
import pytest
import torch

from medvlp.data import CXRDataModule
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import GlobalAlignment, HierarchicalAlignment, RegionAlignment, TagDecoding
from medvlp.tasks import PretrainingTask
from tests.support.processes import ForkedProcesses, relative_error
from tests.support.runs import QUIET

pytestmark = pytest.mark.slow

REGIONS = {
    "region": partial(RegionAlignment, dim=16, hidden=24),
    "tag": partial(TagDecoding, dim=16, hidden=24, layers=1, dropout=0),
}
OBJECTIVES = {
    "imitate": {"hierarchical": partial(HierarchicalAlignment, dim=16, grid=4)},
    "regions and tags alone": REGIONS,
    "asg": {"report": partial(GlobalAlignment, dim=16, hidden=24), **REGIONS},
}
VIT, RESNET = "test_vit.r160_in1k", "test_resnet.r160_in1k"


def make_task(language, name, count, objectives):
    L.seed_everything(0)
    encoder = TimmEncoder(name, pretrained=False, image_size=32, trainable_layers=count)
    optimizer = partial(torch.optim.SGD, lr=1e-4)
    return PretrainingTask(encoder, HFTextEncoder(str(language)), OBJECTIVES[objectives], optimizer=optimizer)


class Gradients(L.Callback):
    """Remembers which parameters have had no gradient at some step."""

    def __init__(self):
        self.without = set()

    def on_after_backward(self, trainer, pl_module):
        trained = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
        self.without |= {name for name, parameter in trained.items() if parameter.grad is None}


@pytest.mark.parametrize("objectives", OBJECTIVES)
@pytest.mark.parametrize(("name", "count"), [(RESNET, 0), (RESNET, 2), (VIT, 1)])
def test_what_is_frozen_stays_and_the_rest_has_gradients(place, name, count, objectives, tmp_path):
    task, gradients = make_task(place / "bert", name, count, objectives), Gradients()
    before = {key: value.clone() for key, value in task.image_encoder.state_dict().items()}
    trainer = L.Trainer(max_epochs=1, **QUIET, default_root_dir=tmp_path, callbacks=[gradients])
    trainer.fit(task, CXRDataModule(place / "data", batch_size=8, crop=32, num_workers=0, regions=True))
    assert not gradients.without  # DistributedDataParallel would stop
    encoder = task.image_encoder
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    moved = {key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])}
    assert {key for key, _ in encoder.named_parameters()} & moved <= trained
    assert bool(moved) == bool(trained) == (count > 0)


@pytest.mark.parametrize(("name", "count", "objectives"), [(RESNET, 0, "imitate"), (VIT, 1, "regions and tags alone")])
def test_two_processes_equal_one(place, name, count, objectives, tmp_path):
    trained = []
    for devices, batch_size in ((2, 4), (1, 8)):
        task = make_task(place / "bert", name, count, objectives)
        parameters = dict(task.named_parameters())
        if not trained:
            trained.append({key: value.detach().clone() for key, value in parameters.items()})
        trainer = L.Trainer(
            max_steps=3,
            limit_val_batches=0,
            accelerator="cpu",
            devices=devices,
            strategy=ForkedProcesses() if devices > 1 else "auto",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path / str(devices),
        )
        trainer.fit(task, CXRDataModule(place / "data", batch_size, crop=32, num_workers=0, regions=True))
        trained.append({key: value.detach() for key, value in parameters.items()})
    start, two, one = (torch.cat([v.flatten() for k, v in sorted(state.items())]) for state in trained)
    assert not torch.equal(one, start)
    assert relative_error(two - start, one - start) < 1e-4
