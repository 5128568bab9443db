import time

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import SimpleProfiler
from torch.utils.data import DataLoader, Dataset

from medvlp.trainer.callbacks import FETCH, Throughput

pytestmark = pytest.mark.slow

VIEWS = 2


class SlowData(Dataset):
    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 40

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return {"image": torch.zeros(VIEWS, 1)}


class SlowTask(LightningModule):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.net = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        time.sleep(self.seconds)
        return self.net(batch["image"]).sum()

    def validation_step(self, batch, batch_idx):
        time.sleep(5 * self.seconds)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(callback, loading, training, **kwargs):
    """Train on 20 batches of 2 studies, validating in the middle and at the end."""
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        log_every_n_steps=5,
        **{"val_check_interval": 10, "limit_val_batches": 2, **kwargs},
        num_sanity_val_steps=0,
        callbacks=callback,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(SlowData(loading / 2), batch_size=2)
    trainer.fit(SlowTask(training), loader, DataLoader(SlowData(0), batch_size=2))
    return trainer.callback_metrics


@pytest.mark.parametrize("accumulate", [1, 2])
def test_throughput(accumulate):
    metrics = fit(Throughput(), loading=0.04, training=0.04, accumulate_grad_batches=accumulate)
    # 2 studies in 80 ms; a view is not a study, and validation is not training.
    assert float(metrics["time/images_per_second"]) == pytest.approx(23, abs=6)
    assert float(metrics["time/data_wait"]) == pytest.approx(0.5, abs=0.15)


def test_throughput_without_waiting():
    assert float(fit(Throughput(), loading=0, training=0.04)["time/data_wait"]) < 0.2


class SlowDevice(Callback):
    """A GPU that is behind the host: whoever asks for a number after the step waits until it has been computed."""

    def on_train_batch_end(self, trainer, *args):
        time.sleep(0.04)

    def on_before_zero_grad(self, *args):
        time.sleep(0.01)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("loading", "expected"), [(0, 0), (0.05, 0.5)])
def test_the_work_of_a_device_is_no_waiting_for_data(loading, expected, first):
    throughput, device = Throughput(), SlowDevice()
    callbacks = [device, throughput] if first else [throughput, device]
    metrics = fit(callbacks, loading=loading, training=0)
    assert float(metrics["time/data_wait"]) == pytest.approx(expected, abs=0.25)


def test_validation_is_no_waiting_for_data():
    metrics = fit(Throughput(), loading=0, training=0.04, limit_val_batches=2, val_check_interval=5)
    assert float(metrics["time/data_wait"]) < 0.2


def test_another_profiler_is_told_as_before():
    profiler = SimpleProfiler()
    fit(Throughput(), loading=0, training=0, profiler=profiler)
    fetches = next(times for action, times in profiler.recorded_durations.items() if action.endswith(FETCH))
    assert len(fetches) >= 20
    assert not {"start", "stop"} & vars(profiler).keys()


def test_warns_once_of_a_starving_trainer():
    with pytest.warns(UserWarning, match=r"waiting for data: raise --data.num_workers") as caught:
        fit(Throughput(warn_after=10), loading=0.01, training=0)
    assert sum("num_workers" in str(warning.message) and "waiting" in str(warning.message) for warning in caught) == 1
