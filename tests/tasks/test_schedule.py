"""A run whose learning rate does not do what is expected of it says so, and others do not."""

import warnings
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, OneCycleLR

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.tasks import ClassificationTask
from tests.support.runs import QUIET
from tests.support.tiny import make_prepared

pytestmark = pytest.mark.slow

WORDS = ("learning rate", "nothing is left", "schedule")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data") / "prepared")


def fit(folder, root, ckpt_path=None, batch_size=8, task=None, **options):
    """Train, of three batches an epoch, and return what was said of learning rates."""
    L.seed_everything(0)
    own = {"weights": "random", "architecture": "test_resnet.r160_in1k", "cache_features": False}
    trainer = L.Trainer(
        **{"max_epochs": 2, **options},
        **QUIET,
        default_root_dir=folder,
        callbacks=[ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)],
    )
    data = CXRDataModule(root, batch_size=batch_size, crop=32, num_workers=0, views=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.fit(ClassificationTask(**own, **(task or {})), data, ckpt_path=ckpt_path)
    return [text for text in (str(w.message) for w in said) if any(word in text for word in WORDS)]


@pytest.fixture(scope="module")
def checkpoints(root, tmp_path_factory):
    """Checkpoints of every step of a run of six."""
    folder = tmp_path_factory.mktemp("run")
    assert fit(folder, root, task={"warmup": 0.4}) == []
    return folder


CHANGED = {
    # Steps of the checkpoint, of the run, what was changed, and the learning rates.
    "prolonged": (6, 12, {"max_epochs": 4}, "was 0 and goes on at 0.0001707"),
    "prolonged in its midst": (4, 12, {"max_epochs": 4}, "was 0.0001 and goes on at 0.0002"),
    "shortened": (3, 5, {"max_steps": 5}, "was 0.0001707 and goes on at 0.00015"),
    "in smaller batches": (4, 12, {"batch_size": 4}, "was 0.0001 and"),
    "in larger steps": (2, 4, {"accumulate_grad_batches": 2}, "was 0.0002 and"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_another_length_is_said_once(tmp_path, root, checkpoints, case):
    step, steps, options, rates = CHANGED[case]
    (said,) = fit(tmp_path, root, checkpoints / f"step={step}.ckpt", task={"warmup": 0.4}, **options)
    assert f"the learning rate of step {step} {rates}" in said
    assert f"the schedule now ends at step {steps} instead of 6." in said


def test_a_checkpoint_that_does_not_know_its_length_is_compared_by_its_learning_rate(tmp_path, root, checkpoints):
    checkpoint = torch.load(checkpoints / "step=4.ckpt", weights_only=True)
    del checkpoint["callbacks"]["ResumedSchedule"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    (said,) = fit(tmp_path, root, tmp_path / "old.ckpt", task={"warmup": 0.4}, max_epochs=4)
    assert "ends at step 12, and ended elsewhere" in said
    assert fit(tmp_path, root, tmp_path / "old.ckpt", task={"warmup": 0.4}) == []


@pytest.mark.parametrize(
    ("step", "options"),
    [(1, {}), (3, {}), (4, {}), (4, {"max_epochs": -1, "max_steps": 6}), (4, {"max_epochs": 9, "max_steps": 6})],
)
def test_the_same_length_is_no_news(tmp_path, root, checkpoints, step, options):
    assert fit(tmp_path, root, checkpoints / f"step={step}.ckpt", task={"warmup": 0.4}, **options) == []


@pytest.mark.parametrize("options", [{}, {"max_epochs": -1, "max_steps": 6}])
def test_nothing_left_to_train_is_said(tmp_path, root, checkpoints, options):
    path = checkpoints / "step=6.ckpt"
    (said,) = fit(tmp_path, root, path, task={"warmup": 0.4}, **options)
    assert said.startswith(f"nothing is left to train: --ckpt_path '{path}' is at step 6")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (partial(CosineAnnealingLR, T_max=4), "has T_max=4, but the run has 6 steps: the learning rate rises again"),
        (partial(CosineAnnealingLR, T_max=9), "has T_max=9, but the run has 6 steps: the learning rate stops on its"),
        (partial(OneCycleLR, max_lr=1e-3, total_steps=9), "the learning rate stops on its way"),
        (partial(CosineAnnealingLR, T_max=6), None),
        (partial(OneCycleLR, max_lr=1e-3, total_steps=6), None),
        (partial(ConstantLR, factor=1.0, total_iters=0), None),
    ],
)
def test_the_end_of_a_scheduler_of_torch(tmp_path, root, schedule, message):
    said = fit(tmp_path, root, task={"schedule": schedule})
    assert [message in text for text in said] == [True] * (message is not None)


def test_a_scheduler_without_a_rate_for_all_steps_is_refused(tmp_path, root):
    with pytest.raises(UserError, match="total_steps=4, but the run has 6 steps, and it has no learning rate for"):
        fit(tmp_path, root, task={"schedule": partial(OneCycleLR, max_lr=1e-3, total_steps=4)})
