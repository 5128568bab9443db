"""A loss that is not finite stops the run at its batch, and the run goes on from there as if it had not been."""

import csv
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from medvlp.data import CXRDataModule
from medvlp.distributed import rank
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import HierarchicalAlignment
from medvlp.tasks import ClassificationTask, PretrainingTask
from tests.support.processes import ForkedProcesses
from tests.support.runs import UNCHANGED

pytestmark = pytest.mark.slow

OPTIMIZER = partial(torch.optim.AdamW, lr=1e-3)


def spoil(module, args, output):
    return output * torch.nan


class Spoilt(L.Callback):
    """Makes a batch go wrong: the first features of its images, the loss, its gradient, or a weight."""

    def __init__(self, batch, what="images", only_rank=None):
        self.batch, self.what, self.only_rank = batch, what, only_rank
        self.seen = -1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen = trainer.fit_loop.total_batch_idx
        if self.seen == self.batch and self.only_rank in (None, rank()):
            handle = {"images": self.spoil_images, "loss": self.spoil_loss, "gradient": self.spoil_gradient}
            handle.get(self.what, lambda task: None)(pl_module)

    def spoil_images(self, task):
        encoder = getattr(task, "image_encoder", None) or task.encoder
        next(m for m in encoder.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(spoil)

    def spoil_loss(self, task):
        step = task.training_step
        task.training_step = lambda batch, batch_idx: step(batch, batch_idx) * torch.nan

    def spoil_gradient(self, task):
        parameter = next(p for p in task.parameters() if p.requires_grad)
        parameter.register_hook(lambda grad: grad * torch.inf)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.seen == self.batch and self.what == "weight":
            with torch.no_grad():
                next(p for p in pl_module.parameters() if p.requires_grad).fill_(torch.nan)


def pretraining(place, norm=True):
    L.seed_everything(0)
    return PretrainingTask(
        TimmEncoder("test_resnet.r160_in1k" if norm else "test_convnext.r160_in1k", pretrained=False),
        HFTextEncoder(str(place / "bert")),
        {"hierarchical": partial(HierarchicalAlignment, dim=16, grid=4)},
        optimizer=OPTIMIZER,
    )


def probe(place, **options):
    L.seed_everything(0)
    return ClassificationTask(weights="random", architecture="test_resnet.r160_in1k", freeze=False, **options)


def fit(folder, task, place, spoilt=None, ckpt_path=None, devices=1, batch_size=8, **options):
    data = CXRDataModule(place / "data", batch_size=batch_size, crop=32, num_workers=0)
    if isinstance(task, ClassificationTask):
        data.views, data.augmentation = 1, UNCHANGED
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=devices,
        strategy=ForkedProcesses() if devices > 1 else "auto",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        logger=CSVLogger(folder, name="", version=""),
        default_root_dir=folder,
        callbacks=[*([spoilt] if spoilt else []), ModelCheckpoint(folder / "checkpoints", filename="last")],
        **options,
    )
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=False if ckpt_path else None)
    tensors = [*task.named_parameters(), *task.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


def logged(folder):
    with (folder / "metrics.csv").open() as file:
        return [(int(r["step"]), float(r["train/loss"])) for r in csv.DictReader(file) if r["train/loss"]]


# Three batches an epoch.
@pytest.mark.parametrize(
    ("make", "batch", "options"),
    [
        (pretraining, 0, {}),
        (pretraining, 3, {}),
        (pretraining, 4, {}),
        (pretraining, 5, {}),
        (pretraining, 0, {"accumulate_grad_batches": 2}),
        (pretraining, 4, {"accumulate_grad_batches": 2}),
        (pretraining, 4, {"val_check_interval": 1}),
        (partial(probe, optimizer=OPTIMIZER), 5, {"gradient_clip_val": 1.0}),
    ],
)
def test_a_run_that_diverged_goes_on_as_if_it_had_not(tmp_path, place, make, batch, options):
    whole = fit(tmp_path / "whole", make(place), place, **options)
    folder = tmp_path / "stopped" / "checkpoints"
    spoilt = Spoilt(batch)
    with pytest.raises(UserError, match=r"train/\S+.* not finite") as error:
        fit(folder.parent, make(place), place, spoilt, **options)
    assert spoilt.seen == batch  # the very batch
    message = str(error.value)
    assert f"batch {batch % 3} of epoch {batch // 3}" in message
    accumulated = batch % 3 % options.get("accumulate_grad_batches", 1)
    assert f"--ckpt_path {folder / 'diverged.ckpt'} resumes at {'batch 0' if accumulated else 'this batch'}" in message
    assert str(folder / "diverged.csv") in message

    resumed = fit(tmp_path / "resumed", make(place), place, ckpt_path=folder / "diverged.ckpt", **options)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    rest = logged(tmp_path / "resumed")
    assert rest == logged(tmp_path / "whole")[-len(rest) :]


def test_the_images_of_the_batch_and_the_terms_are_named(tmp_path, place):
    batches = []

    class Seen(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            batches.append([f"image{trainer.train_dataloader.dataset.rows[i]}" for i in batch["index"].tolist()])

    task = pretraining(place)
    seen = Seen()
    task.configure_callbacks = lambda: [seen, *PretrainingTask.configure_callbacks(task)]
    with pytest.raises(UserError, match="train/hierarchical/") as error:
        fit(tmp_path, task, place, Spoilt(4))
    assert "train/loss" not in str(error.value)
    with (tmp_path / "checkpoints" / "diverged.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == batches[4]
    assert [row["study_id"] for row in rows] == [name.replace("image", "study") for name in batches[4]]
    assert {(row["rank"], row["loss_is_finite"]) for row in rows} == {("0", "False")}


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_lost(tmp_path, place):
    whole = fit(tmp_path / "whole", probe(place), place)
    with pytest.raises(UserError, match=r"the gradient of 'encoder\.\S+' is not finite"):
        fit(tmp_path / "stopped", probe(place), place, Spoilt(4, "gradient"))
    stopped = tmp_path / "stopped" / "checkpoints" / "diverged.ckpt"
    torch.testing.assert_close(fit(tmp_path / "on", probe(place), place, ckpt_path=stopped), whole, rtol=0, atol=0)


def test_lost_weights_are_not_saved_and_the_last_good_checkpoint_is_named(tmp_path, place):
    folder = tmp_path / "checkpoints"
    with pytest.raises(UserError, match="not finite") as error:
        fit(tmp_path, probe(place), place, Spoilt(4, "weight"))
    assert not (folder / "diverged.ckpt").exists()
    assert (folder / "diverged.csv").exists()
    assert f"the last checkpoint before: --ckpt_path {folder / 'last.ckpt'}" in str(error.value)


def test_a_gradient_scaler_may_skip_steps_but_the_loss_has_to_be_finite(tmp_path, place):
    with pytest.raises(UserError, match="the loss is not finite"):
        fit(tmp_path, probe(place), place, Spoilt(4, "loss"))
    # The Trainer itself has a scaler for GPUs alone.
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    fit(tmp_path / "half", probe(place), place, Spoilt(4, "gradient"), plugins=scaled)
    assert scaled.scaler.get_scale() < 2**16


def test_two_processes_stop_together(tmp_path, place):
    options = {"devices": 2, "batch_size": 4}
    whole = fit(tmp_path / "whole", pretraining(place, False), place, **options)
    folder = tmp_path / "stopped" / "checkpoints"
    with pytest.raises(Exception, match=r"batch 1 of epoch 1\): .* not finite"):
        fit(folder.parent, pretraining(place, False), place, Spoilt(4, "loss", only_rank=1), **options)
    with (folder / "diverged.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["loss_is_finite"]) for row in rows] == [("0", "True")] * 4 + [("1", "False")] * 4
    assert len({row["image_id"] for row in rows}) == 8
    stopped = folder / "diverged.ckpt"
    resumed = fit(tmp_path / "resumed", pretraining(place, False), place, ckpt_path=stopped, **options)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


def test_a_batch_that_is_not_done_is_not_counted_even_if_it_is_the_last(tmp_path, place):
    states = []

    class Noting(L.Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            states.append(trainer.datamodule.state_dict())

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            states.append(trainer.datamodule.state_dict())

    fit(tmp_path, probe(place), place, Noting(), max_steps=3)
    samples = [(state["epoch"], state["samples"]) for state in states]
    assert samples == [(0, 0), (0, 8), (0, 8), (0, 16), (0, 16), (1, 0)]
